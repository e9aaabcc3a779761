/**
 * AES-256-GCM decryption under IVs of 16 bytes, which GCM hashes into its counter (NIST SP 800-38D,
 * section 7.1). No message of ours has one: it is for reading what others wrote, and there is nothing here
 * that would write it.
 *
 * WebCrypto, because `node:crypto` of Deno 2.1.4, the edge runtime's, takes no IV but of 12 bytes; and
 * unlike that one it checks the tag there (both measured).
 */

export const LONG_IV_BYTES = 16;

const KEY_BYTES = 32;
const TAG_BYTES = 16;

/**
 * @param key 32 bytes
 * @param iv 16 bytes
 * @param sealed ciphertext, then the 16-byte tag
 * @throws RangeError when a size is wrong; Error when the tag does not verify
 */
export async function aes256GcmOpenLongIv(
  key: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  sealed: Uint8Array,
): Promise<Uint8Array> {
  if (key.length !== KEY_BYTES || iv.length !== LONG_IV_BYTES) {
    throw new RangeError(`takes a key of ${KEY_BYTES} bytes and an IV of ${LONG_IV_BYTES}`);
  }
  if (sealed.length < TAG_BYTES) throw new RangeError("AES-256-GCM input is shorter than its tag");
  // Copies: WebCrypto's types want buffers of their own, and none is shared.
  const cryptoKey = await crypto.subtle.importKey("raw", key.slice(), "AES-GCM", false, [
    "decrypt",
  ]);
  const algorithm = {
    name: "AES-GCM",
    iv: iv.slice(),
    additionalData: additionalData.slice(),
    tagLength: TAG_BYTES * 8,
  };
  return new Uint8Array(await crypto.subtle.decrypt(algorithm, cryptoKey, sealed.slice()));
}
