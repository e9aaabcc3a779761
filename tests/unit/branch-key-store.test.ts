import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import type { DataClass } from "../../functions-shared/data-class.ts";
import {
  type BranchKeyRecord,
  BranchKeyStore,
} from "../../functions-shared/keys/branch-key-store.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import type { EncryptionContext } from "../../functions-shared/message/mod.ts";
import { awsProvider, callsTo, type SeededAws, WITH_AWS, withAws } from "./support/aws.ts";
import { APP, bytes, IDENTITY } from "./support/identity.ts";
import { ACTOR, MemoryRecords } from "./support/memory-records.ts";
import { codeOf } from "./support/thrown.ts";

const NOW = Date.UTC(2026, 10, 22, 3, 4, 5, 678);
const VERSION =
  /^branch:version:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const env = new EnvKeyProvider(bytes("x".repeat(32)));

function store(
  records: MemoryRecords,
  provider: KeyProvider = env,
  changes: Partial<ConstructorParameters<typeof BranchKeyStore>[0]> = {},
): BranchKeyStore {
  return new BranchKeyStore({
    ...APP,
    records,
    provider,
    readers: [provider],
    now: () => NOW,
    ...changes,
  });
}

/** A provider that notes every key call and its contexts. */
function noting(provider: KeyProvider) {
  const calls: [string, ...unknown[]][] = [];
  const noted = new Proxy(provider, {
    get(target, name) {
      const member = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        if (/wrap/i.test(String(name)) && name !== "wrappingKeyId") {
          const told = args.filter((arg) => arg !== undefined && !(arg instanceof Uint8Array));
          calls.push([String(name), ...told]);
        }
        return member.apply(target, args);
      };
    },
  });
  return { provider: noted, calls };
}

function test(name: string, run: (seeded: SeededAws) => Promise<void>): void {
  Deno.test({ name, ...WITH_AWS, fn: () => withAws(run) });
}

const versionOf = (record: BranchKeyRecord) =>
  (record.version ?? "").slice("branch:version:".length);

test("a new branch key is three records in the specification's shape, under its KMS contexts", async ({ aws, keys }) => {
  const records = new MemoryRecords();
  const { provider, calls } = noting(awsProvider(aws));
  const key = await store(records, provider).active("payment", "payment");
  assertEquals(records.types("payment"), ["beacon:ACTIVE", "branch:ACTIVE", "branch:version"]);
  const active = records.of("payment", "branch:ACTIVE");
  assertMatch(active.version ?? "", VERSION);
  const shared = {
    "branch-key-id": "payment",
    "create-time": "2026-11-22T03:04:05.678000Z",
    "hierarchy-version": "1",
    "kms-arn": keys.payment,
    "aws-crypto-ec:app": "parker-flight",
    "aws-crypto-ec:environment": "development",
    "aws-crypto-ec:data-class": "payment",
  };
  const expected: Record<string, Record<string, string>> = {
    "branch:ACTIVE": { ...shared, type: "branch:ACTIVE", version: active.version ?? "" },
    "beacon:ACTIVE": { ...shared, type: "beacon:ACTIVE" },
    [active.version ?? ""]: { ...shared, type: active.version ?? "" },
  };
  for (const [type, attributes] of Object.entries(expected)) {
    const { enc, ...rest } = records.of("payment", type);
    assertMatch(enc ?? "", /^[A-Za-z0-9+/]+=*$/);
    assertEquals(rest, attributes);
  }
  const context = (type: string) => ({ ...expected[type], tablename: "kms.branch_keys" });
  const contexts = calls.map(([name, , ...contexts]) => [name, ...contexts]);
  assertEquals(
    contexts.sort(([a], [b]) => String(a).localeCompare(String(b))),
    [
      ["generateWrappedKey", context(active.version ?? "")],
      ["generateWrappedKey", context("beacon:ACTIVE")],
      ["rewrapKey", context(active.version ?? ""), context("branch:ACTIVE")],
      ["unwrapKey", context("branch:ACTIVE")],
    ],
  );
  assertEquals(key.version, versionOf(active));
  assertEquals(key.wrappingKeyId, keys.payment);
});

