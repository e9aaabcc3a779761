/** Reading a JSON body: bounded before it is parsed, and free of what may never be accepted. */
import { SuiteError } from "../errors.ts";
import { refuseForbidden } from "../sensitive-data.ts";

export const MAX_BODY_BYTES = 64 * 1024;

/** Beyond this a client that is told 413 may find its connection closed instead. */
export const MAX_DRAINED_BYTES = 8 * 1024 * 1024;

export interface ReadJsonOptions {
  /**
   * Members whose texts are ciphertext or keys, and not looked into for track data: its pattern turns up by
   * chance in long hexadecimal texts. The reader's schema has to see to it that they are what they should be.
   */
  readonly opaque?: ReadonlySet<string>;
}

/**
 * @throws {SuiteError} unsupported_media_type, payload_too_large, malformed_json,
 * sensitive_authentication_data, validation_failed (nested too deeply, numbers too long to keep),
 * invalid_request (the body broke off).
 */
export async function readJson(
  request: Request,
  { opaque = new Set() }: ReadJsonOptions = {},
): Promise<unknown> {
  requireJson(request);
  return parse(await readBounded(request), opaque);
}

/**
 * As `readJson`, but no body is an answer too: undefined. Whether there is one shows only in reading it:
 * a POST without a body has an empty stream.
 */
export async function readOptionalJson(request: Request): Promise<unknown> {
  const bytes = await readBounded(request);
  if (bytes.length === 0) return undefined;
  requireJson(request);
  return parse(bytes, new Set());
}

function requireJson(request: Request): void {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/(json|[\w.-]+\+json)\s*(;|$)/i.test(type)) {
    throw new SuiteError("unsupported_media_type");
  }
}

function parse(bytes: Uint8Array, opaque: ReadonlySet<string>): unknown {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    // The parser's message quotes the body, so it must not become the cause.
    throw new SuiteError("malformed_json");
  } finally {
    bytes.fill(0);
  }
  refuseForbidden(value, opaque);
  return value;
}

/**
 * Believes neither a missing nor a small content-length. What is too much is read and dropped, within
 * bounds: Deno 2.1 closes the connection of a client that still sends, which then never sees the 413.
 */
async function readBounded(request: Request): Promise<Uint8Array> {
  let tooLarge = Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES;
  let chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request.body ?? []) {
      length += chunk.length;
      tooLarge ||= length > MAX_BODY_BYTES;
      if (tooLarge) chunks = [];
      else chunks.push(chunk);
      if (length > MAX_DRAINED_BYTES) break;
    }
  } catch (cause) {
    // The client broke off: no fault of ours, and nobody is left to read the answer.
    throw new SuiteError("invalid_request", { cause });
  }
  if (tooLarge) throw new SuiteError("payload_too_large");
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}
