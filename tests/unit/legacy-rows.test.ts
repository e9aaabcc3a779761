/** The run over staged rows: what ends a row, what ends the run, and a worker's death at each of its steps. */
import { assert, assertEquals } from "@std/assert";
import { LegacyRows } from "../../functions-shared/admin/legacy/rows.ts";
import type {
  Claim,
  ClaimedRow,
  LegacyStore,
  StagedRow,
  Target,
} from "../../functions-shared/admin/legacy/store.ts";
import { CARD_BRANDS } from "../../functions-shared/config.ts";
import { type ErrorCode, SuiteError } from "../../functions-shared/errors.ts";
import type { PaymentInput } from "../../functions-shared/payments/card.ts";
import type { RecordInput } from "../../functions-shared/records/records.ts";
import type { PreparedItem, StoredItem } from "../../functions-shared/storage/store.ts";
import { LEGACY_KEY, legacyCiphertext } from "./support/legacy.ts";
import { ACTOR } from "./support/memory-records.ts";
import { codeOf } from "./support/thrown.ts";

const OWNER = "0b9bd1a5-1111-4111-8111-111111111111";
const VISA = "4242424242424242";

interface MemoryRow extends ClaimedRow {
  recordId: string | undefined;
  status: string;
  token: string | undefined;
  leased: boolean;
}

/** The tables in memory, with a worker that dies where a test says. */
class World {
  readonly rows: MemoryRow[] = [];
  /** Values by id, as if decrypted. */
  readonly stored = new Map<string, unknown>();
  stores = 0;
  released = 0;
  dieAt: "before store" | "after store" | "before close" | "after close" | undefined;
  /** Resolves with the death. */
  readonly death = Promise.withResolvers<void>();
  failPrepare: Error | undefined;
  failClose: Error | undefined;
  openKey: () => Promise<Uint8Array> = () => Promise.resolve(LEGACY_KEY.slice());
  readonly opened: Uint8Array[] = [];
  /** What is read back in place of what was stored. */
  tampered: unknown;

  stage(text: string, target: Target = { data_class: "pii" }, key = LEGACY_KEY): MemoryRow {
    const row: MemoryRow = {
      id: crypto.randomUUID(),
      keyId: "default",
      userId: OWNER,
      encoding: "v1_hex",
      ciphertext: legacyCiphertext(text, "v1_hex", key),
      target,
      recordId: undefined,
      status: "pending",
      token: undefined,
      leased: false,
    };
    this.rows.push(row);
    return row;
  }

  /** The lease of whoever died is over. */
  expire(): void {
    for (const row of this.rows) row.leased = false;
    this.dieAt = undefined;
  }

  run(budgetMs = 1000, now?: () => number) {
    const rows = new LegacyRows({
      store: this.#store() as LegacyStore,
      keys: {
        open: async () => {
          const key = await this.openKey();
          this.opened.push(key);
          return key;
        },
      },
      payments: {
        prepare: (_owner: string, { card }: PaymentInput) => this.#prepare(card.number),
        holds: (row, number) => this.#holds(row.id, number),
      },
      records: {
        prepare: (_owner: string, { data }: RecordInput) => this.#prepare(data),
        holds: (row, data) => this.#holds(row.id, data),
      },
      cardBrands: CARD_BRANDS,
      ...now === undefined ? {} : { now },
    });
    return rows.run(ACTOR, budgetMs);
  }

  /** A dead worker does nothing more, not even fail. */
  #die(): Promise<never> {
    this.death.resolve();
    return new Promise(() => {});
  }

  #prepare(value: unknown): Promise<PreparedItem> {
    if (this.failPrepare !== undefined) return Promise.reject(this.failPrepare);
    const id = crypto.randomUUID();
    return Promise.resolve({ kind: "record", id, value } as unknown as PreparedItem);
  }

  #holds(id: string, value: unknown): Promise<boolean | undefined> {
    if (!this.stored.has(id)) return Promise.resolve(undefined);
    const stored = this.tampered ?? this.stored.get(id);
    return Promise.resolve(JSON.stringify(stored) === JSON.stringify(value));
  }

  #held(id: string, token: string): MemoryRow {
    const row = this.rows.find((one) => one.id === id);
    if (row === undefined || row.token !== token || row.status !== "pending") {
      throw new SuiteError("idempotency_in_flight");
    }
    return row;
  }

  #store(): Partial<LegacyStore> {
    return {
      claim: (limit: number): Promise<Claim> => {
        const token = crypto.randomUUID();
        const rows = this.rows.filter(({ status, leased }) => status === "pending" && !leased)
          .slice(0, limit);
        for (const row of rows) Object.assign(row, { token, leased: true });
        return Promise.resolve({ token, rows: rows.map((row) => ({ ...row })) });
      },
      storeRow: (_actor, id, token, item): Promise<StoredItem> => {
        if (this.dieAt === "before store") return this.#die();
        const row = this.#held(id, token);
        const { id: recordId, value } = item as unknown as { id: string; value: unknown };
        this.stored.set(recordId, value);
        row.recordId = recordId;
        this.stores++;
        if (this.dieAt === "after store") return this.#die();
        return Promise.resolve({ outcome: "created", record: { id: recordId } });
      },
      closeRow: (_actor, id, token, failure) => {
        if (this.failClose !== undefined) throw this.failClose;
        if (this.dieAt === "before close") return this.#die();
        this.#held(id, token).status = failure === undefined
          ? "imported"
          : `${failure.code} ${failure.detail ?? ""}`.trim();
        if (this.dieAt === "after close") return this.#die();
        return Promise.resolve();
      },
      release: (token) => {
        this.released++;
        for (const row of this.rows) if (row.token === token) row.leased = false;
        return Promise.resolve();
      },
      progress: () =>
        Promise.resolve({
          pending: this.rows.filter(({ status }) => status === "pending").length,
          failed: this.rows.filter(({ status }) => / |_/.test(status)).length,
          imported: this.rows.filter(({ status }) => status === "imported").length,
        }),
    };
  }
}

