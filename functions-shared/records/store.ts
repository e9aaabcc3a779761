import type { Page, RowReference, SealedRow } from "../storage/store.ts";
import type { Actor } from "../telemetry/audit.ts";

export type RecordClass = "pii" | "general";

/** What a record looks like outside; its data stays encrypted. */
export interface EncryptedRecord {
  readonly id: string;
  readonly user_id: string;
  readonly data_class: RecordClass;
  readonly label: string | null;
  /** ISO 8601, UTC. */
  readonly created_at: string;
  readonly updated_at: string;
}

/** As `PaymentMethodStore`. */
export interface RecordStore {
  list(
    ownerId: string,
    dataClass: RecordClass | undefined,
    limit: number,
    after: string | undefined,
  ): Promise<Page<EncryptedRecord>>;
  get(ownerId: string, id: string): Promise<EncryptedRecord | undefined>;
  delete(actor: Actor, ownerId: string, id: string): Promise<boolean>;
  readSealed(
    rows: readonly RowReference[],
  ): Promise<readonly (SealedRow<EncryptedRecord> | undefined)[]>;
}
