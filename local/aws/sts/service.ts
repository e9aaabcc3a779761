/** STS over the query protocol, version 2011-06-15. */

import { AwsError } from "../errors.ts";
import type { Identities } from "../iam/identities.ts";
import { Parameters } from "../query/parameters.ts";
import { answer, AUTHENTICATION_ERRORS, formOf, refusal } from "../query/protocol.ts";
import type { XmlTree } from "../query/xml.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "../service.ts";
import { assumeRole } from "./assume-role.ts";

const VERSION = "2011-06-15";
const NAMESPACE = `https://sts.amazonaws.com/doc/${VERSION}/`;

export class StsService implements Service {
  readonly name = "sts";
  readonly authenticationErrors = AUTHENTICATION_ERRORS;
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
    if (call.operation === "GetCallerIdentity") {
      return answer(NAMESPACE, call.operation, callerIdentity(call, parameters), call.request);
    }
    const { result, opened } = assumeRole(call, parameters, this.#identities);
    return { ...answer(NAMESPACE, call.operation, result, call.request), opened };
  }

  refuse(error: AwsError, request: AwsRequest): AwsReply {
    return refusal(NAMESPACE, error, request);
  }
}

/** AWS asks for no permission here. */
function callerIdentity(call: AwsCall, parameters: Parameters): XmlTree {
  parameters.end();
  const { arn, userId, accountId } = call.caller;
  return { Arn: arn, UserId: userId, Account: accountId };
}
