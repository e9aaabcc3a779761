/**
 * The few cryptographic operations everything else is made of, on `node:crypto`. All take and
 * return plain `Uint8Array`s: Deno 2.1 (the edge runtime) refuses other views, and a `Buffer` in a
 * result could share memory with others.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  hkdfSync,
  timingSafeEqual as nodeTimingSafeEqual,
} from "node:crypto";

const ALGORITHM = "aes-256-gcm";
const GCM_KEY_BYTES = 32;
const GCM_IV_BYTES = 12;
const GCM_TAG_BYTES = 16;
const HKDF_SHA512_MAX_BYTES = 255 * 64;

/** Fills `bytes`, at most 65536, from the platform's cryptographic random source; returns it. */
export function fillRandom(bytes: Uint8Array): Uint8Array {
  return crypto.getRandomValues(bytes);
}

/** A new array of `length` bytes, at most 65536, from the platform's cryptographic random source. */
export function randomBytes(length: number): Uint8Array {
  return fillRandom(new Uint8Array(length));
}

/**
 * HKDF-SHA512 (RFC 5869), extract and expand. An empty salt means 64 zero bytes.
 * @param length bytes of output, 1 to 16320
 * @throws RangeError when `length` is out of range
 */
export function hkdfSha512(
  inputKey: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array,
  length: number,
): Uint8Array {
  if (!Number.isInteger(length) || length < 1 || length > HKDF_SHA512_MAX_BYTES) {
    throw new RangeError(`HKDF-SHA512 gives 1 to ${HKDF_SHA512_MAX_BYTES} bytes, not ${length}`);
  }
  return new Uint8Array(hkdfSync("sha512", inputKey, salt, info, length));
}

/**
 * HMAC-SHA256 (RFC 2104) of `data`, 32 bytes: written out as its two hashes, which on Deno 2.1 and
 * 2.9 take half of what `createHmac` does (measured).
 */
export function hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array {
  const short = key.length > SHA256_BLOCK_BYTES ? createHash("sha256").update(key).digest() : key;
  try {
    const inner = createHash("sha256").update(padded(short, 0x36)).update(data).digest();
    return new Uint8Array(createHash("sha256").update(padded(short, 0x5c)).update(inner).digest());
  } finally {
    paddedKey.fill(0);
    if (short !== key) short.fill(0);
  }
}

const SHA256_BLOCK_BYTES = 64;
const paddedKey = new Uint8Array(SHA256_BLOCK_BYTES);

function padded(key: Uint8Array, pad: number): Uint8Array {
  paddedKey.fill(pad);
  for (let i = 0; i < key.length; i++) paddedKey[i]! ^= key[i]!;
  return paddedKey;
}

/** Whether two byte strings are equal, in time that depends on their lengths only. */
export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && nodeTimingSafeEqual(a, b);
}

/**
 * AES-256-GCM encryption. Writes the ciphertext, as long as the plaintext, and the 16-byte tag
 * behind it into `out` at `offset`. The caller guarantees that no IV is used twice with one key.
 * @param key 32 bytes
 * @param iv 12 bytes
 * @throws RangeError when the key, the IV or the room in `out` has another size
 */
export function aes256GcmSealInto(
  key: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  plaintext: Uint8Array,
  out: Uint8Array,
  offset: number,
): void {
  requireKeyAndIv(key, iv);
  const tagAt = offset + plaintext.length;
  if (offset < 0 || tagAt + GCM_TAG_BYTES > out.length) {
    throw new RangeError("AES-256-GCM output does not fit");
  }
  const cipher = createCipheriv(ALGORITHM, key, iv);
  cipher.setAAD(additionalData);
  if (plaintext.length > 0) out.set(cipher.update(plaintext), offset);
  cipher.final();
  out.set(cipher.getAuthTag(), tagAt);
}

/** As {@link aes256GcmSealInto}, into a new array: ciphertext, then the 16-byte tag. */
export function aes256GcmSeal(
  key: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  const out = new Uint8Array(plaintext.length + GCM_TAG_BYTES);
  aes256GcmSealInto(key, iv, additionalData, plaintext, out, 0);
  return out;
}

