/** STS over the query protocol: form in, XML out, version 2011-06-15. */

import { AwsError } from "../errors.ts";
import type { Identities } from "../iam/identities.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "../service.ts";
import { assumeRole } from "./assume-role.ts";
import { Parameters } from "./parameters.ts";
import { errorXml, resultXml, type XmlTree } from "./xml.ts";

const VERSION = "2011-06-15";
const CONTENT_TYPE = "text/xml";

export class StsService implements Service {
  readonly name = "sts";
  readonly authenticationErrors = {
    missing: "MissingAuthenticationToken",
    incomplete: "IncompleteSignature",
    unknown_key: "InvalidClientTokenId",
    expired: "ExpiredToken",
    signature: "SignatureDoesNotMatch",
  } as const;
  readonly #identities: Identities;

  constructor(identities: Identities) {
    this.#identities = identities;
  }

  claim(request: AwsRequest): string | null {
    const form = new URLSearchParams(formOf(request));
    const action = form.get("Action");
    // Other services speak the query protocol too; the version tells them apart.
    return action !== null && (form.get("Version") ?? VERSION) === VERSION ? action : null;
  }

  checkOperation(operation: string, _request: AwsRequest): void {
    if (operation !== "AssumeRole" && operation !== "GetCallerIdentity") {
      throw new AwsError(
        "InvalidAction",
        `Could not find operation ${operation} for version ${VERSION}`,
      );
    }
  }

  perform(call: AwsCall): AwsReply {
    const parameters = new Parameters(formOf(call.request));
    const result = call.operation === "AssumeRole"
      ? assumeRole(call, parameters, this.#identities)
      : callerIdentity(call, parameters);
    return {
      status: 200,
      contentType: CONTENT_TYPE,
      body: resultXml(call.operation, result, call.request.id),
    };
  }

  refuse(error: AwsError, request: AwsRequest): AwsReply {
    const type = error.status >= 500 ? "Receiver" : "Sender";
    return {
      status: error.status,
      contentType: CONTENT_TYPE,
      body: errorXml({ type, code: error.code, message: error.message }, request.id),
      errorName: error.code,
    };
  }
}

/** AWS asks for no permission here. */
function callerIdentity(call: AwsCall, parameters: Parameters): XmlTree {
  parameters.end();
  const { arn, userId, accountId } = call.caller;
  return { Arn: arn, UserId: userId, Account: accountId };
}

function formOf(request: AwsRequest): string {
  if (request.method === "GET") return request.query;
  const type = request.headers.get("content-type") ?? "";
  if (!type.startsWith("application/x-www-form-urlencoded")) return "";
  return new TextDecoder().decode(request.body);
}
