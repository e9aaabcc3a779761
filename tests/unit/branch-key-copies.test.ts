/** Branch keys in two copies: which one is read, and how one is made of the other. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { SuiteError } from "../../functions-shared/errors.ts";
import {
  type BranchKeyRecord,
  BranchKeyStore,
} from "../../functions-shared/keys/branch-key-store.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { APP, bytes } from "./support/identity.ts";
import { ACTOR, MemoryRecords } from "./support/memory-records.ts";
import { codeOf } from "./support/thrown.ts";

/** Providers that are told apart by the beginning of their keys' names, as the real ones are. */
function provider(prefix: string, material: string) {
  const real = new EnvKeyProvider(bytes(material.repeat(32)));
  const state = {
    failure: undefined as "kms_unavailable" | "kms_access_denied" | undefined,
    hangs: false,
    unwraps: 0,
    /** What it was lent. */
    seen: [] as Uint8Array[],
  };
  const inner = (keyId: string) => keyId.replace(`${prefix}:`, "env:");
  const made: KeyProvider = Object.assign(Object.create(real) as EnvKeyProvider, {
    wrappingKeyId: async (dataClass: "pii") =>
      (await real.wrappingKeyId(dataClass)).replace("env:", `${prefix}:`),
    holds: (keyId: string) => keyId.startsWith(`${prefix}:`),
    generateWrappedKey: (keyId: string, context: Record<string, string>) =>
      real.generateWrappedKey(inner(keyId), context),
    rewrapKey: (keyId: string, ...rest: [Uint8Array, never, never]) =>
      real.rewrapKey(inner(keyId), ...rest),
    wrapKey: (keyId: string, key: Uint8Array, context: Record<string, string>) => {
      state.seen.push(key);
      return real.wrapKey(inner(keyId), key, context);
    },
    unwrapKey: async (
      keyId: string,
      wrapped: Uint8Array,
      context: Record<string, string>,
      signal?: AbortSignal,
    ) => {
      state.unwraps++;
      if (state.failure !== undefined) throw new SuiteError(state.failure);
      if (state.hangs) {
        if (!signal?.aborted) {
          await new Promise((resolve) => signal?.addEventListener("abort", resolve));
        }
        throw new SuiteError("kms_unavailable");
      }
      const key = await real.unwrapKey(inner(keyId), wrapped, context);
      state.seen.push(key.plaintext);
      return key;
    },
  });
  return { provider: made, state };
}

function setting() {
  const [old, other] = [provider("old", "a"), provider("other", "b")];
  const records = new MemoryRecords();
  let time = 1_000_000;
  const worker = (main: KeyProvider, readers = [old.provider, other.provider]) =>
    new BranchKeyStore({
      ...APP,
      records,
      provider: main,
      readers,
      failoverMs: 20,
      now: () => time,
    });
  const copyAll = async () => {
    for (const [name, record] of records.stored) {
      const copied = await worker(old.provider).copy(record, other.provider);
      records.copies.set(name, copied);
    }
  };
  return { old, other, records, worker, copyAll, wait: (ms: number) => time += ms };
}

Deno.test("a copy is the same key in a record of its own, and nothing of it stays behind", async () => {
  const { old, other, records, worker, copyAll } = setting();
  const store = worker(old.provider);
  const before = await store.active("pii", "pii");
  const beacon = await store.beacon("pii", "pii");
  old.state.seen.length = 0;
  await copyAll();
  for (const key of [...old.state.seen, ...other.state.seen]) {
    assertEquals(key, new Uint8Array(32), "every key that was seen is zeroed");
  }
  for (const [name, copy] of records.copies) {
    const record = records.stored.get(name) ?? {};
    const { enc, "kms-arn": arn, ...rest } = copy;
    const { enc: oldEnc, "kms-arn": oldArn, ...oldRest } = record;
    assertEquals(rest, oldRest);
    assert(arn?.startsWith("other:") && oldArn?.startsWith("old:"));
    assertNotEquals(enc, oldEnc);
  }
  // A worker that knows the new provider alone has everything.
  const alone = worker(other.provider, [other.provider]);
  const { wrappingKeyId, ...key } = await alone.active("pii", "pii");
  const { wrappingKeyId: _, ...oldKey } = before;
  assertEquals(key, oldKey);
  assert(wrappingKeyId.startsWith("other:"));
  assertEquals(await alone.beacon("pii", "pii"), beacon);
  const version = await alone.version("pii", before.version, "pii");
  assertEquals(version.branchKey, before.branchKey);
});

