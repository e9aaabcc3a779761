/** The stored settings, opened and laid over the environment. */
import { type Config, loadConfig } from "../config.ts";
import { ConfigError, type Environment } from "../environment.ts";
import { SuiteError } from "../errors.ts";
import type { SettingsSeal } from "../keys/settings-seal.ts";
import { readVariables, type Variables } from "./settings-fields.ts";

export interface Sealed {
  /** 0 = nothing was ever stored: the environment alone counts. */
  readonly revision: number;
  readonly message: string | null;
}

export interface Settled {
  readonly config: Config;
  /** What is stored, also when it is not valid here; nothing when it cannot be opened. */
  readonly variables: Variables;
  /** Why stored settings do not count; then the environment alone does. */
  readonly fault: ConfigError | SuiteError | undefined;
}

/** `own` is the configuration of the environment alone. */
export function settle(
  environment: Environment,
  own: Config,
  seal: SettingsSeal,
  sealed: Sealed,
): Settled {
  let variables: Variables = {};
  if (sealed.revision === 0) return { config: own, variables, fault: undefined };
  try {
    variables = openSettings(seal, sealed);
    return { config: overlay(environment, variables), variables, fault: undefined };
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof SuiteError)) throw error;
    return { config: own, variables, fault: error };
  }
}

/** @throws {ConfigError} */
export function overlay(environment: Environment, variables: Variables): Config {
  return loadConfig({ ...environment, ...variables });
}

/** @throws {SuiteError} decryption_failed. @throws {ConfigError} */
export function openSettings(seal: SettingsSeal, { revision, message }: Sealed): Variables {
  if (message === null) throw new SuiteError("decryption_failed");
  const plaintext = seal.open(revision, message);
  try {
    return readVariables(new TextDecoder().decode(plaintext));
  } finally {
    plaintext.fill(0);
  }
}

export function sealSettings(seal: SettingsSeal, revision: number, variables: Variables): string {
  const plaintext = new TextEncoder().encode(JSON.stringify(variables));
  try {
    return seal.seal(revision, plaintext);
  } finally {
    plaintext.fill(0);
  }
}
