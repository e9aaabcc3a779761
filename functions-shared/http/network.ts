/** IP addresses as text: one spelling each, the network that stands for one caller, and a hash to keep. */
import { createHmac } from "node:crypto";

const IPV4 = /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/;
const IPV6 = /^[0-9a-f:]{2,39}$|^[0-9a-f:]{2,30}:(\d{1,3}\.){3}\d{1,3}$/i;

/** The one spelling of an address (RFC 5952), IPv4 for mapped ones; undefined for what is none. */
export function canonicalAddress(text: string): string | undefined {
  const address = text.trim();
  if (IPV4.test(address)) return address;
  if (!IPV6.test(address) || !URL.canParse(`http://[${address}]`)) return undefined;
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical);
  if (mapped === null) return canonical;
  return mapped.slice(1).flatMap((group) => {
    const value = parseInt(group, 16);
    return [value >> 8, value & 0xff];
  }).join(".");
}

/**
 * Whom an address stands for: itself, or in IPv6 its /64, which is the least that anybody is given and
 * holds more addresses than could be counted one by one. "" for what is no address.
 */
export function networkOf(text: string): string {
  const address = canonicalAddress(text) ?? "";
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("::");
  const before = head.split(":").filter(Boolean);
  const after = (tail ?? "").split(":").filter(Boolean);
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  const groups = [...before, ...Array<string>(zeros).fill("0"), ...after];
  return `${groups.slice(0, 4).join(":")}::/64`;
}

/** Tells this use of the secret key apart from all others. */
const PURPOSE = "supabase-kms address hash 1";

/**
 * HMAC-SHA256, base64, under a key derived from the platform's default secret key: there are few enough
 * addresses to try them all against a hash without one.
 */
export function keyedHash(text: string, secretKeys: Readonly<Record<string, string>>): string {
  const secret = secretKeys.default ?? Object.values(secretKeys)[0] ?? "";
  const key = createHmac("sha256", secret).update(PURPOSE).digest();
  return createHmac("sha256", key).update(text).digest("base64");
}
