import { CliError, EXIT, usage } from "./errors.ts";

/** The world as a command sees it. Tests bring their own. */
export interface Io {
  /** One or more whole lines on stdout: the answer, and nothing else. */
  out(text: string): void;
  /** One or more whole lines on stderr: everything that is no answer. */
  err(text: string): void;
  /** Text on stderr as it is; a progress bar redraws its line with it. */
  draw(text: string): void;
  /** Whether stderr is a terminal. */
  readonly isTerminal: boolean;
  /** Width of the terminal. */
  columns(): number;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** All of stdin; it can be asked for once. */
  stdin(): Promise<string>;
  /** Aborted by the first Ctrl-C; until a command asks for it, Ctrl-C ends the process as ever. */
  readonly interrupted: AbortSignal;
  /** Milliseconds since the epoch. */
  now(): number;
}

/** The process's own. */
export function processIo(): Io {
  const encoder = new TextEncoder();
  const draw = (text: string) => writeAll(Deno.stderr, encoder.encode(text));
  let interrupted: AbortSignal | undefined;
  return {
    out: (text) => writeAll(Deno.stdout, encoder.encode(`${text}\n`)),
    err: (text) => draw(`${text}\n`),
    draw,
    isTerminal: Deno.stderr.isTerminal() && Deno.env.get("TERM") !== "dumb",
    columns: () => {
      try {
        // A terminal whose size nobody has set says 0.
        return Deno.consoleSize().columns || 80;
      } catch {
        return 80;
      }
    },
    env: Deno.env.toObject(),
    stdin: readOnce(() => new Response(Deno.stdin.readable).text()),
    get interrupted() {
      return interrupted ??= firstInterrupt();
    },
    now: Date.now,
  };
}

/** For two options that both say `-`. @throws (when read) {CliError} */
export function readOnce(read: () => Promise<string>): () => Promise<string> {
  let taken = false;
  return async () => {
    if (taken) throw usage("stdin can be read only once: give one of the two by file");
    taken = true;
    return await read();
  };
}

const ENDING = "\nending after what is under way; Ctrl-C once more ends at once\n";

function firstInterrupt(): AbortSignal {
  const controller = new AbortController();
  Deno.addSignalListener("SIGINT", () => {
    // A second one ends at once: whatever runs is made to survive that.
    if (controller.signal.aborted) Deno.exit(130);
    writeAll(Deno.stderr, new TextEncoder().encode(ENDING));
    controller.abort();
  });
  return controller.signal;
}

function writeAll(to: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  try {
    for (let written = 0; written < bytes.length;) {
      written += to.writeSync(bytes.subarray(written));
    }
  } catch (error) {
    // The reader of a pipe has seen enough.
    if (error instanceof Deno.errors.BrokenPipe) return;
    const message = "the answer could not be written: is the disk full?";
    throw new CliError(EXIT.internal, "not_written", message, { cause: error });
  }
}
