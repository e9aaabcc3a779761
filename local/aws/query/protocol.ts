/** The query protocol: form in, XML out, one version of an API by its date. */

import type { AwsError } from "../errors.ts";
import type { AwsReply, AwsRequest } from "../service.ts";
import { errorXml, resultXml, type XmlTree } from "./xml.ts";

const CONTENT_TYPE = "text/xml";

/** How the services that speak nothing else call refused credentials. */
export const AUTHENTICATION_ERRORS = {
  missing: "MissingAuthenticationToken",
  incomplete: "IncompleteSignature",
  unknown_key: "InvalidClientTokenId",
  expired: "ExpiredToken",
  signature: "SignatureDoesNotMatch",
} as const;

/** The request's parameters, still encoded; empty when it is no form. */
export function formOf(request: AwsRequest): string {
  if (request.method === "GET") return request.query;
  const type = request.headers.get("content-type") ?? "";
  if (!type.startsWith("application/x-www-form-urlencoded")) return "";
  return new TextDecoder().decode(request.body);
}

export function answer(
  namespace: string,
  operation: string,
  result: XmlTree | null,
  request: AwsRequest,
): AwsReply {
  const body = resultXml(namespace, operation, result, request.id);
  return { status: 200, contentType: CONTENT_TYPE, body };
}

export function refusal(namespace: string, error: AwsError, request: AwsRequest): AwsReply {
  const type = error.status >= 500 ? "Receiver" : "Sender";
  return {
    status: error.status,
    contentType: CONTENT_TYPE,
    body: errorXml(namespace, { type, code: error.code, message: error.message }, request.id),
    errorName: error.code,
  };
}
