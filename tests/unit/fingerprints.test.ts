import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { createHash, createHmac } from "node:crypto";
import type { DataClass } from "../../functions-shared/data-class.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { Fingerprints } from "../../functions-shared/keys/fingerprints.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { APP, bytes } from "./support/identity.ts";
import { MemoryRecords } from "./support/memory-records.ts";

const NUMBER = "5200828282828210";

function suite(
  options: { ttlMs?: number; key?: string; secret?: string; records?: MemoryRecords } = {},
) {
  const provider = new EnvKeyProvider(bytes((options.key ?? "x").repeat(32)));
  const records = options.records ?? new MemoryRecords();
  const branchKeys = new BranchKeyStore({ ...APP, records, provider, readers: [provider] });
  const state = { now: 0, reads: 0 };
  const counted = {
    beacon: (id: string, dataClass: DataClass) => {
      state.reads++;
      return branchKeys.beacon(id, dataClass);
    },
  } as unknown as BranchKeyStore;
  const fingerprints = new Fingerprints(counted, {
    ttlMs: options.ttlMs ?? 300_000,
    workerSecret: options.secret ?? "sb_secret_one",
    now: () => state.now,
  });
  return { state, fingerprints, branchKeys, records };
}

Deno.test("a fingerprint is 64 hexadecimal digits, equal for equal numbers only", async () => {
  const { fingerprints } = suite();
  const fingerprint = await fingerprints.card(NUMBER);
  assertMatch(fingerprint, /^[0-9a-f]{64}$/);
  assertEquals(await fingerprints.card(NUMBER), fingerprint);
  assertNotEquals(await fingerprints.card("5555555555554444"), fingerprint);
});

Deno.test("a fingerprint is the same in every worker that reads the same record", async () => {
  const first = suite();
  const fingerprint = await first.fingerprints.card(NUMBER);
  assertEquals(await suite({ records: first.records }).fingerprints.card(NUMBER), fingerprint);
});

Deno.test("an anchor's signature is the same in every worker, and no fingerprint of anything", async () => {
  const first = suite();
  const parts = ["kms-audit-anchor-v1", NUMBER];
  const signature = await first.fingerprints.anchor(parts);
  assertMatch(signature, /^[0-9a-f]{64}$/);
  assertNotEquals(await first.fingerprints.anchor([parts.join("")]), signature);
  assertNotEquals(await first.fingerprints.payload("payment", parts), signature);
  // A replaced secret key changes nothing: signatures must hold for years.
  const later = suite({ records: first.records, secret: "sb_secret_two" });
  assertEquals(await later.fingerprints.anchor(parts), signature);
  assertNotEquals(await suite().fingerprints.anchor(parts), signature);
});

Deno.test("a fingerprint is keyed: no other key store and no plain hash gives it", async () => {
  const { fingerprints, branchKeys } = suite();
  const fingerprint = await fingerprints.card(NUMBER);
  assertNotEquals(await suite().fingerprints.card(NUMBER), fingerprint);
  const beacon = await branchKeys.beacon("payment", "payment");
  const guesses = [
    createHash("sha256").update(NUMBER).digest("hex"),
    createHash("sha512").update(NUMBER).digest("hex").slice(0, 64),
    createHmac("sha256", "").update(NUMBER).digest("hex"),
    // The beacon key itself keys nothing: each purpose has a key derived from it.
    createHmac("sha256", beacon).update(NUMBER).digest("hex"),
  ];
  assert(!guesses.includes(fingerprint));
});

Deno.test("purposes are separate: a card's fingerprint says nothing about a request with that number", async () => {
  const { fingerprints } = suite();
  const different = [
    await fingerprints.card(NUMBER),
    await fingerprints.payload("payment", [NUMBER]),
    await fingerprints.payload("pii", [NUMBER]),
    fingerprints.handle([NUMBER]),
  ];
  assertEquals(new Set(different).size, different.length);
});

Deno.test("the parts of a request keep their borders", async () => {
  const { fingerprints } = suite();
  const different = await Promise.all([
    fingerprints.payload("pii", ["a", "b"]),
    fingerprints.payload("pii", ["ab"]),
    fingerprints.payload("pii", ["a,b"]),
    fingerprints.payload("pii", ['a","b']),
    fingerprints.payload("pii", ["a", "b", ""]),
    fingerprints.payload("pii", ["", "a", "b"]),
  ]);
  assertEquals(new Set(different).size, different.length);
});

Deno.test("the derived keys stay for their time and are then fetched again", async () => {
  const { state, fingerprints } = suite({ ttlMs: 1000 });
  await Promise.all([
    fingerprints.card(NUMBER),
    fingerprints.payload("payment", ["a"]),
  ]);
  assertEquals(state.reads, 1);
  state.now = 999;
  await fingerprints.card(NUMBER);
  assertEquals(state.reads, 1);
  state.now = 1000;
  await fingerprints.card(NUMBER);
  assertEquals(state.reads, 2);
});

Deno.test("with a time of nothing they are fetched for each use", async () => {
  const { state, fingerprints } = suite({ ttlMs: 0 });
  await fingerprints.card(NUMBER);
  await fingerprints.card(NUMBER);
  assertEquals(state.reads, 2);
});

Deno.test("the beacon key is wiped once the keys are derived", async () => {
  const beacon = crypto.getRandomValues(new Uint8Array(32));
  const store = { beacon: () => Promise.resolve(beacon) } as unknown as BranchKeyStore;
  await new Fingerprints(store, { ttlMs: 1000, workerSecret: "s" }).card(NUMBER);
  assertEquals(beacon, new Uint8Array(32));
});

Deno.test("a class needs no other class's key", async () => {
  const asked: string[] = [];
  const store = {
    beacon: (id: string) => {
      asked.push(id);
      return Promise.resolve(new Uint8Array(32).fill(1));
    },
  } as unknown as BranchKeyStore;
  const fingerprints = new Fingerprints(store, { ttlMs: 1000, workerSecret: "s" });
  await fingerprints.payload("general", ["a"]);
  fingerprints.handle(["a"]);
  assertEquals(asked, ["general"]);
});

Deno.test("a handle is keyed by the workers' secret, and needs no key service", () => {
  const one = suite().fingerprints.handle(["scope", "key"]);
  assertMatch(one, /^[0-9a-f]{64}$/);
  assertEquals(suite().fingerprints.handle(["scope", "key"]), one);
  assertNotEquals(suite({ secret: "sb_secret_two" }).fingerprints.handle(["scope", "key"]), one);
});

Deno.test("a clock that was set back does not make the derived keys live longer", async () => {
  const { state, fingerprints } = suite({ ttlMs: 1000 });
  await fingerprints.card(NUMBER);
  state.now = -1;
  await fingerprints.card(NUMBER);
  assertEquals(state.reads, 2);
});

Deno.test("with a time of nothing no two uses share a fetch, and nothing is left after them", async () => {
  const { state, fingerprints } = suite({ ttlMs: 0 });
  await Promise.all([fingerprints.card(NUMBER), fingerprints.card(NUMBER)]);
  assertEquals(state.reads, 2);
});
