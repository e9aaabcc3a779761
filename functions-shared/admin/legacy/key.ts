/** The one key of a setup of the key management guide, from the text it was kept as. */
import { SuiteError } from "../../errors.ts";
import { bytesOf } from "./format.ts";

export const DERIVATIONS = [
  /** The text is the key in 64 hexadecimal digits, as the guide's `openssl rand -hex 32` makes it. */
  "none",
  /** The key is derived from the text, as the guide's program did with ENCRYPTION_KEY. */
  "pbkdf2",
] as const;
export type Derivation = typeof DERIVATIONS[number];

export const KEY_BYTES = 32;

/** That program's constants. */
const SALT = "booster-beacon-salt";
const ITERATIONS = 100_000;

/** 32 bytes; the caller zeroes them. @throws {SuiteError} key_import_failed */
export async function legacyKey(text: string, derivation: Derivation): Promise<Uint8Array> {
  const trimmed = text.trim();
  if (derivation === "pbkdf2") return await derive(trimmed);
  // `echo` and editors leave line breaks; nothing else is forgiven.
  if (/^[0-9a-fA-F]{64}$/.test(trimmed)) return bytesOf(trimmed);
  throw keyImportFailed("invalid_key_length", "Invalid key length: expected 32 bytes");
}

async function derive(text: string): Promise<Uint8Array> {
  const encoder = new TextEncoder();
  const secret = await crypto.subtle.importKey("raw", encoder.encode(text), "PBKDF2", false, [
    "deriveBits",
  ]);
  const salt = encoder.encode(SALT);
  const algorithm = { name: "PBKDF2", hash: "SHA-256", salt, iterations: ITERATIONS };
  return new Uint8Array(await crypto.subtle.deriveBits(algorithm, secret, KEY_BYTES * 8));
}

/** `detail`: in the guide's words, which its readers look for. */
export function keyImportFailed(code: string, detail: string, cause?: unknown): SuiteError {
  return new SuiteError("key_import_failed", {
    violations: [{ pointer: "/key_id", code, detail }],
    cause,
  });
}
