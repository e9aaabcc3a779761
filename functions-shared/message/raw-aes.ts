/**
 * The raw AES keyring's wrapping (framework/raw-aes-keyring.md): a data key under a local 256-bit
 * key with AES-256-GCM, the serialized encryption context as additional data. Provider id is the
 * key namespace; provider info is key name | tag length in bits, u32 | IV length, u32 | IV.
 */
import { type EncryptionContext, serializeEncryptionContext } from "./encryption-context.ts";
import { decryptionFailed, malformed } from "./errors.ts";
import type { EncryptedDataKey } from "./header.ts";
import { aes256GcmOpen, aes256GcmSeal, fillRandom, timingSafeEqual } from "./primitives.ts";
import { DATA_KEY_BYTES, IV_BYTES, TAG_BYTES } from "./suite.ts";
import { writeUint32 } from "./writer.ts";

const WRAPPING_KEY_BYTES = 32;
/** Taken by AWS's own keyrings (`aws-kms`, `aws-kms-hierarchy`, ...). */
const RESERVED_NAMESPACE = "aws-kms";

const encoder = new TextEncoder();

export interface RawAesWrappingKey {
  /** 32 random bytes, neither changed nor kept. */
  readonly wrappingKey: Uint8Array;
  /** Becomes the provider id. Not empty, may not begin with `aws-kms`. */
  readonly keyNamespace: string;
  /** Tells the wrapping keys of a namespace apart. Not empty, not secret. */
  readonly keyName: string;
  /** The context of the message that the data key is for. */
  readonly encryptionContext: EncryptionContext;
}

/**
 * Wraps a 32-byte data key under a fresh random IV.
 * @throws MessageError `message_malformed` when an input breaks its rule
 */
export function wrapDataKeyRawAes(
  input: RawAesWrappingKey & { readonly dataKey: Uint8Array },
): EncryptedDataKey {
  requireUsable(input);
  if (input.dataKey.length !== DATA_KEY_BYTES) {
    throw malformed(`a data key has ${DATA_KEY_BYTES} bytes, not ${input.dataKey.length}`);
  }
  const prefix = providerInfoPrefix(input.keyName);
  const providerInfo = new Uint8Array(prefix.length + IV_BYTES);
  providerInfo.set(prefix);
  const iv = fillRandom(providerInfo.subarray(prefix.length));
  const aad = serializeEncryptionContext(input.encryptionContext);
  const ciphertext = aes256GcmSeal(input.wrappingKey, iv, aad, input.dataKey);
  return { providerId: input.keyNamespace, providerInfo, ciphertext };
}

/**
 * The 32-byte data key, which the caller wipes.
 * @throws MessageError `decryption_failed` when the key was wrapped by another keyring, under
 *   another wrapping key or for another context, or was changed; `message_malformed` when the
 *   wrapping key itself is unusable
 */
export function unwrapDataKeyRawAes(
  input: RawAesWrappingKey & { readonly encryptedDataKey: EncryptedDataKey },
): Uint8Array {
  requireUsable(input);
  const { providerId, providerInfo, ciphertext } = input.encryptedDataKey;
  const prefix = providerInfoPrefix(input.keyName);
  if (
    providerId !== input.keyNamespace ||
    providerInfo.length !== prefix.length + IV_BYTES ||
    !timingSafeEqual(providerInfo.subarray(0, prefix.length), prefix)
  ) {
    throw decryptionFailed("data key was not wrapped by this raw AES keyring");
  }
  if (ciphertext.length !== DATA_KEY_BYTES + TAG_BYTES) {
    throw decryptionFailed("wrapped data key has not 48 bytes");
  }
  const iv = providerInfo.subarray(prefix.length);
  const aad = serializeEncryptionContext(input.encryptionContext);
  try {
    return aes256GcmOpen(input.wrappingKey, iv, aad, ciphertext);
  } catch (cause) {
    throw decryptionFailed("wrapped data key is not authentic", cause);
  }
}

/** Key name, then the two length fields: all of the provider info but the IV. */
function providerInfoPrefix(keyName: string): Uint8Array {
  const name = encoder.encode(keyName);
  const prefix = new Uint8Array(name.length + 8);
  prefix.set(name);
  writeUint32(prefix, name.length, TAG_BYTES * 8);
  writeUint32(prefix, name.length + 4, IV_BYTES);
  return prefix;
}

function requireUsable({ wrappingKey, keyNamespace, keyName }: RawAesWrappingKey): void {
  if (wrappingKey.length !== WRAPPING_KEY_BYTES) {
    throw malformed(`a wrapping key has ${WRAPPING_KEY_BYTES} bytes, not ${wrappingKey.length}`);
  }
  if (keyNamespace === "" || keyNamespace.startsWith(RESERVED_NAMESPACE)) {
    throw malformed(`a key namespace is not empty and does not begin with ${RESERVED_NAMESPACE}`);
  }
  if (keyName === "") throw malformed("a key name is not empty");
  if (!keyNamespace.isWellFormed() || !keyName.isWellFormed()) {
    throw malformed("key namespace and key name must be well-formed Unicode");
  }
}
