import { bodyLength, planBody, sealBody } from "./body.ts";
import {
  type EncryptionContext,
  planEncryptionContext,
  requireNoReservedKeys,
} from "./encryption-context.ts";
import { malformed } from "./errors.ts";
import { type EncryptedDataKey, messageIdOf, planHeaderBody, writeHeaderBody } from "./header.ts";
import { DEFAULT_LIMITS, FRAME_LENGTH } from "./limits.ts";
import { aes256GcmSealInto, fillRandom } from "./primitives.ts";
import {
  DATA_KEY_BYTES,
  deriveCommitKey,
  deriveEncryptionKey,
  HEADER_IV,
  TAG_BYTES,
} from "./suite.ts";

const NOTHING = new Uint8Array(0);

export interface EncryptMessageInput {
  /** 0 bytes up to what keeps the message within 16 MiB. */
  readonly plaintext: Uint8Array;
  /** 32 random bytes, which the encrypted data keys wrap. The caller wipes it afterwards. */
  readonly dataKey: Uint8Array;
  /** 1 to 16. Their wrapping must have been bound to this encryption context. */
  readonly encryptedDataKeys: readonly EncryptedDataKey[];
  /** At most 65535 bytes serialized; no key begins with `aws-crypto-`. May be empty. */
  readonly encryptionContext: EncryptionContext;
}

/**
 * An AWS Encryption SDK version 2 message: suite 0x0478, frames of 4096 bytes, new random message
 * id. The inputs are neither changed nor kept. Source: client-apis/encrypt.md.
 * @throws MessageError `message_malformed` when the input breaks one of the rules above
 */
export function encryptMessage(input: EncryptMessageInput): Uint8Array {
  const { plaintext, dataKey, encryptionContext } = input;
  if (dataKey.length !== DATA_KEY_BYTES) {
    throw malformed(`a data key has ${DATA_KEY_BYTES} bytes, not ${dataKey.length}`);
  }
  requireNoReservedKeys(encryptionContext);
  const header = planHeaderBody(
    planEncryptionContext(encryptionContext),
    input.encryptedDataKeys,
    DEFAULT_LIMITS.maxEncryptedDataKeys,
  );
  const body = planBody(header.length + TAG_BYTES, plaintext.length, FRAME_LENGTH);
  const length = body.offset + bodyLength(body);
  if (length > DEFAULT_LIMITS.maxMessageBytes) {
    throw malformed(`a message takes at most ${DEFAULT_LIMITS.maxMessageBytes} bytes`);
  }

  const out = new Uint8Array(length);
  const messageId = fillRandom(messageIdOf(out));
  writeHeaderBody(out, header, deriveCommitKey(dataKey, messageId));
  const key = deriveEncryptionKey(dataKey, messageId);
  try {
    const headerBody = out.subarray(0, header.length);
    aes256GcmSealInto(key, HEADER_IV, headerBody, NOTHING, out, header.length);
    sealBody(out, body, key, messageId, plaintext);
  } finally {
    key.fill(0);
  }
  return out;
}
