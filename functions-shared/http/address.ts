/** Where a request comes from, as the platform says, and a handle for it that is no address. */
import { canonicalAddress, keyedHash } from "./network.ts";

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

/**
 * HMAC-SHA256 of the address, base64; undefined when the platform names none. Nobody without the platform's
 * secret key can try addresses.
 */
export function addressHash(
  request: Request,
  secretKeys: Readonly<Record<string, string>>,
): string | undefined {
  const address = clientAddress(request);
  return address === "" ? undefined : keyedHash(address, secretKeys);
}
