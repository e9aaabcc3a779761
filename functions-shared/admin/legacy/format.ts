/**
 * The ciphertexts that setups of the key management guide hold: AES-256-GCM under one key, a random IV of
 * 16 bytes. Read only; nothing here encrypts.
 *
 * The guide does not say how its three parts were written down. `v1_hex` is what the program it describes
 * writes, with the version as additional data; the others are what the guide's words allow as well.
 */
import { SuiteError } from "../../errors.ts";
import { decodeMessage } from "../../message/mod.ts";
import { aes256GcmOpenLongIv, LONG_IV_BYTES } from "../../message/gcm-long-iv.ts";

export const ENCODINGS = [
  /** `v1:IV:TAG:CIPHERTEXT` in hexadecimal digits; `v1` is authenticated. */
  "v1_hex",
  /** `IV:TAG:CIPHERTEXT` in hexadecimal digits. */
  "hex",
  /** Base64 of the IV, the tag and the ciphertext. */
  "base64_iv_tag_ciphertext",
  /** Base64 of the IV, the ciphertext and the tag. */
  "base64_iv_ciphertext_tag",
] as const;
export type Encoding = typeof ENCODINGS[number];

const TAG_BYTES = 16;
const VERSION = "v1";
const HEX = /^([0-9a-fA-F]{32}):([0-9a-fA-F]{32}):((?:[0-9a-fA-F]{2})*)$/;

interface Parts {
  readonly iv: Uint8Array;
  readonly tag: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly additionalData: Uint8Array;
}

/** Whether the text is a ciphertext in this encoding, as far as that shows without the key. */
export function isLegacyCiphertext(text: string, encoding: Encoding): boolean {
  return parse(text, encoding) !== undefined;
}

/**
 * The plaintext; the caller zeroes it. `key`: 32 bytes.
 * @throws {SuiteError} decryption_failed, for everything that is wrong with key, tag or text alike.
 */
export async function decryptLegacy(
  key: Uint8Array,
  text: string,
  encoding: Encoding,
): Promise<Uint8Array> {
  const parts = parse(text, encoding);
  if (parts === undefined) throw new SuiteError("decryption_failed");
  const { iv, tag, ciphertext, additionalData } = parts;
  const sealed = new Uint8Array(ciphertext.length + TAG_BYTES);
  sealed.set(ciphertext);
  sealed.set(tag, ciphertext.length);
  try {
    return await aes256GcmOpenLongIv(key, iv, additionalData, sealed);
  } catch (cause) {
    throw new SuiteError("decryption_failed", { cause });
  }
}

function parse(text: string, encoding: Encoding): Parts | undefined {
  switch (encoding) {
    case "v1_hex":
      return text.startsWith(`${VERSION}:`)
        ? parseHex(text.slice(VERSION.length + 1), new TextEncoder().encode(VERSION))
        : undefined;
    case "hex":
      return parseHex(text, new Uint8Array());
    case "base64_iv_tag_ciphertext":
    case "base64_iv_ciphertext_tag":
      return parseBase64(text, encoding === "base64_iv_tag_ciphertext");
  }
}

function parseHex(text: string, additionalData: Uint8Array): Parts | undefined {
  const [, iv, tag, ciphertext] = HEX.exec(text) ?? [];
  if (iv === undefined || tag === undefined || ciphertext === undefined) return undefined;
  return { iv: bytesOf(iv), tag: bytesOf(tag), ciphertext: bytesOf(ciphertext), additionalData };
}

function parseBase64(text: string, tagFirst: boolean): Parts | undefined {
  let bytes: Uint8Array;
  try {
    bytes = decodeMessage(text);
  } catch {
    return undefined;
  }
  if (bytes.length < LONG_IV_BYTES + TAG_BYTES) return undefined;
  const rest = bytes.subarray(LONG_IV_BYTES);
  const end = rest.length - TAG_BYTES;
  return {
    iv: bytes.subarray(0, LONG_IV_BYTES),
    tag: tagFirst ? rest.subarray(0, TAG_BYTES) : rest.subarray(end),
    ciphertext: tagFirst ? rest.subarray(TAG_BYTES) : rest.subarray(0, end),
    additionalData: new Uint8Array(),
  };
}

/** Of hexadecimal digits, an even number of them. */
export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(
    { length: hex.length / 2 },
    (_, at) => Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16),
  );
}
