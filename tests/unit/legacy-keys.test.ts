/** Keys of older setups: from source to message, and what an administrator is told when that fails. */
import { assert, assertEquals, assertFalse, assertNotEquals } from "@std/assert";
import type { KeySources } from "../../functions-shared/admin/legacy/key-source.ts";
import { LegacyKeys } from "../../functions-shared/admin/legacy/keys.ts";
import type { LegacyStore, SealedKey } from "../../functions-shared/admin/legacy/store.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import { Fingerprints } from "../../functions-shared/keys/fingerprints.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import type { AuditEntry } from "../../functions-shared/telemetry/audit.ts";
import { LEGACY_KEY } from "./support/legacy.ts";
import { APP, bytes } from "./support/identity.ts";
import { ACTOR, MemoryRecords } from "./support/memory-records.ts";
import { codeOf, everythingShown, suiteError } from "./support/thrown.ts";

const HEX = Array.from(LEGACY_KEY, (byte) => byte.toString(16).padStart(2, "0")).join("");
const NONE: KeySources = { aws: undefined, gcp: undefined, vault: undefined, env: undefined };

function setting(sources: Partial<KeySources> = {}) {
  const provider = new EnvKeyProvider(bytes("a".repeat(32)));
  const branchKeys = new BranchKeyStore({
    ...APP,
    records: new MemoryRecords(),
    provider,
    readers: [provider],
  });
  const keyring = new HierarchicalKeyring({
    store: branchKeys,
    cache: new BranchKeyCache({ ttlMs: 60_000, maxEncryptions: 1000, maxEntries: 10 }),
    scopes: { payment: "class", pii: "class", general: "class" },
  });
  const writers = { payment: keyring, pii: keyring, general: keyring };
  const cipher = new FieldCipher({ ...APP, writers, readers: [keyring] });
  const kept: SealedKey[] = [];
  const entries: AuditEntry[] = [];
  const state = { auditFails: false };
  const store: Partial<LegacyStore> = {
    putKey(_actor, key) {
      const standing = kept.find(({ keyId }) => keyId === key.keyId);
      if (standing === undefined) kept.push(key);
      const outcome = standing === undefined
        ? "imported"
        : standing.fingerprint === key.fingerprint
        ? "existing"
        : "conflict";
      return Promise.resolve({ outcome, key: { key_id: key.keyId } as never });
    },
    getKey(keyId) {
      const key = kept.find((one) => one.keyId === keyId);
      return Promise.resolve(key && { id: key.id, message: key.sealed.message });
    },
    destroyKey: (_actor, keyId) => Promise.resolve(keyId === "used" ? "in_use" : "not_found"),
  };
  const keys = new LegacyKeys({
    store: store as LegacyStore,
    sources: { ...NONE, ...sources },
    cipher,
    fingerprints: new Fingerprints(branchKeys, { ttlMs: 60_000, workerSecret: "secret" }),
    audit: {
      append: (_actor, more) => {
        if (state.auditFails) return Promise.reject(new SuiteError("database_unavailable"));
        entries.push(...more);
        return Promise.resolve();
      },
    },
  });
  return { keys, kept, entries, provider, state };
}

const inline = (keyId: string, key = HEX) =>
  ({ keyId, source: "inline", key, derivation: "none" }) as const;

Deno.test("a key is kept as a message of its own, and opens again", async () => {
  const { keys, kept } = setting();
  assertEquals((await keys.import(ACTOR, inline("default"))).existing, false);
  assertEquals(await keys.open(ACTOR, "default"), LEGACY_KEY);
  const [key] = kept;
  assertFalse(JSON.stringify(key).includes(HEX));
  assert(key?.sealed.branchKey !== undefined);
  // Moved to another record it does not open.
  kept[0] = { ...key, id: crypto.randomUUID() };
  assertEquals(await codeOf(() => keys.open(ACTOR, "default")), "decryption_failed");
  assertEquals(await codeOf(() => keys.open(ACTOR, "other")), "not_found");
});

Deno.test("the same key twice is told by its keyed hash, another one is refused", async () => {
  const { keys, kept } = setting();
  await keys.import(ACTOR, inline("one"));
  await keys.import(ACTOR, inline("two"));
  assertEquals(kept[0]?.fingerprint, kept[1]?.fingerprint);
  assertNotEquals(kept[0]?.sealed.message, kept[1]?.sealed.message);
  assertEquals((await keys.import(ACTOR, inline("one"))).existing, true);
  const other = inline("one", "0".repeat(64));
  assertEquals(await codeOf(() => keys.import(ACTOR, other)), "legacy_key_conflict");
});

