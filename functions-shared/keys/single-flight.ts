/**
 * A value that is fetched once for all concurrent callers and then reused until it expires.
 *
 * A failed fetch is not kept: the next caller tries again.
 */
export class SingleFlight<T> {
  readonly #fetch: () => Promise<{ readonly value: T; readonly expiresAt: number }>;
  readonly #now: () => number;
  #current: { readonly value: T; readonly expiresAt: number } | undefined;
  #pending: Promise<T> | undefined;

  /** `fetch` answers the value and when to fetch again, in milliseconds since the epoch. */
  constructor(
    fetch: () => Promise<{ readonly value: T; readonly expiresAt: number }>,
    now: () => number = Date.now,
  ) {
    this.#fetch = fetch;
    this.#now = now;
  }

  get(): Promise<T> {
    const current = this.#current;
    if (current !== undefined && this.#now() < current.expiresAt) {
      return Promise.resolve(current.value);
    }
    return this.refresh();
  }

  /** Fetches anew, or waits for a fetch under way. `get` answers the last value until then, if it is good. */
  refresh(): Promise<T> {
    this.#pending ??= this.#fetch()
      .then((fetched) => {
        this.#current = fetched;
        return fetched.value;
      })
      .finally(() => this.#pending = undefined);
    return this.#pending;
  }

  /** The last value, expired or not. */
  peek(): T | undefined {
    return this.#current?.value;
  }

  clear(): void {
    this.#current = undefined;
  }
}
