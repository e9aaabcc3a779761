import { authError } from "./auth-errors.ts";
import type { Database } from "./database.ts";

/** Routes of the auth server that act for the user of the access token. */
const OF_USER = /^\/(user|logout|reauthenticate)$/;

/** By id, address of a mail, refresh token, hash of a mailed token, or PKCE code: whichever is known. */
const BANNED = `
  select 1 from auth.users u
  where u.banned_until > now() and (
    u.id::text = $1::text
    or u.email = $2::text
    or u.id = (select t.user_id from auth.refresh_tokens t where t.token = $3::text limit 1)
    or $4::text in (u.confirmation_token, u.recovery_token, u.email_change_token_current,
                    u.email_change_token_new, u.reauthentication_token)
    or u.id = (select f.user_id from auth.flow_state f where f.auth_code = $5::text limit 1)
  )`;

interface Named {
  readonly id?: unknown;
  readonly email?: unknown;
  readonly refreshToken?: unknown;
  readonly tokenHash?: unknown;
  readonly authCode?: unknown;
}

/**
 * What Supabase Auth does about banned users and `@supabase/lite` 0.10 leaves out (supabase/auth,
 * api/token.go, tokens/service.go, api/verify.go, api/auth.go): no sign-in, no refresh, and nothing with
 * an access token from before. Null when the request may go on.
 *
 * @param userId of the caller's access token, if its signature holds
 */
export async function refuseBanned(
  database: Database,
  request: Request,
  { path, userId }: { path: string; userId: unknown },
): Promise<Response | null> {
  const query = new URL(request.url).searchParams;
  const isBanned = async ({ id, email, refreshToken, tokenHash, authCode }: Named) => {
    const address = typeof email === "string" ? email.toLowerCase() : null;
    const params = [id, address, refreshToken, tokenHash, authCode]
      .map((value) => typeof value === "string" && value !== "" ? value : null);
    if (params.every((value) => value === null)) return false;
    return (await database.query(BANNED, params)).length > 0;
  };
  const banned = (status: number, msg = "User is banned") => authError(status, "user_banned", msg);
  if (path === "/token") {
    const { email, refresh_token: refreshToken, auth_code: authCode } = await bodyOf(request);
    if (await isBanned({ refreshToken })) return banned(400, "Invalid Refresh Token: User Banned");
    return await isBanned({ email, authCode }) ? banned(400) : null;
  }
  if (path === "/verify") {
    const { email, token_hash: tokenHash = query.get("token") } = await bodyOf(request);
    return await isBanned({ email, tokenHash }) ? banned(403) : null;
  }
  return OF_USER.test(path) && await isBanned({ id: userId }) ? banned(403) : null;
}

async function bodyOf(request: Request): Promise<Record<string, unknown>> {
  try {
    const body = await request.clone().json();
    return typeof body === "object" && body !== null ? body : {};
  } catch {
    return {};
  }
}
