/**
 * The version 2 message header. Layout, big-endian (data-format/message-header.md):
 *
 *     version 1 | suite id 2 | message id 32 | context length 2 | context
 *     | data key count 2 | { provider id, provider info, wrapped key: each length 2 + bytes }
 *     | content type 1 | frame length 4 | commit key 32 || authentication tag 16
 *
 * The bytes up to the tag are the header body, which the tag authenticates.
 */
import {
  type ContextPlan,
  type EncryptionContext,
  parseEncryptionContext,
  writeEncryptionContext,
} from "./encryption-context.ts";
import { decryptionFailed, malformed } from "./errors.ts";
import { FRAME_LENGTH, MAX_UINT16, type ParseLimits } from "./limits.ts";
import type { ByteReader } from "./reader.ts";
import { COMMIT_KEY_BYTES, MESSAGE_ID_BYTES, MESSAGE_VERSION, SUITE_ID } from "./suite.ts";
import { utf8Length, writeUtf8 } from "./utf8.ts";
import { writeUint16, writeUint32 } from "./writer.ts";

/** Content type of framed bodies. Non-framed (01) is for old messages only and not read. */
const CONTENT_TYPE_FRAMED = 0x02;
/** Everything but context and data keys. */
const FIXED_BYTES = 1 + 2 + MESSAGE_ID_BYTES + 2 + 2 + 1 + 4 + COMMIT_KEY_BYTES;

/** A data key as wrapped by one keyring (framework/structures.md). Fields up to 65535 bytes. */
export interface EncryptedDataKey {
  /** Who wrapped it: `aws-kms`, `aws-kms-hierarchy`, or a raw keyring's namespace. */
  readonly providerId: string;
  /** Which key wrapped it: for `aws-kms` the key ARN in UTF-8. */
  readonly providerInfo: Uint8Array;
  /** The wrapped data key. */
  readonly ciphertext: Uint8Array;
}

/**
 * Header fields as read, their bytes views of the parsed message. Not authenticated until the
 * message has been decrypted.
 */
export interface MessageHeader {
  /** 32 random bytes, unique to the message. */
  readonly messageId: Uint8Array;
  readonly encryptionContext: EncryptionContext;
  /** 1 to `maxEncryptedDataKeys` of them. */
  readonly encryptedDataKeys: readonly EncryptedDataKey[];
  /** Plaintext bytes of every frame but the last. */
  readonly frameLength: number;
  /** 32 bytes: the key commitment. */
  readonly commitKey: Uint8Array;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The variable parts of a header body, checked and measured, ready to be written. */
export interface HeaderPlan {
  readonly context: ContextPlan;
  readonly keys: readonly EncryptedDataKey[];
  /** Bytes of the header body, without the tag. */
  readonly length: number;
}

/** @throws MessageError `message_malformed` for a wrong number of keys or an overlong field */
export function planHeaderBody(
  context: ContextPlan,
  keys: readonly EncryptedDataKey[],
  maxKeys: number,
): HeaderPlan {
  if (keys.length < 1 || keys.length > maxKeys) {
    throw malformed(`a message takes 1 to ${maxKeys} encrypted data keys, not ${keys.length}`);
  }
  let length = FIXED_BYTES + context.length;
  for (const { providerId, providerInfo, ciphertext } of keys) {
    const idLength = utf8Length(providerId);
    if (idLength === undefined) throw malformed("provider id must be well-formed Unicode");
    if (Math.max(idLength, providerInfo.length, ciphertext.length) > MAX_UINT16) {
      throw malformed(`an encrypted data key's fields take at most ${MAX_UINT16} bytes each`);
    }
    length += 6 + idLength + providerInfo.length + ciphertext.length;
  }
  return { context, keys, length };
}

/** The message id's place in a header body, to be filled before the commit key can be derived. */
export function messageIdOf(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(3, 3 + MESSAGE_ID_BYTES);
}

/** Writes all of the planned header body but the message id to the start of `out`. */
export function writeHeaderBody(out: Uint8Array, plan: HeaderPlan, commitKey: Uint8Array): void {
  out[0] = MESSAGE_VERSION;
  writeUint16(out, 1, SUITE_ID);
  let at = 3 + MESSAGE_ID_BYTES;
  writeUint16(out, at, plan.context.length);
  writeEncryptionContext(out, at + 2, plan.context);
  at += 2 + plan.context.length;
  writeUint16(out, at, plan.keys.length);
  at += 2;
  for (const { providerId, providerInfo, ciphertext } of plan.keys) {
    const idLength = utf8Length(providerId)!;
    writeUint16(out, at, idLength);
    writeUtf8(out, at + 2, providerId, idLength);
    at = writeBytes16(out, at + 2 + idLength, providerInfo);
    at = writeBytes16(out, at, ciphertext);
  }
  out[at] = CONTENT_TYPE_FRAMED;
  writeUint32(out, at + 1, FRAME_LENGTH);
  out.set(commitKey, at + 5);
}

/**
 * Reads the header body from the start of `reader` and leaves the reader at the tag.
 * @throws MessageError `decryption_failed`
 */
export function readHeaderBody(reader: ByteReader, limits: ParseLimits): MessageHeader {
  if (reader.uint8("version") !== MESSAGE_VERSION) {
    throw decryptionFailed("message format version is not 2");
  }
  if (reader.uint16("suite id") !== SUITE_ID) throw decryptionFailed("suite is not 0x0478");
  const messageId = reader.view(MESSAGE_ID_BYTES, "message id");
  const contextLength = reader.uint16("encryption context length");
  const encryptionContext = parseEncryptionContext(
    reader.view(contextLength, "encryption context"),
  );
  const encryptedDataKeys = readDataKeys(reader, limits.maxEncryptedDataKeys);
  if (reader.uint8("content type") !== CONTENT_TYPE_FRAMED) {
    throw decryptionFailed("content is not framed");
  }
  const frameLength = reader.uint32("frame length");
  if (frameLength < 1 || frameLength > limits.maxFrameLength) {
    throw decryptionFailed(`frame length is not 1 to ${limits.maxFrameLength}`);
  }
  const commitKey = reader.view(COMMIT_KEY_BYTES, "commit key");
  return { messageId, encryptionContext, encryptedDataKeys, frameLength, commitKey };
}

function readDataKeys(reader: ByteReader, maxKeys: number): readonly EncryptedDataKey[] {
  const count = reader.uint16("encrypted data key count");
  if (count < 1 || count > maxKeys) {
    throw decryptionFailed(`encrypted data key count is not 1 to ${maxKeys}`);
  }
  const keys: EncryptedDataKey[] = [];
  for (let i = 0; i < count; i++) {
    const providerId = decodeProviderId(readBytes16(reader, "provider id"));
    const providerInfo = readBytes16(reader, "provider info");
    const ciphertext = readBytes16(reader, "wrapped data key");
    keys.push({ providerId, providerInfo, ciphertext });
  }
  return keys;
}

function decodeProviderId(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw decryptionFailed("provider id is not UTF-8", cause);
  }
}

function readBytes16(reader: ByteReader, field: string): Uint8Array {
  return reader.view(reader.uint16(field), field);
}

function writeBytes16(out: Uint8Array, at: number, bytes: Uint8Array): number {
  writeUint16(out, at, bytes.length);
  out.set(bytes, at + 2);
  return at + 2 + bytes.length;
}
