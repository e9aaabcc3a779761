/**
 * Command line of the embedded stack: `start` runs it, `demo` plays the main job on it. No function
 * of this file is for others; see stack.ts.
 */
import { Command, InvalidArgumentError } from "commander";
import { resolve } from "node:path";
import { messageOf, StackError } from "./errors.ts";
import { runDemo } from "./demo.ts";
import { printEnv } from "./env-command.ts";
import { REPOSITORY } from "./stack.ts";
import { runStart } from "./start-command.ts";

interface Flags {
  readonly port: number;
  readonly awsPort: number;
  readonly dbUrl?: string;
  readonly dataDir: string;
  readonly envFile?: string;
  readonly reset?: boolean;
}

const DATA_DIR = resolve(REPOSITORY, ".local");

const program = new Command()
  .name("deno task")
  .description(
    "The embedded stack: Supabase, a local AWS and the functions, on this machine alone.",
  )
  .showHelpAfterError();

program.command("start")
  .description("start everything and keep it running until Ctrl-C")
  .option("--port <port>", "port of the API (0: any free one)", parsePort, 54321)
  .option("--aws-port <port>", "port of the local AWS (0: any free one)", parsePort, 4566)
  .option("--db-url <url>", "a Postgres to use instead of PGlite, as its superuser or owner")
  .option("--data-dir <folder>", "where the database, keys and logs are kept", DATA_DIR)
  .option("--env-file <file>", "own secrets of the functions (default: .env.local, if any)")
  .option("--reset", "remove what the data directory holds first; asks nothing")
  .action((flags: Flags) => runStart({ ...flags }));

program.command("demo")
  .description("play the main job on the running stack, or on a fresh one in a temporary folder")
  .option("--data-dir <folder>", "data directory of the running stack", DATA_DIR)
  .action(async ({ dataDir }: Pick<Flags, "dataDir">) => {
    Deno.exitCode = await runDemo(dataDir) ? 0 : 1;
  });

program.command("env")
  .description('print the running stack\'s addresses and keys for a shell: eval "$(...)"')
  .option("--data-dir <folder>", "data directory of the running stack", DATA_DIR)
  .action(({ dataDir }: Pick<Flags, "dataDir">) => printEnv(dataDir));

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port <= 65535) return port;
  throw new InvalidArgumentError("A port is a whole number from 0 to 65535.");
}

try {
  await program.parseAsync(Deno.args, { from: "user" });
  Deno.exit();
} catch (error) {
  console.error(error instanceof StackError ? `error: ${messageOf(error)}` : error);
  Deno.exit(1);
}
