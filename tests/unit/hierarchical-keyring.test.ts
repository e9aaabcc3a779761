import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import type { BranchKeyScope } from "../../functions-shared/keys/branch-key-id.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import type { EncryptedDataKey } from "../../functions-shared/message/mod.ts";
import { APP, bytes, IDENTITY, textOf } from "./support/identity.ts";
import { ACTOR, MemoryRecords } from "./support/memory-records.ts";
import { codeOf } from "./support/thrown.ts";

const provider = new EnvKeyProvider(bytes("x".repeat(32)));
const CONTEXT = { "data-class": "payment", owner: IDENTITY.owner, field: "number" };
const OTHER = "0b9bd1a5-9999-4999-8999-999999999999";

function setting(
  scope: BranchKeyScope = "class",
  records = new MemoryRecords(),
  wrapping: KeyProvider = provider,
) {
  const store = new BranchKeyStore({
    ...APP,
    records,
    provider: wrapping,
    readers: [wrapping],
  });
  const cache = new BranchKeyCache({ ttlMs: 60_000, maxEncryptions: 1000, maxEntries: 10 });
  const scopes = { payment: scope, pii: scope, general: scope };
  return { records, store, cache, keyring: new HierarchicalKeyring({ store, cache, scopes }) };
}

Deno.test("each message has a data key of its own, under the class's branch key", async () => {
  const { keyring, records } = setting();
  const first = await keyring.generateDataKey("payment", CONTEXT);
  const second = await keyring.generateDataKey("payment", CONTEXT);
  assertNotEquals(first.plaintext, second.plaintext);
  assertEquals(textOf(first.encrypted.providerInfo), "payment");
  assert(keyring.recognises(first.encrypted));
  assertEquals(first.keyId, records.of("payment", "branch:ACTIVE")["kms-arn"]);
  assertEquals(first.branchKey, second.branchKey);
  assertEquals(
    `branch:version:${first.branchKey?.version}`,
    records.of("payment", "branch:ACTIVE").version,
  );
  assertEquals(await keyring.decryptDataKey(first.encrypted, CONTEXT), first.plaintext);
});

Deno.test("branch keys are read once, for encrypting and for decrypting", async () => {
  const { keyring, records } = setting();
  const keys = await Promise.all(
    Array.from({ length: 100 }, () => keyring.generateDataKey("payment", CONTEXT)),
  );
  for (const { encrypted } of keys) await keyring.decryptDataKey(encrypted, CONTEXT);
  assertEquals(records.reads, 2);
});

Deno.test("an attacker's message chooses among the branch keys of its own row, and costs no read", async () => {
  const { keyring, records } = setting();
  const { encrypted } = await keyring.generateDataKey("payment", CONTEXT);
  const reads = records.reads;
  const naming = (id: string): EncryptedDataKey => ({ ...encrypted, providerInfo: bytes(id) });
  for (const id of ["pii", `payment:${OTHER}`, `pii:${IDENTITY.owner}`, "", "payment:"]) {
    assertEquals(
      await codeOf(() => keyring.decryptDataKey(naming(id), CONTEXT)),
      "decryption_failed",
    );
  }
  for (
    const context of [{ ...CONTEXT, "data-class": "pii" }, { ...CONTEXT, "data-class": "x" }, {}]
  ) {
    assertEquals(
      await codeOf(() => keyring.decryptDataKey(encrypted, context)),
      "decryption_failed",
    );
  }
  const cut = { ...encrypted, ciphertext: encrypted.ciphertext.slice(1) };
  assertEquals(await codeOf(() => keyring.decryptDataKey(cut, CONTEXT)), "decryption_failed");
  assertEquals(records.reads, reads);
});

Deno.test("a version that never was, a changed byte, another context: the same failure", async () => {
  const { keyring } = setting();
  const { encrypted } = await keyring.generateDataKey("payment", CONTEXT);
  for (const at of [0, 20, 30, 50, 91]) {
    const ciphertext = encrypted.ciphertext.map((byte, index) => index === at ? byte ^ 1 : byte);
    const changed = { ...encrypted, ciphertext };
    assertEquals(await codeOf(() => keyring.decryptDataKey(changed, CONTEXT)), "decryption_failed");
  }
  const elsewhere = { ...CONTEXT, field: "cardholder_name" };
  assertEquals(
    await codeOf(() => keyring.decryptDataKey(encrypted, elsewhere)),
    "decryption_failed",
  );
});

Deno.test("scopes change what is written, and both are read", async () => {
  const byOwner = setting("owner");
  const owned = await byOwner.keyring.generateDataKey("payment", CONTEXT);
  assertEquals(owned.branchKey?.id, `payment:${IDENTITY.owner}`);
  const byClass = setting("class", byOwner.records);
  const shared = await byClass.keyring.generateDataKey("payment", CONTEXT);
  assertEquals(shared.branchKey?.id, "payment");
  for (const { keyring } of [byOwner, byClass]) {
    assertEquals(await keyring.decryptDataKey(owned.encrypted, CONTEXT), owned.plaintext);
    assertEquals(await keyring.decryptDataKey(shared.encrypted, CONTEXT), shared.plaintext);
    const other = { ...CONTEXT, owner: OTHER };
    assertEquals(
      await codeOf(() => keyring.decryptDataKey(owned.encrypted, other)),
      "decryption_failed",
    );
  }
});

Deno.test("after a rotation and its news, the new version encrypts and the old one still decrypts", async () => {
  const { keyring, store, cache } = setting();
  const before = await keyring.generateDataKey("payment", CONTEXT);
  const { version } = await store.rotate(ACTOR, "payment", "payment");
  assertEquals((await keyring.generateDataKey("payment", CONTEXT)).branchKey, before.branchKey);
  cache.clear();
  const after = await keyring.generateDataKey("payment", CONTEXT);
  assertEquals(after.branchKey?.version, version);
  assertEquals(await keyring.decryptDataKey(before.encrypted, CONTEXT), before.plaintext);
});

Deno.test("the region is that of the fetch, for as long as the key is in the cache", async () => {
  let region = "us-east-1";
  class Regional extends EnvKeyProvider {
    override async unwrapKey(...args: Parameters<EnvKeyProvider["unwrapKey"]>) {
      return { ...await super.unwrapKey(...args), region };
    }
  }
  const regional = new Regional(bytes("x".repeat(32)));
  const { keyring, cache } = setting("class", new MemoryRecords(), regional);
  const { encrypted, ...made } = await keyring.generateDataKey("payment", CONTEXT);
  const open = async () => (await keyring.openDataKey(encrypted, CONTEXT)).region;
  assertEquals([made.region, await open()], ["us-east-1", "us-east-1"]);
  region = "us-west-2";
  assertEquals(await open(), "us-east-1");
  cache.clear();
  assertEquals(await open(), "us-west-2");
  assertEquals((await keyring.generateDataKey("payment", CONTEXT)).region, "us-west-2");
});
