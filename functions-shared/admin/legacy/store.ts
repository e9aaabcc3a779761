/** Imported keys and staged rows as the use case sees them, and the port that keeps them. */
import type { DataClass } from "../../data-class.ts";
import type { EncryptedField } from "../../keys/field-cipher.ts";
import type { Page, PreparedItem, StoredItem } from "../../storage/store.ts";
import type { Actor } from "../../telemetry/audit.ts";
import type { Encoding } from "./format.ts";

export const SOURCES = ["aws", "gcp", "vault", "env", "inline"] as const;
export type Source = typeof SOURCES[number];

/** What is told of an imported key: everything but the key. */
export interface LegacyKey {
  readonly key_id: string;
  readonly source: Source;
  /** The beginning of its keyed hash: equal for the same key. */
  readonly fingerprint: string;
  readonly created_at: string;
  readonly created_by: string;
}

export interface SealedKey {
  readonly keyId: string;
  /** Bound into the message. */
  readonly id: string;
  readonly sealed: EncryptedField;
  /** 64 hexadecimal digits. */
  readonly fingerprint: string;
  readonly source: Source;
}

/** What a row is to become. */
export type Target =
  | {
    readonly data_class: "payment";
    readonly exp_month: number;
    readonly exp_year: number;
    readonly nickname?: string;
  }
  | {
    readonly data_class: "pii" | "general";
    readonly label?: string;
    /** The member of the record's data that holds the text; without it `value`, or the object it is. */
    readonly field?: string;
  };

export interface StagedRow {
  readonly source_id: string;
  readonly user_id: string;
  readonly ciphertext: string;
  readonly target: Target;
}

export interface StageResult {
  readonly source_id: string;
  /** `known` and `imported` say that there was nothing to do; `conflict` and the last that nothing was done. */
  readonly outcome: "staged" | "known" | "imported" | "conflict" | "owner_not_found";
  readonly id: string | null;
}

export const STATUSES = ["pending", "failed", "imported"] as const;
export type RowStatus = typeof STATUSES[number];

/** A row as administrators see it. */
export interface LegacyRow {
  readonly id: string;
  readonly source_id: string;
  readonly key_id: string;
  readonly user_id: string;
  readonly encoding: Encoding;
  readonly data_class: DataClass;
  readonly status: RowStatus;
  readonly error_code: string | null;
  readonly error_detail: string | null;
  readonly table: "payment_methods" | "encrypted_records" | null;
  readonly record_id: string | null;
  readonly staged_at: string;
  readonly updated_at: string;
}

/** A row that this worker has for a while. */
export interface ClaimedRow {
  readonly id: string;
  readonly keyId: string;
  readonly userId: string;
  readonly encoding: Encoding;
  readonly ciphertext: string;
  readonly target: Target;
  /** What an earlier worker stored it as, without getting as far as verifying it. */
  readonly recordId: string | undefined;
}

export interface Claim {
  readonly token: string;
  readonly rows: readonly ClaimedRow[];
}

export interface Progress {
  readonly pending: number;
  readonly failed: number;
  readonly imported: number;
}

/**
 * What changes anything commits together with its audit entry. All throw `SuiteError` database_unavailable
 * or internal_error; `storeRow` and `closeRow` idempotency_in_flight as well, when the lease was lost.
 */
export interface LegacyStore {
  /** The key that has this id now. */
  putKey(
    actor: Actor,
    key: SealedKey,
  ): Promise<{ readonly outcome: "imported" | "existing" | "conflict"; readonly key: LegacyKey }>;
  listKeys(): Promise<readonly (LegacyKey & { readonly rows: Omit<Progress, "imported"> })[]>;
  getKey(keyId: string): Promise<{ readonly id: string; readonly message: string } | undefined>;
  destroyKey(actor: Actor, keyId: string): Promise<"destroyed" | "not_found" | "in_use">;
  /** Undefined when there is no such key. */
  stage(
    actor: Actor,
    keyId: string,
    encoding: Encoding,
    rows: readonly StagedRow[],
  ): Promise<readonly StageResult[] | undefined>;
  claim(limit: number, leaseSeconds: number): Promise<Claim>;
  /** Stores what the row became, once for all workers. */
  storeRow(actor: Actor, id: string, token: string, item: PreparedItem): Promise<StoredItem>;
  /** Without a failure it is imported, and its ciphertext destroyed. */
  closeRow(
    actor: Actor,
    id: string,
    token: string,
    failure?: { readonly code: string; readonly detail: string | undefined },
  ): Promise<void>;
  release(token: string): Promise<void>;
  listRows(
    status: RowStatus | undefined,
    limit: number,
    after: string | undefined,
  ): Promise<Page<LegacyRow>>;
  progress(): Promise<Progress>;
  /** False when there is no such row, or it is being worked on, or imported. */
  discardRow(actor: Actor, id: string): Promise<boolean>;
}
