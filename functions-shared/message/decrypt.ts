import { type BodyLayout, openBody, readBodyLayout } from "./body.ts";
import { decryptionFailed, MessageError } from "./errors.ts";
import { type MessageHeader, readHeaderBody } from "./header.ts";
import { DEFAULT_LIMITS, type ParseLimits } from "./limits.ts";
import { aes256GcmOpenInto } from "./primitives.ts";
import { ByteReader } from "./reader.ts";
import {
  DATA_KEY_BYTES,
  deriveEncryptionKey,
  HEADER_IV,
  isCommittedKey,
  TAG_BYTES,
} from "./suite.ts";

const NOTHING = new Uint8Array(0);

/** A message whose structure is sound. Made by {@link parseMessage} only; nothing is verified. */
export interface ParsedMessage {
  readonly header: MessageHeader;
  /** A private copy of the whole message: later changes of the input have no effect. */
  readonly bytes: Uint8Array;
  /** Length of the header body, bytes; the header tag follows it. */
  readonly headerLength: number;
  readonly body: BodyLayout;
}

/**
 * Checks the structure of a whole message, header and frames, against the limits and copies it.
 * Nothing is decrypted, nothing in the header may be trusted yet: it says which data key to
 * unwrap, and its context must be compared with the expected one.
 * @param limits overrides of {@link DEFAULT_LIMITS}
 * @throws MessageError `decryption_failed`
 */
export function parseMessage(bytes: Uint8Array, limits?: Partial<ParseLimits>): ParsedMessage {
  const bounds = limits === undefined ? DEFAULT_LIMITS : withDefaults(limits);
  if (bytes.length > bounds.maxMessageBytes) {
    throw decryptionFailed(`message is longer than ${bounds.maxMessageBytes} bytes`);
  }
  const copy = new Uint8Array(bytes);
  const reader = new ByteReader(copy);
  const header = readHeaderBody(reader, bounds);
  const headerLength = reader.offset;
  reader.skip(TAG_BYTES, "header tag");
  const body = readBodyLayout(reader, header.frameLength);
  return { header, bytes: copy, headerLength, body };
}

/**
 * The plaintext, once the key commitment (in constant time), the header tag and every frame have
 * been verified, in this order. Source: client-apis/decrypt.md.
 * @param dataKey the 32-byte plaintext data key; neither changed nor kept
 * @throws MessageError `decryption_failed`, whatever the reason
 */
export function decryptMessage(message: ParsedMessage, dataKey: Uint8Array): Uint8Array {
  const { header, bytes, headerLength, body } = message;
  if (dataKey.length !== DATA_KEY_BYTES) throw decryptionFailed("data key has not 32 bytes");
  const { messageId, commitKey } = header;
  if (!isCommittedKey(dataKey, messageId, commitKey)) {
    throw decryptionFailed("data key is not the one committed to");
  }
  const key = deriveEncryptionKey(dataKey, messageId);
  try {
    const headerTag = bytes.subarray(headerLength, headerLength + TAG_BYTES);
    aes256GcmOpenInto(key, HEADER_IV, bytes.subarray(0, headerLength), headerTag, NOTHING, 0);
    return openBody(bytes, body, key, messageId);
  } catch (cause) {
    if (cause instanceof MessageError) throw cause;
    throw decryptionFailed("header or frame is not authentic", cause);
  } finally {
    key.fill(0);
  }
}

// Not a spread: an override that is present but undefined would lift the bound.
function withDefaults(limits: Partial<ParseLimits>): ParseLimits {
  return {
    maxMessageBytes: limits.maxMessageBytes ?? DEFAULT_LIMITS.maxMessageBytes,
    maxEncryptedDataKeys: limits.maxEncryptedDataKeys ?? DEFAULT_LIMITS.maxEncryptedDataKeys,
    maxFrameLength: limits.maxFrameLength ?? DEFAULT_LIMITS.maxFrameLength,
  };
}
