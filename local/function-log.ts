/** Most characters kept in memory per function; older lines are in the file. */
const MAX_CHARS = 16 * 1024 * 1024;
/** A log file of this size in bytes is put aside (`.1`) when the function is next started. */
const MAX_FILE_BYTES = 10 * 1024 * 1024;

/** Everything a function writes: kept in memory, appended to a file (mode 0600), passed on. */
export class FunctionLog {
  #chunks: string[] = [];
  #chars = 0;
  readonly #file: Deno.FsFile;

  constructor(path: string, private readonly onLine: (line: string) => void) {
    const size = sizeOf(path);
    if (size > MAX_FILE_BYTES) Deno.renameSync(path, `${path}.1`);
    this.#file = Deno.openSync(path, { create: true, append: true, mode: 0o600 });
  }

  /** What was written so far. */
  get text(): string {
    return this.#chunks.join("");
  }

  /** A line of the stack's own, about this function. */
  note(line: string): void {
    this.#append(`${line}\n`);
    this.onLine(line);
  }

  /** Reads `stream` to its end. */
  async follow(stream: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
      this.#append(chunk);
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      lines.forEach((line) => this.onLine(line));
    }
    if (rest) this.onLine(rest);
  }

  close(): void {
    this.#file.close();
  }

  #append(text: string): void {
    this.#chunks.push(text);
    this.#chars += text.length;
    while (this.#chars > MAX_CHARS && this.#chunks.length > 1) {
      this.#chars -= this.#chunks.shift()?.length ?? 0;
    }
    const bytes = new TextEncoder().encode(text);
    for (let written = 0; written < bytes.length;) {
      written += this.#file.writeSync(bytes.subarray(written));
    }
  }
}

function sizeOf(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch {
    return 0;
  }
}
