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
  /** All of stdin. */
  stdin(): Promise<string>;
  /** Aborted by the first Ctrl-C. */
  readonly interrupted: AbortSignal;
  /** Milliseconds since the epoch. */
  now(): number;
}

/** The process's own. */
export function processIo(): Io {
  const interrupted = new AbortController();
  Deno.addSignalListener("SIGINT", () => {
    // A second one ends at once: whatever runs is made to survive that.
    if (interrupted.signal.aborted) Deno.exit(130);
    interrupted.abort();
  });
  const encoder = new TextEncoder();
  const draw = (text: string) => writeAll(Deno.stderr, encoder.encode(text));
  return {
    out: (text) => writeAll(Deno.stdout, encoder.encode(`${text}\n`)),
    err: (text) => draw(`${text}\n`),
    draw,
    isTerminal: Deno.stderr.isTerminal(),
    columns: () => {
      try {
        return Deno.consoleSize().columns;
      } catch {
        return 80;
      }
    },
    env: Deno.env.toObject(),
    stdin: () => new Response(Deno.stdin.readable).text(),
    interrupted: interrupted.signal,
    now: Date.now,
  };
}

function writeAll(to: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  try {
    for (let written = 0; written < bytes.length;) {
      written += to.writeSync(bytes.subarray(written));
    }
  } catch (error) {
    // The reader of a pipe has seen enough.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
