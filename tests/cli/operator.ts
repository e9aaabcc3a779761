/** An operator at the embedded stack: commands that find it by its data directory, and all they ever said. */
import { assert, assertEquals } from "@std/assert";
import { writeStackFile } from "../../local/stack-file.ts";
import type { Stack } from "../../local/stack.ts";
import { sharedStack } from "../support/stack.ts";
import { type Finished, kms, type RunOptions } from "./cli.ts";
import { startKms } from "./process.ts";

/** What a command changes shows in the next request, and a key is asked for each time it is used. */
export const AT_ONCE = {
  KMS_CONFIG_CACHE_MS: "0",
  KMS_DATA_KEY_TTL_MS: "0",
  KMS_HEALTH_CACHE_MS: "0",
};

const said: string[] = [];
let ready: Promise<Stack> | undefined;

export function stackOfOperator(): Promise<Stack> {
  return ready ??= (async () => {
    const stack = await sharedStack({ functionEnv: AT_ONCE });
    await writeStackFile(stack, { userId: crypto.randomUUID(), running: true });
    return stack;
  })();
}

/** A command with `--json`: one document, whatever comes of it. */
export async function operate(args: readonly string[], options?: RunOptions): Promise<Finished> {
  const { dataDir } = await stackOfOperator();
  return heard(await kms([...args, "--json", "--data-dir", dataDir], options), args);
}

/** The same as a process of its own. */
export async function spawn(args: readonly string[], stdin?: string): Promise<Finished> {
  const { dataDir } = await stackOfOperator();
  const all = [...args, "--json", "--data-dir", dataDir];
  return heard(await startKms(all, stdin === undefined ? {} : { stdin }).ended(), args);
}

/** The answer of a command that succeeds. */
// deno-lint-ignore no-explicit-any -- each test reads the members it expects
export async function done(args: readonly string[], options?: RunOptions): Promise<any> {
  const finished = await operate(args, options);
  assertEquals(finished.code, 0, finished.stderr);
  return finished.json();
}

/** Ends with this exit code, and an error of this code. */
export async function refused(
  args: readonly string[],
  exit: number,
  code: string,
  options?: RunOptions,
  // deno-lint-ignore no-explicit-any -- each test reads the members it expects
): Promise<any> {
  const finished = await operate(args, options);
  const { error } = finished.json();
  assertEquals([finished.code, error?.code], [exit, code], finished.stderr);
  return error;
}

/** None of them is in anything that a command ever printed. */
export function neverSaid(secrets: readonly string[]): void {
  for (const [index, secret] of secrets.entries()) {
    assert(secret.length > 7, `secret ${index} would be found anywhere`);
    const where = said.find((text) => text.includes(secret));
    assert(where === undefined, `secret ${index} was printed by ${where?.split("\n")[0]}`);
  }
}

function heard(finished: Finished, args: readonly string[]): Finished {
  said.push(`${args.slice(0, 2).join(" ")}\n${finished.stdout}${finished.stderr}`);
  try {
    finished.json();
  } catch {
    throw new Error(`no JSON from ${args.join(" ")}:\n${finished.stdout}\n${finished.stderr}`);
  }
  return finished;
}
