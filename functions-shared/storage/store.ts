/** What prepared items look like, and the port that stores them. */
import type { DataClass } from "../data-class.ts";
import type { EncryptedField } from "../keys/field-cipher.ts";
import type { Actor } from "../telemetry/audit.ts";

/** A page, newest first; `next` continues it and is undefined on the last one. */
export interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: string | undefined;
}

/** Names one row. */
export interface RowReference {
  readonly ownerId: string;
  readonly id: string;
}

/** A row with everything that is needed to reveal it. */
export interface SealedRow<Row> {
  readonly row: Row;
  readonly fields: readonly EncryptedField[];
}

/** A problem as RFC 9457 has it, kept so that a replay answers what the first request answered. */
export type ProblemDocument = Readonly<Record<string, unknown>>;

export interface PreparedPaymentMethod {
  readonly kind: "payment_method";
  readonly id: string;
  readonly owner_id: string;
  readonly fingerprint: string;
  readonly brand: string;
  readonly last4: string;
  readonly exp_month: number;
  readonly exp_year: number;
  readonly nickname: string | null;
  readonly set_default: boolean;
  readonly ciphertexts: readonly EncryptedField[];
}

export interface PreparedRecord {
  readonly kind: "record";
  readonly id: string;
  readonly owner_id: string;
  readonly data_class: "pii" | "general";
  readonly label: string | null;
  readonly ciphertexts: readonly EncryptedField[];
}

/** An item that was refused, for the replay and for the audit. */
export interface PreparedProblem {
  readonly kind: "problem";
  readonly problem: ProblemDocument;
  readonly owner_id?: string;
  readonly data_class?: DataClass;
}

export type PreparedItem =
  | PreparedPaymentMethod
  | PreparedRecord
  | PreparedProblem;

export type StoredItem =
  | { readonly outcome: "created" | "existing"; readonly payment_method: { readonly id: string } }
  | { readonly outcome: "created"; readonly record: { readonly id: string } }
  | { readonly outcome: "owner_not_found" }
  /** Of a replay: what was stored then has been deleted since. */
  | { readonly outcome: "gone" }
  | { readonly outcome: "problem"; readonly problem: ProblemDocument };

/** Keyed hashes only: neither the client's key nor its payload is stored. */
export interface IdempotencyKey {
  readonly scope: string;
  readonly keyHash: string;
}

/** The right to complete the request; lost when another request took it over after the lease ran out. */
export interface IdempotencyLease extends IdempotencyKey {
  readonly token: string;
}

export type IdempotencyState =
  | { readonly state: "started"; readonly token: string }
  | { readonly state: "replay"; readonly results: readonly StoredItem[] }
  | { readonly state: "mismatch" }
  | { readonly state: "in_flight"; readonly retryAfterSeconds: number };

/** All methods throw `SuiteError` database_unavailable or internal_error. */
export interface IntakeStore {
  begin(
    key: IdempotencyKey,
    requestHash: string,
    leaseSeconds: number,
    retentionSeconds: number,
  ): Promise<IdempotencyState>;
  /** Gives the lease back, so that the client's next try need not wait; no harm when it is gone. */
  abandon(lease: IdempotencyLease): Promise<void>;
  /**
   * One transaction: the rows, their audit entries, and the completion of the idempotency key.
   * @throws {SuiteError} idempotency_in_flight when the lease was lost; then nothing is stored.
   */
  store(
    actor: Actor,
    items: readonly PreparedItem[],
    lease: IdempotencyLease,
  ): Promise<readonly StoredItem[]>;
}
