import { assert, assertEquals } from "@std/assert";
import { SuiteError } from "../../functions-shared/errors.ts";
import type { EncryptedField } from "../../functions-shared/keys/field-cipher.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { auditedReveal, auditedReveals } from "../../functions-shared/storage/reveal.ts";
import type { Actor, AuditEntry, AuditLog } from "../../functions-shared/telemetry/audit.ts";
import { APP, bytes, IDENTITY } from "./support/identity.ts";
import { codeOf, everythingShown, suiteError } from "./support/thrown.ts";

const PAN = "5200828282828210";
const ACTOR: Actor = {
  actor_type: "secret_key",
  actor_id: "default",
  request_id: "0b9bd1a5-3333-4333-8333-333333333333",
  function: "manage-payment-methods-kms",
};
const ENTRY = { action: "payment_method.reveal", purpose: "charge" } as const;

const env = new EnvKeyProvider(bytes("x".repeat(32)));
const cipher = new FieldCipher({
  ...APP,
  writers: { payment: env, pii: env, general: env },
  readers: [env],
});

function encrypt(field: string, plaintext: string): Promise<EncryptedField> {
  return cipher.encrypt({ ...IDENTITY, field }, bytes(plaintext));
}

/** A trail in memory that can fail, and that a test can hold up. */
class MemoryAudit implements AuditLog {
  readonly entries: AuditEntry[] = [];
  fail = false;
  gate: Promise<void> = Promise.resolve();

  async append(_actor: Actor, entries: readonly AuditEntry[]): Promise<void> {
    await this.gate;
    if (this.fail) throw new SuiteError("database_unavailable");
    this.entries.push(...entries);
  }
}

function reveal(audit: AuditLog, fields: readonly EncryptedField[], required = "number") {
  return auditedReveal(audit, ACTOR, {
    entry: ENTRY,
    fields,
    required,
    open: ({ field, message }) => cipher.open({ ...IDENTITY, field }, message),
  });
}

const number = await encrypt("number", JSON.stringify(PAN));
const name = await encrypt("cardholder_name", '"Jane Doe"');

Deno.test("a reveal is audited once, with the key that opened it", async () => {
  const audit = new MemoryAudit();
  assertEquals(await reveal(audit, [number, name]), { number: PAN, cardholder_name: "Jane Doe" });
  assertEquals(audit.entries, [{ ...ENTRY, kms_key_arn: number.keyId, outcome: "success" }]);
});

Deno.test("the entry names the keys that opened the message, whatever is stored beside it", async () => {
  const audit = new MemoryAudit();
  const stored = { ...number, branchKey: { id: "payment", version: "stored" } };
  await auditedReveal(audit, ACTOR, {
    entry: ENTRY,
    fields: [stored],
    required: "number",
    open: async ({ field, message }) => ({
      ...await cipher.open({ ...IDENTITY, field }, message),
      keys: { keyId: "arn", region: "r-1", branchKey: { id: "payment", version: "opened" } },
    }),
  });
  assertEquals(audit.entries, [{
    ...ENTRY,
    outcome: "success",
    kms_key_arn: "arn",
    kms_region: "r-1",
    branch_key_id: "payment",
    branch_key_version: "opened",
  }]);
});

Deno.test("nothing is returned before the audit entry is committed", async () => {
  const audit = new MemoryAudit();
  const gate = Promise.withResolvers<void>();
  audit.gate = gate.promise;
  let returned = false;
  const revealed = reveal(audit, [number]).then(() => returned = true);
  await new Promise((resolve) => setTimeout(resolve, 10));
  assertEquals(returned, false);
  gate.resolve();
  await revealed;
  assertEquals(audit.entries.length, 1);
});

Deno.test("when the entry cannot be committed nothing is returned", async () => {
  const audit = new MemoryAudit();
  audit.fail = true;
  const error = await suiteError(() => reveal(audit, [number]));
  assertEquals(error.code, "database_unavailable");
  assert(!everythingShown(error).includes(PAN));
});

