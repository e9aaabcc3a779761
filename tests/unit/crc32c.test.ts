import { assertEquals } from "@std/assert";
import { crc32c } from "../../functions-shared/keys/providers/gcp/crc32c.ts";

Deno.test("CRC-32C of the test vectors of RFC 3720, appendix B.4", () => {
  const upwards = Uint8Array.from({ length: 32 }, (_, at) => at);
  assertEquals(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assertEquals(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assertEquals(crc32c(upwards), 0x46dd794e);
  assertEquals(crc32c(upwards.toReversed()), 0x113fdb5c);
  assertEquals(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  assertEquals(crc32c(new Uint8Array()), 0);
});
