import type { StackFile } from "./stack-file.ts";
import { mintJwt, userClaims } from "./tokens.ts";

/** Life of the demo user's printed access token, in seconds. */
const DEMO_TOKEN_SECONDS = 24 * 3600;

/** An access token of the demo user, signed as Supabase Auth signs. */
export function demoToken(
  file: Pick<StackFile, "api_url" | "jwt_secret" | "demo">,
): Promise<string> {
  const { email, user_id: userId } = file.demo;
  return mintJwt(file.jwt_secret, userClaims({ apiUrl: file.api_url, userId, email }), {
    lifetimeSeconds: DEMO_TOKEN_SECONDS,
  });
}
