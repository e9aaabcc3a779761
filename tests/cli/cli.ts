/** The command line, run in this process: what it printed, and how it ended. */
import { type Io, readOnce } from "../../cli/io.ts";
import { run } from "../../cli/run.ts";

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Stdout as JSON. */
  // deno-lint-ignore no-explicit-any -- each test reads the members it expects
  json(): any;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly isTerminal?: boolean;
  readonly columns?: number;
  readonly interrupted?: AbortSignal;
  readonly now?: () => number;
}

export async function kms(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  let [stdout, stderr] = ["", ""];
  const io: Io = {
    out: (text) => stdout += `${text}\n`,
    err: (text) => stderr += `${text}\n`,
    draw: (text) => stderr += text,
    isTerminal: options.isTerminal ?? false,
    columns: () => options.columns ?? 80,
    env: options.env ?? {},
    stdin: readOnce(() => Promise.resolve(options.stdin ?? "")),
    interrupted: options.interrupted ?? new AbortController().signal,
    now: options.now ?? Date.now,
  };
  const code = await run(args, io);
  return { code, stdout, stderr, json: () => JSON.parse(stdout) };
}

/** A file that only its owner can read, gone with the test file. */
export function privateFile(text: string, mode = 0o600): string {
  const path = Deno.makeTempFileSync({ prefix: "kms-" });
  addEventListener("unload", () => Deno.removeSync(path));
  Deno.writeTextFileSync(path, text);
  Deno.chmodSync(path, mode);
  return path;
}
