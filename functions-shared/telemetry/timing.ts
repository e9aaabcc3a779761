/** How long one request waited for what, for the `server-timing` header. */
import { AsyncLocalStorage } from "node:async_hooks";

/** Milliseconds by what was waited for; waits that overlap each count in full. */
export type Timings = Map<string, number>;

const current = new AsyncLocalStorage<Timings>();

/** Runs `work` with timings of its own. */
export function withTimings<T>(timings: Timings, work: () => Promise<T>): Promise<T> {
  return current.run(timings, work);
}

/** Adds the wait for `work` to the timings of the request that it is done for, if there is one. */
export async function timed<T>(name: string, work: Promise<T>): Promise<T> {
  const timings = current.getStore();
  if (timings === undefined) return await work;
  const started = performance.now();
  try {
    return await work;
  } finally {
    timings.set(name, (timings.get(name) ?? 0) + performance.now() - started);
  }
}

/** The header's value (W3C Server Timing): `db;dur=3.2, keys;dur=14.1`. */
export function serverTiming(timings: Timings): string {
  return [...timings].map(([name, ms]) => `${name};dur=${ms.toFixed(1)}`).join(", ");
}
