import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { SuiteError } from "../../functions-shared/errors.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { Fingerprints } from "../../functions-shared/keys/fingerprints.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { Intake, type IntakeRequest } from "../../functions-shared/storage/intake.ts";
import type {
  IdempotencyKey,
  IdempotencyLease,
  IdempotencyState,
  IntakeStore,
  PreparedItem,
  StoredItem,
} from "../../functions-shared/storage/store.ts";
import type { Actor } from "../../functions-shared/telemetry/audit.ts";
import { APP, bytes } from "./support/identity.ts";
import { MemoryRecords } from "./support/memory-records.ts";
import { codeOf, suiteError } from "./support/thrown.ts";

const ACTOR: Actor = {
  actor_type: "user",
  actor_id: "0b9bd1a5-1111-4111-8111-111111111111",
  request_id: "0b9bd1a5-3333-4333-8333-333333333333",
  function: "encrypt-payment-data",
};
const PAN = "5200828282828210";

interface Row {
  requestHash: string;
  token: string | undefined;
  results: readonly StoredItem[] | undefined;
}

/** The table of idempotency keys in memory, with a lease that a test can take away. */
class MemoryIntake implements IntakeStore {
  readonly rows = new Map<string, Row>();
  readonly stored: PreparedItem[] = [];
  readonly seen: string[] = [];
  failStore: Error | undefined;
  failAbandon: Error | undefined;
  abandoned = 0;
  #tokens = 0;

  begin(key: IdempotencyKey, requestHash: string): Promise<IdempotencyState> {
    this.seen.push(JSON.stringify([key, requestHash]));
    const row = this.rows.get(JSON.stringify(key));
    if (row !== undefined) {
      if (row.requestHash !== requestHash) return Promise.resolve({ state: "mismatch" });
      if (row.results !== undefined) {
        return Promise.resolve({ state: "replay", results: row.results });
      }
      if (row.token !== undefined) {
        return Promise.resolve({ state: "in_flight", retryAfterSeconds: 7 });
      }
    }
    const token = `token-${++this.#tokens}`;
    this.rows.set(JSON.stringify(key), { requestHash, token, results: undefined });
    return Promise.resolve({ state: "started", token });
  }

  abandon({ token, ...key }: IdempotencyLease): Promise<void> {
    this.abandoned++;
    if (this.failAbandon !== undefined) return Promise.reject(this.failAbandon);
    if (this.rows.get(JSON.stringify(key))?.token === token) this.rows.delete(JSON.stringify(key));
    return Promise.resolve();
  }

  store(
    _actor: Actor,
    items: readonly PreparedItem[],
    { token, ...key }: IdempotencyLease,
  ): Promise<readonly StoredItem[]> {
    const row = this.rows.get(JSON.stringify(key));
    if (row?.token !== token) return Promise.reject(new SuiteError("idempotency_in_flight"));
    if (this.failStore !== undefined) return Promise.reject(this.failStore);
    this.stored.push(...items);
    const results = items.map((item): StoredItem =>
      item.kind === "problem"
        ? { outcome: "problem", problem: item.problem }
        : { outcome: "created", record: { id: item.id } }
    );
    row.results = results;
    return Promise.resolve(results);
  }

  /** What happens when a lease runs out and another request takes the key over. */
  takeOver(): void {
    for (const row of this.rows.values()) row.token = "somebody else's";
  }
}

function suite() {
  const store = new MemoryIntake();
  const provider = new EnvKeyProvider(bytes("x".repeat(32)));
  const branchKeys = new BranchKeyStore({
    ...APP,
    records: new MemoryRecords(),
    provider,
    readers: [provider],
  });
  const fingerprints = new Fingerprints(branchKeys, { ttlMs: 300_000, workerSecret: "sb_secret" });
  const intake = new Intake({ store, fingerprints, retentionSeconds: 86_400 });
  const submit = (changes: Partial<IntakeRequest> = {}) =>
    intake.submit({
      actor: ACTOR,
      scope: "user:a POST /encrypt-payment-data",
      idempotencyKey: "key-1",
      dataClass: "payment",
      body: { card: { number: PAN }, set_default: true },
      prepare: [item("r1")],
      ...changes,
    });
  return { store, submit };
}

function item(id: string): () => Promise<PreparedItem> {
  return () =>
    Promise.resolve({
      kind: "record",
      id,
      owner_id: ACTOR.actor_id,
      data_class: "pii",
      label: null,
      ciphertexts: [],
    });
}

Deno.test("a request is stored once, and its repeat answers what it answered", async () => {
  const { store, submit } = suite();
  const first = await submit();
  assertEquals(first, { replayed: false, items: [{ outcome: "created", record: { id: "r1" } }] });
  let prepared = false;
  const again = await submit({
    prepare: [() => {
      prepared = true;
      return item("r2")();
    }],
  });
  assertEquals(again, { ...first, replayed: true });
  assertEquals(prepared, false, "a replay encrypts nothing");
  assertEquals(store.stored.length, 1);
});

Deno.test("nothing is prepared before the request is admitted, and a refusal gives the key back", async () => {
  const { store, submit } = suite();
  let prepared = 0;
  const prepare = [() => {
    prepared++;
    return item("r1")();
  }];
  const { promise: admitted, resolve: admit } = Promise.withResolvers<void>();
  const submitted = submit({ prepare, admitted });
  while (store.rows.size === 0) await new Promise((resolve) => setTimeout(resolve));
  assertEquals(prepared, 0);
  admit();
  assertEquals([(await submitted).items.length, prepared, store.stored.length], [1, 1, 1]);

  const refused = Promise.reject(new SuiteError("rate_limited"));
  const other = { prepare, admitted: refused, idempotencyKey: "key-2" };
  assertEquals(await codeOf(() => submit(other)), "rate_limited");
  assertEquals([prepared, store.stored.length, store.rows.size, store.abandoned], [1, 1, 1, 1]);
});

