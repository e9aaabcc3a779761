/** Calls of the doctor: each with a deadline, each answering its failure by name instead of throwing it. */

export const PROBE_TIMEOUT_MS = 15_000;

export type Probe<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: string; readonly message: string };

/** Error names such as AWS's; messages may hold identifiers of requests and keys and are shown by nobody. */
export async function probe<T>(call: (signal: AbortSignal) => Promise<T>): Promise<Probe<T>> {
  try {
    return { ok: true, value: await call(AbortSignal.timeout(PROBE_TIMEOUT_MS)) };
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error();
    return { ok: false, error: name, message };
  }
}

const UNREACHABLE = new Set([
  "TimeoutError",
  "AbortError",
  "TypeError",
  "Error",
  "ConnectionReset",
]);

/** Whether nobody answered, as far as a name tells. */
export function isUnreachable(error: string): boolean {
  return UNREACHABLE.has(error);
}

/** How far the service's clock is from ours, milliseconds; undefined when it does not tell. */
export async function clockOffset(url: string): Promise<number | undefined> {
  const asked = Date.now();
  const answer = await probe((signal) => fetch(url, { signal, redirect: "manual" }));
  if (!answer.ok) return undefined;
  const heard = Date.now();
  await answer.value.body?.cancel();
  const date = Date.parse(answer.value.headers.get("date") ?? "");
  if (Number.isNaN(date)) return undefined;
  // The header has whole seconds, cut off.
  return date + 500 - (asked + heard) / 2;
}
