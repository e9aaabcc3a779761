import type { EncryptedField } from "../keys/field-cipher.ts";
import type { Actor } from "../telemetry/audit.ts";
import type { Page, RowReference, SealedRow } from "../storage/store.ts";
import type { PaymentMethod } from "./payment-method.ts";

/** Metadata changes; `clear` names the encrypted fields to remove. */
export interface PaymentMethodPatch {
  readonly exp_month?: number;
  readonly exp_year?: number;
  readonly nickname?: string | null;
  readonly clear?: readonly ("cardholder_name" | "billing_address")[];
}

/**
 * Where payment methods live. Every method takes the verified owner and answers undefined (or false)
 * when that owner has no such row. Writes commit together with their audit entry.
 * All throw `SuiteError` database_unavailable or internal_error.
 */
export interface PaymentMethodStore {
  list(ownerId: string, limit: number, after: string | undefined): Promise<Page<PaymentMethod>>;
  get(ownerId: string, id: string): Promise<PaymentMethod | undefined>;
  update(
    actor: Actor,
    ownerId: string,
    id: string,
    patch: PaymentMethodPatch,
    fields: readonly EncryptedField[],
  ): Promise<PaymentMethod | undefined>;
  setDefault(actor: Actor, ownerId: string, id: string): Promise<PaymentMethod | undefined>;
  /** Destroys the row, its messages and its fingerprint; the audit stays. */
  delete(actor: Actor, ownerId: string, id: string): Promise<boolean>;
  /** 1 to 100 rows, in the order asked for. */
  readSealed(
    rows: readonly RowReference[],
  ): Promise<readonly (SealedRow<PaymentMethod> | undefined)[]>;
}
