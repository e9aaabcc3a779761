/** The functions' variables, read as the functions read them. */
import { type Config, loadConfig } from "../../functions-shared/config.ts";
import { ConfigError } from "../../functions-shared/environment.ts";
import type { Report } from "./report.ts";

const CHECK = "configuration";

/** Undefined when it is faulty. */
export function checkConfiguration(
  report: Report,
  env: Readonly<Record<string, string | undefined>>,
): Config | undefined {
  let config: Config;
  try {
    config = loadConfig(env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    report.fail(
      CHECK,
      error.faults.join("; "),
      "set these variables (.env.example says how), or name their file with --env-file",
    );
    return undefined;
  }
  report.pass(CHECK, `${config.environment}, provider ${config.provider}`);
  return config;
}
