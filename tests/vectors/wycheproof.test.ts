/**
 * Third-party vectors (Project Wycheproof) against our primitives. Every vector in the files is
 * run; those with sizes that we do not support must be refused.
 */
import { assert, assertEquals, assertFalse, assertRejects, assertThrows } from "@std/assert";
import { aes256GcmOpenLongIv } from "../../functions-shared/message/gcm-long-iv.ts";
import {
  aes256GcmOpen,
  aes256GcmSeal,
  hkdfSha512,
  hmacSha256,
  requireGcmTag,
  timingSafeEqual,
} from "../../functions-shared/message/primitives.ts";
import { hex, readVectors, type WycheproofTest } from "./wycheproof.ts";

interface AeadTest extends WycheproofTest {
  readonly key: string;
  readonly iv: string;
  readonly aad: string;
  readonly msg: string;
  readonly ct: string;
  readonly tag: string;
}

interface HkdfTest extends WycheproofTest {
  readonly ikm: string;
  readonly salt: string;
  readonly info: string;
  readonly size: number;
  readonly okm: string;
}

interface MacTest extends WycheproofTest {
  readonly key: string;
  readonly msg: string;
  readonly tag: string;
}

Deno.test("Wycheproof AES-GCM", async (t) => {
  const file = await readVectors<AeadTest>("aes_gcm_test.json");
  assertEquals(file.algorithm, "AES-GCM");
  const ran = { valid: 0, invalid: 0, unsupported: 0 };

  for (const group of file.testGroups) {
    const supported = group.keySize === 256 && group.ivSize === 96;
    assertEquals(group.tagSize, 128);
    await t.step(
      `key ${group.keySize}, IV ${group.ivSize}: ${group.tests.length} vectors`,
      () => {
        assert(group.tests.length > 0);
        for (const test of group.tests) {
          const name = `tcId ${test.tcId} ${test.comment}`;
          const [key, iv, aad] = [hex(test.key), hex(test.iv), hex(test.aad)];
          const plaintext = hex(test.msg), sealed = hex(test.ct + test.tag);
          if (!supported) {
            assertThrows(() => aes256GcmSeal(key, iv, aad, plaintext), RangeError, undefined, name);
            assertThrows(() => aes256GcmOpen(key, iv, aad, sealed), RangeError, undefined, name);
            ran.unsupported++;
          } else if (test.result === "valid") {
            assertEquals(aes256GcmSeal(key, iv, aad, plaintext), sealed, name);
            assertEquals(aes256GcmOpen(key, iv, aad, sealed), plaintext, name);
            requireGcmTag(key, iv, aad, plaintext, hex(test.tag));
            ran.valid++;
          } else {
            const tag = hex(test.tag);
            assertThrows(() => aes256GcmOpen(key, iv, aad, sealed), Error, undefined, name);
            assertThrows(() => requireGcmTag(key, iv, aad, plaintext, tag), Error, undefined, name);
            ran.invalid++;
          }
        }
      },
    );
  }
  console.log(`AES-GCM: ${JSON.stringify(ran)}`);
  assert(ran.valid > 0 && ran.invalid > 0 && ran.unsupported > 0);
  assertEquals(ran.valid + ran.invalid + ran.unsupported, file.numberOfTests);
});

Deno.test("Wycheproof AES-GCM with IVs of 16 bytes", async () => {
  const file = await readVectors<AeadTest>("aes_gcm_test.json");
  const ran = { valid: 0, invalid: 0 };
  const groups = file.testGroups.filter(({ keySize, ivSize }) => keySize === 256 && ivSize === 128);
  for (const test of groups.flatMap(({ tests }) => tests)) {
    const name = `tcId ${test.tcId} ${test.comment}`;
    const [key, iv, aad, sealed] = [test.key, test.iv, test.aad, test.ct + test.tag].map(hex) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    if (test.result === "valid") {
      assertEquals(await aes256GcmOpenLongIv(key, iv, aad, sealed), hex(test.msg), name);
      ran.valid++;
      sealed[sealed.length - 1]! ^= 1;
    } else ran.invalid++;
    await assertRejects(() => aes256GcmOpenLongIv(key, iv, aad, sealed), Error, undefined, name);
  }
  console.log(`AES-GCM, IV 128: ${JSON.stringify(ran)}`);
  assert(ran.valid > 0);
});

Deno.test("Wycheproof HKDF-SHA512", async (t) => {
  const file = await readVectors<HkdfTest>("hkdf_sha512_test.json");
  assertEquals(file.algorithm, "HKDF-SHA-512");
  const ran = { valid: 0, invalid: 0 };

  for (const { keySize, tests } of file.testGroups) {
    await t.step(`key ${keySize}: ${tests.length} vectors`, () => {
      assert(tests.length > 0);
      for (const test of tests) {
        const name = `tcId ${test.tcId} ${test.comment}`;
        const derive = () => hkdfSha512(hex(test.ikm), hex(test.salt), hex(test.info), test.size);
        if (test.result === "valid") {
          assertEquals(derive(), hex(test.okm), name);
          ran.valid++;
        } else {
          assertThrows(derive, RangeError, undefined, name);
          ran.invalid++;
        }
      }
    });
  }
  console.log(`HKDF-SHA512: ${JSON.stringify(ran)}`);
  assert(ran.valid > 0 && ran.invalid > 0);
  assertEquals(ran.valid + ran.invalid, file.numberOfTests);
});

Deno.test("Wycheproof HMAC-SHA256", async (t) => {
  const file = await readVectors<MacTest>("hmac_sha256_test.json");
  assertEquals(file.algorithm, "HMACSHA256");
  const ran = { valid: 0, invalid: 0 };

  for (const { keySize, tagSize, tests } of file.testGroups) {
    await t.step(`key ${keySize}, tag ${tagSize}: ${tests.length} vectors`, () => {
      assert(tests.length > 0);
      for (const test of tests) {
        const name = `tcId ${test.tcId} ${test.comment}`;
        const mac = hmacSha256(hex(test.key), hex(test.msg)).subarray(0, tagSize / 8);
        const equal = timingSafeEqual(mac, hex(test.tag));
        if (test.result === "valid") {
          assert(equal, name);
          ran.valid++;
        } else {
          assertFalse(equal, name);
          ran.invalid++;
        }
      }
    });
  }
  console.log(`HMAC-SHA256: ${JSON.stringify(ran)}`);
  assert(ran.valid > 0 && ran.invalid > 0);
  assertEquals(ran.valid + ran.invalid, file.numberOfTests);
});
