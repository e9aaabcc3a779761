import { SuiteError } from "../errors.ts";

/**
 * Waits for `work` no longer than `signal` allows. Work that others share goes on without this caller;
 * what it brings too late is given to `discard`.
 *
 * @throws {SuiteError} kms_unavailable when the time was over or the client hung up.
 */
export function abortable<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  discard?: (late: T) => void,
): Promise<T> {
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const stop = () => reject(new SuiteError("kms_unavailable", { cause: signal.reason }));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    work.then((value) => {
      if (signal.aborted) discard?.(value);
      else resolve(value);
    }, (error) => {
      if (signal.aborted) stop();
      else reject(error);
    }).finally(() => signal.removeEventListener("abort", stop));
  });
}
