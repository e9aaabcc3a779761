import { assertEquals, assertRejects } from "@std/assert";
import {
  type Erasure,
  Erasures,
  type ErasureStore,
  type StoredProof,
} from "../../functions-shared/admin/erasures.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { Proofs } from "../../functions-shared/keys/proofs.ts";
import { APP } from "./support/identity.ts";
import { ACTOR } from "./support/memory-records.ts";
import { codeOf } from "./support/thrown.ts";

const erasureOf = (userId: string): Erasure => ({
  id: `erasure of ${userId}`,
  user_id: userId,
  erased_at: "2026-11-25T00:00:00.000Z",
  actor: ACTOR,
  purpose: "gdpr",
  erased: { payment_methods: 1 },
  branch_keys: [{ id: `pii:${userId}`, versions: ["v"] }],
  audit: { day: "2026-11-25", seq: 1, hash: "0" },
});

/** A table of erasures in memory, which does not answer signatures while `broken`. */
class MemoryErasures implements ErasureStore {
  readonly erasures = new Map<string, Erasure>();
  readonly proofs = new Map<string, string>();
  broken = false;

  erase(_actor: unknown, userId: string) {
    const erasure = this.erasures.get(userId) ?? erasureOf(userId);
    this.erasures.set(userId, erasure);
    return Promise.resolve({ erasure, proof: this.proofs.get(erasure.id) });
  }

  unsigned(limit: number) {
    const open = [...this.erasures.values()].filter(({ id }) => !this.proofs.has(id));
    return Promise.resolve(open.slice(0, limit));
  }

  sign(proofs: readonly StoredProof[]) {
    if (this.broken) return Promise.reject(new SuiteError("database_unavailable"));
    for (const { id, proof } of proofs) {
      if (!this.proofs.has(id)) this.proofs.set(id, proof);
    }
    return Promise.resolve(
      proofs.map(({ id }) => ({ id, proof: this.proofs.get(id) ?? "" })),
    );
  }
}

function suite(options: { store?: MemoryErasures; now?: () => number; beacon?: number } = {}) {
  const store = options.store ?? new MemoryErasures();
  const proofs = new Proofs({
    beacon: () => Promise.resolve(new Uint8Array(32).fill(options.beacon ?? 1)),
  });
  const erasures = new Erasures({ ...APP, store, proofs, now: options.now ?? (() => 0) });
  return { store, proofs, erasures };
}

Deno.test("the proof states the erasure, the suite and when it was signed", async () => {
  const { erasures } = suite();
  const { proof, erasure } = await erasures.erase(ACTOR, "u", "gdpr");
  assertEquals(erasure, {
    kind: "erasure",
    app: APP.appName,
    environment: APP.environment,
    ...erasureOf("u"),
    signed_at: "1970-01-01T00:00:00.000Z",
  });
  assertEquals(await erasures.verify(proof), erasure);
});

Deno.test("an erasure that was not signed for a failure is signed by the next call", async () => {
  const { store, erasures } = suite();
  store.broken = true;
  const error = await assertRejects(() => erasures.erase(ACTOR, "u", "gdpr"), SuiteError);
  assertEquals([error.code, store.erasures.size, store.proofs.size], [
    "database_unavailable",
    1,
    0,
  ]);
  store.broken = false;
  const { proof } = await erasures.erase(ACTOR, "u", "gdpr");
  assertEquals((await erasures.verify(proof))?.user_id, "u");
});

Deno.test("the first signature stands, whoever signs later", async () => {
  const store = new MemoryErasures();
  const first = await suite({ store, now: () => 1 }).erasures.erase(ACTOR, "u", "gdpr");
  store.erase = async (...args) => ({
    ...await MemoryErasures.prototype.erase.apply(store, args),
    proof: undefined, // signed by another since it was read
  });
  assertEquals(await suite({ store, now: () => 2 }).erasures.erase(ACTOR, "u", "gdpr"), first);
});

Deno.test("verifying anything signs what is unsigned", async () => {
  const { store, erasures } = suite();
  for (let user = 0; user < 150; user++) await store.erase(ACTOR, String(user));
  assertEquals(await erasures.verify("x"), undefined);
  assertEquals(store.proofs.size, 100);
  await erasures.verify("x");
  assertEquals(store.proofs.size, 150);
});

Deno.test("a proof of something else, or of another suite, is none of an erasure", async () => {
  const { proofs, erasures } = suite();
  const other = await proofs.withKey((key) => Promise.resolve(key.sign({ kind: "receipt" })));
  assertEquals(await erasures.verify(other), undefined);
  const elsewhere = await suite({ beacon: 2 }).erasures.erase(ACTOR, "u", "gdpr");
  assertEquals(await erasures.verify(elsewhere.proof), undefined);
});

Deno.test("what another key signed long ago is still answered", async () => {
  const store = new MemoryErasures();
  const old = await suite({ store, beacon: 2 }).erasures.erase(ACTOR, "u", "gdpr");
  const { proof, erasure } = await suite({ store }).erasures.erase(ACTOR, "u", "gdpr");
  assertEquals([proof, erasure.user_id], [old.proof, "u"]);
});

Deno.test("what is pending is signed, up to a thousand; nothing pending asks for no key", async () => {
  const { store, erasures } = suite();
  for (let user = 0; user < 1050; user++) await store.erase(ACTOR, String(user));
  assertEquals([await erasures.signPending(), store.proofs.size], [1000, 1000]);
  assertEquals([await erasures.signPending(), store.proofs.size], [50, 1050]);
  const { proof, erasure } = await erasures.erase(ACTOR, "1049", "gdpr");
  assertEquals(await erasures.verify(proof), erasure);

  const proofs = new Proofs({ beacon: () => Promise.reject(new SuiteError("kms_unavailable")) });
  const keyless = new Erasures({ ...APP, store, proofs });
  assertEquals(await keyless.signPending(), 0);
  await store.erase(ACTOR, "another");
  assertEquals(await codeOf(() => keyless.signPending()), "kms_unavailable");
});