Deno.test("rows are stored, verified and closed, chunk after chunk", async () => {
  const world = new World();
  for (let n = 0; n < 45; n++) world.stage(`row ${n}`);
  assertEquals(await world.run(), {
    imported: 45,
    failed: 0,
    remaining: { pending: 0, failed: 0 },
  });
  assertEquals(
    new Set([...world.stored.values()].map((value) => JSON.stringify(value))),
    new Set(world.rows.map((_, n) => JSON.stringify({ value: `row ${n}` }))),
  );
  for (const key of world.opened) assertEquals(key, new Uint8Array(32), "keys are zeroed");
});

for (const step of ["before store", "after store", "before close", "after close"] as const) {
  Deno.test(`a worker that dies ${step}: the next one stores nothing twice`, async () => {
    const world = new World();
    world.dieAt = step;
    const row = world.stage("Ada");
    await Promise.race([world.run(), world.death.promise]);
    assertEquals(world.stores, step === "before store" ? 0 : 1);
    world.expire();
    await world.run();
    assertEquals([row.status, world.stores, world.stored.size], ["imported", 1, 1]);
  });
}

Deno.test("what its owner deleted meanwhile is not brought back", async () => {
  const world = new World();
  world.dieAt = "before close";
  const row = world.stage("Ada");
  await Promise.race([world.run(), world.death.promise]);
  world.expire();
  world.stored.clear();
  assertEquals((await world.run()).imported, 1);
  assertEquals([row.status, world.stored.size], ["imported", 0]);
});

Deno.test("what reads back as something else fails, and keeps its ciphertext", async () => {
  const world = new World();
  world.tampered = { value: "Eve" };
  const row = world.stage("Ada");
  assertEquals((await world.run()).failed, 1);
  assertEquals(row.status, "decryption_failed not_what_was_stored");
});

Deno.test("a row's own fault ends the row, and the others go on", async () => {
  const world = new World();
  const card: Target = { data_class: "payment", exp_month: 12, exp_year: 2099 };
  world.stage("4242", { ...card, exp_year: new Date().getUTCFullYear() + 1 });
  world.stage(VISA, { ...card, exp_year: 2000 });
  world.stage(`${VISA} 123`, card);
  world.stage("Ada", { data_class: "pii" }, LEGACY_KEY.toReversed());
  world.stage("Ada");
  assertEquals(await world.run(), { imported: 1, failed: 4, remaining: { pending: 0, failed: 4 } });
  assertEquals(world.rows.map(({ status }) => status), [
    "validation_failed invalid_card_number",
    "validation_failed expired_card",
    "sensitive_authentication_data sensitive_authentication_data",
    "decryption_failed",
    "imported",
  ]);
});

Deno.test("an outage ends the run: rows stay pending, and are given back", async () => {
  const outages: ErrorCode[] = [
    "kms_unavailable",
    "kms_access_denied",
    "kms_key_unusable",
    "database_unavailable",
  ];
  for (const code of outages) {
    const world = new World();
    for (let n = 0; n < 25; n++) world.stage(`row ${n}`);
    world.failPrepare = new SuiteError(code);
    assertEquals(await codeOf(() => world.run()), code);
    assert(world.rows.every(({ status, leased }) => status === "pending" && !leased), code);
    world.failPrepare = undefined;
    assertEquals((await world.run()).imported, 25);
  }
});

Deno.test("a row that makes the functions stumble does not stand in the way of others", async () => {
  for (const failure of [new SuiteError("internal_error"), new TypeError("bug")]) {
    const world = new World();
    world.stage("Ada");
    world.failPrepare = failure;
    assertEquals((await world.run()).failed, 1);
    assertEquals(world.rows[0]?.status, "internal_error");
  }
});

Deno.test("a row that another worker took over is theirs", async () => {
  const world = new World();
  world.stage("Ada");
  world.failClose = new SuiteError("idempotency_in_flight");
  const run = world.run(0);
  assertEquals(await run, { imported: 0, failed: 0, remaining: { pending: 1, failed: 0 } });
});

Deno.test("an imported key that does not open ends the run, and fails no row", async () => {
  const world = new World();
  world.stage("Ada");
  world.openKey = () => Promise.reject(new SuiteError("decryption_failed"));
  assertEquals(await codeOf(() => world.run()), "decryption_failed");
  assertEquals([world.rows[0]?.status, world.rows[0]?.leased], ["pending", false]);
});

Deno.test("no further row is begun when the time is over, but one is", async () => {
  const world = new World();
  for (let n = 0; n < 45; n++) world.stage(`row ${n}`);
  let time = 0;
  const run = await world.run(5, () => time += 10);
  assertEquals([run.imported, run.remaining.pending], [1, 44]);
  assert(world.rows.every(({ leased, status }) => status === "imported" || !leased));
  assertEquals((await world.run()).imported, 44);
});

Deno.test("staging under a key that is not there is refused by field", async () => {
  const rows = new LegacyRows({
    store: { stage: () => Promise.resolve(undefined) } as Partial<LegacyStore> as LegacyStore,
    keys: { open: () => Promise.reject(new Error()) },
    payments: { prepare: () => Promise.reject(), holds: () => Promise.reject() },
    records: { prepare: () => Promise.reject(), holds: () => Promise.reject() },
    cardBrands: CARD_BRANDS,
  });
  const none: StagedRow[] = [];
  assertEquals(await codeOf(() => rows.stage(ACTOR, "x", "hex", none)), "validation_failed");
});
