/** `deno task kms -- <command>`: the operator's command line. */
import { processIo } from "./io.ts";
import { run } from "./run.ts";

Deno.exit(await run(Deno.args, processIo()));
