import type { ErrorCode } from "../../../errors.ts";

/**
 * What follows from a failed call: `refused` is the service's answer and final, `credentials` may pass with
 * new ones, `transient` with time.
 */
export type FailureKind = "refused" | "credentials" | "transient";

/** The codes a key service's failure can have. */
export type KeyServiceCode = Extract<
  ErrorCode,
  "kms_unavailable" | "kms_access_denied" | "kms_key_unusable" | "decryption_failed"
>;

/** One failed call of a key service; `Attempts` decides on another one and makes it a `SuiteError`. */
export class ServiceFailure extends Error {
  override readonly name = "ServiceFailure";

  constructor(
    readonly kind: FailureKind,
    readonly code: KeyServiceCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

// The messages are those that the deployment guide tells operators to look for.

/** The service did not answer, or not what it should: another attempt may fare better. */
export function unavailable(detail: string, cause?: unknown): ServiceFailure {
  return new ServiceFailure(
    "transient",
    "kms_unavailable",
    `KMS service unavailable: ${detail}`,
    cause === undefined ? undefined : { cause },
  );
}

export function accessDenied(kind: "refused" | "credentials" = "refused"): ServiceFailure {
  return new ServiceFailure(kind, "kms_access_denied", "Access denied to encryption key");
}

/** `key`: its name, which is no secret. */
export function keyNotFound(key: string): ServiceFailure {
  return new ServiceFailure("refused", "kms_key_unusable", `Encryption key not found: ${key}`);
}

export function keyUnusable(key: string): ServiceFailure {
  return new ServiceFailure("refused", "kms_key_unusable", `Encryption key not usable: ${key}`);
}

export function wrongCiphertext(): ServiceFailure {
  return new ServiceFailure("refused", "decryption_failed", "The wrapped key does not open");
}
