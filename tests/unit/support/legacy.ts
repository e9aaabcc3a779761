/** Ciphertexts as setups of the key management guide hold them. */
import { Buffer } from "node:buffer";
import { createCipheriv, randomBytes } from "node:crypto";

export type LegacyEncoding =
  | "v1_hex"
  | "hex"
  | "base64_iv_tag_ciphertext"
  | "base64_iv_ciphertext_tag";

/** Of no setup: 0, 1, ... 31. */
export const LEGACY_KEY = Uint8Array.from({ length: 32 }, (_, at) => at);

/**
 * Made once by OpenSSL, through Node's `node:crypto`, and written down: Deno 2.1.4 could not make them. The IV
 * is 255, 254, ... 240, the key is `LEGACY_KEY`.
 */
export const FROZEN = {
  plaintext: "4242424242424242",
  ciphertexts: {
    v1_hex: "v1:fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0:828e8173a71a5be4b163a7287391f7ab:" +
      "a2c3a48a88b6c75137803a8765c9dfed",
    hex: "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0:75e8ae65136abbef669b4322c7383b2c:" +
      "a2c3a48a88b6c75137803a8765c9dfed",
    base64_iv_tag_ciphertext: "//79/Pv6+fj39vX08/Lx8HXormUTarvvZptDIsc4Oyyiw6SKiLbHUTeAOodlyd/t",
    base64_iv_ciphertext_tag: "//79/Pv6+fj39vX08/Lx8KLDpIqItsdRN4A6h2XJ3+116K5lE2q772abQyLHODss",
  } satisfies Record<LegacyEncoding, string>,
} as const;

/** The same under a key that the program derived from a text. */
export const DERIVED = {
  text: "your_encryption_key_here_32_chars_minimum",
  key: "ca727b588a3109e4ef95d3058368ca3922dd4f78b127d4e768483bc019db09dd",
  plaintext: "hunter2",
  ciphertext: "v1:fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0:bb7100ac8fe48fbfdfe5e9ad9cf0a398:9f9f7bc2c7f713",
} as const;

/** What the guide's program would write, by `node:crypto`, under a random IV of 16 bytes. */
export function legacyCiphertext(
  text: string,
  encoding: LegacyEncoding = "v1_hex",
  key: Uint8Array = LEGACY_KEY,
): string {
  const iv = randomBytes(16);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  if (encoding === "v1_hex") cipher.setAAD(Buffer.from("v1"));
  const ciphertext = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
  const tag = cipher.getAuthTag();
  const hex = [iv, tag, ciphertext].map((part) => part.toString("hex")).join(":");
  switch (encoding) {
    case "v1_hex":
      return `v1:${hex}`;
    case "hex":
      return hex;
    case "base64_iv_tag_ciphertext":
      return Buffer.concat([iv, tag, ciphertext]).toString("base64");
    case "base64_iv_ciphertext_tag":
      return Buffer.concat([iv, ciphertext, tag]).toString("base64");
  }
}
