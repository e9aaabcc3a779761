import { createAuthAdmin, type PasswordSetter } from "./auth-admin.ts";
import { refuseBanned } from "./auth-bans.ts";
import { authError } from "./auth-errors.ts";
import type { Database } from "./database.ts";
import type { Inward, LiteTokens } from "./lite-tokens.ts";
import type { ProjectKeys } from "./project-keys.ts";
import { publishedJwks } from "./signing-keys.ts";

export interface AuthApiOptions {
  readonly database: Database;
  readonly keys: ProjectKeys;
  readonly tokens: LiteTokens;
  /** `@supabase/lite`, which serves all routes that are not here. */
  readonly lite: (request: Request) => Promise<Response>;
}

const PREFIX = "/auth/v1";

/** Serves `/auth/v1`: the auth server of `@supabase/lite`, and what it leaves out of Supabase Auth. */
export function createAuthApi(options: AuthApiOptions) {
  const { database, keys, tokens, lite } = options;

  const setPassword: PasswordSetter = async (userId, password) => {
    const answer = await lite(
      new Request(`http://127.0.0.1${PREFIX}/user`, {
        method: "PUT",
        headers: {
          apikey: keys.identity.publishableKey,
          authorization: `Bearer ${await tokens.forUser(userId)}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ password }),
      }),
    );
    const isSet = answer.ok || answer.headers.get("x-sb-error-code") === "same_password";
    return isSet ? null : answer;
  };
  const admin = createAuthAdmin(database, setPassword);

  return async ({ request, claims }: Inward): Promise<Response> => {
    const path = new URL(request.url).pathname.slice(PREFIX.length);
    if (request.method === "OPTIONS") return await lite(request);
    // No route has one; lite would decode it, and serve what was not looked at here.
    if (path.includes("%")) return authError(404, "not_found", "404 page not found");
    if (path === "/.well-known/jwks.json" && request.method === "GET") {
      return Response.json(publishedJwks(keys.identity.signingKeys), {
        headers: { "access-control-allow-origin": "*" },
      });
    }
    // Whoever has no key of the project is told so by lite, and nothing else.
    const key = keys.kindOf(request.headers.get("apikey") ?? "");
    if (key === null && path !== "/verify") return await lite(request);
    const users = /^\/admin\/users(?:\/([^/]+))?\/?$/.exec(path);
    if (users) {
      const refused = refuseOthers(request, key === "secret", claims?.role);
      return refused ?? await admin(request, users[1]) ?? await lite(request);
    }
    const refused = await refuseBanned(database, request, { path, userId: claims?.sub });
    return refused ?? await lite(request);
  };
}

/** The admin API is for `service_role`: a secret key, unless the request speaks for somebody else. */
function refuseOthers(request: Request, isSecret: boolean, role: unknown): Response | null {
  const authorization = request.headers.get("authorization");
  const isKey = authorization === null || /^Bearer sb_/i.test(authorization);
  if (isKey && isSecret) {
    return /^\s*Mozilla\/5\.0/i.test(request.headers.get("user-agent") ?? "")
      ? authError(401, "no_authorization", "Forbidden use of secret API key in browser")
      : null;
  }
  if (isKey) {
    return authError(401, "no_authorization", "This endpoint requires a valid Bearer token");
  }
  if (role === undefined) return authError(403, "bad_jwt", "invalid JWT");
  return role === "service_role" ? null : authError(403, "not_admin", "User not allowed");
}
