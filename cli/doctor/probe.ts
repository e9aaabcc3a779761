/** Calls of the doctor: each with a deadline, each answering its failure by name instead of throwing it. */

export const PROBE_TIMEOUT_MS = 15_000;

export interface Failure {
  readonly ok: false;
  /** Error name such as AWS's. */
  readonly error: string;
  /** Why, in words that hold no identifier of a request, key or account. */
  readonly reason: string;
  /** What was thrown. Its message is for nobody's eyes. */
  readonly cause: unknown;
}

export type Probe<T> = { readonly ok: true; readonly value: T } | Failure;

export async function probe<T>(
  call: (signal: AbortSignal) => Promise<T>,
  timeoutMs = PROBE_TIMEOUT_MS,
): Promise<Probe<T>> {
  try {
    return { ok: true, value: await call(AbortSignal.timeout(timeoutMs)) };
  } catch (cause) {
    const error = cause instanceof Error ? cause.name : "";
    return { ok: false, error, reason: reasonOf(cause, timeoutMs), cause };
  }
}

/** How Deno words what happened below HTTP. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/dns error|failed to lookup/i, "its name does not resolve"],
  [/refused/i, "the connection is refused"],
  [/unreachable/i, "there is no way to it"],
  [/certificate|tls|corrupt message/i, "no TLS connection with it"],
  [/closed before|connection (reset|closed)|broken pipe/i, "the connection broke off"],
];

function reasonOf(cause: unknown, timeoutMs: number): string {
  if (!(cause instanceof Error)) return "it failed";
  const { name } = cause;
  if (name === "TimeoutError" || name === "AbortError") {
    return `no answer within ${timeoutMs / 1000} s`;
  }
  // The AWS SDK's names for an answer in another language than AWS's.
  if (name === "SyntaxError" || name === "Unknown") return "somebody else answers in its place";
  const inner = cause.cause instanceof Error ? cause.cause.message : "";
  const words = `${cause.message} ${inner}`;
  // A service's own error, whose name says it best.
  if (name !== "TypeError" && name !== "Error") return name;
  return REASONS.find(([pattern]) => pattern.test(words))?.[1] ?? "it cannot be reached";
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
