/** CreateKey. */

import { randomBytes, randomUUID } from "node:crypto";
import { AwsError } from "../../errors.ts";
import { keyArn } from "../../regions.ts";
import { boolean, oneOf, string, structure } from "../../shapes.ts";
import { requireIdentityAllows } from "../access.ts";
import * as members from "../members.ts";
import { keyMetadata } from "../metadata.ts";
import type { KeyFamily, KmsKey } from "../model.ts";
import { type KmsOperation, operation } from "../operation.ts";
import { checkKeyPolicy, defaultKeyPolicy } from "../policy.ts";
import { createBackingKey } from "../store.ts";
import { readTags } from "../tags.ts";

const SPECS = [
  "RSA_2048",
  "RSA_3072",
  "RSA_4096",
  "ECC_NIST_P256",
  "ECC_NIST_P384",
  "ECC_NIST_P521",
  "ECC_SECG_P256K1",
  "SYMMETRIC_DEFAULT",
  "HMAC_224",
  "HMAC_256",
  "HMAC_384",
  "HMAC_512",
  "SM2",
] as const;
const NEW_SPECS = [
  ...SPECS,
  "ML_DSA_44",
  "ML_DSA_65",
  "ML_DSA_87",
  "ECC_NIST_EDWARDS25519",
] as const;

export const createKey: KmsOperation = operation(
  structure({
    Policy: members.policyDocument,
    Description: members.description,
    KeyUsage: oneOf(["SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"]),
    CustomerMasterKeySpec: oneOf(SPECS),
    KeySpec: oneOf(NEW_SPECS),
    Origin: oneOf(["AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"]),
    CustomKeyStoreId: string({ min: 1, max: 64 }),
    BypassPolicyLockoutSafetyCheck: boolean(),
    Tags: members.tags,
    MultiRegion: boolean(),
    XksKeyId: string({ min: 1, max: 128, pattern: "[a-zA-Z0-9-_.]+" }),
  }),
  (input, call) => {
    const { KeySpec, CustomerMasterKeySpec } = input;
    if (
      KeySpec !== undefined && CustomerMasterKeySpec !== undefined &&
      KeySpec !== CustomerMasterKeySpec
    ) {
      throw new AwsError(
        "ValidationException",
        "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. " +
          "CustomerMasterKeySpec is deprecated.",
      );
    }
    requireSupported(
      KeySpec ?? CustomerMasterKeySpec ?? "SYMMETRIC_DEFAULT",
      input.KeyUsage,
      input.Origin ?? "AWS_KMS",
    );
    if (input.CustomKeyStoreId !== undefined || input.XksKeyId !== undefined) {
      throw unsupported("Custom key stores are");
    }
    const tags = readTags({}, input.Tags ?? []);
    requireIdentityAllows(call, "*", {
      requestTags: tags,
      conditions: {
        "kms:KeySpec": "SYMMETRIC_DEFAULT",
        "kms:KeyUsage": "ENCRYPT_DECRYPT",
        "kms:KeyOrigin": "AWS_KMS",
        "kms:MultiRegion": String(input.MultiRegion === true),
      },
    });
    if (input.Tags !== undefined && input.Tags.length > 0) {
      requireIdentityAllows(call, "*", { action: "TagResource", requestTags: tags });
    }
    const multiRegion = input.MultiRegion === true;
    const keyId = multiRegion ? `mrk-${randomBytes(16).toString("hex")}` : randomUUID();
    const family: KeyFamily = {
      keyId,
      multiRegion,
      primaryRegion: call.region,
      backingKeys: [createBackingKey("INITIAL", call.now)],
      rotation: null,
      onDemandRotations: 0,
    };
    const key: KmsKey = {
      keyId,
      region: call.region,
      createdAt: call.now,
      description: input.Description ?? "",
      policy: input.Policy ?? defaultKeyPolicy(call.identities.accountId),
      tags,
      state: "Enabled",
    };
    if (input.Policy !== undefined) {
      const arn = keyArn(call.region, call.identities.accountId, keyId);
      const bypass = input.BypassPolicyLockoutSafetyCheck === true;
      checkKeyPolicy(call, { key, family }, arn, input.Policy, bypass);
    }
    call.store.addKey(key, family);
    return { KeyMetadata: keyMetadata(call, key) };
  },
);

function requireSupported(spec: string, usage: string | undefined, origin: string): void {
  if (spec === "SYMMETRIC_DEFAULT") {
    if (usage !== undefined && usage !== "ENCRYPT_DECRYPT") {
      throw new AwsError(
        "ValidationException",
        `KeyUsage ${usage} is not compatible with KeySpec ${spec}`,
      );
    }
  } else if (usage === undefined) {
    throw new AwsError(
      "ValidationException",
      "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
    );
  } else {
    throw unsupported(`KeySpec ${spec} is`);
  }
  if (origin !== "AWS_KMS") throw unsupported(`Origin ${origin} is`);
}

function unsupported(what: string): AwsError {
  return new AwsError(
    "UnsupportedOperationException",
    `${what} not supported by the local AWS, which has symmetric encryption keys of origin ` +
      "AWS_KMS only.",
  );
}
