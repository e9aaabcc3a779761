/** Steps of a migration that fail in the midst of it: what is kept, what is audited, what the caller hears. */
import { assertEquals } from "@std/assert";
import {
  type MigrationReport,
  type MigrationStep,
  type MigrationStore,
  ProviderMigration,
} from "../../functions-shared/admin/provider-migration.ts";
import { migrationStore } from "../../functions-shared/database/migration.ts";
import type { Rpc } from "../../functions-shared/database/rpc.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import type { BranchKeyRecord } from "../../functions-shared/keys/branch-key-store.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { ACTOR } from "./support/memory-records.ts";
import { codeOf, suiteError, violationsOf } from "./support/thrown.ts";

const OWNER = "0b9bd1a5-1111-4111-8111-111111111111";
const RECORDS: readonly BranchKeyRecord[] = ["payment", "pii", `pii:${OWNER}`].map((id) => ({
  "branch-key-id": id,
  type: "branch:ACTIVE",
  version: "branch:version:v",
  "kms-arn": "arn:1",
}));
const FAILING = RECORDS[2] as BranchKeyRecord;

const named = (name: KeyProvider["name"], prefix: string) =>
  ({ name, holds: (id: string) => id.startsWith(prefix) }) as KeyProvider;
const AWS = named("aws", "arn:");
const VAULT = named("vault", "vault:");

/** A migration over a store of which nothing stays but what it was told. */
function setting(options: {
  readonly providers?: readonly KeyProvider[];
  readonly work?: readonly BranchKeyRecord[];
  /** What key work throws for the failing record. */
  readonly failure?: unknown;
  readonly outcome?: "ok" | "ended";
} = {}) {
  const state = { calls: [] as unknown[], failed: [] as unknown[], auditFails: false };
  const report = (step: MigrationStep, remaining = 1): MigrationReport => ({
    from: "aws",
    to: "vault",
    step,
    branch_keys: 3,
    remaining,
    operations: remaining,
    direct_rows: 0,
  });
  const done = (...call: unknown[]) => {
    state.calls.push(call);
    return Promise.resolve();
  };
  const ids = (records: readonly BranchKeyRecord[]) => records.map((one) => one["branch-key-id"]);
  const store: MigrationStore = {
    status: (step = "prepare") => Promise.resolve(report(step)),
    step: (_actor, _from, _to, step) =>
      Promise.resolve({ ...report(step), outcome: options.outcome ?? "ok" }),
    work: () => Promise.resolve(options.work ?? RECORDS),
    copy: (_actor, _from, _to, copies) => done("copy", ids(copies.map(({ record }) => record))),
    swap: () => done("swap"),
    confirm: (_from, _to, records) => done("confirm", ids(records)),
    end: async (_actor, _from, _to, step) => {
      await done("end", step);
      return report(step, 0);
    },
    failed: ({ from, to, step }, error, record) => {
      if (state.auditFails) return Promise.reject(new SuiteError("database_unavailable"));
      state.failed.push([step, from, to, error, record?.["branch-key-id"]]);
      return Promise.resolve();
    },
  };
  const keyWork = <Done>(record: BranchKeyRecord, result: Done) =>
    record === FAILING && options.failure !== undefined
      ? Promise.reject(options.failure)
      : Promise.resolve(result);
  const migration = new ProviderMigration({
    providers: options.providers ?? [AWS, VAULT],
    branchKeys: {
      copy: (record) => keyWork(record, { ...record, "kms-arn": "vault:1" }),
      confirm: (record) => keyWork(record, undefined),
    },
    store,
    isProduction: true,
  });
  return { state, run: (step: MigrationStep) => migration.run(ACTOR, "aws", "vault", step) };
}

