/** The command line as a process of its own, which no test waits for longer than it lives. */
import { join } from "node:path";
import type { Finished } from "./cli.ts";

const REPOSITORY = join(import.meta.dirname ?? ".", "..", "..");
/** What begins and ends in a second, on the slowest machine. */
const LONGEST_MS = 120_000;

export interface KmsProcess {
  /** Resolves with `event`. @throws with all that the process said, when it ends or hangs before */
  until(event: Promise<void>): Promise<void>;
  interrupt(): void;
  /** Waits for the end. @throws with all that it said, when it hangs */
  ended(): Promise<Finished>;
}

export interface ProcessOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
}

export function startKms(
  args: readonly string[],
  { env = {}, stdin }: ProcessOptions = {},
): KmsProcess {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", join(REPOSITORY, "cli", "main.ts"), "--", ...args],
    cwd: REPOSITORY,
    env,
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let hung = false;
  const deadline = setTimeout(() => {
    hung = true;
    child.kill("SIGKILL");
  }, LONGEST_MS);
  const finished = (async (): Promise<Finished> => {
    if (stdin !== undefined) {
      // It may end without having read.
      await ReadableStream.from([new TextEncoder().encode(stdin)]).pipeTo(child.stdin)
        .catch(() => {});
    }
    const { code, ...output } = await child.output();
    clearTimeout(deadline);
    const text = new TextDecoder();
    const [stdout, stderr] = [text.decode(output.stdout), text.decode(output.stderr)];
    return { code, stdout, stderr, json: () => JSON.parse(stdout) };
  })();
  const failure = (what: string, { code, stdout, stderr }: Finished) =>
    new Error(`kms ${args.join(" ")} ${what} (exit code ${code}):\n${stdout}\n${stderr}`);
  return {
    until: async (event) => {
      const early = await Promise.race([event.then(() => undefined), finished]);
      if (early !== undefined) throw failure(hung ? "hung" : "ended too early", early);
    },
    interrupt: () => child.kill("SIGINT"),
    ended: async () => {
      const end = await finished;
      if (hung) throw failure("hung", end);
      return end;
    },
  };
}
