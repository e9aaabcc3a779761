/** Decryption under IVs of 16 bytes; runs on the edge runtime's Deno as well, whose own decipher cannot. */
import { assertEquals, assertRejects } from "@std/assert";
import { aes256GcmOpenLongIv } from "../../functions-shared/message/gcm-long-iv.ts";
import { FROZEN, LEGACY_KEY } from "./support/legacy.ts";

const NONE = new Uint8Array();
const bytesOf = (hex: string) =>
  Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

const [, iv = NONE, tag = NONE, ciphertext = NONE] = FROZEN.ciphertexts.v1_hex.split(":").map(
  bytesOf,
);
const sealed = new Uint8Array([...ciphertext, ...tag]);
const additional = new TextEncoder().encode("v1");

Deno.test("a message that OpenSSL made opens", async () => {
  const opened = await aes256GcmOpenLongIv(LEGACY_KEY, iv, additional, sealed);
  assertEquals(new TextDecoder().decode(opened), FROZEN.plaintext);
});

Deno.test("every bit of message, IV, key and additional data counts", async () => {
  for (const [name, part] of Object.entries({ sealed, iv, key: LEGACY_KEY, additional })) {
    for (let bit = 0; bit < part.length * 8; bit++) {
      const changed = part.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      const parts = { sealed, iv, key: LEGACY_KEY, additional, [name]: changed };
      await assertRejects(
        () => aes256GcmOpenLongIv(parts.key, parts.iv, parts.additional, parts.sealed),
        Error,
        undefined,
        `${name}, bit ${bit}`,
      );
    }
  }
});

Deno.test("what is cut short or of another size is refused", async () => {
  for (let length = 0; length < sealed.length; length++) {
    await assertRejects(() =>
      aes256GcmOpenLongIv(LEGACY_KEY, iv, additional, sealed.subarray(0, length))
    );
  }
  for (const length of [0, 12, 15, 17]) {
    await assertRejects(
      () => aes256GcmOpenLongIv(LEGACY_KEY, new Uint8Array(length), additional, sealed),
      RangeError,
    );
  }
  for (const length of [0, 16, 31, 33]) {
    await assertRejects(
      () => aes256GcmOpenLongIv(new Uint8Array(length), iv, additional, sealed),
      RangeError,
    );
  }
});
