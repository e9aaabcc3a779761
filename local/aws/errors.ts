/** An answer that AWS gives instead of a result. */

export class AwsError extends Error {
  /** Exception name as SDKs see it. */
  readonly code: string;
  /** HTTP status. */
  readonly status: number;
  /** False for the errors that AWS sends without any message. */
  readonly hasMessage: boolean;

  constructor(code: string, message?: string, status = statusOf(code)) {
    super(message ?? "");
    this.name = code;
    this.code = code;
    this.status = status;
    this.hasMessage = message !== undefined;
  }
}

/** Statuses of the API references and of the common errors; everything else is 400. */
const STATUSES: Readonly<Record<string, number>> = {
  KMSInternalException: 500,
  KeyUnavailableException: 500,
  DependencyTimeoutException: 503,
  DryRunOperationException: 412,
  InternalFailure: 500,
  InternalServiceFault: 500,
  InternalServerError: 500,
  ServiceUnavailable: 503,
  ServiceUnavailableException: 503,
  RequestEntityTooLargeException: 413,
  // STS and IAM, query protocol
  NoSuchEntity: 404,
  LimitExceeded: 409,
  AccessDenied: 403,
  InvalidClientTokenId: 403,
  ExpiredToken: 403,
  SignatureDoesNotMatch: 403,
  MissingAuthenticationToken: 403,
  RegionDisabledException: 403,
  IDPRejectedClaim: 403,
};

export function statusOf(code: string): number {
  return STATUSES[code] ?? 400;
}

/** Messages that AWS sends with errors that depend on no request; used by fault rules. */
const MESSAGES: Readonly<Record<string, string>> = {
  ThrottlingException:
    "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
  Throttling: "Rate exceeded",
  ExpiredTokenException: "The security token included in the request is expired",
  ExpiredToken: "The security token included in the request is expired",
  UnrecognizedClientException: "The security token included in the request is invalid.",
  InvalidClientTokenId: "The security token included in the request is invalid.",
};

export function defaultMessage(code: string): string | undefined {
  return MESSAGES[code];
}
