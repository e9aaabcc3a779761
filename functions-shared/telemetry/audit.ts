/** The audit trail as the use cases see it: who did what to which record, and how it ended. */
import type { DataClass } from "../data-class.ts";
import type { ErrorCode } from "../errors.ts";

/** Whoever causes an entry. */
export interface Actor {
  readonly actor_type: "user" | "admin" | "secret_key" | "system";
  /** User id, or the name of the secret key. */
  readonly actor_id: string;
  readonly request_id: string;
  readonly function: string;
  /** Keyed hash of the address that the request came from, when there is one. */
  readonly address_hash?: string;
}

export interface AuditEntry {
  readonly action: string;
  readonly outcome: "success" | "failure";
  readonly error_code?: ErrorCode;
  readonly data_class?: DataClass;
  readonly table_name?: string;
  readonly record_id?: string;
  readonly owner_id?: string;
  /** Why plaintext was asked for; a short token, checked before it comes here. */
  readonly purpose?: string;
  readonly kms_key_arn?: string;
  readonly kms_region?: string;
  readonly branch_key_id?: string;
  readonly branch_key_version?: string;
}

export interface AuditLog {
  /**
   * Resolves once the entries are committed.
   * @throws {SuiteError} database_unavailable; then nothing that was to be audited may happen.
   */
  append(actor: Actor, entries: readonly AuditEntry[]): Promise<void>;
}
