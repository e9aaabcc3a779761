/** One HTTP exchange with a key service: JSON back, bounded, and no redirect followed. */
import { unavailable } from "./failure.ts";

/** The largest answer of either service, key metadata with many versions, is far below. */
const MAX_ANSWER_BYTES = 256 * 1024;

/** What a Date can hold, milliseconds around the epoch. */
const MAX_TIME = 8.64e15;

export interface JsonRequest {
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /**
   * Deno's fetch sends a request again, by itself, when a connection that it kept ends without an answer;
   * but not one whose body is a stream. Default false.
   */
  readonly onceOnly?: boolean;
  readonly signal: AbortSignal;
}

export interface JsonAnswer {
  readonly status: number;
  /** Undefined when the answer is not JSON. */
  readonly body: unknown;
}

/** @throws {ServiceFailure} transient, for an answer out of bounds; and what `fetch` throws. */
export async function callJson(
  url: string,
  { onceOnly = false, ...request }: JsonRequest,
): Promise<JsonAnswer> {
  const stream = onceOnly
    ? { body: new Blob([request.body ?? ""]).stream(), duplex: "half" as const }
    : {};
  // A redirect would carry the credentials and the key to where the configuration did not say.
  return await readJsonAnswer(await fetch(url, { ...request, ...stream, redirect: "manual" }));
}

/** @throws {ServiceFailure} transient, for an answer out of bounds. */
export async function readJsonAnswer(response: Response): Promise<JsonAnswer> {
  const text = new TextDecoder().decode(await readBounded(response));
  try {
    return { status: response.status, body: JSON.parse(text) };
  } catch {
    // The parser's message quotes the answer, which may hold a key.
    return { status: response.status, body: undefined };
  }
}

async function readBounded(response: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) throw unavailable("the answer is too long");
    chunks.push(chunk);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** A member of a JSON object, undefined when there is none or it is no object. */
export function member(json: unknown, name: string): unknown {
  if (typeof json !== "object" || json === null || !Object.hasOwn(json, name)) return undefined;
  return (json as Record<string, unknown>)[name];
}

/** @throws {ServiceFailure} transient, when the member is no text. */
export function textMember(json: unknown, name: string): string {
  const value = member(json, name);
  if (typeof value !== "string") throw unavailable(`the answer has no ${name}`);
  return value;
}

/** ISO 8601 of a member that is a time, as text or in seconds since the epoch; null of any other. */
export function timeMember(json: unknown, name: string): string | null {
  const value = member(json, name);
  const time = typeof value === "number" ? value * 1000 : Date.parse(String(value));
  return Math.abs(time) <= MAX_TIME ? new Date(time).toISOString() : null;
}

/** @throws {ServiceFailure} transient, when the member is no whole number of 0 or more. */
export function countMember(json: unknown, name: string): number {
  const value = member(json, name);
  if (!Number.isSafeInteger(value) || Number(value) < 0) {
    throw unavailable(`the answer has no ${name}`);
  }
  return Number(value);
}
