import { assertEquals } from "@std/assert";
import { addressHash, clientAddress } from "../../functions-shared/http/address.ts";

const of = (forwarded?: string) =>
  clientAddress(
    new Request("http://localhost", {
      headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded },
    }),
  );

const ADDRESSES: readonly (readonly [string, string | ""])[] = [
  ["203.0.113.7", "203.0.113.7"],
  ["203.0.113.7, 198.51.100.1, 10.0.0.1", "203.0.113.7"],
  [" 203.0.113.7 ", "203.0.113.7"],
  ["2001:DB8::1", "2001:db8::1"],
  ["2001:db8:0:0:0:0:0:1", "2001:db8::1"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["", ""],
  ["unknown", ""],
  ["999.0.113.7", ""],
  ["4242424242424242", ""],
  [":::", ""],
  ["a".repeat(10_000), ""],
];
for (const [forwarded, address] of ADDRESSES) {
  Deno.test(`the client of x-forwarded-for ${forwarded.slice(0, 40)}`, () => {
    assertEquals(of(forwarded), address);
  });
}

Deno.test("without the header there is no address, and without an address no hash", () => {
  assertEquals(of(), "");
  assertEquals(addressHash(new Request("http://localhost"), { default: "secret" }), undefined);
});
