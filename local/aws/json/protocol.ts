/** AWS JSON 1.1: the operation in `X-Amz-Target`, JSON in and out. */

import { AwsError } from "../errors.ts";
import type { AwsReply, AwsRequest } from "../service.ts";

const CONTENT_TYPE = "application/x-amz-json-1.1";

/** How services that speak JSON call refused credentials. */
export const AUTHENTICATION_ERRORS = {
  missing: "MissingAuthenticationTokenException",
  incomplete: "IncompleteSignatureException",
  unknown_key: "UnrecognizedClientException",
  expired: "ExpiredTokenException",
  signature: "InvalidSignatureException",
} as const;

/** Throws AwsError (UnknownOperationException) when the request has not the protocol's form. */
export function requireForm(request: AwsRequest): void {
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (request.method !== "POST" || request.path !== "/" || type !== CONTENT_TYPE) {
    throw new AwsError("UnknownOperationException");
  }
}

/** Throws AwsError (SerializationException). */
export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new AwsError("SerializationException");
  }
}

/** `result` null: nothing at all. */
export function answer(result: Readonly<Record<string, unknown>> | null): AwsReply {
  return {
    status: 200,
    contentType: CONTENT_TYPE,
    body: result === null ? "" : JSON.stringify(result),
  };
}

export function refusal(error: AwsError): AwsReply {
  const body = error.hasMessage
    ? { __type: error.code, message: error.message }
    : { __type: error.code };
  return {
    status: error.status,
    contentType: CONTENT_TYPE,
    body: JSON.stringify(body),
    errorName: error.code,
  };
}
