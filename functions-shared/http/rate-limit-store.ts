/** The port behind which requests are counted. */

/** One counter: so many in a window. */
export interface LimitedKey {
  readonly key: string;
  readonly limit: number;
  readonly seconds: number;
}

export interface Taken {
  readonly allowed: boolean;
  /** Which of the keys the rest is about: the one with the least left. */
  readonly index: number;
  readonly remaining: number;
  /** Seconds until its window is over, 1 or more. */
  readonly reset: number;
}

export interface RateLimitStore {
  /**
   * Counts one request against all keys or, when one of them is used up, against none. Exact, however many
   * call at once and from whatever worker.
   */
  take(keys: readonly LimitedKey[]): Promise<Taken>;
}
