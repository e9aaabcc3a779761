/** The key of an older setup, fetched by the command itself, with credentials that the functions never see. */
import { fetchKey, type KeyLocation } from "../functions-shared/admin/legacy/key-source.ts";
import { legacyKeySources } from "../functions-shared/assembly/legacy-key-sources.ts";
import { withCredentialsFile } from "../functions-shared/config-gcp.ts";
import { type Config, loadConfig } from "../functions-shared/config.ts";
import { ConfigError, type Environment } from "../functions-shared/environment.ts";
import { SuiteError } from "../functions-shared/errors.ts";
import { CliError, EXIT, usage } from "./errors.ts";

/**
 * `env`: the suite's variables; `GOOGLE_APPLICATION_CREDENTIALS` may name a file here. Without a `keyId`
 * `KMS_KEY_ID` is meant.
 *
 * @throws {CliError} usage for variables that are wrong; key_import_failed, kms_unavailable.
 */
export async function fetchLocally(
  source: "aws" | "gcp" | "vault",
  at: Partial<KeyLocation>,
  env: Environment,
): Promise<string> {
  const config = configOf(env);
  const { keyId = config.legacy.keyId, ...place } = at;
  try {
    return await fetchKey(legacyKeySources(config)[source], { keyId, ...place });
  } catch (error) {
    if (!(error instanceof SuiteError)) throw error;
    const exit = error.code === "key_import_failed" ? EXIT.refused : EXIT.unavailable;
    const detail = error.violations?.[0]?.detail;
    throw new CliError(exit, error.code, detail ?? `${source} does not answer`, { cause: error });
  }
}

function configOf(env: Environment): Config {
  try {
    return loadConfig(withCredentialsFile(env, credentialsFile));
  } catch (error) {
    if (error instanceof ConfigError) throw usage(error.faults.join("; "));
    throw error;
  }
}

function credentialsFile(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (cause) {
    const message = "the file of GOOGLE_APPLICATION_CREDENTIALS cannot be read";
    throw new CliError(EXIT.usage, "usage", message, { cause });
  }
}
