/** Where a request comes from, as the platform says, and a handle for it that is no address. */
import { createHmac } from "node:crypto";
import { canonicalAddress } from "./network.ts";

/** Tells this use of the secret key apart from all others. */
const PURPOSE = "supabase-kms address hash 1";

/**
 * The client's IP address in canonical form; "" when the platform names none.
 *
 * Hosted projects stand behind Cloudflare, which replaces `cf-connecting-ip`, while it only appends to an
 * `x-forwarded-for` that the client sent itself. Elsewhere the first of `x-forwarded-for` is the client, and
 * the proxy in front must see to it that both headers are its own.
 */
export function clientAddress(request: Request): string {
  const [forwarded = ""] = (request.headers.get("x-forwarded-for") ?? "").split(",", 1);
  return canonicalAddress(request.headers.get("cf-connecting-ip") ?? "") ??
    canonicalAddress(forwarded) ?? "";
}

/** HMAC-SHA256 of the address, base64. Nobody without the platform's secret key can try addresses. */
export function addressHash(
  request: Request,
  secretKeys: Readonly<Record<string, string>>,
): string {
  return keyedHash(clientAddress(request), secretKeys);
}

/** The same of any text about an address, such as the network it is in. */
export function keyedHash(text: string, secretKeys: Readonly<Record<string, string>>): string {
  const secret = secretKeys.default ?? Object.values(secretKeys)[0] ?? "";
  const key = createHmac("sha256", secret).update(PURPOSE).digest();
  return createHmac("sha256", key).update(text).digest("base64");
}
