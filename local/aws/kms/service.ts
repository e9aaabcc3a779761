/** KMS over AWS JSON 1.1: `X-Amz-Target: TrentService.<Operation>`. */

import { AwsError } from "../errors.ts";
import type { Identities } from "../iam/identities.ts";
import {
  answer,
  AUTHENTICATION_ERRORS,
  parseJson,
  refusal,
  requireForm,
} from "../json/protocol.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "../service.ts";
import type { KmsCall, KmsOperation, KmsResult } from "./operation.ts";
import { aliases } from "./operations/aliases.ts";
import { createKey } from "./operations/create-key.ts";
import { cryptography } from "./operations/cryptography.ts";
import { keys } from "./operations/keys.ts";
import { multiRegion } from "./operations/multi-region.ts";
import { policiesAndTags } from "./operations/policies-and-tags.ts";
import { rotation } from "./operations/rotation.ts";
import type { KeyStore } from "./store.ts";

const TARGET_PREFIX = "TrentService.";

const OPERATIONS: Readonly<Record<string, KmsOperation>> = {
  CreateKey: createKey,
  ...multiRegion,
  ...aliases,
  ...keys,
  ...cryptography,
  ...rotation,
  ...policiesAndTags,
};

/** Operations that AWS has and this one does not: told apart from misspelt ones. */
const ABSENT: readonly string[] = [
  "ConnectCustomKeyStore",
  "CreateCustomKeyStore",
  "CreateGrant",
  "DeleteCustomKeyStore",
  "DeleteImportedKeyMaterial",
  "DeriveSharedSecret",
  "DescribeCustomKeyStores",
  "DisconnectCustomKeyStore",
  "GenerateDataKeyPair",
  "GenerateDataKeyPairWithoutPlaintext",
  "GenerateMac",
  "GetKeyLastUsage",
  "GetParametersForImport",
  "GetPublicKey",
  "ImportKeyMaterial",
  "ListGrants",
  "ListRetirableGrants",
  "RetireGrant",
  "RevokeGrant",
  "Sign",
  "UpdateCustomKeyStore",
  "Verify",
  "VerifyMac",
];

export interface KmsOptions {
  readonly store: KeyStore;
  readonly identities: Identities;
  readonly replicationMs: number;
  /** Resolves when every change made so far is on disk. */
  readonly durable: () => Promise<void>;
}

export class KmsService implements Service {
  readonly name = "kms";
  readonly authenticationErrors = AUTHENTICATION_ERRORS;
  readonly #options: KmsOptions;

  constructor(options: KmsOptions) {
    this.#options = options;
  }

  claim(request: AwsRequest): string | null {
    const target = request.headers.get("x-amz-target");
    return target?.startsWith(TARGET_PREFIX) ? target.slice(TARGET_PREFIX.length) : null;
  }

  checkOperation(operation: string, request: AwsRequest): void {
    requireForm(request);
    if (!Object.hasOwn(OPERATIONS, operation) && !ABSENT.includes(operation)) {
      throw new AwsError("UnknownOperationException");
    }
  }

  async perform(call: AwsCall): Promise<AwsReply> {
    return answer(await this.run(call, parseJson(call.request.body)));
  }

  /** Runs one operation and waits until what it changed is durable. Throws AwsError. */
  async run(
    call: Pick<KmsCall, "operation" | "region" | "caller" | "now">,
    json: unknown,
  ): Promise<KmsResult | null> {
    const { store, identities, replicationMs, durable } = this.#options;
    const known = Object.hasOwn(OPERATIONS, call.operation);
    const operation = known ? OPERATIONS[call.operation] : undefined;
    if (operation === undefined) {
      throw new AwsError(
        "UnsupportedOperationException",
        `${call.operation} is not supported by the local AWS.`,
      );
    }
    store.settle(call.now);
    try {
      const { operation: name, region, caller, now } = call;
      return operation(json, {
        operation: name,
        region,
        caller,
        now,
        store,
        identities,
        replicationMs,
      });
    } finally {
      await durable();
    }
  }

  refuse(error: AwsError, _request: AwsRequest): AwsReply {
    return refusal(error);
  }
}