Deno.test("one field that does not decrypt fails the whole reveal, and is audited as a failure", async () => {
  const audit = new MemoryAudit();
  const swapped = { ...name, message: number.message };
  assertEquals(await codeOf(() => reveal(audit, [number, swapped])), "decryption_failed");
  assertEquals(audit.entries, [{
    ...ENTRY,
    kms_key_arn: number.keyId,
    outcome: "failure",
    error_code: "decryption_failed",
  }]);
});

Deno.test("a row without the required field fails like one that does not decrypt", async () => {
  const audit = new MemoryAudit();
  assertEquals(await codeOf(() => reveal(audit, [name])), "decryption_failed");
  assertEquals(await codeOf(() => reveal(audit, [])), "decryption_failed");
  assertEquals(audit.entries.map(({ outcome }) => outcome), ["failure", "failure"]);
});

Deno.test("required names what is there, not what every object inherits", async () => {
  const audit = new MemoryAudit();
  assertEquals(await codeOf(() => reveal(audit, [number], "toString")), "decryption_failed");
});

Deno.test("plaintext that is no JSON does not appear in the error", async () => {
  const audit = new MemoryAudit();
  const error = await suiteError(async () => reveal(audit, [await encrypt("number", `${PAN} x`)]));
  assertEquals(error.code, "decryption_failed");
  assert(!everythingShown(error).includes(PAN));
});

Deno.test("an unexpected failure is audited under the code that the caller sees", async () => {
  const audit = new MemoryAudit();
  const error = await suiteError(() =>
    auditedReveal(audit, ACTOR, {
      entry: ENTRY,
      fields: [number],
      required: "number",
      open: () => Promise.reject(new TypeError("bug")),
    })
  );
  assertEquals(error.code, "internal_error");
  assertEquals(audit.entries.map(({ error_code }) => error_code), ["internal_error"]);
});

Deno.test("many rows: one commit, each in its place, and none takes another down", async () => {
  const audit = new MemoryAudit();
  let commits = 0;
  const counting: AuditLog = {
    append(actor, entries) {
      commits++;
      return audit.append(actor, entries);
    },
  };
  const row = (fields: readonly EncryptedField[] | undefined) => ({
    entry: ENTRY,
    fields,
    required: "number",
    open: ({ field, message }: EncryptedField) => cipher.open({ ...IDENTITY, field }, message),
  });
  const swapped = { ...number, message: name.message };
  const revealed = await auditedReveals(counting, ACTOR, [
    row([number]),
    row([swapped]),
    row(undefined),
  ]);
  assertEquals(revealed[0], { number: PAN });
  assertEquals(
    revealed.slice(1).map((item) => item instanceof SuiteError && item.code),
    ["decryption_failed", "not_found"],
  );
  assertEquals(commits, 1);
  assertEquals(
    audit.entries.map(({ outcome, error_code }) => [outcome, error_code]),
    [["success", undefined], ["failure", "decryption_failed"], ["failure", "not_found"]],
  );
});

Deno.test("a hundred rows are decrypted sixteen at a time, each in its place", async () => {
  const audit = new MemoryAudit();
  let [open, most] = [0, 0];
  const number = await encrypt("number", "1");
  const requests = Array.from({ length: 100 }, (_, n) => ({
    entry: ENTRY,
    fields: [number],
    required: "number",
    open: async () => {
      most = Math.max(most, ++open);
      await new Promise((resolve) => setTimeout(resolve, 1));
      open--;
      return { plaintext: bytes(`${n}`), keys: undefined };
    },
  }));
  const revealed = await auditedReveals(audit, ACTOR, requests);
  assertEquals(revealed, requests.map((_, n) => ({ number: n })));
  assertEquals([most, audit.entries.length], [16, 100]);
});
