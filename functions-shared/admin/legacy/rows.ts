/**
 * The rows of older setups: staged as they are, then one by one decrypted, taken in as if they had just been
 * sent, read back and compared, and only then forgotten. A row is stored in the transaction that notes it,
 * so that a worker may die anywhere and the next one stores nothing twice.
 */
import { SuiteError, validationFailed } from "../../errors.ts";
import type { Payments } from "../../payments/payments.ts";
import type { Records } from "../../records/records.ts";
import { inTurns } from "../../storage/in-turns.ts";
import type { Page, StoredItem } from "../../storage/store.ts";
import type { Actor } from "../../telemetry/audit.ts";
import { decryptLegacy, type Encoding } from "./format.ts";
import type { LegacyKeys } from "./keys.ts";
import { type LegacyInput, readPlaintext } from "./plaintext.ts";
import type {
  ClaimedRow,
  LegacyRow,
  LegacyStore,
  Progress,
  RowStatus,
  StagedRow,
  StageResult,
} from "./store.ts";

/** Rows of one claim. */
const CHUNK = 20;

/** Longer than a chunk may take; after it, another worker takes what is left of it. */
const LEASE_SECONDS = 120;

/** What is the row's own fault; everything else is the world's, and may pass. */
const FAILS_ROW = [
  "decryption_failed",
  "validation_failed",
  "sensitive_authentication_data",
  // A row that the database refuses would otherwise stand in the way of all others for ever.
  "internal_error",
];

interface Failure {
  readonly code: string;
  readonly detail: string | undefined;
}

type Outcome = "imported" | "failed" | "lost" | "left";

export interface RunResult {
  /** Of this run. */
  readonly imported: number;
  readonly failed: number;
  /** What there is to do, and what there is to look at, after it. */
  readonly remaining: Omit<Progress, "imported">;
}

