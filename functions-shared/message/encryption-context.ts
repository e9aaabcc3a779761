/**
 * The encryption context: non-secret text pairs, authenticated with the message and stored in its
 * header in the clear. Source: framework/structures.md, "Encryption Context".
 */
import { decryptionFailed, malformed } from "./errors.ts";
import { MAX_UINT16 } from "./limits.ts";
import { ByteReader } from "./reader.ts";
import { compareUtf8, utf8Length, writeUtf8 } from "./utf8.ts";
import { writeUint16 } from "./writer.ts";

export type EncryptionContext = Readonly<Record<string, string>>;

/** Keys with this prefix belong to the AWS Encryption SDK; callers may not set them. */
export const RESERVED_KEY_PREFIX = "aws-crypto-";
/** Announces a signature, which suite 0x0478 does not have (framework/default-cmm.md). */
const PUBLIC_KEY = "aws-crypto-public-key";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A context checked, sorted and measured, ready to be written. */
export interface ContextPlan {
  readonly entries: readonly ContextEntry[];
  /** Bytes of the serialization; 0 for an empty context. */
  readonly length: number;
}

interface ContextEntry {
  readonly key: string;
  readonly keyLength: number;
  readonly value: string;
  readonly valueLength: number;
}

/**
 * The one serialization of a context: pair count, then the pairs sorted by their keys' UTF-8
 * bytes. Empty for an empty context. This is what header and raw AES keyring authenticate.
 * @throws MessageError `message_malformed` over 65535 bytes, or for text that is not Unicode
 */
export function serializeEncryptionContext(context: EncryptionContext): Uint8Array {
  const plan = planEncryptionContext(context);
  const out = new Uint8Array(plan.length);
  writeEncryptionContext(out, 0, plan);
  return out;
}

/** The plan made last, if its context cannot have changed since. */
let remembered: { readonly context: EncryptionContext; readonly plan: ContextPlan } | undefined;

/**
 * Once for a frozen context that is used several times in a row: to wrap the data key, then in the
 * header.
 * @throws MessageError as {@link serializeEncryptionContext}
 */
export function planEncryptionContext(context: EncryptionContext): ContextPlan {
  if (remembered?.context === context) return remembered.plan;
  const plan = plannedContext(context);
  if (Object.isFrozen(context)) remembered = { context, plan };
  return plan;
}

function plannedContext(context: EncryptionContext): ContextPlan {
  const entries: ContextEntry[] = [];
  let length = 0;
  for (const key of Object.keys(context)) {
    const value: unknown = context[key];
    if (typeof value !== "string") throw malformed("encryption context values must be strings");
    // TextEncoder would replace a lone surrogate, and two contexts would become one.
    const keyLength = utf8Length(key), valueLength = utf8Length(value);
    if (keyLength === undefined || valueLength === undefined) {
      throw malformed("encryption context must be well-formed Unicode");
    }
    length += 4 + keyLength + valueLength;
    entries.push({ key, keyLength, value, valueLength });
  }
  if (entries.length > 0) length += 2;
  if (length > MAX_UINT16) {
    throw malformed(`encryption context may take at most ${MAX_UINT16} bytes`);
  }
  entries.sort((a, b) => compareUtf8(a.key, b.key));
  return { entries, length };
}

/** Writes the serialization to `out` at `at`, which has room for the plan's length. */
export function writeEncryptionContext(out: Uint8Array, at: number, plan: ContextPlan): void {
  if (plan.length === 0) return;
  writeUint16(out, at, plan.entries.length);
  at += 2;
  for (const { key, keyLength, value, valueLength } of plan.entries) {
    writeUint16(out, at, keyLength);
    writeUtf8(out, at + 2, key, keyLength);
    at += 2 + keyLength;
    writeUint16(out, at, valueLength);
    writeUtf8(out, at + 2, value, valueLength);
    at += 2 + valueLength;
  }
}

/**
 * The context in the bytes of a header. Refuses what the specification does not let anyone write:
 * a zero count, duplicate or unsorted keys, bytes that are not UTF-8, bytes left over; and a key
 * that announces a signature.
 * @returns a frozen object without prototype, so that a key may be `__proto__`
 * @throws MessageError `decryption_failed`
 */
export function parseEncryptionContext(bytes: Uint8Array): EncryptionContext {
  const context: Record<string, string> = Object.create(null);
  if (bytes.length === 0) return Object.freeze(context);

  const ascii = decodeAscii(bytes);
  const reader = new ByteReader(bytes);
  const count = reader.uint16("encryption context count");
  if (count === 0) throw decryptionFailed("encryption context has a length but no pairs");
  let previous: string | undefined;
  for (let i = 0; i < count; i++) {
    const key = readText(reader, bytes, ascii, "encryption context key");
    if (previous !== undefined && compareUtf8(previous, key) >= 0) {
      throw decryptionFailed("encryption context keys are not unique and sorted");
    }
    if (key === PUBLIC_KEY) throw decryptionFailed("encryption context announces a signature");
    context[key] = readText(reader, bytes, ascii, "encryption context value");
    previous = key;
  }
  if (reader.remaining > 0) throw decryptionFailed("encryption context has trailing bytes");
  return Object.freeze(context);
}

/** @throws MessageError `message_malformed` when a key is reserved for the AWS Encryption SDK */
export function requireNoReservedKeys(context: EncryptionContext): void {
  for (const key of Object.keys(context)) {
    if (key.startsWith(RESERVED_KEY_PREFIX)) {
      throw malformed(`encryption context keys may not begin with ${RESERVED_KEY_PREFIX}`);
    }
  }
}

/** Whether both contexts hold exactly the same pairs, in any order. */
export function sameContext(a: EncryptionContext, b: EncryptionContext): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key]);
}

/** All bytes as one string of the same length, or undefined when one is not ASCII. */
function decodeAscii(bytes: Uint8Array): string | undefined {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i]! > 0x7f) return undefined;
  }
  return decoder.decode(bytes);
}

function readText(
  reader: ByteReader,
  bytes: Uint8Array,
  ascii: string | undefined,
  field: string,
): string {
  const length = reader.uint16(field);
  const start = reader.offset;
  reader.skip(length, field);
  if (ascii !== undefined) return ascii.slice(start, start + length);
  try {
    return decoder.decode(bytes.subarray(start, start + length));
  } catch (cause) {
    throw decryptionFailed(`${field} is not UTF-8`, cause);
  }
}
