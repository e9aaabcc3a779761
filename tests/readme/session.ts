/** Runs commands the way a reader of the README does: in a shell, in a checkout of its own. */

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a script in bash, which ends at the first command that fails, or with `signal`. */
export async function runScript(
  script: string,
  cwd: string,
  signal?: AbortSignal,
): Promise<Finished> {
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-euo", "pipefail", "-c", script],
    cwd,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...signal === undefined ? {} : { signal },
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** A command that keeps running, in a process group of its own as a terminal gives it. */
export class ForegroundCommand {
  #output = "";
  #ended = false;
  readonly #child: Deno.ChildProcess;
  readonly #done: Promise<Deno.CommandStatus>;

  constructor(command: string, cwd: string) {
    this.#child = new Deno.Command("setsid", {
      args: ["bash", "-c", `exec ${command}`],
      cwd,
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const reading = [this.#child.stdout, this.#child.stderr].map((stream) => this.#collect(stream));
    this.#done = Promise.all([this.#child.status, ...reading]).then(([status]) => {
      this.#ended = true;
      return status;
    });
  }

  async #collect(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) this.#output += text;
  }

  /** Everything it has printed so far. */
  get output(): string {
    return this.#output;
  }

  /** Waits until it has printed `text`. @throws Error with the output when it ends or takes longer */
  async printed(text: string, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!this.#output.includes(text)) {
      if (this.#ended || Date.now() > deadline) {
        throw new Error(`it did not print "${text}" but:\n${this.#output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ctrl-C: the terminal sends the signal to the whole group. @returns the exit status */
  async interrupt(): Promise<Deno.CommandStatus> {
    this.#signal("SIGINT");
    return await this.#done;
  }

  /** Ends whatever is left of the group. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal("SIGKILL");
    await this.#done;
  }

  #signal(signal: Deno.Signal): void {
    try {
      Deno.kill(-this.#child.pid, signal);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
