import { randomBytes } from "node:crypto";
import { CompactSign, type JWTPayload, jwtVerify } from "jose";
import type { ProjectKeys } from "./project-keys.ts";
import { keyInUse, signedPayload } from "./signing-keys.ts";
import { mintJwt, signJwt, userClaims } from "./tokens.ts";

export interface Inward {
  readonly request: Request;
  /** Of a token that a trusted key signed and that counts now; null without one. */
  readonly claims: JWTPayload | null;
}

/**
 * `@supabase/lite` 0.10 knows one shared secret for tokens, for as long as it lives. It gets one of its
 * own, that only this object knows; tokens of the project's signing keys are exchanged for such on the
 * way in, and those that it issues for the project's on the way out.
 */
export class LiteTokens {
  /** The value of its `jwt_secret`. */
  readonly secret = randomBytes(48).toString("base64url");
  readonly #keys: ProjectKeys;
  readonly #bytes = new TextEncoder().encode(this.secret);

  constructor(keys: ProjectKeys) {
    this.#keys = keys;
  }

  /** A token of this user for one request, with which it knows no session. */
  forUser(userId: string): Promise<string> {
    const claims = { sub: userId, aud: "authenticated", role: "authenticated" };
    return mintJwt(this.secret, claims, { lifetimeSeconds: 60 });
  }

  /** The request with the caller's token exchanged. One that no trusted key signed stays, and is refused. */
  async inward(request: Request): Promise<Inward> {
    const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const payload = token && await signedPayload(this.#keys.identity.signingKeys, token);
    if (!payload) return { request, claims: null };
    const exchanged = await new CompactSign(payload)
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .sign(this.#bytes);
    const headers = new Headers(request.headers);
    headers.set("authorization", `Bearer ${exchanged}`);
    // Also one that has expired: lite says so in its own words.
    return { request: new Request(request, { headers }), claims: claimsOf(payload) };
  }

  /** The answer of the auth server with the tokens in it exchanged. */
  async outward(answer: Response, request: Request): Promise<Response> {
    const { origin, pathname } = new URL(request.url);
    if (!/^\/auth\/v1\/(signup|token|verify)$/.test(pathname)) return answer;
    const location = answer.headers.get("location");
    if (location !== null) return await this.#withLocation(answer, location);
    return answer.ok && request.method === "POST"
      ? await this.#withSession(answer, origin)
      : answer;
  }

  /** With the header and the claims that hosted Supabase puts into a token and lite leaves out. */
  async #withSession(answer: Response, apiUrl: string): Promise<Response> {
    const session = await answer.json();
    if (typeof session?.access_token === "string") {
      const { payload } = await jwtVerify(session.access_token, this.#bytes);
      const email = typeof payload.email === "string" ? payload.email : "";
      session.access_token = await signJwt(keyInUse(this.#keys.identity.signingKeys).jwk, {
        ...userClaims({ apiUrl, userId: payload.sub ?? "", email }),
        app_metadata: session.user?.app_metadata ?? {},
        user_metadata: session.user?.user_metadata ?? {},
        // Its own claims, the expiry among them, stay.
        ...payload,
      });
    }
    const headers = new Headers(answer.headers);
    headers.delete("content-length");
    return Response.json(session, { status: answer.status, headers });
  }

  /** A link from a mail ends in a redirect with the session in its fragment. */
  async #withLocation(answer: Response, location: string): Promise<Response> {
    const [before = "", fragment] = location.split("#");
    const session = new URLSearchParams(fragment);
    const token = session.get("access_token");
    if (token === null) return answer;
    const { payload } = await jwtVerify(token, this.#bytes);
    session.set(
      "access_token",
      await signJwt(keyInUse(this.#keys.identity.signingKeys).jwk, payload),
    );
    const headers = new Headers(answer.headers);
    headers.set("location", `${before}#${session}`);
    return new Response(answer.body, { status: answer.status, headers });
  }
}

function claimsOf(payload: Uint8Array): JWTPayload | null {
  const claims: JWTPayload = JSON.parse(new TextDecoder().decode(payload));
  const now = Date.now() / 1000;
  return (claims.exp ?? Infinity) > now && (claims.nbf ?? 0) <= now ? claims : null;
}
