/** Sizes the primitives refuse; their results are checked by the third-party vectors. */
import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import {
  aes256GcmOpen,
  aes256GcmOpenInto,
  aes256GcmSeal,
  aes256GcmSealInto,
  hkdfSha512,
  hmacSha256,
  randomBytes,
  requireGcmTag,
  timingSafeEqual,
} from "../../functions-shared/message/primitives.ts";
import { bytes } from "./message_support.ts";

const key = bytes(32), iv = bytes(12), none = new Uint8Array(0);

Deno.test("AES-256-GCM", async (t) => {
  for (const length of [0, 16, 24, 31, 33]) {
    await t.step(`refuses a key of ${length} bytes`, () => {
      const message = `AES-256-GCM takes a key of 32 bytes, not ${length}`;
      assertThrows(() => aes256GcmSeal(bytes(length), iv, none, none), RangeError, message);
      assertThrows(
        () => aes256GcmOpen(bytes(length), iv, none, bytes(16)),
        RangeError,
        message,
      );
    });
  }
  for (const length of [0, 8, 11, 13, 16]) {
    await t.step(`refuses an IV of ${length} bytes`, () => {
      const message = `AES-256-GCM takes an IV of 12 bytes, not ${length}`;
      assertThrows(() => aes256GcmSeal(key, bytes(length), none, none), RangeError, message);
      assertThrows(
        () => aes256GcmOpen(key, bytes(length), none, bytes(16)),
        RangeError,
        message,
      );
    });
  }
  await t.step("refuses input shorter than a tag", () => {
    assertThrows(
      () => aes256GcmOpen(key, iv, none, bytes(15)),
      RangeError,
      "AES-256-GCM input is shorter than its tag",
    );
  });
  await t.step("refuses to write past its output", () => {
    const message = "AES-256-GCM output does not fit";
    for (const [room, offset] of [[23, 0], [30, 7], [30, -1]] as const) {
      assertThrows(
        () => aes256GcmSealInto(key, iv, none, bytes(8), new Uint8Array(room), offset),
        RangeError,
        message,
      );
    }
    const sealed = aes256GcmSeal(key, iv, none, bytes(8));
    assertThrows(
      () => aes256GcmOpenInto(key, iv, none, sealed, new Uint8Array(8), 1),
      RangeError,
      message,
    );
  });
  await t.step("leaves its output untouched when the tag is wrong", () => {
    const sealed = aes256GcmSeal(key, iv, none, bytes(8));
    sealed[sealed.length - 1]! ^= 1;
    const out = new Uint8Array(8);
    assertThrows(() => aes256GcmOpenInto(key, iv, none, sealed, out, 0), Error);
    assertEquals(out, new Uint8Array(8));
  });
  await t.step("refuses every forged tag, whatever the runtime's decipher does", () => {
    for (const length of [0, 1, 15, 16, 17, 4096]) {
      const sealed = aes256GcmSeal(key, iv, bytes(9), bytes(length));
      for (let bit = 0; bit < 128; bit++) {
        const forged = sealed.slice();
        forged[length + (bit >> 3)]! ^= 1 << (bit & 7);
        assertThrows(() => aes256GcmOpen(key, iv, bytes(9), forged), Error);
        const tag = forged.subarray(length);
        assertThrows(
          () => requireGcmTag(key, iv, bytes(9), bytes(length), tag),
          Error,
          "AES-256-GCM tag is wrong",
        );
      }
      requireGcmTag(key, iv, bytes(9), bytes(length), sealed.subarray(length));
    }
  });
  await t.step("verifies the tag of empty input", () => {
    const sealed = aes256GcmSeal(key, iv, bytes(5), none);
    assertEquals(aes256GcmOpen(key, iv, bytes(5), sealed), none);
    assertThrows(() => aes256GcmOpen(key, iv, bytes(6), sealed), Error);
    sealed[0]! ^= 1;
    assertThrows(() => aes256GcmOpen(key, iv, bytes(5), sealed), Error);
  });
});

Deno.test("hkdfSha512 gives 1 to 16320 bytes", () => {
  assertEquals(hkdfSha512(key, none, none, 16320).length, 16320);
  for (const length of [0, -1, 1.5, 16321, NaN]) {
    assertThrows(
      () => hkdfSha512(key, none, none, length),
      RangeError,
      `HKDF-SHA512 gives 1 to 16320 bytes, not ${length}`,
    );
  }
});

Deno.test("timingSafeEqual compares content and length", () => {
  assert(timingSafeEqual(bytes(32), bytes(32)));
  assert(timingSafeEqual(none, none));
  assertFalse(timingSafeEqual(bytes(32), bytes(32, 2)));
  assertFalse(timingSafeEqual(bytes(32), bytes(31)));
});

Deno.test("results are plain Uint8Arrays", () => {
  const results = [
    randomBytes(32),
    hkdfSha512(key, none, none, 32),
    hmacSha256(key, none),
    aes256GcmSeal(key, iv, none, key),
    aes256GcmOpen(key, iv, none, aes256GcmSeal(key, iv, none, key)),
  ];
  for (const result of results) {
    assertEquals(Object.getPrototypeOf(result), Uint8Array.prototype);
  }
});
