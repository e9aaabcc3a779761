/**
 * Where a request came from, for the audit: as the platform's gateway says it, and only as a keyed hash.
 *
 * The first hop of `x-forwarded-for` is the client's own claim where a proxy in front of the gateway
 * appends instead of replacing: good for telling callers apart, no proof of where one is.
 */
import { createHmac, hkdfSync } from "node:crypto";

const IPV4 = /^(\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?$/;
const IPV6 = /^\[?([0-9a-f:]{2,39}|::ffff:\d{1,3}(?:\.\d{1,3}){3})\]?(?::\d{1,5})?$/i;

/** In its one spelling; undefined when the gateway names none, or what it names is no address. */
export function clientAddress(request: Request): string | undefined {
  const [first = ""] = (request.headers.get("x-forwarded-for") ?? "").split(",");
  const hop = first.trim();
  const mapped = /^\[?::ffff:([\d.]+)\]?$/i.exec(hop)?.[1] ?? hop;
  const v4 = IPV4.exec(mapped)?.[1];
  if (v4 !== undefined) {
    return v4.split(".").every((part) => Number(part) < 256)
      ? v4.split(".").map(Number).join(".")
      : undefined;
  }
  const v6 = IPV6.exec(mapped)?.[1];
  return v6 === undefined ? undefined : compressed(v6);
}

/** URLs spell IPv6 addresses as RFC 5952 does. */
function compressed(address: string): string | undefined {
  return URL.canParse(`http://[${address}]/`)
    ? new URL(`http://[${address}]/`).hostname.slice(1, -1)
    : undefined;
}

/** HMAC-SHA256 in base64, under a key that is derived from a secret the database does not hold. */
export function addressHash(secret: string, address: string | undefined): string | undefined {
  if (address === undefined || secret === "") return undefined;
  const key = hkdfSync("sha256", secret, "", "supabase-kms/address/v1", 32);
  return createHmac("sha256", new Uint8Array(key)).update(address).digest("base64");
}