/**
 * AES-256-GCM decryption of `sealed` (ciphertext, then the 16-byte tag) into `out` at `offset`.
 * On failure nothing unauthenticated is left in `out`.
 * @param key 32 bytes
 * @param iv 12 bytes
 * @throws RangeError when a size is wrong; Error when the tag does not verify
 */
export function aes256GcmOpenInto(
  key: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  sealed: Uint8Array,
  out: Uint8Array,
  offset: number,
): void {
  requireKeyAndIv(key, iv);
  const length = sealed.length - GCM_TAG_BYTES;
  if (length < 0) throw new RangeError("AES-256-GCM input is shorter than its tag");
  if (offset < 0 || offset + length > out.length) {
    throw new RangeError("AES-256-GCM output does not fit");
  }
  const tag = sealed.subarray(length);
  if (length === 0) {
    requireGcmTag(key, iv, additionalData, sealed.subarray(0, 0), tag);
    return;
  }
  const plaintext = decipher(key, iv, additionalData, sealed.subarray(0, length), tag);
  try {
    if (!DECIPHER_VERIFIES) requireGcmTag(key, iv, additionalData, plaintext, tag);
    out.set(plaintext, offset);
  } finally {
    plaintext.fill(0);
  }
}

/** As {@link aes256GcmOpenInto}, into a new array. */
export function aes256GcmOpen(
  key: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  sealed: Uint8Array,
): Uint8Array {
  const out = new Uint8Array(Math.max(0, sealed.length - GCM_TAG_BYTES));
  aes256GcmOpenInto(key, iv, additionalData, sealed, out, 0);
  return out;
}

/**
 * Checks a tag by computing it again from the plaintext, in constant time.
 * @throws Error when it is not the tag of this plaintext under this key, IV and additional data
 */
export function requireGcmTag(
  key: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  plaintext: Uint8Array,
  tag: Uint8Array,
): void {
  const cipher = createCipheriv(ALGORITHM, key, iv);
  cipher.setAAD(additionalData);
  if (plaintext.length > 0) cipher.update(plaintext);
  cipher.final();
  if (!timingSafeEqual(cipher.getAuthTag(), tag)) throw new Error("AES-256-GCM tag is wrong");
}

/** Plaintext of a ciphertext that is not empty; see {@link DECIPHER_VERIFIES} about its tag. */
function decipher(
  key: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  ciphertext: Uint8Array,
  tag: Uint8Array,
): Uint8Array {
  const decipher = createDecipheriv(ALGORITHM, key, iv);
  decipher.setAAD(additionalData);
  decipher.setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  try {
    decipher.final();
    return plaintext;
  } catch (error) {
    plaintext.fill(0);
    throw error;
  }
}

/**
 * Whether this runtime's decipher checks the tag at all. Deno 1.46.0 to 2.1.6, the edge runtime's
 * 2.1.4 among them, accepts any tag (CVE-2025-24015, fixed by denoland/deno#27733). A forged tag tells, not a version number: the
 * edge runtime is a fork that may carry the fix or not.
 */
const DECIPHER_VERIFIES = refusesForgedTag();

function refusesForgedTag(): boolean {
  const zeros = new Uint8Array(GCM_KEY_BYTES);
  const forged = aes256GcmSeal(zeros, zeros.subarray(0, GCM_IV_BYTES), zeros, zeros);
  forged[forged.length - 1]! ^= 1;
  const ciphertext = forged.subarray(0, zeros.length), tag = forged.subarray(zeros.length);
  try {
    decipher(zeros, zeros.subarray(0, GCM_IV_BYTES), zeros, ciphertext, tag);
    return false;
  } catch {
    return true;
  }
}

// createCipheriv also takes other IV lengths, which GCM hashes: not part of any format we write.
function requireKeyAndIv(key: Uint8Array, iv: Uint8Array): void {
  if (key.length !== GCM_KEY_BYTES) {
    throw new RangeError(`AES-256-GCM takes a key of ${GCM_KEY_BYTES} bytes, not ${key.length}`);
  }
  if (iv.length !== GCM_IV_BYTES) {
    throw new RangeError(`AES-256-GCM takes an IV of ${GCM_IV_BYTES} bytes, not ${iv.length}`);
  }
}
