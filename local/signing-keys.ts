/**
 * The project's JWT signing keys and their lives, as hosted Supabase has them: a key stands by, is in use,
 * was used, is revoked. All but revoked ones are trusted.
 */
import { compactVerify, decodeProtectedHeader, exportJWK, generateKeyPair, jwtVerify } from "jose";
import { type SigningJwk } from "./tokens.ts";

export type SigningKeyStatus = "standby" | "in_use" | "previously_used" | "revoked";

export interface SigningKey {
  readonly id: string;
  readonly status: SigningKeyStatus;
  readonly jwk: SigningJwk;
  /** The JWT secret that the project was made with; it signed the legacy API keys too. */
  readonly legacy: boolean;
  /** ISO 8601. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** What the status of a key may become, and from which. `in_use` takes the place of the key in use. */
const FROM: Readonly<Record<SigningKeyStatus, readonly SigningKeyStatus[]>> = {
  standby: ["previously_used", "revoked"],
  in_use: ["standby"],
  previously_used: ["standby"],
  revoked: ["previously_used"],
};

/** A new key on standby; its private half never leaves the stack. */
export async function newSigningKey(algorithm: SigningJwk["alg"]): Promise<SigningKey> {
  const id = crypto.randomUUID();
  const material = algorithm === "ES256"
    ? await exportJWK((await generateKeyPair("ES256", { extractable: true })).privateKey)
    : {
      kty: "oct",
      k: Buffer.from(crypto.getRandomValues(new Uint8Array(48))).toString("base64url"),
    };
  const now = new Date().toISOString();
  const jwk: SigningJwk = { ...material, alg: algorithm, kid: id };
  return { id, status: "standby", jwk, legacy: false, createdAt: now, updatedAt: now };
}

/** `keys` after the change, or null when the status cannot follow on what it is now. */
export function withStatus(
  keys: readonly SigningKey[],
  id: string,
  status: SigningKeyStatus,
): readonly SigningKey[] | null {
  const key = keys.find((one) => one.id === id);
  if (!key || !FROM[status].includes(key.status)) return null;
  // There is one key on standby and one in use.
  if (status === "standby" && keys.some((one) => one.status === "standby")) return null;
  const updatedAt = new Date().toISOString();
  return keys.map((one) => {
    if (one.id === id) return { ...one, status, updatedAt };
    if (status !== "in_use" || one.status !== "in_use") return one;
    return { ...one, status: "previously_used", updatedAt };
  });
}

/** The key that signs. */
export function keyInUse(keys: readonly SigningKey[]): SigningKey {
  const key = keys.find(({ status }) => status === "in_use");
  if (!key) throw new Error("no JWT signing key is in use");
  return key;
}

/** What verifies the tokens of these keys; a shared secret verifies and signs alike. */
export function verifyingJwk({ jwk }: SigningKey): SigningJwk {
  const { d: _, ...open } = jwk;
  return { ...open, use: "sig" };
}

/** What SUPABASE_JWKS holds. */
export function trustedJwks(keys: readonly SigningKey[]): { keys: SigningJwk[] } {
  return { keys: keys.filter(({ status }) => status !== "revoked").map(verifyingJwk) };
}

/** What everybody may read at `/auth/v1/.well-known/jwks.json`: no shared secret is among it. */
export function publishedJwks(keys: readonly SigningKey[]): { keys: SigningJwk[] } {
  return { keys: trustedJwks(keys).keys.filter(({ kty }) => kty !== "oct") };
}

/** The payload of a token that a trusted key signed, expired or not; null of any other. */
export async function signedPayload(
  keys: readonly SigningKey[],
  token: string,
): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    const jwk = jwkOf(keys, token);
    if (!jwk) return null;
    return new Uint8Array((await compactVerify(token, jwk, { algorithms: [jwk.alg] })).payload);
  } catch {
    return null;
  }
}

/** Whether `token` is a JWT that a trusted key signed and that has not expired. */
export async function isValidJwt(keys: readonly SigningKey[], token: string): Promise<boolean> {
  try {
    const jwk = jwkOf(keys, token);
    if (!jwk) return false;
    await jwtVerify(token, jwk, { algorithms: [jwk.alg] });
    return true;
  } catch {
    return false;
  }
}

/** By `kid`; a token without one that is known is the legacy secret's, as Supabase Auth takes it. */
function jwkOf(keys: readonly SigningKey[], token: string): SigningJwk | undefined {
  const { kid, alg } = decodeProtectedHeader(token);
  const trusted = keys.filter(({ status }) => status !== "revoked");
  const key = keys.find(({ jwk }) => jwk.kid === kid) ?? trusted.find(({ legacy }) => legacy);
  return key && trusted.includes(key) && key.jwk.alg === alg ? verifyingJwk(key) : undefined;
}
