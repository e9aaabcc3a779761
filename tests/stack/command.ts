import { join } from "node:path";
import { REPOSITORY } from "../../local/stack.ts";

const MAIN = join(REPOSITORY, "local", "main.ts");

/** `deno task start` or `demo`, as a process of its own. */
export interface RunningCommand {
  readonly pid: number;
  /** Everything written to stdout so far. */
  stdout(): string;
  /** Resolves when stdout holds `text`; throws when the process ends before. */
  says(text: string): Promise<void>;
  kill(signal: Deno.Signal): void;
  /** Waits for the end. */
  ended(): Promise<{ code: number; stdout: string; stderr: string }>;
}

export function runMain(...args: string[]): RunningCommand {
  return runScript(MAIN, ...args);
}

export function runScript(script: string, ...args: string[]): RunningCommand {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", script, ...args],
    cwd: REPOSITORY,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let stdout = "";
  let wake = Promise.withResolvers<void>();
  const reading = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      stdout += chunk;
      wake.resolve();
      wake = Promise.withResolvers<void>();
    }
  })();
  const errors = new Response(child.stderr).text();
  return {
    pid: child.pid,
    stdout: () => stdout,
    says: async (text) => {
      const over = reading.then(() => "over" as const);
      while (!stdout.includes(text)) {
        if (await Promise.race([wake.promise, over]) === "over" && !stdout.includes(text)) {
          throw new Error(`ended before it said "${text}":\n${stdout}\n${await errors}`);
        }
      }
    },
    kill: (signal) => child.kill(signal),
    ended: async () => {
      const { code } = await child.status;
      await reading;
      return { code, stdout, stderr: await errors };
    },
  };
}
