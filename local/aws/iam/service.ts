/**
 * IAM over the query protocol, version 2010-05-08: access keys, trust policies and inline policies, as far
 * as a leaked key has to be answered. One endpoint for all regions, which takes us-east-1's signatures.
 */

import { AwsError } from "../errors.ts";
import { Parameters } from "../query/parameters.ts";
import { answer, AUTHENTICATION_ERRORS, formOf, refusal } from "../query/protocol.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "../service.ts";
import type { Identities } from "./identities.ts";
import type { IamOperation } from "./operation.ts";
import { accessKeys } from "./operations/access-keys.ts";
import { roles } from "./operations/roles.ts";

const VERSION = "2010-05-08";
const NAMESPACE = `https://iam.amazonaws.com/doc/${VERSION}/`;

const OPERATIONS: Readonly<Record<string, IamOperation>> = { ...accessKeys, ...roles };

export interface IamOptions {
  readonly identities: Identities;
  /** Resolves when every change made so far is on disk. */
  readonly durable: () => Promise<void>;
}

export class IamService implements Service {
  readonly name = "iam";
  readonly onlyRegion = "us-east-1";
  readonly authenticationErrors = AUTHENTICATION_ERRORS;
  readonly #options: IamOptions;

  constructor(options: IamOptions) {
    this.#options = options;
  }

  claim(request: AwsRequest): string | null {
    const form = new URLSearchParams(formOf(request));
    return form.get("Version") === VERSION ? form.get("Action") : null;
  }

  checkOperation(operation: string, _request: AwsRequest): void {
    if (!Object.hasOwn(OPERATIONS, operation)) {
      throw new AwsError(
        "InvalidAction",
        `The local AWS has no operation ${operation} of IAM, version ${VERSION}.`,
      );
    }
  }

  async perform(call: AwsCall): Promise<AwsReply> {
    const { operation, region, caller, now, request } = call;
    const { identities, durable } = this.#options;
    const run = OPERATIONS[operation];
    if (run === undefined) throw new AwsError("InvalidAction");
    const parameters = new Parameters(formOf(request));
    try {
      const result = run({ operation, region, caller, now, identities, parameters });
      return answer(NAMESPACE, operation, result, request);
    } finally {
      await durable();
    }
  }

  refuse(error: AwsError, request: AwsRequest): AwsReply {
    return refusal(NAMESPACE, error, request);
  }
}
