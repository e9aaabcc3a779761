/**
 * What is left over when a worker dies at the wrong moment, and is finished with the health check: of all
 * requests it is the one that comes on a schedule.
 */

export interface UpkeepOptions {
  /** Does what there is to do; how much that was. */
  readonly work: () => Promise<number>;
  /** Milliseconds between two times in this worker. */
  readonly everyMs: number;
  /** Takes work that no answer waits for. */
  readonly background: (work: Promise<unknown>) => void;
  /** Told what came of it unless there was nothing to do; must not throw. */
  readonly told: (outcome: { readonly count: number } | { readonly error: unknown }) => void;
  readonly now?: () => number;
}

export class Upkeep {
  readonly #options: UpkeepOptions;
  readonly #now: () => number;
  #next = -Infinity;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** Begins in the background when it is time; never throws. */
  due(): void {
    const { work, everyMs, background, told } = this.#options;
    if (this.#now() < this.#next) return;
    this.#next = this.#now() + everyMs;
    background(
      work().then((count) => count > 0 && told({ count }), (error) => told({ error })),
    );
  }
}
