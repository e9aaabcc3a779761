import type { StackFile } from "./stack-file.ts";
import { signJwt, userClaims } from "./tokens.ts";

/** Life of the demo user's printed access token, in seconds. */
const DEMO_TOKEN_SECONDS = 24 * 3600;

/** An access token of the demo user, signed as Supabase Auth signs. */
export function demoToken(
  file: Pick<StackFile, "api_url" | "signing_key" | "demo">,
): Promise<string> {
  const { email, user_id: userId } = file.demo;
  return signJwt(file.signing_key, userClaims({ apiUrl: file.api_url, userId, email }), {
    lifetimeSeconds: DEMO_TOKEN_SECONDS,
  });
}
