/**
 * What a local key service keeps between its runs: one JSON document in a file of mode 0600, replaced as a
 * whole. The data directory's lock keeps others out.
 */
import { StackError } from "../errors.ts";
import { readTextFileIfAny, writePrivateFile } from "../private-file.ts";

export class StateFile<State extends { readonly version: 1 }> {
  readonly #path: string | undefined;
  #kept = "";
  #writing: Promise<void> = Promise.resolve();

  /** Without a path nothing is kept. */
  constructor(path: string | undefined) {
    this.#path = path;
  }

  /**
   * Undefined when there is none yet.
   * @throws {StackError} when it is no state of this version.
   */
  async read(): Promise<State | undefined> {
    const text = this.#path === undefined ? null : await readTextFileIfAny(this.#path);
    if (text === null) return undefined;
    try {
      const state = JSON.parse(text) as State | null;
      if (state?.version === 1) {
        this.#kept = text;
        return state;
      }
    } catch {
      // The one fault below.
    }
    throw new StackError(`${this.#path} is damaged: restore it, or start afresh with --reset`);
  }

  /** Resolves when the state, if it has changed, is on disk: nobody is answered before. */
  async keep(state: State): Promise<void> {
    const path = this.#path;
    if (path === undefined) return;
    const text = JSON.stringify(state, null, 1) + "\n";
    this.#writing = this.#writing.catch(() => {}).then(async () => {
      if (text === this.#kept) return;
      await writePrivateFile(path, text);
      this.#kept = text;
    });
    await this.#writing;
  }
}
