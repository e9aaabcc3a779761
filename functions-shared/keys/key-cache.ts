/**
 * Unwrapped keys of this worker, bounded by age, uses and number.
 *
 * A key is only lent: it is used inside a synchronous call, and zeroed when it leaves the cache, so nobody
 * can still hold it then. One fetch serves all callers that wait for the same key, in the very moment it
 * arrives; a failed one is not kept. A fetch that nobody waits for any more is told so.
 */

export interface KeyCacheOptions<Key> {
  /** Milliseconds a key may be used after it was fetched; 0 = each use fetches its own. */
  readonly ttlMs: number;
  /** Encryptions under one fetched key, 1 or more. Decryptions are not counted. */
  readonly maxEncryptions: number;
  /** Keys kept at a time, 1 or more; the least recently used goes first. */
  readonly maxEntries: number;
  /** Overwrites what is secret of a key. */
  readonly wipe: (key: Key) => void;
  readonly now?: () => number;
  readonly onHit?: () => void;
  readonly onMiss?: () => void;
}

type Purpose = "encrypt" | "decrypt";
type Fetch<Key> = (signal: AbortSignal) => Promise<Key>;

interface Entry<Key> {
  readonly key: Key;
  readonly fetchedAt: number;
  encryptions: number;
}

/** A caller without a key: `serve` uses it at once, and neither of the two throws. */
interface Waiter<Key> {
  readonly purpose: Purpose;
  readonly serve: (key: Key) => void;
  readonly fail: (error: unknown) => void;
}

/** A fetch under way and who waits for it. */
interface Flight<Key> {
  readonly waiters: Set<Waiter<Key>>;
  readonly end: AbortController;
}

export class KeyCache<Key> {
  readonly #options: KeyCacheOptions<Key>;
  readonly #now: () => number;
  /** The least recently used first: a Map keeps the order in which its entries came. */
  readonly #entries = new Map<string, Entry<Key>>();
  /** Which flight newcomers wait for. */
  readonly #flights = new Map<string, Flight<Key>>();
  #retired = false;

  constructor(options: KeyCacheOptions<Key>) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /**
   * Calls `use` with the key named `id`, which `fetch` brings when the cache has none that is still good.
   * `purpose: "encrypt"` counts against the key's uses. What `fetch` throws is thrown to every waiter; a
   * caller whose `signal` ends waits no longer, and the fetch's signal ends with the last of them.
   */
  async lend<T>(
    id: string,
    purpose: Purpose,
    fetch: Fetch<Key>,
    use: (key: Key) => T,
    signal?: AbortSignal,
  ): Promise<T> {
    signal?.throwIfAborted();
    const hit = this.#take(id, purpose);
    if (hit !== undefined) {
      this.#options.onHit?.();
      return use(hit);
    }
    this.#options.onMiss?.();
    if (this.#options.ttlMs === 0) {
      const key = await fetch(signal ?? new AbortController().signal);
      try {
        signal?.throwIfAborted();
        return use(key);
      } finally {
        this.#options.wipe(key);
      }
    }
    this.#dropExpired();
    return await new Promise<T>((resolve, reject) => {
      const leave = () => {
        this.#leave(id, waiter);
        reject(signal?.reason);
      };
      const done = () => signal?.removeEventListener("abort", leave);
      const waiter: Waiter<Key> = {
        purpose,
        serve: (key) => {
          done();
          try {
            resolve(use(key));
          } catch (error) {
            reject(error);
          }
        },
        fail: (error) => {
          done();
          reject(error);
        },
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#wait(id, fetch, [waiter]);
    });
  }

  /**
   * Zeroes and forgets everything. A fetch under way still serves who waits for it, as if they had come a
   * moment earlier; it is not kept, and nobody else waits for it.
   */
  clear(): void {
    this.#flights.clear();
    for (const id of [...this.#entries.keys()]) this.#drop(id);
  }

  /** As `clear`, for good: who still asks is served, and nothing is kept any more. */
  retire(): void {
    this.#retired = true;
    this.clear();
  }

  #take(id: string, purpose: Purpose): Key | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    if (this.#isExpired(entry) || !this.#count(entry, purpose)) {
      this.#drop(id);
      return undefined;
    }
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    return entry.key;
  }

  /** Whether the entry may serve once more; if so, that use is counted. */
  #count(entry: Entry<Key>, purpose: Purpose): boolean {
    if (purpose === "decrypt") return true;
    if (entry.encryptions >= this.#options.maxEncryptions) return false;
    entry.encryptions++;
    return true;
  }

  #isExpired({ fetchedAt }: Entry<Key>): boolean {
    const age = this.#now() - fetchedAt;
    // A clock that was set back must not make keys live longer.
    return age < 0 || age >= this.#options.ttlMs;
  }

  /** Zeroes keys that nobody asks for any more. Only misses pay for it: they call KMS anyway. */
  #dropExpired(): void {
    for (const [id, entry] of [...this.#entries]) {
      if (this.#isExpired(entry)) this.#drop(id);
    }
  }

  #keep(id: string, entry: Entry<Key>): void {
    this.#drop(id);
    this.#entries.set(id, entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#options.maxEntries) return;
      this.#drop(oldest);
    }
  }

  #drop(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#options.wipe(entry.key);
    this.#entries.delete(id);
  }

  #wait(id: string, fetch: Fetch<Key>, waiters: readonly Waiter<Key>[]): void {
    const flight = this.#flights.get(id);
    if (flight === undefined) this.#fetch(id, fetch, waiters);
    else for (const waiter of waiters) flight.waiters.add(waiter);
  }

  /** Of a flight that newcomers could join; one that was cleared serves its last ones to the end. */
  #leave(id: string, waiter: Waiter<Key>): void {
    const flight = this.#flights.get(id);
    if (!flight?.waiters.delete(waiter) || flight.waiters.size > 0) return;
    this.#flights.delete(id);
    flight.end.abort();
  }

  #fetch(id: string, fetch: Fetch<Key>, first: readonly Waiter<Key>[]): void {
    const flight: Flight<Key> = { waiters: new Set(first), end: new AbortController() };
    this.#flights.set(id, flight);
    /** Whether this fetch is still the one that newcomers wait for: not after a clearing. */
    const settle = () => this.#flights.get(id) === flight && this.#flights.delete(id);
    // Through an async function, so that a fetch that throws at once is a failed one too.
    (async () => await fetch(flight.end.signal))().then((key) => {
      const keep = settle();
      const entry: Entry<Key> = { key, fetchedAt: this.#now(), encryptions: 0 };
      const left = [...flight.waiters].filter((waiter) => {
        const mayUse = this.#count(entry, waiter.purpose);
        if (mayUse) waiter.serve(key);
        return !mayUse;
      });
      if (keep && !this.#retired) this.#keep(id, entry);
      else this.#options.wipe(key);
      // More waited than one key may serve. Each round serves at least one of them.
      if (left.length > 0) this.#wait(id, fetch, left);
    }, (error) => {
      settle();
      for (const waiter of flight.waiters) waiter.fail(error);
    });
  }
}