test("KMS holds each record to every attribute: with one less or more it does not open", async ({ aws, keys }) => {
  const records = new MemoryRecords();
  const branchKey = (await store(records, awsProvider(aws)).active("payment", "payment")).branchKey;
  for (const { enc = "", ...attributes } of records.stored.values()) {
    const open = async (EncryptionContext: Record<string, string>) =>
      await aws.asOperator("us-east-1", "Decrypt", {
        KeyId: keys.payment,
        CiphertextBlob: enc,
        EncryptionContext,
      });
    const context = { ...attributes, tablename: "kms.branch_keys" };
    const opened = (await open(context)).Plaintext;
    if (attributes.type !== "beacon:ACTIVE") {
      assertEquals(opened, btoa(String.fromCharCode(...branchKey)), "ACTIVE is its version's key");
    }
    for (const name of Object.keys(context)) {
      const without = Object.fromEntries(Object.entries(context).filter(([key]) => key !== name));
      const error = await open(without).then(() => undefined, (error) => error);
      assertEquals(error?.code, "InvalidCiphertextException", `${attributes.type} ${name}`);
    }
  }
});

test("the active record is made by ReEncrypt: no branch key is seen here before its record stands", async ({ aws }) => {
  const records = new MemoryRecords();
  const provider = awsProvider(aws);
  await provider.wrappingKeyId("payment");
  aws.resetCalls();
  await store(records, provider).active("payment", "payment");
  assertEquals(callsTo(aws).sort(), [
    "Decrypt",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncrypt",
  ]);
  assertEquals(aws.calls().at(-1)?.operation, "Decrypt");
});

Deno.test("versions, the active one and the beacon come back, and are what they are called", async () => {
  const records = new MemoryRecords();
  const branchKeys = store(records);
  const active = await branchKeys.active("pii", "pii");
  assertEquals(await branchKeys.version("pii", active.version, "pii"), active);
  const beacon = await branchKeys.beacon("pii", "pii");
  assertEquals(beacon.length, 32);
  assertNotEquals(beacon, active.branchKey);
  assertNotEquals(await branchKeys.beacon("general", "general"), beacon);
  assertEquals(
    await codeOf(() => branchKeys.version("pii", crypto.randomUUID(), "pii")),
    "decryption_failed",
  );
});

test("workers that start at once make one branch key and all use it", async ({ aws }) => {
  const records = new MemoryRecords();
  const workers = Array.from({ length: 4 }, () => store(records, awsProvider(aws)));
  const [actives, beacons] = await Promise.all([
    Promise.all(workers.map((worker) => worker.active("payment", "payment"))),
    Promise.all(workers.map((worker) => worker.beacon("payment", "payment"))),
  ]);
  assertEquals(records.offered.length, 4, "each worker offers one branch key, though asked twice");
  assertEquals(records.types("payment"), ["beacon:ACTIVE", "branch:ACTIVE", "branch:version"]);
  for (const active of actives) assertEquals(active, actives[0]);
  for (const beacon of beacons) assertEquals(beacon, beacons[0]);
});

Deno.test("a creation that fails is not kept, and nothing is made up", async () => {
  const records = new MemoryRecords();
  let failing = true;
  const flaky = new EnvKeyProvider(bytes("x".repeat(32)));
  const rewrapKey = flaky.rewrapKey.bind(flaky);
  flaky.rewrapKey = (...args) => failing ? Promise.reject(new Error("down")) : rewrapKey(...args);
  const branchKeys = store(records, flaky);
  const both = await Promise.allSettled([
    branchKeys.active("pii", "pii"),
    branchKeys.beacon("pii", "pii"),
  ]);
  assertEquals(both.map(({ status }) => status), ["rejected", "rejected"]);
  assertEquals(records.stored.size, 0);
  failing = false;
  await branchKeys.active("pii", "pii");
  assertEquals(records.offered.length, 1);
});

test("rotation: a new version encrypts, the old ones still open, the beacon stays", async ({ aws }) => {
  const records = new MemoryRecords();
  const branchKeys = store(records, awsProvider(aws));
  const first = await branchKeys.active("payment", "payment");
  const beacon = await branchKeys.beacon("payment", "payment");
  const rotation = await branchKeys.rotate(ACTOR, "payment", "payment");
  assert(rotation.rotated);
  const second = await branchKeys.active("payment", "payment");
  assertEquals(second.version, rotation.version);
  assertNotEquals(second.version, first.version);
  assertNotEquals(second.branchKey, first.branchKey);
  assertEquals(await branchKeys.version("payment", first.version, "payment"), first);
  assertEquals(await branchKeys.version("payment", second.version, "payment"), second);
  assertEquals(await branchKeys.beacon("payment", "payment"), beacon);
  assertEquals(records.types("payment").length, 4);
});

