/**
 * A key in Secret Manager, fetched from here with the file of a service account: setups of the key management
 * guide have one, and functions have no files.
 */
import { fetchKey } from "../functions-shared/admin/legacy/key-source.ts";
import { legacyKeySources } from "../functions-shared/assembly/legacy-key-sources.ts";
import { readGcp, withCredentialsFile } from "../functions-shared/config-gcp.ts";
import { ConfigError, EnvironmentReader } from "../functions-shared/environment.ts";
import { SuiteError } from "../functions-shared/errors.ts";
import { CliError, EXIT, usage } from "./errors.ts";
import { privateText } from "./files.ts";
import type { Io } from "./io.ts";

export interface SecretAt {
  readonly keyId: string;
  /** By default the guide's. */
  readonly name: string | undefined;
  readonly version: number | undefined;
}

const LIMITS = {
  ...{ kmsTimeoutMs: 30_000, kmsAttemptTimeoutMs: 10_000 },
  ...{ kmsRetryAttempts: 3, circuitBreakerThreshold: 3 },
};

/** Path of the service account's file; undefined when there is none, or other credentials go before it. */
export function credentialsFile(option: string | undefined, { env }: Io): string | undefined {
  if (option !== undefined) return option;
  const others = [env.GOOGLE_CREDENTIALS_JSON, env.GOOGLE_ACCESS_TOKEN];
  if (others.some((value) => value?.trim())) return undefined;
  return env.GOOGLE_APPLICATION_CREDENTIALS?.trim() || undefined;
}

/** The text that is kept there. @throws {CliError} */
export async function fetchGoogleKey(path: string, at: SecretAt, { env }: Io): Promise<string> {
  const json = await privateText(path);
  const named = withCredentialsFile({
    ...env,
    ...{ GOOGLE_CREDENTIALS_JSON: "", GOOGLE_ACCESS_TOKEN: "" },
    GOOGLE_APPLICATION_CREDENTIALS: path,
    GOOGLE_CLOUD_PROJECT: env.GOOGLE_CLOUD_PROJECT?.trim() || projectOf(json),
  }, () => json);
  const read = new EnvironmentReader(named);
  // The names are of keys that are not called here.
  const gcp = readGcp(read, { appName: "cli", environment: "cli" }, "to read the key from here");
  try {
    read.throwIfFaulty();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw usage(error.faults.join("; ").replaceAll("GOOGLE_CREDENTIALS_JSON", path));
  }
  const sources = legacyKeySources({
    ...{ aws: undefined, gcp, vault: undefined },
    legacy: { keyId: at.keyId, encryptionKey: undefined },
    ...LIMITS,
  });
  try {
    return await fetchKey(sources.gcp, at);
  } catch (error) {
    throw refusal(error);
  }
}

/** In the guide's words, as the functions say it. */
function refusal(error: unknown): unknown {
  if (!(error instanceof SuiteError)) return error;
  const [violation] = error.violations;
  return violation === undefined
    ? new CliError(EXIT.unavailable, error.code, "Secret Manager does not answer")
    : new CliError(EXIT.refused, error.code, violation.detail);
}

function projectOf(json: string): string {
  try {
    const { project_id } = JSON.parse(json) as { project_id?: unknown };
    return typeof project_id === "string" ? project_id : "";
  } catch {
    // The reader says what is wrong with it, and quotes nothing.
    return "";
  }
}
