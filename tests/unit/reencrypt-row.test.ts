import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { reencryptRow, type StaleRow } from "../../functions-shared/admin/reencrypt-row.ts";
import { type ErrorCode, SuiteError } from "../../functions-shared/errors.ts";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { APP, bytes, IDENTITY, textOf } from "./support/identity.ts";
import { MemoryRecords } from "./support/memory-records.ts";
import { codeOf } from "./support/thrown.ts";

const PAN = "5200828282828210";
const provider = new EnvKeyProvider(bytes("x".repeat(32)));
const hierarchical = new HierarchicalKeyring({
  store: new BranchKeyStore({
    ...APP,
    records: new MemoryRecords(),
    provider,
    readers: [provider],
  }),
  cache: new BranchKeyCache({ ttlMs: 60_000, maxEncryptions: 1000, maxEntries: 10 }),
  scopes: { payment: "class", pii: "class", general: "class" },
});
const [old, present] = [hierarchical, provider].map((keyring) =>
  new FieldCipher({
    ...APP,
    writers: { payment: keyring, pii: keyring, general: keyring },
    readers: [hierarchical, provider],
  })
) as [FieldCipher, FieldCipher];

async function staleRow(overrides: Partial<StaleRow> = {}): Promise<StaleRow> {
  return {
    table_name: "payment_methods",
    record_id: IDENTITY.record,
    field: IDENTITY.field,
    owner_id: IDENTITY.owner,
    data_class: "payment",
    message: (await old.encrypt(IDENTITY, bytes(PAN))).message,
    hash: "",
    ...overrides,
  };
}

const failing = (code: ErrorCode) => () => Promise.reject(new SuiteError(code));

Deno.test("a message moves to the present key, and its plaintexts are overwritten", async () => {
  const seen: Uint8Array[] = [];
  const cipher: Pick<FieldCipher, "encrypt" | "decrypt"> = {
    encrypt: (...args) => present.encrypt(...args),
    decrypt: async (...args) => {
      const plaintext = await present.decrypt(...args);
      assertEquals(textOf(plaintext), PAN);
      seen.push(plaintext);
      return plaintext;
    },
  };
  const row = await staleRow();
  const result = await reencryptRow({ cipher, direct: present }, row);
  assert("ciphertext" in result);
  assertNotEquals(result.ciphertext.message, row.message);
  assertEquals(result.ciphertext.branchKey, undefined);
  assertEquals(textOf(await present.decrypt(IDENTITY, result.ciphertext.message)), PAN);
  assertEquals(seen.map((plaintext) => plaintext.every((byte) => byte === 0)), [true, true]);
});

Deno.test("a message that is not this row's is a fault of the row", async () => {
  const ciphers = { cipher: present, direct: present };
  for (
    const other of [
      { field: "cardholder_name" },
      { owner_id: crypto.randomUUID() },
      { record_id: crypto.randomUUID() },
      { data_class: "pii" as const },
      { table_name: "encrypted_records" as const },
      { message: "AgR4" + "A".repeat(176) },
    ]
  ) {
    assertEquals(await reencryptRow(ciphers, await staleRow(other)), {
      error_code: "decryption_failed",
    });
  }
});

Deno.test("a new message that does not give back the old plaintext replaces nothing", async () => {
  const elsewhere = { ...IDENTITY, field: "cardholder_name" };
  for (
    const encrypt of [
      () => present.encrypt(IDENTITY, bytes("5200828282828211")),
      () => present.encrypt(IDENTITY, bytes(`${PAN}0`)),
      () => present.encrypt(elsewhere, bytes(PAN)),
    ]
  ) {
    const cipher = { encrypt, decrypt: present.decrypt.bind(present) };
    assertEquals(await reencryptRow({ cipher, direct: present }, await staleRow()), {
      error_code: "verification_failed",
    });
  }
});

Deno.test("an outage says nothing of the row", async () => {
  const row = await staleRow();
  for (const code of ["kms_unavailable", "database_unavailable", "internal_error"] as const) {
    const reading = { encrypt: present.encrypt.bind(present), decrypt: failing(code) };
    assertEquals(await codeOf(() => reencryptRow({ cipher: reading, direct: present }, row)), code);
  }
  for (const code of ["kms_unavailable", "kms_access_denied", "kms_key_unusable"] as const) {
    const writing = { encrypt: failing(code), decrypt: present.decrypt.bind(present) };
    assertEquals(await codeOf(() => reencryptRow({ cipher: writing, direct: present }, row)), code);
  }
});

Deno.test("an old key that is refused is the row's fault if the present one works", async () => {
  const row = await staleRow();
  for (const code of ["kms_access_denied", "kms_key_unusable"] as const) {
    const cipher = { encrypt: present.encrypt.bind(present), decrypt: failing(code) };
    assertEquals(await reencryptRow({ cipher, direct: present }, row), { error_code: code });
    const direct = { encrypt: failing(code) };
    assertEquals(await codeOf(() => reencryptRow({ cipher, direct }, row)), code);
  }
});
