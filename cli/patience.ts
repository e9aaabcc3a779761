/** Waiting: for a limit that has been reached, or for others to be done. */
import { ApiError } from "./errors.ts";

/** Longer than the suite's windows; more than this is for a person to decide. */
const LONGEST_WAIT_SECONDS = 90;
const MAX_WAITS = 20;

/** Calls again when told 429, as often and as late as the answer says. */
export async function patiently<T>(call: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let waits = 0;; waits++) {
    try {
      return await call();
    } catch (error) {
      const seconds = error instanceof ApiError && error.status === 429
        ? error.retryAfterSeconds
        : undefined;
      if (seconds === undefined || seconds > LONGEST_WAIT_SECONDS || waits === MAX_WAITS) {
        throw error;
      }
      await sleep(seconds * 1000, signal);
      if (signal.aborted) throw error;
    }
  }
}

/** Resolves after `ms`, or when `signal` is aborted. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
