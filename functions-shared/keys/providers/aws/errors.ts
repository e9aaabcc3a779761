/**
 * What an AWS failure means for the request, judged by exception name and never by HTTP status:
 * KMS answers throttling with 400 and a disabled key with 400 as well.
 */
import { type ErrorCode, SuiteError } from "../../../errors.ts";
import { abortable } from "../../abortable.ts";

/** The region is well, but has had too much of us. */
const THROTTLED = new Set([
  "ThrottlingException",
  "Throttling",
  "TooManyRequestsException",
  "RequestLimitExceeded",
]);

/** The key is not there, or must not or cannot be used now. */
const UNUSABLE = new Set([
  "DisabledException",
  "KMSInvalidStateException",
  "NotFoundException",
  "InvalidKeyUsageException",
  "LimitExceededException",
  "UnsupportedOperationException",
  // The configured alias, key ARN or role is none.
  "InvalidArnException",
  "ValidationException",
  "ValidationError",
]);

/** The caller, its credentials or its permissions. */
const DENIED = new Set([
  "AccessDeniedException",
  "AccessDenied",
  "UnrecognizedClientException",
  "InvalidClientTokenId",
  "InvalidSignatureException",
  "SignatureDoesNotMatch",
  "MissingAuthenticationTokenException",
  "MissingAuthenticationToken",
  "RequestExpired",
  "RequestInTheFuture",
  "RequestTimeTooSkewed",
  "IncompleteSignature",
  "IncompleteSignatureException",
  "OptInRequired",
  "NotAuthorized",
  "RegionDisabledException",
]);

const EXPIRED = new Set(["ExpiredTokenException", "ExpiredToken"]);

/** The ciphertext is not what the caller expects it to be. */
const WRONG_CIPHERTEXT = new Set(["InvalidCiphertextException", "IncorrectKeyException"]);

export function awsErrorName(error: unknown): string {
  return error instanceof Error ? error.name : "";
}

/** Whether new credentials are needed. */
export function isExpiredCredentials(error: unknown): boolean {
  return EXPIRED.has(awsErrorName(error));
}

/**
 * What a role need not be allowed (docs/deployment.md, 2), in AWS's words for "no policy allows it". A policy
 * that ends sessions denies: "with an explicit deny in an identity-based policy".
 *
 * Source: IAM User Guide, "Troubleshoot access denied error messages".
 */
const NOT_AN_ADMINISTRATOR =
  / because no (?:identity|resource)-based policy allows the kms:(?:GetKeyRotationStatus|ListKeyRotations|RotateKeyOnDemand|Encrypt) action/;

/**
 * Whether a refusal may be of the session alone, which a policy ended before its time. Words that are not
 * known count as that: an exchange in vain costs little, one left out costs every request of the worker.
 */
export function mayBeEndedSession(error: unknown): error is Error {
  return awsErrorName(error) === "AccessDeniedException" &&
    !NOT_AN_ADMINISTRATOR.test((error as Error).message);
}

/** A refusal that another session might not meet. Says what the refusal said. */
export class RefusedSession extends Error {
  readonly #replace: () => Promise<boolean>;

  /** `replace` exchanges the session and answers whether there is another one now. */
  constructor(refusal: Error, replace: () => Promise<boolean>) {
    super(refusal.message, { cause: refusal });
    this.name = refusal.name;
    this.#replace = replace;
  }

  /** False when it takes longer than `signal` lets it: then the refusal is the answer. */
  async replaced(signal: AbortSignal): Promise<boolean> {
    return await abortable(this.#replace(), signal).catch(() => false);
  }
}

/** Whether the next attempt has other credentials than the one that failed; exchanges a refused session. */
export async function renewsCredentials(error: unknown, signal: AbortSignal): Promise<boolean> {
  return error instanceof RefusedSession
    ? await error.replaced(signal)
    : isExpiredCredentials(error);
}

/** How AWS words a wrong clock. */
const SKEWED = new Set([
  "InvalidSignatureException",
  "SignatureDoesNotMatch",
  "RequestExpired",
  "RequestInTheFuture",
  "RequestTimeTooSkewed",
]);

/** Whether the SDK found this machine's clock wrong, and has set it right for the next call. */
export function isClockSkew(error: unknown): boolean {
  // The SDK adjusts the clock with every answer, whatever its error: only these are because of it.
  if (!SKEWED.has(awsErrorName(error))) return false;
  const { $metadata } = error as { $metadata?: { clockSkewCorrected?: unknown } };
  return $metadata?.clockSkewCorrected === true;
}

/**
 * What a failure says about the region: it answered (with a refusal), it throttled, or something broke
 * on the way or inside: sockets, DNS, TLS, timeouts, KMS's own internal errors, an answer that is none.
 */
export function classifyAwsError(error: unknown): "answer" | "throttled" | "infrastructure" {
  const name = awsErrorName(error);
  if (THROTTLED.has(name)) return "throttled";
  // A replica that is being created will soon be well; elsewhere the key already is.
  if (name === "KMSInvalidStateException" && / is creating/i.test((error as Error).message)) {
    return "throttled";
  }
  return codeOf(name) === "kms_unavailable" ? "infrastructure" : "answer";
}

/** The error the rest of the suite sees; `error` becomes its cause. */
export function fromAwsError(error: unknown): SuiteError {
  if (error instanceof SuiteError) return error;
  return new SuiteError(codeOf(awsErrorName(error)), { cause: error });
}

function codeOf(name: string): ErrorCode {
  if (WRONG_CIPHERTEXT.has(name)) return "decryption_failed";
  if (UNUSABLE.has(name)) return "kms_key_unusable";
  if (DENIED.has(name) || EXPIRED.has(name)) return "kms_access_denied";
  return "kms_unavailable";
}