Deno.test("a source gets the location and gives the text", async () => {
  const asked: unknown[] = [];
  const { keys } = setting({
    vault: (at) => {
      asked.push(at);
      return Promise.resolve(`${HEX}\n`);
    },
  });
  const at = { keyId: "default", name: "kv/x", version: 3 };
  await keys.import(ACTOR, { ...at, source: "vault", derivation: "none" });
  assertEquals(asked, [at]);
  assertEquals(await keys.open(ACTOR, "default"), LEGACY_KEY);
});

Deno.test("refusals are in the guide's words and audited, outages stay outages", async () => {
  const refusing = (code: "kms_access_denied" | "kms_key_unusable", message: string) => ({
    aws: () => Promise.reject(new SuiteError(code, { cause: new Error(message) })),
  });
  const cases: [Partial<KeySources>, string, string][] = [
    [
      refusing("kms_key_unusable", "Encryption key not found: default"),
      "key_not_found",
      "Encryption key not found: default",
    ],
    [
      refusing("kms_key_unusable", "Encryption key not usable: default"),
      "key_not_usable",
      "Encryption key not usable: default",
    ],
    [
      refusing("kms_access_denied", "token abc was refused"),
      "access_denied",
      "Access denied to encryption key",
    ],
    [
      { aws: () => Promise.resolve(HEX.slice(2)) },
      "invalid_key_length",
      "Invalid key length: expected 32 bytes",
    ],
    [{}, "source_not_configured", "The configuration has no credentials for this source"],
  ];
  for (const [sources, code, detail] of cases) {
    const { keys, kept, entries } = setting(sources);
    const error = await suiteError(() =>
      keys.import(ACTOR, { keyId: "default", source: "aws", derivation: "none" })
    );
    assertEquals([error.code, error.violations], ["key_import_failed", [
      { pointer: "/key_id", code, detail },
    ]]);
    assertFalse(everythingShown(error).includes(HEX.slice(2)));
    assertEquals(kept, []);
    assertEquals(entries, [{
      action: "legacy_key.import",
      outcome: "failure",
      error_code: "key_import_failed",
    }]);
  }
  const { keys, entries } = setting({
    aws: () => Promise.reject(new SuiteError("kms_unavailable", { cause: new Error("no answer") })),
  });
  const request = { keyId: "default", source: "aws", derivation: "none" } as const;
  assertEquals(await codeOf(() => keys.import(ACTOR, request)), "kms_unavailable");
  assertEquals(entries[0]?.error_code, "kms_unavailable");
});

Deno.test("a key service that fails while a key is taken in, or opened, is audited", async () => {
  const down = () => Promise.reject(new SuiteError("kms_unavailable"));
  const { keys, kept, entries, provider, state } = setting();
  provider.generateWrappedKey = down;
  assertEquals(await codeOf(() => keys.import(ACTOR, inline("default"))), "kms_unavailable");
  const [imported] = entries;
  assertEquals({ ...imported, record_id: "" }, {
    action: "legacy_key.import",
    outcome: "failure",
    error_code: "kms_unavailable",
    data_class: "payment",
    table_name: "legacy_keys",
    record_id: "",
  });
  assertEquals([entries.length, kept], [1, []]);
  state.auditFails = true;
  const error = await suiteError(() => keys.import(ACTOR, inline("default")));
  assertEquals([error.code, (error.cause as Error).name], ["kms_unavailable", "UnauditedError"]);

  const other = setting();
  await other.keys.import(ACTOR, inline("default"));
  assertEquals(other.entries, [], "the database notes what it keeps");
  const [key] = other.kept;
  assert(key !== undefined);
  other.kept[0] = { ...key, id: "0b9bd1a5-7777-4777-8777-777777777777" };
  assertEquals(await codeOf(() => other.keys.open(ACTOR, "default")), "decryption_failed");
  assertEquals(other.entries, [{
    action: "legacy_key.open",
    outcome: "failure",
    error_code: "decryption_failed",
    data_class: "payment",
    table_name: "legacy_keys",
    record_id: "0b9bd1a5-7777-4777-8777-777777777777",
  }]);
});

Deno.test("destroying says what is in the way", async () => {
  const { keys } = setting();
  assertEquals(await codeOf(() => keys.destroy(ACTOR, "used")), "legacy_key_in_use");
  assertEquals(await codeOf(() => keys.destroy(ACTOR, "other")), "not_found");
});