test("a rotation authenticates the old record by ReEncrypt, and sees no key", async ({ aws }) => {
  const records = new MemoryRecords();
  const branchKeys = store(records, awsProvider(aws));
  await branchKeys.active("payment", "payment");
  aws.resetCalls();
  await branchKeys.rotate(ACTOR, "payment", "payment");
  assertEquals(callsTo(aws), ["ReEncrypt", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"]);
  records.put({ ...records.of("payment", "branch:ACTIVE"), "create-time": "2026" });
  const standing = new Map(records.stored);
  assertEquals(
    await codeOf(() => branchKeys.rotate(ACTOR, "payment", "payment")),
    "decryption_failed",
  );
  assertEquals(records.stored, standing);
});

Deno.test("of rotations at once one stands, and all learn which", async () => {
  const records = new MemoryRecords();
  const workers = Array.from({ length: 3 }, () => store(records));
  await workers[0]?.active("pii", "pii");
  const rotations = await Promise.all(workers.map((worker) => worker.rotate(ACTOR, "pii", "pii")));
  assertEquals(rotations.filter(({ rotated }) => rotated).length, 1);
  assertEquals(new Set(rotations.map(({ version }) => version)).size, 1);
  assertEquals(versionOf(records.of("pii", "branch:ACTIVE")), rotations[0]?.version);
  assertEquals(records.types("pii").length, 4);
});

test("the key's ARN stays as it was stored, when a rotation happens in another region", async ({ aws, keys }) => {
  const records = new MemoryRecords();
  await store(records, awsProvider(aws)).active("pii", "pii");
  const elsewhere = awsProvider(aws, { region: "eu-west-1", fallbackRegions: [] });
  assert((await store(records, elsewhere).rotate(ACTOR, "pii", "pii")).rotated);
  const active = records.of("pii", "branch:ACTIVE");
  assertEquals(active["kms-arn"], keys.pii);
  assertEquals(
    (await store(records, awsProvider(aws)).active("pii", "pii")).version,
    versionOf(active),
  );
});

test("a rotation follows a re-pointed alias to its new key", async ({ aws, keys }) => {
  const records = new MemoryRecords();
  const old = await store(records, awsProvider(aws)).active("pii", "pii");
  await aws.asOperator("us-east-1", "UpdateAlias", {
    AliasName: "alias/parker-flight-pii-development",
    TargetKeyId: keys.general,
  });
  const branchKeys = store(records, awsProvider(aws));
  await branchKeys.rotate(ACTOR, "pii", "pii");
  assertEquals(records.of("pii", "branch:ACTIVE")["kms-arn"], keys.general);
  assertEquals(await branchKeys.version("pii", old.version, "pii"), old);
});

test("a tampered attribute of any record does not unwrap", async ({ aws, keys }) => {
  const records = new MemoryRecords();
  const branchKeys = store(records, awsProvider(aws));
  const { version } = await branchKeys.active("payment", "payment");
  const reads = {
    "beacon:ACTIVE": () => branchKeys.beacon("payment", "payment"),
    "branch:ACTIVE": () => branchKeys.active("payment", "payment"),
    [`branch:version:${version}`]: () => branchKeys.version("payment", version, "payment"),
  };
  for (const [type, read] of Object.entries(reads)) {
    const record = records.of("payment", type);
    const putAs = (changed: BranchKeyRecord) => records.stored.set(`payment ${type}`, changed);
    const changes: Record<string, string>[] = [
      { "create-time": "2026-11-22T03:04:05.678001Z" },
      { "hierarchy-version": "2" },
      { "type": "beacon:other" },
      { "branch-key-id": "pii" },
      { "kms-arn": keys.pii },
      { "kms-arn": keys.payment.replace("000000000000", "999999999999") },
      { "kms-arn": "" },
      { "aws-crypto-ec:app": "other" },
      { "aws-crypto-ec:more": "x" },
      { "more": "x" },
      { version: `branch:version:${crypto.randomUUID()}` },
      { enc: `${record.enc?.slice(0, -4)}AAAA` },
      { enc: "" },
      { enc: "not base64" },
    ];
    for (const change of changes) {
      putAs({ ...record, ...change });
      assertEquals(await codeOf(read), "decryption_failed", `${type} ${JSON.stringify(change)}`);
    }
    for (const name of Object.keys(record)) {
      putAs(Object.fromEntries(Object.entries(record).filter(([key]) => key !== name)));
      assertEquals(await codeOf(read), "decryption_failed", `${type} without ${name}`);
    }
    // Records in each other's place, as they are and relabelled.
    for (const other of Object.keys(reads).filter((name) => name !== type)) {
      putAs(records.of("payment", other));
      assertEquals(await codeOf(read), "decryption_failed", `${other} as ${type}`);
      putAs({ ...records.of("payment", other), type });
      assertEquals(await codeOf(read), "decryption_failed", `${other} relabelled ${type}`);
    }
    putAs(record);
    await read();
  }
});

for (
  const [where, changes, dataClass] of [
    ["class", {}, "pii"],
    ["application", { appName: "other" }, "payment"],
    ["environment", { environment: "staging" }, "payment"],
  ] as [string, { appName?: string; environment?: string }, DataClass][]
) {
  test(`a record moved here from another ${where} is refused without asking KMS`, async ({ aws }) => {
    const records = new MemoryRecords();
    await store(records, awsProvider(aws)).beacon("payment", "payment");
    const moved = new MemoryRecords();
    const record = records.of("payment", "beacon:ACTIVE");
    moved.stored.set(`${dataClass} beacon:ACTIVE`, record);
    const here = store(moved, awsProvider(aws), changes);
    aws.resetCalls();
    assertEquals(await codeOf(() => here.beacon(dataClass, dataClass)), "decryption_failed");
    assertEquals(callsTo(aws), []);
    // Nor does it help to write the expected names over it.
    const { app, environment } = { app: changes.appName, environment: changes.environment };
    moved.put({
      ...record,
      "branch-key-id": dataClass,
      "aws-crypto-ec:data-class": dataClass,
      "aws-crypto-ec:app": app ?? APP.appName,
      "aws-crypto-ec:environment": environment ?? APP.environment,
    });
    assertEquals(await codeOf(() => here.beacon(dataClass, dataClass)), "decryption_failed");
  });
}

Deno.test("a branch key of one owner carries the owner, and is no other owner's", async () => {
  const records = new MemoryRecords();
  const branchKeys = store(records);
  const id = `pii:${IDENTITY.owner}`;
  const mine = await branchKeys.active(id, "pii");
  const record = records.of(id, "branch:ACTIVE");
  assertEquals(record["aws-crypto-ec:owner"], IDENTITY.owner);
  assertEquals(record["branch-key-id"], id);
  const other = `pii:${IDENTITY.record}`;
  assertNotEquals((await branchKeys.active(other, "pii")).branchKey, mine.branchKey);
  assertNotEquals((await branchKeys.active("pii", "pii")).branchKey, mine.branchKey);
  assertEquals(records.of("pii", "branch:ACTIVE")["aws-crypto-ec:owner"], undefined);
  for (const type of ["branch:ACTIVE", "beacon:ACTIVE"]) {
    records.put({ ...records.of(id, type), "branch-key-id": other });
  }
  assertEquals(await codeOf(() => branchKeys.active(other, "pii")), "decryption_failed");
  records.put({
    ...records.of(id, "branch:ACTIVE"),
    "branch-key-id": other,
    "aws-crypto-ec:owner": IDENTITY.record,
  });
  assertEquals(await codeOf(() => branchKeys.active(other, "pii")), "decryption_failed");
});

test("when the key service or the records fail, no key is made up", async ({ aws }) => {
  const records = new MemoryRecords();
  const branchKeys = store(records, awsProvider(aws));
  aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
  assertEquals(await codeOf(() => branchKeys.active("payment", "payment")), "kms_unavailable");
  assertEquals(records.stored.size, 0);
});

test("a record of the provider that was configured before is still read, and rotates to the new one", async ({ aws, keys }) => {
  const records = new MemoryRecords();
  const before = await store(records).active("payment", "payment");
  const provider = awsProvider(aws);
  const after = store(records, provider, { readers: [provider, env] });
  assertEquals(await after.active("payment", "payment"), before);
  assertEquals(
    await codeOf(() => store(records, provider).active("payment", "payment")),
    "decryption_failed",
  );
  await after.rotate(ACTOR, "payment", "payment");
  assertEquals((await after.active("payment", "payment")).wrappingKeyId, keys.payment);
  assertEquals(await after.version("payment", before.version, "payment"), before);
});

Deno.test("a context never holds the wrapped key", async () => {
  const seen: EncryptionContext[] = [];
  const { provider, calls } = noting(env);
  await store(new MemoryRecords(), provider).active("pii", "pii");
  for (const call of calls) seen.push(...call.slice(2) as EncryptionContext[]);
  assert(seen.length > 0 && seen.every((context) => !("enc" in context)));
});
