import { assert, assertEquals, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import type { DataClass } from "../../functions-shared/data-class.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { bytes, textOf } from "./support/identity.ts";
import { codeOf } from "./support/thrown.ts";

const CLASSES: readonly DataClass[] = ["payment", "pii", "general"];
const CONTEXT = { "data-class": "pii", owner: "somebody" };
const provider = new EnvKeyProvider(bytes("x".repeat(32)));
const other = new EnvKeyProvider(bytes("y".repeat(32)));

Deno.test("a data key of each class comes back, from another worker with the same ENCRYPTION_KEY too", async () => {
  const again = new EnvKeyProvider(bytes("x".repeat(32)));
  for (const dataClass of CLASSES) {
    const { plaintext, encrypted, keyId } = await provider.generateDataKey(dataClass, CONTEXT);
    assertEquals(plaintext.length, 32);
    assertEquals(encrypted.providerId, "env");
    assert(textOf(encrypted.providerInfo).startsWith(`${dataClass}-`));
    assert(keyId.startsWith(`env:${dataClass}-`));
    assert(again.recognises(encrypted));
    assertEquals(await again.decryptDataKey(encrypted, CONTEXT), plaintext);
  }
});

Deno.test("another ENCRYPTION_KEY opens nothing", async () => {
  const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
  assertEquals(await codeOf(() => other.decryptDataKey(encrypted, CONTEXT)), "decryption_failed");
});

Deno.test("another context opens nothing", async () => {
  const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
  for (const context of [{}, { ...CONTEXT, owner: "other" }, { ...CONTEXT, more: "" }]) {
    assertEquals(
      await codeOf(() => provider.decryptDataKey(encrypted, context)),
      "decryption_failed",
    );
  }
});

Deno.test("each class has a key of its own: a renamed data key opens nothing", async () => {
  const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
  const { encrypted: foreign } = await provider.generateDataKey("general", CONTEXT);
  const name = (info: Uint8Array) => info.subarray(0, info.length - 12 - 8);
  const renamed = new Uint8Array([
    ...name(foreign.providerInfo),
    ...encrypted.providerInfo.subarray(name(encrypted.providerInfo).length),
  ]);
  assertNotEquals(renamed, encrypted.providerInfo);
  assertEquals(
    await codeOf(() => provider.decryptDataKey({ ...encrypted, providerInfo: renamed }, CONTEXT)),
    "decryption_failed",
  );
});

Deno.test("every changed byte of a wrapped key fails the same way", async () => {
  const keyId = await provider.wrappingKeyId("pii");
  const wrapped = await provider.generateWrappedKey(keyId, CONTEXT);
  await fc.assert(fc.asyncProperty(
    fc.integer({ min: 0, max: wrapped.length - 1 }),
    fc.integer({ min: 1, max: 255 }),
    async (at, change) => {
      const changed = wrapped.map((byte, index) => index === at ? byte ^ change : byte);
      assertEquals(
        await codeOf(() => provider.unwrapKey(keyId, changed, CONTEXT)),
        "decryption_failed",
      );
    },
  ));
});

Deno.test("wrapped keys of any length and content fail the same way", async () => {
  const keyId = await provider.wrappingKeyId("pii");
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (wrapped) => {
    assertEquals(
      await codeOf(() => provider.unwrapKey(keyId, wrapped, CONTEXT)),
      "decryption_failed",
    );
  }));
});

Deno.test("a record made under another ENCRYPTION_KEY names a key that is not held", async () => {
  const keyId = await other.wrappingKeyId("pii");
  assert(provider.holds(keyId));
  const wrapped = await other.generateWrappedKey(keyId, CONTEXT);
  assertEquals(
    await codeOf(() => provider.unwrapKey(keyId, wrapped, CONTEXT)),
    "decryption_failed",
  );
  assertEquals(
    await codeOf(() => provider.generateWrappedKey(keyId, CONTEXT)),
    "decryption_failed",
  );
});

Deno.test("key names tell keys apart and nothing of the keys", async () => {
  const names = await Promise.all(
    [provider, other].flatMap((each) => CLASSES.map((dataClass) => each.wrappingKeyId(dataClass))),
  );
  assertEquals(new Set(names).size, 6);
  const described = await provider.describe("pii");
  assertEquals(described, {
    keyId: names[1] ?? "",
    state: "Enabled",
    multiRegion: false,
    region: undefined,
  });
  assert(
    !provider.recognises({
      providerId: "aws-kms",
      providerInfo: bytes("x"),
      ciphertext: bytes("x"),
    }),
  );
  assert(!provider.holds("arn:aws:kms:us-east-1:123456789012:key/mrk-1"));
});
