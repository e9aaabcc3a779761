/**
 * What a worker runs on, made anew when the stored settings change.
 *
 * A worker in use asks in the background, once in half of the cache time, and nothing waits for it. Only
 * one that was idle for longer than the cache time waits for the answer before it goes on: otherwise
 * settings would take effect some time or other.
 */

/** The revision of the settings, and whatever came with it. */
export interface News {
  readonly revision: number;
}

export interface LiveOptions<Value, Heard extends News> {
  /** Asks for the settings; told which revision is known. */
  readonly read: (known: number | undefined) => Promise<Heard>;
  /** Of a revision that was not known. Must not throw. */
  readonly build: (heard: Heard) => Value;
  /** Every answer with the revision that is known: it may bring other news. */
  readonly hear: (value: Value, heard: Heard) => void;
  /** No request will start with this one; some may still be under way. */
  readonly retire: (value: Value) => void;
  /** Milliseconds that an answer counts; 0 = every caller waits for one. */
  readonly cacheMs: number;
  readonly background: (work: Promise<unknown>) => void;
  readonly now: () => number;
}

interface Current<Value> {
  readonly value: Value;
  readonly revision: number;
  /** When it was asked for: an answer may be as old as its question. */
  readonly askedAt: number;
}

/** Longest pause after a failure, milliseconds. */
const MAX_RETRY_AFTER_MS = 5_000;

export class Live<Value, Heard extends News> {
  readonly #options: LiveOptions<Value, Heard>;
  #current: Current<Value> | undefined;
  #asking: Promise<Value> | undefined;
  #retryAt = -Infinity;

  constructor(options: LiveOptions<Value, Heard>) {
    this.#options = options;
  }

  /** @throws what `read` throws, as long as nothing was ever read. */
  async get(): Promise<Value> {
    const current = this.#current;
    if (current === undefined) return await this.#ask();
    const { cacheMs, now, background } = this.#options;
    const age = now() - current.askedAt;
    if (age >= 0 && age < cacheMs / 2) return current.value;
    if (this.#asking === undefined && now() < this.#retryAt) return current.value;
    const answer = this.#ask();
    if (age >= 0 && age < cacheMs) {
      background(answer);
      return current.value;
    }
    // Without an answer the worker goes on with what it has.
    return await answer.catch(() => current.value);
  }

  /** The last value, however old. */
  peek(): Value | undefined {
    return this.#current?.value;
  }

  /** With an answer that is younger than this call. @throws what `read` throws. */
  async renew(): Promise<Value> {
    await this.#asking?.catch(() => {});
    return await this.#ask();
  }

  #ask(): Promise<Value> {
    return this.#asking ??= this.#renew().finally(() => this.#asking = undefined);
  }

  async #renew(): Promise<Value> {
    const { read, build, hear, retire, cacheMs, now } = this.#options;
    const askedAt = now();
    const before = this.#current;
    let heard: Heard;
    try {
      heard = await read(before?.revision);
    } catch (error) {
      this.#retryAt = now() + Math.min(cacheMs / 2, MAX_RETRY_AFTER_MS);
      throw error;
    }
    const { revision } = heard;
    if (before !== undefined && before.revision === revision) {
      this.#current = { ...before, askedAt };
      hear(before.value, heard);
      return before.value;
    }
    const value = build(heard);
    this.#current = { value, revision, askedAt };
    if (before !== undefined) retire(before.value);
    return value;
  }
}
