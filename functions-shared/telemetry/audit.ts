/** The audit trail as the use cases see it: who did what to which record, and how it ended. */
import type { DataClass } from "../data-class.ts";
import { type ErrorCode, SuiteError } from "../errors.ts";

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

/** That a failure is not in the audit; its cause is the failure. */
class UnauditedError extends Error {
  override readonly name = "UnauditedError";
}

/**
 * Notes a failure after which nothing happens, so that the caller hears of that failure even when the note
 * cannot be committed.
 *
 * @returns what to throw: the failure, with an `UnauditedError` among its causes if it was not noted.
 */
export async function noteFailure(
  failure: SuiteError,
  note: (code: ErrorCode) => Promise<void>,
): Promise<SuiteError> {
  try {
    await note(failure.code);
    return failure;
  } catch {
    const { code, violations, retryAfterSeconds, headers } = failure;
    return new SuiteError(code, {
      violations,
      headers,
      ...retryAfterSeconds === undefined ? {} : { retryAfterSeconds },
      cause: new UnauditedError("A failure could not be audited", { cause: failure }),
    });
  }
}