Deno.test("the order of members and white space do not make another payload; all else does", async () => {
  const { submit } = suite();
  await submit();
  const same = JSON.parse(`{ "set_default": true, "card": { "number": "${PAN}" } }`);
  assertEquals((await submit({ body: same })).replayed, true);
  for (
    const body of [
      { card: { number: PAN }, set_default: false },
      { card: { number: PAN }, set_default: "true" },
      { card: { number: PAN, extra: null }, set_default: true },
      { card: { number: PAN } },
      [{ card: { number: PAN }, set_default: true }],
      JSON.parse(`{"card":{"number":"${PAN}"},"set_default":true,"__proto__":{"a":1}}`),
    ]
  ) {
    assertEquals(
      await codeOf(() => submit({ body })),
      "idempotency_key_reused",
      JSON.stringify(body),
    );
  }
});

Deno.test("arrays keep their order, and __proto__ is part of the payload", async () => {
  const { submit } = suite();
  const parse = (text: string): unknown => JSON.parse(text);
  await submit({ idempotencyKey: "a", body: [1, 2] });
  assertEquals(
    await codeOf(() => submit({ idempotencyKey: "a", body: [2, 1] })),
    "idempotency_key_reused",
  );
  await submit({ idempotencyKey: "b", body: parse('{"__proto__":{"x":1},"a":1}') });
  assertEquals(
    (await submit({ idempotencyKey: "b", body: parse('{"a":1,"__proto__":{"x":1}}') })).replayed,
    true,
  );
  assertEquals(
    await codeOf(() => submit({ idempotencyKey: "b", body: parse('{"a":1,"__proto__":{"x":2}}') })),
    "idempotency_key_reused",
  );
});

Deno.test("the same key in another scope is another key", async () => {
  const { store, submit } = suite();
  await submit();
  const other = await submit({ scope: "user:b POST /encrypt-payment-data", prepare: [item("r2")] });
  assertEquals(other.replayed, false);
  assertEquals(store.stored.length, 2);
});

Deno.test("neither the client's key nor its payload reaches the store, only keyed hashes", async () => {
  const { store, submit } = suite();
  await submit({ idempotencyKey: PAN });
  const [seen = ""] = store.seen;
  assert(!seen.includes(PAN));
  const [key, requestHash] = JSON.parse(seen) as [IdempotencyKey, string];
  for (const hash of [key.keyHash, requestHash]) assert(/^[0-9a-f]{64}$/.test(hash), hash);
  // Another installation's hashes differ: they are keyed.
  const other = suite();
  await other.submit({ idempotencyKey: PAN });
  assert(other.store.seen[0] !== seen);
});

Deno.test("while a request is in flight its repeat is told when to come back", async () => {
  const { submit } = suite();
  const gate = Promise.withResolvers<void>();
  const first = submit({ prepare: [() => gate.promise.then(item("r1"))] });
  await new Promise((resolve) => setTimeout(resolve));
  const error = await suiteError(() => submit());
  assertEquals([error.code, error.retryAfterSeconds], ["idempotency_in_flight", 7]);
  gate.resolve();
  await first;
  assertEquals((await submit()).replayed, true);
});

Deno.test("a failed preparation stores nothing and gives the key back", async () => {
  const { store, submit } = suite();
  const outage = new SuiteError("kms_unavailable");
  const error = await suiteError(() =>
    submit({ prepare: [item("r1"), () => Promise.reject(outage)] })
  );
  assertStrictEquals(error, outage);
  assertEquals([store.stored.length, store.abandoned], [0, 1]);
  assertEquals((await submit()).replayed, false);
});

Deno.test("a failed store gives the key back, and the failure stays what it was", async () => {
  const { store, submit } = suite();
  store.failStore = new SuiteError("database_unavailable");
  store.failAbandon = new SuiteError("internal_error");
  assertEquals(await codeOf(() => submit()), "database_unavailable");
  store.failAbandon = undefined;
  assertEquals(
    await codeOf(() => submit()),
    "idempotency_in_flight",
    "the lease could not be given back",
  );
});

Deno.test("a request whose lease was taken over stores nothing", async () => {
  const { store, submit } = suite();
  const error = await suiteError(() =>
    submit({
      prepare: [async () => {
        store.takeOver();
        return await item("r1")();
      }],
    })
  );
  assertEquals(error.code, "idempotency_in_flight");
  assertEquals(store.stored.length, 0);
  assertEquals(
    [...store.rows.values()][0]?.token,
    "somebody else's",
    "nor takes the lease of its successor",
  );
});

Deno.test("items are prepared sixteen at a time, and keep their order", async () => {
  const { store, submit } = suite();
  let running = 0;
  let most = 0;
  const prepare = Array.from({ length: 100 }, (_, index) => async () => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, index % 3));
    running--;
    return await item(`r${index}`)();
  });
  const { items } = await submit({ prepare });
  assertEquals(most, 16);
  assertEquals(
    items.map((stored) => "record" in stored ? stored.record.id : ""),
    Array.from({ length: 100 }, (_, index) => `r${index}`),
  );
  assertEquals(store.stored.length, 100);
});

Deno.test("after the first failure no further item is begun", async () => {
  const { submit } = suite();
  let begun = 0;
  const prepare = Array.from({ length: 100 }, () => async (): Promise<PreparedItem> => {
    begun++;
    await Promise.resolve();
    throw new SuiteError("kms_unavailable");
  });
  assertEquals(await codeOf(() => submit({ prepare })), "kms_unavailable");
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(begun, 16);
});
