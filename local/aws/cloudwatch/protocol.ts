/** What the wire protocols of one service have in common: three ways to say the same. */

import { gunzipSync } from "node:zlib";
import { AwsError } from "../errors.ts";
import type { AwsReply, AwsRequest } from "../service.ts";
import type { CloudWatchResult } from "./operation.ts";

export interface Protocol {
  /** The operation that a request of this protocol names; null for a request of another one. */
  claim(request: AwsRequest): string | null;
  /** Whether method, path and content type are the protocol's. */
  fits(request: AwsRequest): boolean;
  /** The input as JSON would spell it: times are seconds since the epoch. Throws AwsError. */
  read(request: AwsRequest): unknown;
  answer(operation: string, result: CloudWatchResult | null, request: AwsRequest): AwsReply;
  refuse(error: AwsError, request: AwsRequest): AwsReply;
}

/** What PutMetricData takes in one request, before compression. */
const MAX_BYTES = 1024 * 1024;

/** The body without its compression, which SDKs apply from 10 KiB on. Throws AwsError. */
export function readBody(request: AwsRequest): Uint8Array {
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (encoding === "identity") return request.body;
  if (encoding !== "gzip") throw malformed();
  try {
    return new Uint8Array(gunzipSync(request.body, { maxOutputLength: MAX_BYTES }));
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ERR_BUFFER_TOO_LARGE") throw malformed();
    throw new AwsError(
      "RequestEntityTooLargeException",
      `The request exceeds ${MAX_BYTES} bytes.`,
    );
  }
}

export function malformed(): AwsError {
  return new AwsError("SerializationException", "The request cannot be read.");
}

export function contentType(request: AwsRequest): string {
  return request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
}

/** Errors as the query protocol, the oldest of the three, calls them. */
const QUERY_CODES: Readonly<Record<string, string>> = {
  InvalidParameterValueException: "InvalidParameterValue",
  InvalidParameterCombinationException: "InvalidParameterCombination",
  MissingRequiredParameterException: "MissingParameter",
  InternalServiceFault: "InternalServiceError",
  ValidationException: "ValidationError",
  SerializationException: "MalformedInput",
  UnknownOperationException: "InvalidAction",
  AccessDeniedException: "AccessDenied",
  ThrottlingException: "Throttling",
  ExpiredTokenException: "ExpiredToken",
  UnrecognizedClientException: "InvalidClientTokenId",
  InvalidSignatureException: "SignatureDoesNotMatch",
  MissingAuthenticationTokenException: "MissingAuthenticationToken",
  IncompleteSignatureException: "IncompleteSignature",
};

export function queryCode(code: string): string {
  return QUERY_CODES[code] ?? code;
}

/** For clients that asked to hear the old names as well (`x-amzn-query-mode`). */
export function queryErrorHeader(
  error: AwsError,
  request: AwsRequest,
): Readonly<Record<string, string>> {
  if (request.headers.get("x-amzn-query-mode") !== "true") return {};
  const type = error.status >= 500 ? "Receiver" : "Sender";
  return { "x-amzn-query-error": `${queryCode(error.code)};${type}` };
}
