/**
 * The hierarchical keyring's wrapping (framework/aws-kms/aws-kms-hierarchical-keyring.md): a data key
 * under a key that is derived from a branch key for this one wrapping. Provider id is
 * `aws-kms-hierarchy`; provider info is the branch key id; the ciphertext is
 * salt (16) | IV (12) | version (16, a UUID's bytes) | wrapped data key (32) | tag (16).
 */
import {
  type EncryptionContext,
  planEncryptionContext,
  writeEncryptionContext,
} from "./encryption-context.ts";
import { decryptionFailed, malformed } from "./errors.ts";
import type { EncryptedDataKey } from "./header.ts";
import { aes256GcmOpen, aes256GcmSealInto, fillRandom, hmacSha256 } from "./primitives.ts";
import { DATA_KEY_BYTES, IV_BYTES, TAG_BYTES } from "./suite.ts";
import { utf8Length, writeUtf8 } from "./utf8.ts";

export const HIERARCHY_PROVIDER_ID = "aws-kms-hierarchy";
export const BRANCH_KEY_BYTES = 32;

const SALT_BYTES = 16;
const VERSION_BYTES = 16;
const VERSION_AT = SALT_BYTES + IV_BYTES;
const WRAPPED_AT = VERSION_AT + VERSION_BYTES;
const CIPHERTEXT_BYTES = WRAPPED_AT + DATA_KEY_BYTES + TAG_BYTES;

const LABEL = new TextEncoder().encode(HIERARCHY_PROVIDER_ID);
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// Filled anew at every use, read before anything else can run, nothing secret in them: arrays made
// each time would leave V8's heap and cost a good part of what the cipher does (measured).
const kdfInput = kdfTemplate();
let additionalDataScratch = new Uint8Array(1024);

export interface BranchKeyMaterial {
  /** 32 bytes, neither changed nor kept. */
  readonly branchKey: Uint8Array;
  readonly branchKeyId: string;
  /** A UUID in text form. */
  readonly version: string;
}

/** Which branch key a data key hangs on. */
export interface BranchKeyReference {
  readonly branchKeyId: string;
  /** A UUID in text form, lower case. */
  readonly version: string;
}

/**
 * Wraps a 32-byte data key under a fresh salt and IV.
 * @throws MessageError `message_malformed` when an input breaks its rule
 */
export function wrapDataKeyHierarchical(
  material: BranchKeyMaterial,
  dataKey: Uint8Array,
  context: EncryptionContext,
): EncryptedDataKey {
  requireUsable(material);
  if (dataKey.length !== DATA_KEY_BYTES) {
    throw malformed(`a data key has ${DATA_KEY_BYTES} bytes, not ${dataKey.length}`);
  }
  const ciphertext = new Uint8Array(CIPHERTEXT_BYTES);
  fillRandom(ciphertext.subarray(0, VERSION_AT));
  writeUuid(ciphertext, VERSION_AT, material.version);
  const providerInfo = utf8(material.branchKeyId);
  const derived = deriveWrappingKey(material.branchKey, ciphertext.subarray(0, SALT_BYTES));
  try {
    aes256GcmSealInto(
      derived,
      ciphertext.subarray(SALT_BYTES, VERSION_AT),
      additionalData(providerInfo, ciphertext.subarray(VERSION_AT, WRAPPED_AT), context),
      dataKey,
      ciphertext,
      WRAPPED_AT,
    );
  } finally {
    derived.fill(0);
  }
  return { providerId: HIERARCHY_PROVIDER_ID, providerInfo, ciphertext };
}

/**
 * What the data key says about itself; nothing of it is authenticated yet.
 * @throws MessageError `decryption_failed` when it is no such data key
 */
export function referencedBranchKey(encrypted: EncryptedDataKey): BranchKeyReference {
  if (
    encrypted.providerId !== HIERARCHY_PROVIDER_ID ||
    encrypted.ciphertext.length !== CIPHERTEXT_BYTES
  ) {
    throw decryptionFailed("data key was not wrapped by a hierarchical keyring");
  }
  try {
    return {
      branchKeyId: decoder.decode(encrypted.providerInfo),
      version: uuidText(encrypted.ciphertext.subarray(VERSION_AT, WRAPPED_AT)),
    };
  } catch (cause) {
    throw decryptionFailed("branch key id is not UTF-8", cause);
  }
}

