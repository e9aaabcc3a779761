/** The raw AES keyring's wrapping: framework/raw-aes-keyring.md. */
import { assertEquals, assertNotEquals } from "@std/assert";
import {
  type RawAesWrappingKey,
  serializeEncryptionContext,
  unwrapDataKeyRawAes,
  wrapDataKeyRawAes,
} from "../../functions-shared/message/mod.ts";
import {
  assertDecryptionFailed,
  assertMalformed,
  bytes,
  concat,
  dataKey,
  hex,
} from "./message_support.ts";

const raw: RawAesWrappingKey = {
  wrappingKey: bytes(32, 3),
  keyNamespace: "parker-flight",
  keyName: "clé-1",
  encryptionContext: { owner: "u1", field: "number" },
};
const wrapped = wrapDataKeyRawAes({ ...raw, dataKey });
const name = new TextEncoder().encode("clé-1");

Deno.test("wrapDataKeyRawAes", async (t) => {
  await t.step("provider info is name, tag length in bits, IV length in bytes, IV", () => {
    assertEquals(wrapped.providerId, "parker-flight");
    assertEquals(wrapped.providerInfo.length, name.length + 4 + 4 + 12);
    assertEquals(
      wrapped.providerInfo.subarray(0, name.length + 8),
      concat(name, hex("00000080 0000000c")),
    );
  });

  await t.step("ciphertext is AES-256-GCM under the serialized context (WebCrypto)", async () => {
    const key = await crypto.subtle.importKey(
      "raw",
      new Uint8Array(raw.wrappingKey),
      "AES-GCM",
      false,
      ["decrypt"],
    );
    const parameters = {
      name: "AES-GCM",
      iv: new Uint8Array(wrapped.providerInfo.subarray(-12)),
      additionalData: new Uint8Array(serializeEncryptionContext(raw.encryptionContext)),
    };
    const opened = await crypto.subtle.decrypt(
      parameters,
      key,
      new Uint8Array(wrapped.ciphertext),
    );
    assertEquals(new Uint8Array(opened), dataKey);
  });

  await t.step("uses a fresh IV every time", () => {
    const again = wrapDataKeyRawAes({ ...raw, dataKey });
    assertNotEquals(again.providerInfo.slice(-12), wrapped.providerInfo.slice(-12));
    assertNotEquals(again.ciphertext, wrapped.ciphertext);
  });

  await t.step("neither changes nor keeps its inputs", () => {
    const key = dataKey.slice(), wrappingKey = raw.wrappingKey.slice();
    const edk = wrapDataKeyRawAes({ ...raw, wrappingKey, dataKey: key });
    assertEquals([key, wrappingKey], [dataKey, raw.wrappingKey]);
    key.fill(0);
    assertEquals(unwrapDataKeyRawAes({ ...raw, encryptedDataKey: edk }), dataKey);
  });

  const refused: Record<string, [Partial<RawAesWrappingKey & { dataKey: Uint8Array }>, string]> = {
    "a wrapping key of 16 bytes": [
      { wrappingKey: bytes(16) },
      "a wrapping key has 32 bytes, not 16",
    ],
    "a data key of 31 bytes": [{ dataKey: bytes(31) }, "a data key has 32 bytes, not 31"],
    "the namespace aws-kms": [
      { keyNamespace: "aws-kms" },
      "a key namespace is not empty and does not begin with aws-kms",
    ],
    "an empty namespace": [
      { keyNamespace: "" },
      "a key namespace is not empty and does not begin with aws-kms",
    ],
    "an empty name": [{ keyName: "" }, "a key name is not empty"],
    "a name that is not Unicode": [
      { keyName: "\udc00" },
      "key namespace and key name must be well-formed Unicode",
    ],
  };
  for (const [what, [change, rule]] of Object.entries(refused)) {
    await t.step(`refuses ${what}`, () => {
      assertMalformed(() => wrapDataKeyRawAes({ ...raw, dataKey, ...change }), rule);
    });
  }
});

Deno.test("unwrapDataKeyRawAes", async (t) => {
  await t.step("gives the data key back", () => {
    assertEquals(unwrapDataKeyRawAes({ ...raw, encryptedDataKey: wrapped }), dataKey);
  });

  const changes: Record<string, Partial<RawAesWrappingKey>> = {
    "another wrapping key": { wrappingKey: bytes(32, 4) },
    "another namespace": { keyNamespace: "parker" },
    "another name": { keyName: "clé-2" },
    "a name that is a prefix": { keyName: "clé" },
    "another context value": { encryptionContext: { owner: "u2", field: "number" } },
    "one context pair less": { encryptionContext: { owner: "u1" } },
    "one context pair more": { encryptionContext: { ...raw.encryptionContext, table: "t" } },
    "an empty context": { encryptionContext: {} },
  };
  for (const [what, change] of Object.entries(changes)) {
    await t.step(`fails with ${what}`, () => {
      assertDecryptionFailed(() =>
        unwrapDataKeyRawAes({ ...raw, ...change, encryptedDataKey: wrapped })
      );
    });
  }

  for (const field of ["providerInfo", "ciphertext"] as const) {
    const original = wrapped[field];
    await t.step(`fails when any bit of ${field} is changed`, () => {
      for (let bit = 0; bit < original.length * 8; bit++) {
        const changed = original.slice();
        changed[bit >> 3]! ^= 1 << (bit & 7);
        assertDecryptionFailed(() =>
          unwrapDataKeyRawAes({ ...raw, encryptedDataKey: { ...wrapped, [field]: changed } })
        );
      }
    });
    await t.step(`fails for every other length of ${field}`, () => {
      for (let length = 0; length < original.length + 2; length++) {
        if (length === original.length) continue;
        const changed = new Uint8Array(length);
        changed.set(original.subarray(0, length));
        assertDecryptionFailed(() =>
          unwrapDataKeyRawAes({ ...raw, encryptedDataKey: { ...wrapped, [field]: changed } })
        );
      }
    });
  }
});