for (
  const [step, kept] of [["prepare", "copy"], ["switch", "copy"], ["back", "copy"], [
    "finish",
    "confirm",
  ]] as const
) {
  Deno.test(`${step}: a key service that fails is audited with its branch key, the rest is kept`, async () => {
    const { state, run } = setting({ failure: new SuiteError("kms_unavailable") });
    const error = await suiteError(() => run(step));
    assertEquals([error.code, error.violations.map(({ code }) => code)], ["kms_unavailable", [
      "branch_key_failed",
    ]]);
    assertEquals(state.failed, [[step, "aws", "vault", "kms_unavailable", `pii:${OWNER}`]]);
    assertEquals(state.calls.at(-1), [kept, ["payment", "pii"]]);
  });
}

Deno.test("what does not open, and a bug, are audited too", async () => {
  for (
    const [failure, code] of [
      [new SuiteError("decryption_failed"), "decryption_failed"],
      [new TypeError("a bug"), "internal_error"],
    ] as const
  ) {
    const { state, run } = setting({ failure });
    assertEquals(await codeOf(() => run("finish")), code);
    assertEquals(state.failed, [["finish", "aws", "vault", code, `pii:${OWNER}`]]);
  }
});

Deno.test("a provider that is missed late is audited; one that is missed first does nothing", async () => {
  const late = setting({ providers: [AWS] });
  const absent = ["/to provider_not_configured"];
  assertEquals(await violationsOf(() => late.run("back")), absent);
  assertEquals(late.state.failed, [["back", "aws", "vault", "validation_failed", undefined]]);
  assertEquals(late.state.calls, [["swap"]]);
  const first = setting({ providers: [AWS] });
  assertEquals(await violationsOf(() => first.run("prepare")), absent);
  assertEquals([first.state.failed, first.state.calls], [[], []]);
});

Deno.test("when the failure cannot be audited, the caller still hears of that failure", async () => {
  const failure = new SuiteError("kms_unavailable", { retryAfterSeconds: 7 });
  const { state, run } = setting({ failure });
  state.auditFails = true;
  const error = await suiteError(() => run("prepare"));
  assertEquals([error.code, error.retryAfterSeconds], ["kms_unavailable", 5]);
  assertEquals(error.violations.map(({ code }) => code), ["branch_key_failed"]);
  assertEquals((error.cause as Error).name, "UnauditedError", "the log tells");
});

Deno.test("a way back that needs no copy asks no provider, and the end's word is the last", async () => {
  const { state, run } = setting({ providers: [AWS], work: [] });
  assertEquals((await run("back")).remaining, 0);
  assertEquals(state.calls, [["swap"], ["swap"], ["end", "back"]]);
  const over = setting({ outcome: "ended" });
  assertEquals((await over.run("finish")).remaining, 1, "as it was begun");
  assertEquals(over.state.calls, []);
});

Deno.test("the audit names the branch key as the database's own entries do", async () => {
  const asked: unknown[] = [];
  const rpc = ((name: string, args: { p_entries: string }) => {
    asked.push([name, JSON.parse(args.p_entries)]);
    return Promise.resolve({});
  }) as unknown as Rpc;
  const move = { actor: ACTOR, from: "aws", to: "vault", step: "switch" } as const;
  const version = { "branch-key-id": "general:0", type: "branch:version:v", "kms-arn": "vault:1" };
  for (
    const record of [undefined, FAILING, version, { "branch-key-id": "x", type: "beacon:ACTIVE" }]
  ) {
    await migrationStore(rpc).failed(move, "decryption_failed", record);
  }
  const entry = {
    action: "provider.switch",
    outcome: "failure",
    error_code: "decryption_failed",
    purpose: "from aws to vault",
  };
  assertEquals(
    asked,
    [
      {},
      {
        branch_key_id: `pii:${OWNER}`,
        branch_key_version: "v",
        kms_key_arn: "arn:1",
        data_class: "pii",
        owner_id: OWNER,
      },
      {
        branch_key_id: "general:0",
        branch_key_version: "v",
        kms_key_arn: "vault:1",
        data_class: "general",
      },
      { branch_key_id: "x", branch_key_version: "beacon:ACTIVE" },
    ].map((key) => ["kms_audit_append", [{ ...entry, ...key }]]),
  );
});
