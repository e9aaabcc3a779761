/** The command line from its arguments to its exit code. */
import { Command, CommanderError } from "commander";
import { auditCommand } from "./commands/audit.ts";
import { configCommand } from "./commands/config.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { eraseCommand } from "./commands/erase.ts";
import { healthCommand } from "./commands/health.ts";
import { importKeyCommand } from "./commands/import-key.ts";
import { importRowsCommand } from "./commands/import-rows.ts";
import { jobsCommand } from "./commands/jobs.ts";
import { keyCommand } from "./commands/key.ts";
import { migrateProviderCommand } from "./commands/migrate-provider.ts";
import { reencryptCommand } from "./commands/reencrypt.ts";
import { retireCommand } from "./commands/retire.ts";
import { rotateCommand } from "./commands/rotate.ts";
import { newestMigration } from "./doctor/migrations.ts";
import { CliError, errorDocument, errorText, EXIT, usage } from "./errors.ts";
import { Host } from "./host.ts";
import type { Io } from "./io.ts";
import { printable } from "./text.ts";

const COMMANDS = [
  doctorCommand,
  healthCommand,
  keyCommand,
  rotateCommand,
  retireCommand,
  reencryptCommand,
  jobsCommand,
  migrateProviderCommand,
  configCommand,
  auditCommand,
  eraseCommand,
  importKeyCommand,
  importRowsCommand,
];

const FOOTER = `
Exit codes: 0 done, 1 the answer is no, 2 usage, 3 unauthorized, 4 unreachable or unavailable,
5 refused. docs/command-line.md has the rest.`;

/** @returns the exit code; never throws */
export async function run(args: readonly string[], io: Io): Promise<number> {
  const host = new Host(io);
  const program = new Command()
    .name("deno task kms --")
    .version(versionText(), "-V, --version", "what this command line was made for")
    .description("Operates the suite: keys, jobs, providers, configuration, audit.")
    .showHelpAfterError("(--help shows what it takes)")
    .addHelpText("after", FOOTER)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.out(text.trimEnd()),
      writeErr: (text) => io.err(text.trimEnd()),
      outputError: (text, write) =>
        write(withoutValues(text.trimEnd()).split("\n").map(printable).join("\n")),
    });
  for (const add of COMMANDS) add(program, host);
  // `deno task kms -- doctor` passes the dashes on.
  const given = args[0] === "--" ? args.slice(1) : [...args];
  try {
    await program.parseAsync(given, { from: "user" });
    return host.exit;
  } catch (error) {
    return fail(error, given.includes("--json"), io);
  }
}

function fail(error: unknown, json: boolean, io: Io): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return EXIT.ok;
    // Commander has told people already.
    if (json) {
      const said = withoutValues(error.message.replace(/^error: /, ""));
      io.out(JSON.stringify(errorDocument(usage(said)), null, 2));
    }
    return EXIT.usage;
  }
  const known = error instanceof CliError
    ? error
    : new CliError(EXIT.internal, "internal_error", `unexpected: ${nameOf(error)}`);
  io.err(errorText(known));
  if (json) io.out(JSON.stringify(errorDocument(known), null, 2));
  return known.exit;
}

/** What commander says without what was given: it may be a secret in the wrong place. */
function withoutValues(text: string): string {
  return text
    .replace(/(unknown option '[^'=]*)=[\s\S]*'/, "$1'")
    .replace(/(unknown command) '(?![a-z-]{1,20}')[\s\S]*'/, "$1")
    .replace(/(command-argument value|argument) '[\s\S]*' is invalid/, "$1 is invalid")
    .replace(/(but got \d+): [\s\S]*\./, "$1.");
}

/** The database that it expects: `doctor` compares. */
function versionText(): string {
  return `made for the migrations up to ${newestMigration()}; Deno ${Deno.version.deno}`;
}

/** Where an unforeseen fault lies, without its message: that may quote what must not be shown. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const [at = ""] = error.stack?.match(/cli\/[\w./-]+:\d+/) ?? [];
  return `${error.name} ${at}`.trim();
}
