import { assert, assertEquals } from "@std/assert";
import {
  type CandidateKeys,
  lockedOut,
  tryKeys,
  wrapSamples,
} from "../../functions-shared/admin/candidate.ts";
import { type ErrorCode, SuiteError } from "../../functions-shared/errors.ts";
import {
  type BranchKeyRecord,
  BranchKeyStore,
} from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { awsProvider, WITH_AWS, withAws } from "./support/aws.ts";
import { bytes } from "./support/identity.ts";
import { MemoryRecords } from "./support/memory-records.ts";

const NAMES = { appName: "parker-flight", environment: "development" };
const OWNER = "0b9bd1a5-1111-4111-8111-111111111111";
const SIGNAL = new AbortController().signal;
const of = (provider: KeyProvider): CandidateKeys => ({
  ...NAMES,
  provider,
  providers: [provider],
});
const env = (letter: string) => of(new EnvKeyProvider(bytes(letter.repeat(32))));

/** A provider whose unwrapping fails so. */
function failing(code: ErrorCode): CandidateKeys {
  const fail = () => Promise.reject(new SuiteError(code));
  const provider = new EnvKeyProvider(bytes("x".repeat(32)));
  return of(Object.assign(provider, { unwrapKey: fail, decryptDataKey: fail }));
}

/** A branch key and a direct message wrapped by `keys`. */
async function written(keys: CandidateKeys) {
  const { provider } = keys;
  const records = new MemoryRecords();
  const store = new BranchKeyStore({ ...keys, records, readers: keys.providers });
  (await store.active("pii", "pii")).branchKey.fill(0);
  const cipher = new FieldCipher({
    ...keys,
    writers: { payment: provider, pii: provider, general: provider },
    readers: [],
  });
  const identity = {
    dataClass: "pii",
    owner: OWNER,
    table: "encrypted_records",
    record: OWNER,
    field: "data",
  } as const;
  const { message } = await cipher.encrypt(identity, bytes("secret"));
  return {
    branch_keys: [...records.stored.values()].map((record) => [record]),
    messages: [message],
  };
}

Deno.test("keys that work are tried under every class", async () => {
  const report = await tryKeys(env("x"), SIGNAL);
  for (const found of Object.values(report)) {
    assert(found.healthy && found.key_id.startsWith("env:") && found.response_time_ms >= 0);
  }
});

Deno.test("keys that fail say why, by code", async () => {
  assertEquals(await tryKeys(failing("kms_access_denied"), SIGNAL), {
    payment: { healthy: false, error: "kms_access_denied" },
    pii: { healthy: false, error: "kms_access_denied" },
    general: { healthy: false, error: "kms_access_denied" },
  });
  assertEquals((await tryKeys(env("x"), AbortSignal.abort())).pii, {
    healthy: false,
    error: "kms_unavailable",
  });
});

Deno.test("every kind of record and a direct message stay readable, or lock out", async () => {
  const inUse = await written(env("x"));
  assertEquals(inUse.branch_keys.flat().map(({ type = "" }) => type.split(":")[0]).sort(), [
    "beacon",
    "branch",
    "branch",
  ]);
  assertEquals(await lockedOut(inUse, env("x"), env("x"), SIGNAL), []);
  for (const branch_keys of inUse.branch_keys.map((record) => [record])) {
    assertEquals(
      await lockedOut({ branch_keys, messages: [] }, env("y"), env("x"), SIGNAL),
      ["env"],
    );
  }
  assertEquals(
    await lockedOut({ branch_keys: [], messages: inUse.messages }, env("y"), env("x"), SIGNAL),
    ["direct messages"],
  );
});

Deno.test("a branch key whose copy opens is not lost with the provider of its record", async () => {
  const { branch_keys } = await written(env("x"));
  const [[record] = []] = branch_keys;
  assert(record !== undefined);
  const [x, y] = [env("x"), env("y")];
  const store = new BranchKeyStore({
    ...x,
    records: new MemoryRecords(),
    readers: x.providers,
  });
  const copy = await store.copy(record, y.provider);
  const lost = (records: readonly BranchKeyRecord[]) =>
    lockedOut({ branch_keys: [records], messages: [] }, y, x, SIGNAL);
  assertEquals(await lost([record]), ["env"]);
  assertEquals(await lost([record, copy]), []);
  assertEquals(await lost([record, record]), ["env"]);
});

Deno.test("what is lost already is not held against a candidate; what only is down may come back", async () => {
  const inUse = await written(env("x"));
  assertEquals(await lockedOut(inUse, env("y"), env("z"), SIGNAL), []);
  assertEquals(await lockedOut(inUse, env("y"), failing("kms_key_unusable"), SIGNAL), []);
  assertEquals(await lockedOut(inUse, env("y"), failing("kms_unavailable"), SIGNAL), [
    "env",
    "direct messages",
  ]);
  assertEquals(
    await lockedOut(inUse, failing("kms_unavailable"), failing("kms_unavailable"), SIGNAL),
    [],
  );
});

Deno.test("a record or message that is none locks nobody out who could not read it before", async () => {
  const inUse = { branch_keys: [[{ type: "branch:ACTIVE" }], []], messages: ["AgR4", ""] };
  assertEquals(await lockedOut(inUse, env("x"), env("x"), SIGNAL), []);
});

Deno.test("samples of what is wrapped now: of each class what can be wrapped, and nothing else", async () => {
  const samples = await wrapSamples(env("x"), SIGNAL);
  assertEquals(
    samples.branch_keys.map((records) =>
      records.map((record) => [record["branch-key-id"], record.type])
    ),
    ["payment", "pii", "general"].map((name) => [[name, "branch:ACTIVE"]]),
  );
  assertEquals(samples.messages.length, 3);
  assertEquals(await lockedOut(samples, env("x"), env("x"), SIGNAL), []);
  assertEquals(await lockedOut(samples, env("y"), env("x"), SIGNAL), ["env", "direct messages"]);
  const cannot = env("x");
  const fail = () => Promise.reject(new SuiteError("kms_access_denied"));
  Object.assign(cannot.provider, { generateDataKey: fail, wrappingKeyId: fail });
  assertEquals(await wrapSamples(cannot, SIGNAL), { branch_keys: [], messages: [] });
});

Deno.test({
  name:
    "AWS: what was wrapped before is read under other aliases and regions, not from another account",
  ...WITH_AWS,
  fn: () =>
    withAws(async ({ aws }) => {
      const writer = of(awsProvider(aws));
      const samples = await wrapSamples(writer, SIGNAL);
      assertEquals([samples.branch_keys.length, samples.messages.length], [3, 3]);
      const general = "alias/parker-flight-general-development";
      const reads = async (changes: Parameters<typeof awsProvider>[1]) =>
        (await lockedOut(samples, of(awsProvider(aws, changes)), writer, SIGNAL)).length === 0;
      assertEquals(
        [
          await reads({ aliases: { payment: general, pii: general, general } }),
          await reads({ region: "eu-west-1", fallbackRegions: [] }),
          await reads({ accountId: "999999999999" }),
        ],
        [true, true, false],
      );
    }),
});
