import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { addressHash, clientAddress } from "../../functions-shared/http/address.ts";

const of = (forwarded?: string) =>
  clientAddress(
    new Request("http://localhost", {
      headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded },
    }),
  );

const ADDRESSES: readonly (readonly [string, string | undefined])[] = [
  ["203.0.113.7", "203.0.113.7"],
  ["203.0.113.7, 198.51.100.1, 10.0.0.1", "203.0.113.7"],
  [" 203.0.113.7 ", "203.0.113.7"],
  ["203.0.113.7:4711", "203.0.113.7"],
  ["2001:DB8::1", "2001:db8::1"],
  ["2001:db8:0:0:0:0:0:1", "2001:db8::1"],
  ["[2001:db8::1]:4711", "2001:db8::1"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["", undefined],
  ["unknown", undefined],
  ["999.0.113.7", undefined],
  ["4242424242424242", undefined],
  [":::", undefined],
  ["a".repeat(10_000), undefined],
];
for (const [forwarded, address] of ADDRESSES) {
  Deno.test(`the client of x-forwarded-for ${forwarded.slice(0, 40)}`, () => {
    assertEquals(of(forwarded), address);
  });
}

Deno.test("without the header there is no address, and without an address no hash", () => {
  assertEquals(of(), undefined);
  assertEquals(addressHash("secret", undefined), undefined);
  assertEquals(addressHash("", "203.0.113.7"), undefined);
});

Deno.test("the hash tells addresses apart, and nothing without the secret", () => {
  const hash = addressHash("secret", "203.0.113.7") ?? "";
  assertMatch(hash, /^[A-Za-z0-9+/]{43}=$/);
  assertEquals(addressHash("secret", "203.0.113.7"), hash);
  assertNotEquals(addressHash("secret", "203.0.113.8"), hash);
  assertNotEquals(addressHash("other", "203.0.113.7"), hash);
});