/**
 * The 32-byte data key, which the caller wipes. `material` must be the branch key referenced.
 * @throws MessageError `decryption_failed` when the data key was wrapped under another branch key or
 *   for another context, or was changed
 */
export function unwrapDataKeyHierarchical(
  material: BranchKeyMaterial,
  encrypted: EncryptedDataKey,
  context: EncryptionContext,
): Uint8Array {
  requireUsable(material);
  const reference = referencedBranchKey(encrypted);
  if (
    reference.branchKeyId !== material.branchKeyId ||
    reference.version !== material.version.toLowerCase()
  ) {
    throw decryptionFailed("data key hangs on another branch key");
  }
  const { ciphertext, providerInfo } = encrypted;
  const derived = deriveWrappingKey(material.branchKey, ciphertext.subarray(0, SALT_BYTES));
  try {
    return aes256GcmOpen(
      derived,
      ciphertext.subarray(SALT_BYTES, VERSION_AT),
      additionalData(providerInfo, ciphertext.subarray(VERSION_AT, WRAPPED_AT), context),
      ciphertext.subarray(WRAPPED_AT),
    );
  } catch (cause) {
    throw decryptionFailed("wrapped data key is not authentic", cause);
  } finally {
    derived.fill(0);
  }
}

/**
 * KDF in counter mode with HMAC-SHA256 (NIST SP 800-108r1, 4.1), one block: counter 1, label, a zero
 * byte, the salt as context, and 256 bits of output, all numbers in four bytes.
 */
function deriveWrappingKey(branchKey: Uint8Array, salt: Uint8Array): Uint8Array {
  kdfInput.set(salt, 4 + LABEL.length + 1);
  return hmacSha256(branchKey, kdfInput);
}

function kdfTemplate(): Uint8Array {
  const input = new Uint8Array(4 + LABEL.length + 1 + SALT_BYTES + 4);
  input[3] = 1;
  input.set(LABEL, 4);
  input[input.length - 2] = 256 >> 8;
  return input;
}

/** Label, branch key id, version and context; valid until the next call. */
function additionalData(
  branchKeyId: Uint8Array,
  version: Uint8Array,
  context: EncryptionContext,
): Uint8Array {
  const plan = planEncryptionContext(context);
  const versionAt = LABEL.length + branchKeyId.length;
  const contextAt = versionAt + VERSION_BYTES;
  const length = contextAt + plan.length;
  if (length > additionalDataScratch.length) additionalDataScratch = new Uint8Array(2 * length);
  const aad = additionalDataScratch.subarray(0, length);
  aad.set(LABEL);
  aad.set(branchKeyId, LABEL.length);
  aad.set(version, versionAt);
  writeEncryptionContext(aad, contextAt, plan);
  return aad;
}

function requireUsable({ branchKey, branchKeyId, version }: BranchKeyMaterial): void {
  if (branchKey.length !== BRANCH_KEY_BYTES) {
    throw malformed(`a branch key has ${BRANCH_KEY_BYTES} bytes, not ${branchKey.length}`);
  }
  if (branchKeyId === "" || !branchKeyId.isWellFormed()) {
    throw malformed("a branch key id is well-formed Unicode and not empty");
  }
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(version)) {
    throw malformed("a branch key version is a UUID");
  }
}

function utf8(wellFormed: string): Uint8Array {
  const bytes = new Uint8Array(utf8Length(wellFormed)!);
  writeUtf8(bytes, 0, wellFormed, bytes.length);
  return bytes;
}

function writeUuid(out: Uint8Array, at: number, uuid: string): void {
  for (let i = 0; i < uuid.length;) {
    if (uuid[i] === "-") {
      i++;
    } else {
      out[at++] = nibble(uuid.charCodeAt(i)) << 4 | nibble(uuid.charCodeAt(i + 1));
      i += 2;
    }
  }
}

/** The value of a hexadecimal digit in either case, by its character code. */
function nibble(code: number): number {
  return code <= 0x39 ? code - 0x30 : (code & 0xdf) - 0x41 + 10;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function uuidText(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < VERSION_BYTES; i++) {
    text += i === 4 || i === 6 || i === 8 || i === 10 ? `-${HEX[bytes[i]!]}` : HEX[bytes[i]!];
  }
  return text;
}
