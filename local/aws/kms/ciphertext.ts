/**
 * Ciphertext blobs: opaque to callers, as AWS's are. Layout, all lengths in bytes:
 * version (1), length of key id (1), key id (ASCII), key material id (32), IV (12), tag (16),
 * AES-256-GCM ciphertext. The part before the IV and the encryption context are authenticated.
 */

import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { BackingKey } from "./model.ts";

const VERSION = 0x01;
const MATERIAL_ID_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

export type EncryptionContext = Readonly<Record<string, string>>;

export interface ParsedBlob {
  readonly keyId: string;
  /** 64 hex digits. */
  readonly backingKeyId: string;
  readonly header: Uint8Array;
  readonly iv: Uint8Array;
  readonly tag: Uint8Array;
  readonly ciphertext: Uint8Array;
}

export function sealBlob(
  plaintext: Uint8Array,
  keyId: string,
  backingKey: BackingKey,
  context: EncryptionContext,
): Uint8Array {
  const id = Buffer.from(keyId, "ascii");
  const header = Buffer.concat([
    Uint8Array.of(VERSION, id.length),
    id,
    Buffer.from(backingKey.id, "hex"),
  ]);
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", Buffer.from(backingKey.material, "base64"), iv);
  cipher.setAAD(authenticatedData(header, context));
  const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return new Uint8Array(Buffer.concat([header, iv, cipher.getAuthTag(), body]));
}

/** Null when the bytes are no blob of ours. */
export function parseBlob(bytes: Uint8Array): ParsedBlob | null {
  const idLength = bytes[1];
  if (bytes[0] !== VERSION || idLength === undefined) return null;
  const headerLength = 2 + idLength + MATERIAL_ID_BYTES;
  const bodyStart = headerLength + IV_BYTES + TAG_BYTES;
  if (bytes.length <= bodyStart) return null;
  return {
    keyId: Buffer.from(bytes.subarray(2, 2 + idLength)).toString("latin1"),
    backingKeyId: Buffer.from(bytes.subarray(2 + idLength, headerLength)).toString("hex"),
    header: bytes.subarray(0, headerLength),
    iv: bytes.subarray(headerLength, headerLength + IV_BYTES),
    tag: bytes.subarray(headerLength + IV_BYTES, bodyStart),
    ciphertext: bytes.subarray(bodyStart),
  };
}

/** Null when key, context, tag or any byte is not what it was. */
export function openBlob(
  blob: ParsedBlob,
  backingKey: BackingKey,
  context: EncryptionContext,
): Uint8Array | null {
  const key = Buffer.from(backingKey.material, "base64");
  const decipher = createDecipheriv("aes-256-gcm", key, blob.iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(authenticatedData(blob.header, context));
  decipher.setAuthTag(blob.tag);
  try {
    return new Uint8Array(Buffer.concat([decipher.update(blob.ciphertext), decipher.final()]));
  } catch {
    return null;
  }
}

/** Context pairs sorted by key and length-prefixed, so that order is free and nothing collides. */
function authenticatedData(header: Uint8Array, context: EncryptionContext): Uint8Array {
  const pairs = Object.entries(context)
    .map(([key, value]) => [Buffer.from(key, "utf8"), Buffer.from(value, "utf8")] as const)
    .sort(([a], [b]) => Buffer.compare(a, b));
  const parts: Uint8Array[] = [header];
  for (const pair of pairs) {
    for (const text of pair) {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(text.length);
      parts.push(length, text);
    }
  }
  return Buffer.concat(parts);
}
