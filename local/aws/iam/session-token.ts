/**
 * Session tokens: sealed, self-contained statements of who a temporary access key is. Nothing is
 * stored for a session, so that tokens outlive a restart as AWS's outlive everything here.
 */

import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

export interface SessionClaims {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly roleArn: string;
  readonly sessionName: string;
  /** Milliseconds since the epoch, a whole second. */
  readonly issuedAt: number;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** Session policy document as passed, or null. */
  readonly policy: string | null;
}

const IV_BYTES = 12;
const TAG_BYTES = 16;

/** `key`: 32 bytes. */
export function sealSession(claims: SessionClaims, key: Uint8Array): string {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  const body = [cipher.update(JSON.stringify(claims), "utf8"), cipher.final()];
  return Buffer.concat([iv, cipher.getAuthTag(), ...body]).toString("base64");
}

/** Null when the token was not sealed with this key, or by a local AWS that knew no time of issue. */
export function openSession(token: string, key: Uint8Array): SessionClaims | null {
  const bytes = Buffer.from(token, "base64");
  if (bytes.length <= IV_BYTES + TAG_BYTES) return null;
  const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, IV_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  try {
    const text = Buffer.concat([
      decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)),
      decipher.final(),
    ]).toString("utf8");
    const claims = JSON.parse(text) as SessionClaims;
    return typeof claims.issuedAt === "number" ? claims : null;
  } catch {
    return null;
  }
}
