import { createHash } from "node:crypto";
import { type JWTPayload, jwtVerify, SignJWT } from "jose";

/** The `kid` of the signing key, in tokens and in SUPABASE_JWKS: functions find the key by it. */
export function keyId(jwtSecret: string): string {
  return createHash("sha256").update(jwtSecret).digest("hex").slice(0, 32);
}

/** Signs `claims` as Supabase Auth does: HS256 by the stack's secret. Lifetime in seconds. */
export function mintJwt(
  jwtSecret: string,
  claims: JWTPayload,
  { lifetimeSeconds = 3600 }: { lifetimeSeconds?: number } = {},
): Promise<string> {
  return sign(jwtSecret, { alg: "HS256", typ: "JWT", kid: keyId(jwtSecret) }, {
    iat: Math.floor(Date.now() / 1000),
    ...claims,
  }, lifetimeSeconds);
}

function sign(
  jwtSecret: string,
  header: { alg: string; typ: string; kid?: string },
  claims: JWTPayload & { iat: number },
  lifetimeSeconds: number,
): Promise<string> {
  return new SignJWT({ exp: claims.iat + lifetimeSeconds, ...claims })
    .setProtectedHeader(header)
    .sign(new TextEncoder().encode(jwtSecret));
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
  return sign(jwtSecret, { alg: "HS256", typ: "JWT" }, claims, lifetimeSeconds);
}

/**
 * `token` signed again with the header and the claims that hosted Supabase puts into it and
 * `@supabase/lite` 0.10 leaves out. Its own claims, the expiry among them, stay.
 */
export async function completeToken(
  jwtSecret: string,
  token: string,
  user: { apiUrl: string; appMetadata: unknown; userMetadata: unknown },
): Promise<string> {
  const { payload } = await jwtVerify(token, new TextEncoder().encode(jwtSecret));
  const { apiUrl, appMetadata, userMetadata } = user;
  const email = typeof payload.email === "string" ? payload.email : "";
  return mintJwt(jwtSecret, {
    ...userClaims({ apiUrl, userId: payload.sub ?? "", email }),
    app_metadata: appMetadata ?? {},
    user_metadata: userMetadata ?? {},
    ...payload,
  });
}

/** Whether `token` is a JWT that this stack signed and that has not expired. */
export async function isValidJwt(jwtSecret: string, token: string): Promise<boolean> {
  try {
    await jwtVerify(token, new TextEncoder().encode(jwtSecret), { algorithms: ["HS256"] });
    return true;
  } catch {
    return false;
  }
}