Deno.test("the configured provider's copy is read first, the other one's when it fails", async () => {
  const { old, other, worker, copyAll, wait } = setting();
  const store = worker(other.provider);
  const expected = (await worker(old.provider).active("pii", "pii")).branchKey;
  await copyAll();
  const reads = async () => {
    [old.state.unwraps, other.state.unwraps] = [0, 0];
    assertEquals((await store.active("pii", "pii")).branchKey, expected);
    return [old.state.unwraps, other.state.unwraps];
  };
  assertEquals(await reads(), [0, 1]);
  other.state.failure = "kms_access_denied";
  assertEquals(await reads(), [1, 1], "a refusal is of now: it is asked again");
  assertEquals(await reads(), [1, 1]);
  other.state.failure = "kms_unavailable";
  assertEquals(await reads(), [1, 1]);
  assertEquals(await reads(), [1, 0], "one that is down comes last for a while");
  wait(30_000);
  other.state.failure = undefined;
  assertEquals(await reads(), [0, 1]);
  other.state.hangs = true;
  assertEquals(await reads(), [1, 1], "nor is it waited for for ever");
});

Deno.test("when neither copy opens, an outage counts more than a wrong key", async () => {
  const { old, other, records, worker, copyAll } = setting();
  const store = worker(old.provider);
  await store.active("pii", "pii");
  await copyAll();
  const record = records.of("pii", "branch:ACTIVE");
  records.put({ ...record, "create-time": "2026" });
  assertEquals((await store.active("pii", "pii")).wrappingKeyId.split(":")[0], "other");
  other.state.failure = "kms_unavailable";
  assertEquals(await codeOf(() => store.active("pii", "pii")), "kms_unavailable");
  other.state.failure = undefined;
  records.copies.set("pii branch:ACTIVE", { ...record, "create-time": "2026" });
  assertEquals(await codeOf(() => store.active("pii", "pii")), "decryption_failed");
});

Deno.test("the client's end ends it: no other copy is tried for nobody", async () => {
  const { old, other, worker, copyAll } = setting();
  const store = worker(other.provider);
  await worker(old.provider).active("pii", "pii");
  await copyAll();
  other.state.hangs = true;
  old.state.unwraps = 0;
  const end = new AbortController();
  const reading = codeOf(() => store.active("pii", "pii", end.signal));
  end.abort();
  assertEquals(await reading, "kms_unavailable");
  assertEquals(old.state.unwraps, 0);
});

Deno.test("a rotation needs one copy that opens, and leaves no copy of the version before", async () => {
  const { old, other, records, worker, copyAll } = setting();
  const before = await worker(old.provider).active("pii", "pii");
  await copyAll();
  const store = worker(other.provider, [other.provider]);
  const { rotated, version } = await store.rotate(ACTOR, "pii", "pii");
  assert(rotated && version !== before.version);
  assert(records.of("pii", "branch:ACTIVE")["kms-arn"]?.startsWith("other:"));
  assertEquals((await worker(old.provider).active("pii", "pii")).version, version);
  const opened = await worker(old.provider).version("pii", before.version, "pii");
  assertEquals(opened.branchKey, before.branchKey);
});

Deno.test("no copy is made of what is not this store's, or of what the other provider garbles", async () => {
  const { old, other, records, worker } = setting();
  const store = worker(old.provider);
  await store.active("pii", "pii");
  const record = records.of("pii", "branch:ACTIVE");
  const wrong: BranchKeyRecord[] = [
    { ...record, "aws-crypto-ec:app": "other" },
    { ...record, "aws-crypto-ec:environment": "staging" },
    { ...record, "aws-crypto-ec:data-class": "payment" },
    { ...record, "branch-key-id": "payment" },
    { ...record, "branch-key-id": "nothing" },
    { ...record, type: "beacon:ACTIVE" },
    { ...record, "kms-arn": "nobody:1" },
    { ...record, enc: "AAAA" },
    {},
  ];
  for (const each of wrong) {
    const copy = () => store.copy(each, other.provider);
    assertEquals(await codeOf(copy), "decryption_failed", JSON.stringify(each));
    const confirm = () => store.confirm(each);
    assertEquals(await codeOf(confirm), "decryption_failed", JSON.stringify(each));
  }
  await store.confirm(record);
  const garbling = Object.assign(Object.create(other.provider), {
    unwrapKey: () => Promise.resolve({ plaintext: new Uint8Array(32) }),
  });
  assertEquals(await codeOf(() => store.copy(record, garbling)), "decryption_failed");
});
