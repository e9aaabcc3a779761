import { createHash } from "node:crypto";
import { type JWK, type JWTPayload, SignJWT } from "jose";

/** A private JWK that signs access tokens; `kid` is how functions find it in SUPABASE_JWKS. */
export interface SigningJwk extends JWK {
  readonly kid: string;
  readonly alg: "HS256" | "ES256";
}

/** The JWK of a shared secret. */
export function sharedSecretJwk(secret: string): SigningJwk {
  const kid = createHash("sha256").update(secret).digest("hex").slice(0, 32);
  return { kty: "oct", alg: "HS256", kid, k: Buffer.from(secret).toString("base64url") };
}

/** Signs `claims` as Supabase Auth does. Lifetime in seconds. */
export function signJwt(
  jwk: SigningJwk,
  claims: JWTPayload,
  { lifetimeSeconds = 3600 }: { lifetimeSeconds?: number } = {},
): Promise<string> {
  return sign(jwk, { alg: jwk.alg, typ: "JWT", kid: jwk.kid }, {
    iat: Math.floor(Date.now() / 1000),
    ...claims,
  }, lifetimeSeconds);
}

/** `signJwt` by a shared secret (HS256). */
export function mintJwt(
  jwtSecret: string,
  claims: JWTPayload,
  options: { lifetimeSeconds?: number } = {},
): Promise<string> {
  return signJwt(sharedSecretJwk(jwtSecret), claims, options);
}

function sign(
  jwk: SigningJwk,
  header: { alg: string; typ: string; kid?: string },
  claims: JWTPayload & { iat: number },
  lifetimeSeconds: number,
): Promise<string> {
  return new SignJWT({ exp: claims.iat + lifetimeSeconds, ...claims })
    .setProtectedHeader(header)
    .sign(jwk);
}

/** The claims of a signed-in user's access token, first factor only. */
export function userClaims(user: { apiUrl: string; userId: string; email: string }): JWTPayload {
  return {
    iss: `${user.apiUrl}/auth/v1`,
    sub: user.userId,
    aud: "authenticated",
    role: "authenticated",
    email: user.email,
    phone: "",
    app_metadata: { provider: "email", providers: ["email"] },
    user_metadata: {},
    aal: "aal1",
    amr: [{ method: "password", timestamp: Math.floor(Date.now() / 1000) }],
    session_id: crypto.randomUUID(),
    is_anonymous: false,
  };
}

/** The legacy API keys: JWTs that name a role and live for ten years, as on hosted Supabase. */
export function legacyKey(
  jwtSecret: string,
  role: "anon" | "service_role",
  createdAt: number,
): Promise<string> {
  const lifetimeSeconds = 10 * 365 * 24 * 3600;
  const claims = { iss: "supabase", ref: "local", role, iat: createdAt };
  return sign(sharedSecretJwk(jwtSecret), { alg: "HS256", typ: "JWT" }, claims, lifetimeSeconds);
}
