/** ReplicateKey and UpdatePrimaryRegion. */

import { AwsError } from "../../errors.ts";
import { isRegion, keyArn, REGION_PATTERN } from "../../regions.ts";
import { boolean, required, string, structure } from "../../shapes.ts";
import { requireIdentityAllows, requireKeyAccess } from "../access.ts";
import { type ResolvedKey, resolveKeyIdOnly } from "../key-ids.ts";
import { requireEnabled } from "../key-state.ts";
import * as members from "../members.ts";
import { keyMetadata } from "../metadata.ts";
import type { KeyFamily, KmsKey } from "../model.ts";
import { type KmsCall, type KmsOperation, operation } from "../operation.ts";
import { checkKeyPolicy, defaultKeyPolicy } from "../policy.ts";
import { readTags, wireTags } from "../tags.ts";

const regionName = string({ min: 1, max: 32, pattern: REGION_PATTERN });

/** Throws UnsupportedOperationException unless the key is a primary in the region called. */
function requirePrimary(call: KmsCall, { key, arn }: ResolvedKey): KeyFamily {
  const family = call.store.family(key.keyId);
  if (!family.multiRegion) {
    throw new AwsError("UnsupportedOperationException", `${arn} is not a multi-Region key.`);
  }
  if (family.primaryRegion !== key.region) {
    throw new AwsError(
      "UnsupportedOperationException",
      `${arn} is not a multi-Region primary key.`,
    );
  }
  return family;
}

const replicateKey: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    ReplicaRegion: required(regionName),
    Policy: members.policyDocument,
    BypassPolicyLockoutSafetyCheck: boolean(),
    Description: members.description,
    Tags: members.tags,
  }),
  (input, call) => {
    const { ReplicaRegion } = input;
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved, { conditions: { "kms:ReplicaRegion": ReplicaRegion } });
    const family = requirePrimary(call, resolved);
    requireEnabled(resolved);
    if (!isRegion(ReplicaRegion)) {
      throw new AwsError("ValidationException", `Invalid replica region '${ReplicaRegion}'.`);
    }
    const { accountId } = call.identities;
    const { keyId } = resolved.key;
    const arn = keyArn(ReplicaRegion, accountId, keyId);
    if (call.store.key(ReplicaRegion, keyId) !== undefined) {
      throw new AwsError("AlreadyExistsException", `${arn} already exists.`);
    }
    const tags = readTags({}, input.Tags ?? []);
    const there = { ...call, region: ReplicaRegion };
    requireIdentityAllows(there, "*", { action: "CreateKey", requestTags: tags });
    const key: KmsKey = {
      keyId,
      region: ReplicaRegion,
      createdAt: call.now,
      description: input.Description ?? "",
      policy: input.Policy ?? defaultKeyPolicy(accountId),
      tags,
      state: "Creating",
      creatingUntil: call.now + call.replicationMs,
    };
    if (input.Policy !== undefined) {
      const bypass = input.BypassPolicyLockoutSafetyCheck === true;
      checkKeyPolicy(there, { key, family }, arn, input.Policy, bypass);
    }
    call.store.addKey(key);
    return {
      ReplicaKeyMetadata: keyMetadata(call, key),
      ReplicaPolicy: key.policy,
      ReplicaTags: wireTags(tags),
    };
  },
);

const updatePrimaryRegion: KmsOperation = operation(
  structure({ KeyId: required(members.keyId), PrimaryRegion: required(regionName) }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved, { conditions: { "kms:PrimaryRegion": input.PrimaryRegion } });
    const family = requirePrimary(call, resolved);
    requireEnabled(resolved);
    const key = call.store.key(input.PrimaryRegion, family.keyId);
    const arn = keyArn(input.PrimaryRegion, call.identities.accountId, family.keyId);
    if (key === undefined) throw new AwsError("NotFoundException", `Key '${arn}' does not exist`);
    if (key === resolved.key) {
      throw new AwsError("UnsupportedOperationException", `${arn} is the primary key already.`);
    }
    const replica = { key, arn, requestAlias: null };
    requireKeyAccess({ ...call, region: input.PrimaryRegion }, replica);
    requireEnabled(replica);
    family.primaryRegion = input.PrimaryRegion;
    call.store.changed();
    return null;
  },
);

export const multiRegion: Readonly<Record<string, KmsOperation>> = {
  ReplicateKey: replicateKey,
  UpdatePrimaryRegion: updatePrimaryRegion,
};
