/** One HTTP exchange with a key service: JSON back, bounded, and no redirect followed. */
import { unavailable } from "./failure.ts";

/** The largest answer of either service, key metadata with many versions, is far below. */
const MAX_ANSWER_BYTES = 256 * 1024;

export interface JsonRequest {
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

export interface JsonAnswer {
  readonly status: number;
  /** Undefined when the answer is not JSON. */
  readonly body: unknown;
}

/** @throws {ServiceFailure} transient, for an answer out of bounds; and what `fetch` throws. */
export async function callJson(url: string, request: JsonRequest): Promise<JsonAnswer> {
  // A redirect would carry the credentials and the key to where the configuration did not say.
  return await readJsonAnswer(await fetch(url, { ...request, redirect: "manual" }));
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

/** @throws {ServiceFailure} transient, when the member is no whole number of 0 or more. */
export function countMember(json: unknown, name: string): number {
  const value = member(json, name);
  if (!Number.isSafeInteger(value) || Number(value) < 0) {
    throw unavailable(`the answer has no ${name}`);
  }
  return Number(value);
}
