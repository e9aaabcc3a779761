/** Everything that can be written can be read, and only with its key. */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  decodeMessage,
  decryptMessage,
  encodeMessage,
  parseMessage,
  sameContext,
} from "../../functions-shared/message/mod.ts";
import {
  assertDecryptionFailed,
  assertMalformed,
  bytes,
  dataKey,
  oneKey,
  open,
  random,
  seal,
} from "./message_support.ts";

const text = fc.string({ unit: "binary", maxLength: 40 }); // any code point
const contexts = fc.dictionary(
  text.filter((key) => !key.startsWith("aws-crypto-")),
  text,
  { maxKeys: 12 },
);
const dataKeys = fc.array(
  fc.record({
    providerId: text,
    providerInfo: fc.uint8Array({ maxLength: 300 }),
    ciphertext: fc.uint8Array({ maxLength: 300 }),
  }),
  { minLength: 1, maxLength: 16 },
);

Deno.test("message round trip", async (t) => {
  await t.step("for any plaintext, context, data keys and key (property)", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 300 }),
          fc.integer({ min: 0, max: 3 * 4096 + 2 }).map((size) => bytes(size)),
        ),
        contexts,
        dataKeys,
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (plaintext, encryptionContext, encryptedDataKeys, key) => {
          const message = seal({
            plaintext,
            encryptionContext,
            encryptedDataKeys,
            dataKey: key,
          });
          const parsed = parseMessage(decodeMessage(encodeMessage(message)));
          assertEquals(decryptMessage(parsed, key), plaintext);
          assert(sameContext(parsed.header.encryptionContext, encryptionContext));
          assertEquals(parsed.header.encryptedDataKeys, encryptedDataKeys);
          assertEquals(parsed.header.frameLength, 4096);
        },
      ),
      { numRuns: 300 },
    );
  });

  for (const size of [0, 1, 64, 4095, 4096, 4097, 8191, 8192, 8193, 1 << 20]) {
    await t.step(`${size} bytes`, () => {
      const plaintext = random(size);
      assertEquals(open(seal({ plaintext })), plaintext);
    });
  }

  await t.step("of input that is a view into a larger buffer", () => {
    const buffer = random(10_000);
    const message = seal({
      plaintext: buffer.subarray(17, 5017),
      dataKey: buffer.subarray(6001, 6033),
    });
    const padded = new Uint8Array(message.length + 20);
    padded.set(message, 13);
    const view = padded.subarray(13, 13 + message.length);
    assertEquals(open(view, buffer.slice(6001, 6033)), buffer.slice(17, 5017));
  });
});

Deno.test("encryptMessage refuses", async (t) => {
  for (const length of [0, 16, 31, 33]) {
    await t.step(`a data key of ${length} bytes`, () => {
      assertMalformed(
        () => seal({ dataKey: bytes(length) }),
        `a data key has 32 bytes, not ${length}`,
      );
    });
  }
  for (const count of [0, 17]) {
    await t.step(`${count} encrypted data keys`, () => {
      assertMalformed(
        () => seal({ encryptedDataKeys: Array.from({ length: count }, () => oneKey) }),
        `a message takes 1 to 16 encrypted data keys, not ${count}`,
      );
    });
  }
  for (const field of ["providerInfo", "ciphertext"] as const) {
    await t.step(`an encrypted data key with 65536 bytes of ${field}`, () => {
      assertMalformed(
        () => seal({ encryptedDataKeys: [{ ...oneKey, [field]: new Uint8Array(65536) }] }),
        "an encrypted data key's fields take at most 65535 bytes each",
      );
      seal({ encryptedDataKeys: [{ ...oneKey, [field]: new Uint8Array(65535) }] });
    });
  }
  await t.step("a provider id that is not Unicode", () => {
    assertMalformed(
      () => seal({ encryptedDataKeys: [{ ...oneKey, providerId: "\ud800" }] }),
      "provider id must be well-formed Unicode",
    );
  });
  await t.step("a plaintext whose message could not be read again", () => {
    const max = 16 * 1024 * 1024;
    assertMalformed(
      () => seal({ plaintext: new Uint8Array(max) }),
      `a message takes at most ${max} bytes`,
    );
  });
});

Deno.test("decryptMessage fails with", async (t) => {
  const parsed = parseMessage(seal());
  await t.step("another data key: the commitment is what fails", () => {
    const detail = assertDecryptionFailed(() => decryptMessage(parsed, bytes(32, 8)));
    assertEquals(detail, "data key is not the one committed to");
  });
  for (const length of [0, 16, 31, 33, 64]) {
    await t.step(`a data key of ${length} bytes`, () => {
      assertDecryptionFailed(() => decryptMessage(parsed, bytes(length, 7)));
    });
  }
  await t.step("every single-bit change of the data key", () => {
    for (let bit = 0; bit < 256; bit++) {
      const key = dataKey.slice();
      key[bit >> 3]! ^= 1 << (bit & 7);
      assertDecryptionFailed(() => decryptMessage(parsed, key));
    }
  });
});
