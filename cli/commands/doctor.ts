/** `kms doctor`: everything the suite stands on, and what to do about each fault. Changes nothing. */
import type { Command } from "commander";
import type { Config } from "../../functions-shared/config.ts";
import { checkAwsKeys } from "../doctor/aws-keys.ts";
import { checkAwsSession } from "../doctor/aws-session.ts";
import { checkConfiguration } from "../doctor/configuration.ts";
import { checkDatabase } from "../doctor/database.ts";
import { checkFunctions } from "../doctor/functions.ts";
import { aboutEnvironment, askSettings, type Settings } from "../doctor/in-force.ts";
import { checkKeyServices } from "../doctor/key-services.ts";
import { lineText, Report } from "../doctor/report.ts";
import { readEnvironment } from "../env-files.ts";
import { EXIT } from "../errors.ts";
import type { Host, Session } from "../host.ts";

interface Options {
  readonly envFile?: string;
  readonly json?: boolean;
}

export function doctorCommand(program: Command, host: Host): void {
  host.command(program, "doctor", "check everything the suite stands on; changes nothing")
    .option("--env-file <file>", "the functions' variables, mode 0600 (default: the environment)")
    .action(host.action<Options>(async (session, { envFile, json }) => {
      const { io } = session;
      const target = await session.target();
      const env = await functionEnvironment(session, envFile);
      const report = new Report((line) => {
        if (json) io.err(lineText(line));
        else io.out(lineText(line));
      });
      const settings = await askSettings(target);
      const config = checkConfiguration(report, env);
      if (config === undefined) report.notChecked("keys", "configuration");
      else await checkKeys(report, config, settings.ok ? settings.value.settings : undefined);
      await checkDatabase(report, target);
      await checkFunctions(report, config, target, settings);

      const [pass, warn, fail] = [report.count("pass"), report.count("warn"), report.count("fail")];
      return {
        document: { healthy: fail === 0, pass, warn, fail, checks: report.lines },
        text: `\n${pass} passed, ${warn} warnings, ${fail} failed`,
        exit: fail === 0 ? EXIT.ok : EXIT.negative,
      };
    }));
}

/** Key services that the environment names, as they are seen from here. */
async function checkKeys(
  report: Report,
  config: Config,
  settings: Settings | undefined,
): Promise<void> {
  const about = (name: string) => aboutEnvironment(report, name, settings);
  if (config.aws !== undefined) {
    const aws = about("aws");
    const awsSession = await checkAwsSession(aws, config, config.aws);
    if (awsSession !== undefined) await checkAwsKeys(aws, config, config.aws, awsSession);
    else {
      aws.notChecked(
        "aws.keys",
        aws.failed("aws.credentials") ? "aws.credentials" : "aws.role",
      );
    }
  }
  await checkKeyServices(about, config);
}

/** What the functions were given: a file's, the embedded stack's, or this process's variables. */
async function functionEnvironment(session: Session, envFile: string | undefined) {
  const target = await session.target();
  if (envFile === undefined && target.functionEnv !== undefined) return target.functionEnv;
  const own = await readEnvironment(envFile, session.io);
  // The platform gives these to the functions; no file has them.
  return {
    ...own,
    SUPABASE_URL: target.apiUrl,
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: target.secretKey }),
  };
}
