/**
 * The hierarchical keyring's wrapping against a second one, made of WebCrypto and of the
 * specification's own words, and against everything that was changed on the way.
 */
import { assertEquals, assertNotEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  type BranchKeyMaterial,
  type EncryptedDataKey,
  type EncryptionContext,
  MessageError,
  referencedBranchKey,
  unwrapDataKeyHierarchical,
  wrapDataKeyHierarchical,
} from "../../functions-shared/message/mod.ts";

const encoder = new TextEncoder();
const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));

const VERSION = "83eec007-5659-4554-bf11-699b90f41ac6";
const MATERIAL: BranchKeyMaterial = {
  branchKey: Uint8Array.from({ length: 32 }, (_, at) => at),
  branchKeyId: "bbb9baf1-03e6-4716-a586-6bf29995314b",
  version: VERSION,
};
const CONTEXT: EncryptionContext = { owner: "somebody", app: "parker-flight", field: "number" };
const DATA_KEY = Uint8Array.from({ length: 32 }, (_, at) => 255 - at);

function joined(...parts: (string | Uint8Array | number[])[]): Uint8Array<ArrayBuffer> {
  const bytes = parts.map((part) =>
    typeof part === "string" ? encoder.encode(part) : Uint8Array.from(part)
  );
  return Uint8Array.from(bytes.flatMap((part) => [...part]));
}

/** framework/structures.md, encryption context: count, then lengths and texts in order of the keys. */
function serialized(context: EncryptionContext): Uint8Array {
  const two = (value: number) => [value >> 8, value & 255];
  const names = Object.keys(context).sort();
  if (names.length === 0) return joined();
  return joined(
    two(names.length),
    ...names.flatMap((name) =>
      [name, context[name] ?? ""].flatMap((text) => [two(encoder.encode(text).length), text])
    ),
  );
}

