/**
 * Every error an HTTP caller can see, in one closed table: code -> status and title.
 *
 * `retryable` tells a client whether the same request may succeed later unchanged. Details that could
 * help an attacker or leak a value travel only in `cause`, which is for logs and is itself filtered.
 */

interface ErrorSpec {
  readonly status: number;
  readonly title: string;
  readonly retryable: boolean;
}

export const ERRORS = {
  malformed_json: { status: 400, title: "The body is not valid JSON", retryable: false },
  invalid_request: { status: 400, title: "The request is not valid", retryable: false },
  idempotency_key_required: {
    status: 400,
    title: "This request needs an Idempotency-Key header",
    retryable: false,
  },
  unauthorized: { status: 401, title: "Valid credentials are required", retryable: false },
  reveal_not_allowed: {
    status: 403,
    title: "These credentials may not reveal stored data",
    retryable: false,
  },
  admin_required: {
    status: 403,
    title: "Only administrators may do this",
    retryable: false,
  },
  not_found: { status: 404, title: "There is no such resource", retryable: false },
  method_not_allowed: { status: 405, title: "This method is not allowed here", retryable: false },
  idempotency_in_flight: {
    status: 409,
    title: "A request with this Idempotency-Key is still being processed",
    retryable: true,
  },
  configuration_conflict: {
    status: 409,
    title: "The configuration is at another revision by now",
    retryable: true,
  },
  configuration_locks_out: {
    status: 409,
    title: "Under this configuration stored data could no longer be read",
    retryable: true,
  },
  job_running: {
    status: 409,
    title: "A job is already working on this",
    retryable: true,
  },
  legacy_key_conflict: {
    status: 409,
    title: "Another key was imported under this id",
    retryable: true,
  },
  legacy_key_in_use: {
    status: 409,
    title: "Staged rows still need this key",
    retryable: true,
  },
  rotation_conflict: {
    status: 409,
    title: "Another rotation of this key came first",
    retryable: false,
  },
  rotation_limit_reached: {
    status: 409,
    title: "This key has no rotations on demand left",
    retryable: false,
  },
  rotation_not_supported: {
    status: 409,
    title: "This key cannot be rotated on demand",
    retryable: false,
  },
  branch_key_in_use: {
    status: 409,
    title: "This version of the branch key is in use",
    retryable: false,
  },
  migration_conflict: {
    status: 409,
    title: "Another migration of keys stands against this, or this step does not follow",
    retryable: false,
  },
  migration_incomplete: {
    status: 409,
    title: "Not every branch key is ready for this step of the migration",
    retryable: false,
  },
  payload_too_large: { status: 413, title: "The body is larger than 64 KiB", retryable: false },
  unsupported_media_type: {
    status: 415,
    title: "The body must be application/json",
    retryable: false,
  },
  validation_failed: { status: 422, title: "The request has invalid fields", retryable: false },
  sensitive_authentication_data: {
    status: 422,
    title: "Card verification codes, PINs and track data are never accepted",
    retryable: false,
  },
  key_import_failed: {
    status: 422,
    title: "The key could not be imported",
    retryable: false,
  },
  idempotency_key_reused: {
    status: 422,
    title: "This Idempotency-Key was used with another payload",
    retryable: false,
  },
  audit_chain_broken: {
    status: 422,
    title: "The audit trail does not verify: what is broken is evidence and stays",
    retryable: false,
  },
  configuration_test_failed: {
    status: 422,
    title: "The configuration was tried, and does not work",
    retryable: false,
  },
  rate_limited: { status: 429, title: "There were too many requests", retryable: true },
  decryption_failed: {
    status: 500,
    title: "The stored message could not be decrypted",
    retryable: false,
  },
  internal_error: { status: 500, title: "The request could not be processed", retryable: false },
  configuration_invalid: {
    status: 503,
    title: "The service is not configured correctly",
    retryable: true,
  },
  kms_unavailable: {
    status: 503,
    title: "The key service cannot be reached",
    retryable: true,
  },
  kms_access_denied: {
    status: 503,
    title: "The key service refused the request",
    retryable: true,
  },
  kms_key_unusable: {
    status: 503,
    title: "The encryption key cannot be used in its present state",
    retryable: true,
  },
  branch_key_retired: {
    status: 503,
    title: "The branch key's version was retired meanwhile; the same request uses the new one",
    retryable: true,
  },
  database_unavailable: {
    status: 503,
    title: "The database cannot be reached",
    retryable: true,
  },
} as const satisfies Record<string, ErrorSpec>;

export type ErrorCode = keyof typeof ERRORS;

/** One rejected field: where it is (RFC 6901 pointer into the body, or a query parameter) and why. */
export interface Violation {
  readonly pointer?: string;
  readonly parameter?: string;
  readonly code: string;
  /** States the constraint, never the submitted value. */
  readonly detail: string;
}

export interface SuiteErrorOptions {
  readonly violations?: readonly Violation[];
  /** Whole seconds; becomes the `Retry-After` header. */
  readonly retryAfterSeconds?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** For logs only. */
  readonly cause?: unknown;
}

/** The only error class that crosses from the use cases to HTTP. */
export class SuiteError extends Error {
  override readonly name = "SuiteError";
  readonly code: ErrorCode;
  readonly violations: readonly Violation[];
  readonly retryAfterSeconds: number | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, options: SuiteErrorOptions = {}) {
    super(ERRORS[code].title, { cause: options.cause });
    this.code = code;
    this.violations = options.violations ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds ??
      (ERRORS[code].status === 503 ? DEFAULT_RETRY_AFTER_SECONDS : undefined);
    this.headers = options.headers ?? {};
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }
}

const DEFAULT_RETRY_AFTER_SECONDS = 5;

/** The error for fields that failed validation. */
export function validationFailed(violations: readonly Violation[]): SuiteError {
  return new SuiteError("validation_failed", { violations });
}
