/**
 * Which request work is done for, where nobody hands it down: what several callers wait for is begun by one
 * of them, and is that one's.
 */
import { AsyncLocalStorage } from "node:async_hooks";

const current = new AsyncLocalStorage<string>();

/** Runs `work`, and what it begins, for the request of this id. */
export function withRequestId<T>(id: string, work: () => Promise<T>): Promise<T> {
  return current.run(id, work);
}

/** Undefined outside of any request. */
export function currentRequestId(): string | undefined {
  return current.getStore();
}
