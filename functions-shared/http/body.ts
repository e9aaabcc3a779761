/** Reading a JSON body: bounded before it is parsed, and free of what may never be accepted. */
import { SuiteError, validationFailed } from "../errors.ts";
import { jsonPointer } from "../validation.ts";

export const MAX_BODY_BYTES = 64 * 1024;

/** Beyond this a client that is told 413 may find its connection closed instead. */
export const MAX_DRAINED_BYTES = 8 * 1024 * 1024;

/** Deeper than any real document, shallow enough for every recursive reader behind this. */
const MAX_DEPTH = 32;

/**
 * @throws {SuiteError} unsupported_media_type, payload_too_large, malformed_json,
 * sensitive_authentication_data, validation_failed (nested too deeply, numbers too long to keep),
 * invalid_request (the body broke off).
 */
export async function readJson(request: Request): Promise<unknown> {
  requireJson(request);
  return parse(await readBounded(request));
}

/**
 * As `readJson`, but no body is an answer too: undefined. Whether there is one shows only in reading it:
 * a POST without a body has an empty stream.
 */
export async function readOptionalJson(request: Request): Promise<unknown> {
  const bytes = await readBounded(request);
  if (bytes.length === 0) return undefined;
  requireJson(request);
  return parse(bytes);
}

function requireJson(request: Request): void {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/(json|[\w.-]+\+json)\s*(;|$)/i.test(type)) {
    throw new SuiteError("unsupported_media_type");
  }
}

function parse(bytes: Uint8Array): unknown {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    // The parser's message quotes the body, so it must not become the cause.
    throw new SuiteError("malformed_json");
  } finally {
    bytes.fill(0);
  }
  refuseForbidden(value);
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

/** Member names, lower case without separators, whose values PCI DSS 3.3.1 forbids to store. */
const FORBIDDEN_NAMES = new Set([
  "cvv",
  "cvv2",
  "cvc",
  "cvc2",
  "cvn",
  "cvn2",
  "cid",
  "cav",
  "cav2",
  "csc",
  "ccv",
  "cardcvv",
  "cardcvc",
  "cardcid",
  "cardcsc",
  "cvvcode",
  "cvccode",
  "cvvnumber",
  "cvcnumber",
  "securitycode",
  "cardsecuritycode",
  "verificationcode",
  "cardverificationcode",
  "cardverificationvalue",
  "cardverificationnumber",
  "verificationvalue",
  "pin",
  "pinblock",
  "pincode",
  "pinnumber",
  "cardpin",
  "encryptedpin",
  "track",
  "track1",
  "track2",
  "track3",
  "track1data",
  "track2data",
  "trackdata",
  "tracks",
  "fulltrack",
  "fulltrackdata",
  "magstripe",
  "magstripedata",
  "magneticstripe",
  "magneticstripedata",
]);

/** One word of a longer name (`creditCardCvv`, `cvc_2`): these mean nothing else. */
const CODE_WORD = /^(cvv|cvc|cvn|cav)2?$/;

function isForbidden(name: string): boolean {
  const plain = name.normalize("NFKC");
  if (FORBIDDEN_NAMES.has(plain.toLowerCase().replace(/[^a-z0-9]/g, ""))) return true;
  const words = plain.split(/[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])/);
  return words.some((word) => CODE_WORD.test(word.toLowerCase()));
}

/** Track 1 begins `%B` or `B` and the number; track 2 has the number, `=` or `D`, expiry and service code. */
const TRACK_1 = /%?B\d{12,19}\^[^^]{2,26}\^\d{4}/i;
const TRACK_2 = /(?<!\d)\d{12,19}[=D]\d{2}(0[1-9]|1[0-2])\d{3}/i;

/** Walks the document with a list of its own: recursion would be the attacker's to exhaust. */
function refuseForbidden(root: unknown): void {
  const open: { value: unknown; path: readonly (string | number)[] }[] = [{
    value: root,
    path: [],
  }];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    const { value, path } = node;
    if (typeof value === "string" && (TRACK_1.test(value) || TRACK_2.test(value))) refuse(path);
    if (typeof value === "number" && !isExact(value)) {
      throw validationFailed([{
        pointer: jsonPointer("", path),
        code: "inexact_number",
        detail:
          "must be a number that can be given back as it was sent; send longer ones as strings",
      }]);
    }
    if (typeof value !== "object" || value === null) continue;
    if (path.length >= MAX_DEPTH) {
      throw validationFailed([{
        pointer: "",
        code: "nested_too_deeply",
        detail: `must not nest deeper than ${MAX_DEPTH} levels`,
      }]);
    }
    if (Array.isArray(value)) {
      value.forEach((item, index) => open.push({ value: item, path: [...path, index] }));
      continue;
    }
    for (const [name, member] of Object.entries(value)) {
      if (isForbidden(name)) refuse([...path, name]);
      open.push({ value: member, path: [...path, name] });
    }
  }
}

/** JSON.parse makes infinities of large numbers (stored as null), and rounds long integers. */
function isExact(value: number): boolean {
  // From here on numbers are written with an exponent, and nobody expects their last digit back.
  const isLongInteger = Number.isInteger(value) && Math.abs(value) < 1e21;
  return isLongInteger ? Number.isSafeInteger(value) : Number.isFinite(value);
}

function refuse(path: readonly (string | number)[]): never {
  throw new SuiteError("sensitive_authentication_data", {
    violations: [{
      pointer: jsonPointer("", path),
      code: "sensitive_authentication_data",
      detail: "must not be sent, not even encrypted",
    }],
  });
}