export class LegacyRows {
  readonly #options: {
    readonly store: LegacyStore;
    readonly keys: Pick<LegacyKeys, "open">;
    readonly payments: Pick<Payments, "prepare" | "holds">;
    readonly records: Pick<Records, "prepare" | "holds">;
    readonly cardBrands: readonly string[];
    readonly now?: () => number;
  };

  constructor(options: {
    readonly store: LegacyStore;
    readonly keys: Pick<LegacyKeys, "open">;
    readonly payments: Pick<Payments, "prepare" | "holds">;
    readonly records: Pick<Records, "prepare" | "holds">;
    /** Brands accepted. */
    readonly cardBrands: readonly string[];
    /** Milliseconds since the epoch. */
    readonly now?: () => number;
  }) {
    this.#options = options;
  }

  /** @throws {SuiteError} validation_failed when there is no such key. */
  async stage(
    actor: Actor,
    keyId: string,
    encoding: Encoding,
    rows: readonly StagedRow[],
  ): Promise<readonly StageResult[]> {
    const results = await this.#options.store.stage(actor, keyId, encoding, rows);
    if (results !== undefined) return results;
    throw validationFailed([{
      pointer: "/key_id",
      code: "unknown_key",
      detail: "must be the id of an imported key",
    }]);
  }

  list(
    status: RowStatus | undefined,
    limit: number,
    after: string | undefined,
  ): Promise<Page<LegacyRow>> {
    return this.#options.store.listRows(status, limit, after);
  }

  /** @throws {SuiteError} not_found. */
  async discard(actor: Actor, id: string): Promise<void> {
    if (!await this.#options.store.discardRow(actor, id)) throw new SuiteError("not_found");
  }

  /**
   * Imports pending rows, at least one chunk, until none is left or the time is over. Any number of runs
   * may work at once. Rows that fail are marked, and listed by status.
   *
   * `budgetMs`: after it no further row is begun.
   * @throws {SuiteError} kms_*, database_unavailable, decryption_failed (of the imported key): what is done
   *   is done, and the rest can be run again.
   */
  async run(actor: Actor, budgetMs: number, signal?: AbortSignal): Promise<RunResult> {
    const { store, now = Date.now } = this.#options;
    const deadline = now() + budgetMs;
    const keys = new Map<string, Uint8Array>();
    const done = { imported: 0, failed: 0 };
    try {
      do {
        const { token, rows } = await store.claim(CHUNK, LEASE_SECONDS);
        if (rows.length === 0) break;
        let trouble: unknown;
        try {
          for (const { keyId } of rows) {
            if (keys.has(keyId)) continue;
            keys.set(keyId, await this.#options.keys.open(actor, keyId, signal));
          }
          const outcomes = await inTurns(rows.map((row, index) => async (): Promise<Outcome> => {
            const key = keys.get(row.keyId);
            if (trouble !== undefined || key === undefined) return "left";
            if (index > 0 && now() > deadline) return "left";
            try {
              return await this.#import(actor, token, row, key, signal);
            } catch (error) {
              // Not thrown on: others are still at work with these keys.
              trouble ??= error;
              return "left";
            }
          }));
          done.imported += outcomes.filter((outcome) => outcome === "imported").length;
          done.failed += outcomes.filter((outcome) => outcome === "failed").length;
        } finally {
          await store.release(token).catch(() => {});
        }
        if (trouble !== undefined) throw trouble;
      } while (now() < deadline && !signal?.aborted);
    } finally {
      for (const key of keys.values()) key.fill(0);
    }
    const { pending, failed } = await store.progress();
    return { ...done, remaining: { pending, failed } };
  }

  async #import(
    actor: Actor,
    token: string,
    row: ClaimedRow,
    key: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<Outcome> {
    const { store } = this.#options;
    try {
      const failure = await this.#take(actor, token, row, key, signal);
      await store.closeRow(actor, row.id, token, failure);
      return failure === undefined ? "imported" : "failed";
    } catch (error) {
      // Another worker took the row over: it is theirs now.
      if (error instanceof SuiteError && error.code === "idempotency_in_flight") return "lost";
      throw error;
    }
  }

  /** Stores the row and reads it back; what fails it, if anything does. */
  async #take(
    actor: Actor,
    token: string,
    row: ClaimedRow,
    key: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<Failure | undefined> {
    const { store, cardBrands, now = Date.now } = this.#options;
    let plaintext: Uint8Array | undefined;
    try {
      plaintext = await decryptLegacy(key, row.ciphertext, row.encoding);
      const input = readPlaintext(plaintext, row.target, { brands: cardBrands, now: now() });
      let id = row.recordId;
      if (id === undefined) {
        const item = await this.#prepare(row.userId, input, signal);
        id = idOf(await store.storeRow(actor, row.id, token, item));
        if (id === undefined) return { code: "owner_not_found", detail: undefined };
      }
      // Undefined: its owner has deleted it since, and it is not for us to bring it back.
      if (await this.#holds({ ownerId: row.userId, id }, input, signal) !== false) return undefined;
      return { code: "decryption_failed", detail: "not_what_was_stored" };
    } catch (error) {
      // A fault of ours that one row provokes fails that row, too.
      if (error instanceof SuiteError || signal?.aborted) return failureOf(error);
      return { code: "internal_error", detail: undefined };
    } finally {
      plaintext?.fill(0);
    }
  }

  #prepare(ownerId: string, item: LegacyInput, signal: AbortSignal | undefined) {
    const { payments, records } = this.#options;
    return item.kind === "payment"
      ? payments.prepare(ownerId, item.input, signal)
      : records.prepare(ownerId, item.input, signal);
  }

  #holds(
    row: { readonly ownerId: string; readonly id: string },
    item: LegacyInput,
    signal: AbortSignal | undefined,
  ): Promise<boolean | undefined> {
    const { payments, records } = this.#options;
    return item.kind === "payment"
      ? payments.holds(row, item.input.card.number, signal)
      : records.holds(row, item.input.data, signal);
  }
}

/** Undefined when the owner is gone. */
function idOf(stored: StoredItem): string | undefined {
  if ("payment_method" in stored) return stored.payment_method.id;
  if ("record" in stored) return stored.record.id;
  if (stored.outcome === "owner_not_found") return undefined;
  throw new SuiteError("internal_error");
}

/** @throws what is not the row's fault */
function failureOf(error: unknown): Failure {
  if (!(error instanceof SuiteError) || !FAILS_ROW.includes(error.code)) throw error;
  const [violation] = error.violations;
  return { code: error.code, detail: violation?.code };
}