/** Key and additional data as the specification describes them, by WebCrypto. */
async function gcm(
  material: BranchKeyMaterial,
  ciphertext: Uint8Array,
  context: EncryptionContext,
) {
  const salt = ciphertext.slice(0, 16), iv = ciphertext.slice(16, 28);
  const hmacKey = await crypto.subtle.importKey(
    "raw",
    material.branchKey.slice(),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const input = joined([0, 0, 0, 1], "aws-kms-hierarchy", [0], salt, [0, 0, 1, 0]);
  const derived = await crypto.subtle.sign("HMAC", hmacKey, input);
  const key = await crypto.subtle.importKey("raw", derived, "AES-GCM", false, [
    "encrypt",
    "decrypt",
  ]);
  const version = material.version.replaceAll("-", "").match(/../g)!.map((hex) =>
    parseInt(hex, 16)
  );
  const additionalData = joined(
    "aws-kms-hierarchy",
    material.branchKeyId,
    version,
    serialized(context),
  );
  return { key, version, algorithm: { name: "AES-GCM", iv, additionalData, tagLength: 128 } };
}

function decryptionFailure(work: () => unknown): void {
  const error = assertThrows(work, MessageError);
  assertEquals([error.code, error.message], [
    "decryption_failed",
    "The message could not be decrypted.",
  ]);
}

const wrap = (changes: Partial<BranchKeyMaterial> = {}, context = CONTEXT) =>
  wrapDataKeyHierarchical({ ...MATERIAL, ...changes }, DATA_KEY, context);

for (
  const [name, context] of Object.entries<EncryptionContext>({
    "a row's context": CONTEXT,
    "an empty context": {},
    "non-ASCII": { "größe": "€", "z": "" },
  })
) {
  Deno.test(`what we wrap, WebCrypto opens by the specification: ${name}`, async () => {
    const { providerId, providerInfo, ciphertext } = wrap({}, context);
    assertEquals(providerId, "aws-kms-hierarchy");
    assertEquals(new TextDecoder().decode(providerInfo), MATERIAL.branchKeyId);
    assertEquals(ciphertext.length, 16 + 12 + 16 + 32 + 16);
    const { key, version, algorithm } = await gcm(MATERIAL, ciphertext, context);
    assertEquals([...ciphertext.slice(28, 44)], version);
    const opened = await crypto.subtle.decrypt(algorithm, key, ciphertext.slice(44));
    assertEquals(new Uint8Array(opened), DATA_KEY);
  });

  Deno.test(`what WebCrypto wraps by the specification, we open: ${name}`, async () => {
    const header = joined(random(28), new Uint8Array(16));
    const { key, version, algorithm } = await gcm(MATERIAL, header, context);
    const sealed = await crypto.subtle.encrypt(algorithm, key, DATA_KEY);
    const encrypted: EncryptedDataKey = {
      providerId: "aws-kms-hierarchy",
      providerInfo: encoder.encode(MATERIAL.branchKeyId),
      ciphertext: joined(header.slice(0, 28), version, new Uint8Array(sealed)),
    };
    assertEquals(unwrapDataKeyHierarchical(MATERIAL, encrypted, context), DATA_KEY);
    assertEquals(referencedBranchKey(encrypted), {
      branchKeyId: MATERIAL.branchKeyId,
      version: VERSION,
    });
  });
}

Deno.test("a frozen data key, wrapped by WebCrypto once, opens for ever", () => {
  const hex = "000102030405060708090a0b0c0d0e0f" + "101112131415161718191a1b" +
    VERSION.replaceAll("-", "") +
    "e2b10b883e1d7fedda2047f9a9180a9b984099358dad0c49dd3c8f801e5fa7db" +
    "5fc27b9119b0c816a768bb80aef9b185";
  const ciphertext = Uint8Array.from(hex.match(/../g)!.map((pair) => parseInt(pair, 16)));
  const providerInfo = encoder.encode(MATERIAL.branchKeyId);
  const encrypted = { providerId: "aws-kms-hierarchy", providerInfo, ciphertext };
  assertEquals(unwrapDataKeyHierarchical(MATERIAL, encrypted, CONTEXT), DATA_KEY);
});

Deno.test("salt and IV are fresh: one data key is never wrapped to the same bytes", () => {
  const salts = new Set(Array.from({ length: 50 }, () => wrap().ciphertext.slice(0, 28).join()));
  assertEquals(salts.size, 50);
});

Deno.test("every key, context and version comes back", () => {
  const text = fc.string({ unit: "binary", minLength: 1, maxLength: 20 }).filter((value) =>
    value.isWellFormed()
  );
  fc.assert(fc.property(
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.uuid(),
    text,
    fc.dictionary(text, text, { maxKeys: 6 }),
    (branchKey, dataKey, version, branchKeyId, context) => {
      const material = { branchKey, branchKeyId, version };
      const encrypted = wrapDataKeyHierarchical(material, dataKey, context);
      assertEquals(referencedBranchKey(encrypted), { branchKeyId, version });
      assertEquals(unwrapDataKeyHierarchical(material, encrypted, context), dataKey);
    },
  ));
});

Deno.test("every changed byte of the ciphertext fails the same way", () => {
  const encrypted = wrap();
  for (let at = 0; at < encrypted.ciphertext.length; at++) {
    for (const change of [1, 0x80, 0xff]) {
      const ciphertext = encrypted.ciphertext.map((byte, index) =>
        index === at ? byte ^ change : byte
      );
      decryptionFailure(() =>
        unwrapDataKeyHierarchical(MATERIAL, { ...encrypted, ciphertext }, CONTEXT)
      );
      // The version is what the keyring looks the key up by: it is authenticated as well.
      const claimed = { ...encrypted, ciphertext };
      const { version } = referencedBranchKey(claimed);
      decryptionFailure(() =>
        unwrapDataKeyHierarchical({ ...MATERIAL, version }, claimed, CONTEXT)
      );
    }
  }
});

Deno.test("another length, branch key, id, version or provider fails the same way", () => {
  const encrypted = wrap();
  const { ciphertext } = encrypted;
  for (
    const changed of [
      { ...encrypted, ciphertext: ciphertext.slice(0, -1) },
      { ...encrypted, ciphertext: joined(ciphertext, [0]) },
      { ...encrypted, ciphertext: new Uint8Array(0) },
      { ...encrypted, providerId: "aws-kms" },
      { ...encrypted, providerInfo: encoder.encode("another") },
      { ...encrypted, providerInfo: new Uint8Array([0xff]) },
      { ...encrypted, providerInfo: new Uint8Array(0) },
    ]
  ) {
    decryptionFailure(() => unwrapDataKeyHierarchical(MATERIAL, changed, CONTEXT));
  }
  const other = { branchKey: random(32), branchKeyId: "other", version: crypto.randomUUID() };
  for (const name of ["branchKey", "branchKeyId", "version"] as const) {
    const material = { ...MATERIAL, [name]: other[name] };
    decryptionFailure(() => unwrapDataKeyHierarchical(material, encrypted, CONTEXT));
  }
  // A branch key under another's id is not that one, though the bytes are the same.
  const relabelled = { ...encrypted, providerInfo: encoder.encode("other") };
  decryptionFailure(() =>
    unwrapDataKeyHierarchical({ ...MATERIAL, branchKeyId: "other" }, relabelled, CONTEXT)
  );
});

Deno.test("every other context fails the same way", () => {
  const encrypted = wrap();
  for (
    const context of <EncryptionContext[]> [
      {},
      { ...CONTEXT, owner: "other" },
      { ...CONTEXT, Owner: "somebody" },
      { ...CONTEXT, more: "" },
      { owner: CONTEXT.owner ?? "" },
      { owner: "number", app: "parker-flight", field: "somebody" },
    ]
  ) {
    decryptionFailure(() => unwrapDataKeyHierarchical(MATERIAL, encrypted, context));
  }
});

Deno.test("the border between branch key id and version does not move", () => {
  // Additional data is a plain concatenation: only fixed lengths keep its parts apart.
  const encrypted = wrap({ branchKeyId: "a" });
  for (const branchKeyId of ["a\u0083", "aa", "aws-kms-hierarchya"]) {
    const moved = { ...encrypted, providerInfo: encoder.encode(branchKeyId) };
    decryptionFailure(() =>
      unwrapDataKeyHierarchical({ ...MATERIAL, branchKeyId }, moved, CONTEXT)
    );
  }
});

Deno.test("unusable material is refused before anything is wrapped", () => {
  for (
    const changes of [
      { branchKey: new Uint8Array(31) },
      { branchKey: new Uint8Array(33) },
      { branchKeyId: "" },
      { branchKeyId: "\ud800" },
      { version: "" },
      { version: VERSION + "0" },
      { version: VERSION.replaceAll("-", "") },
      { version: `branch:version:${VERSION}` },
    ]
  ) {
    assertEquals(assertThrows(() => wrap(changes), MessageError).code, "message_malformed");
  }
  assertEquals(
    assertThrows(
      () => wrapDataKeyHierarchical(MATERIAL, new Uint8Array(16), CONTEXT),
      MessageError,
    ).code,
    "message_malformed",
  );
});

Deno.test("branch key and data key are left as they were", () => {
  const branchKey = MATERIAL.branchKey.slice(), dataKey = DATA_KEY.slice();
  const encrypted = wrapDataKeyHierarchical({ ...MATERIAL, branchKey }, dataKey, CONTEXT);
  const opened = unwrapDataKeyHierarchical({ ...MATERIAL, branchKey }, encrypted, CONTEXT);
  assertEquals([branchKey, dataKey], [MATERIAL.branchKey, DATA_KEY]);
  assertStrictEquals(opened.constructor, Uint8Array);
  assertNotEquals(encrypted.ciphertext.slice(44, 76), DATA_KEY);
});
