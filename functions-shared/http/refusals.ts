import type { LimitedKey, RateLimitStore, Taken } from "./rate-limit-store.ts";

/** How long a worker refuses without asking, milliseconds. */
const REMEMBERED_MS = 1_000;

/** Callers that are remembered; the oldest go first. */
const MAX_REMEMBERED = 10_000;

interface Refusal {
  /** Until when it is not asked about again. */
  readonly askAt: number;
  /** When the caller was told that the window is over. */
  readonly resetAt: number;
}

/**
 * A store that is asked once a second, not at every request, about a caller who is over a limit: what is
 * used up stays used up until the window ends, and a flood shall not reach the database.
 */
export function rememberRefusals(
  store: RateLimitStore,
  now: () => number = () => performance.now(),
): RateLimitStore {
  const refusals = new Map<string, Refusal>();
  return {
    async take(keys) {
      const at = now();
      const known = remembered(keys, at);
      if (known !== undefined) return known;
      const taken = await store.take(keys);
      const refused = taken.allowed ? undefined : keys[taken.index];
      if (refused !== undefined) remember(name(refused), taken.reset * 1000);
      return taken;
    },
  };

  function remembered(keys: readonly LimitedKey[], at: number): Taken | undefined {
    for (const [index, key] of keys.entries()) {
      const refusal = refusals.get(name(key));
      if (refusal === undefined) continue;
      if (at < Math.min(refusal.askAt, refusal.resetAt)) {
        const reset = Math.max(1, Math.ceil((refusal.resetAt - at) / 1000));
        return { allowed: false, index, remaining: 0, reset };
      }
      refusals.delete(name(key));
    }
    return undefined;
  }

  function remember(key: string, resetMs: number): void {
    const at = now();
    if (refusals.size >= MAX_REMEMBERED) {
      for (const oldest of refusals.keys()) {
        refusals.delete(oldest);
        break;
      }
    }
    refusals.set(key, { askAt: at + REMEMBERED_MS, resetAt: at + resetMs });
  }
}

/** A limit that changed is another one. */
function name({ key, limit, seconds }: LimitedKey): string {
  return `${key} ${limit}/${seconds}`;
}
