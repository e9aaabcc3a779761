/**
 * Standard base64 (RFC 4648 section 4) in its one canonical spelling. `atob` and `Buffer` skip
 * white space, forgive padding and ignore trailing bits, so that many texts would name one message.
 * Ciphertext is public: table look-ups need not be constant time.
 */
import { DEFAULT_LIMITS } from "./limits.ts";
import { decryptionFailed } from "./errors.ts";

const ALPHABET = new TextEncoder().encode(
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
);
const PAD = 0x3d;
/** Value of a character code; bit 6 or higher marks a character outside the alphabet. */
const INVALID = 0xff;
const VALUES = new Uint8Array(256).fill(INVALID);
ALPHABET.forEach((code, value) => VALUES[code] = value);

const decoder = new TextDecoder();

/** Standard base64 with padding, no line breaks. */
export function encodeMessage(bytes: Uint8Array): string {
  const whole = bytes.length - bytes.length % 3;
  const text = new Uint8Array(Math.ceil(bytes.length / 3) * 4);
  let at = 0;
  for (let i = 0; i < whole; i += 3) {
    const group = bytes[i]! << 16 | bytes[i + 1]! << 8 | bytes[i + 2]!;
    text[at++] = ALPHABET[group >> 18]!;
    text[at++] = ALPHABET[group >> 12 & 63]!;
    text[at++] = ALPHABET[group >> 6 & 63]!;
    text[at++] = ALPHABET[group & 63]!;
  }
  if (whole < bytes.length) {
    const two = whole + 1 < bytes.length;
    const group = bytes[whole]! << 16 | (two ? bytes[whole + 1]! << 8 : 0);
    text[at++] = ALPHABET[group >> 18]!;
    text[at++] = ALPHABET[group >> 12 & 63]!;
    text[at++] = two ? ALPHABET[group >> 6 & 63]! : PAD;
    text[at++] = PAD;
  }
  return decoder.decode(text);
}

/**
 * The bytes of canonical base64: padded, no white space, unused bits zero, not empty.
 * @param maxBytes bound on the result, checked before anything is allocated. Default 16 MiB.
 * @throws MessageError `decryption_failed`
 */
export function decodeMessage(
  text: string,
  maxBytes: number = DEFAULT_LIMITS.maxMessageBytes,
): Uint8Array {
  if (text.length === 0 || text.length % 4 !== 0) {
    throw decryptionFailed("base64 is not a positive multiple of 4 characters");
  }
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const length = text.length / 4 * 3 - padding;
  if (length > maxBytes) throw decryptionFailed(`base64 holds more than ${maxBytes} bytes`);

  const bytes = new Uint8Array(length);
  const whole = text.length - (padding > 0 ? 4 : 0);
  let at = 0;
  let seen = 0;
  for (let i = 0; i < whole; i += 4) {
    const a = value(text, i),
      b = value(text, i + 1),
      c = value(text, i + 2),
      d = value(text, i + 3);
    seen |= a | b | c | d;
    bytes[at++] = a << 2 | b >> 4;
    bytes[at++] = b << 4 | c >> 2;
    bytes[at++] = c << 6 | d;
  }
  if (padding > 0) {
    const a = value(text, whole), b = value(text, whole + 1);
    const c = padding === 1 ? value(text, whole + 2) : 0;
    seen |= a | b | c;
    bytes[at++] = a << 2 | b >> 4;
    if (padding === 1) bytes[at++] = b << 4 | c >> 2;
    if ((padding === 1 ? c & 0b11 : b & 0b1111) !== 0) {
      throw decryptionFailed("base64 has bits behind its last byte");
    }
  }
  if (seen > 63) throw decryptionFailed("base64 holds a character outside its alphabet");
  return bytes;
}

function value(text: string, index: number): number {
  const code = text.charCodeAt(index);
  return code < 256 ? VALUES[code]! : INVALID;
}
