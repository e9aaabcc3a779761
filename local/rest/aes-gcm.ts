/** AES-256-GCM for the local key services: a 12-byte nonce, the ciphertext, the tag. */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export function seal(
  key: Uint8Array,
  plaintext: Uint8Array,
  authenticated: Uint8Array,
): Uint8Array {
  const nonce = new Uint8Array(randomBytes(NONCE_BYTES));
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(authenticated);
  const body = cipher.update(plaintext);
  cipher.final();
  return new Uint8Array([...nonce, ...body, ...cipher.getAuthTag()]);
}

/** Null when the tag is not that of this key, text and authenticated data. */
export function open(
  key: Uint8Array,
  sealed: Uint8Array,
  authenticated: Uint8Array,
): Uint8Array | null {
  if (sealed.length < NONCE_BYTES + TAG_BYTES) return null;
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, NONCE_BYTES));
  decipher.setAAD(authenticated);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plaintext = decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES));
  try {
    decipher.final();
    return new Uint8Array(plaintext);
  } catch {
    return null;
  }
}
