/** Key policies and tags: GetKeyPolicy, PutKeyPolicy, ListKeyPolicies, and the three tag calls. */

import { AwsError } from "../../errors.ts";
import { boolean, required, structure } from "../../shapes.ts";
import { requireKeyAccess } from "../access.ts";
import { resolveKeyIdOnly } from "../key-ids.ts";
import { requireAlterable } from "../key-state.ts";
import * as members from "../members.ts";
import { type KmsOperation, operation } from "../operation.ts";
import { page } from "../pages.ts";
import { checkKeyPolicy } from "../policy.ts";
import { readTags, wireTags } from "../tags.ts";

/** The only name that exists. */
const DEFAULT_NAME = "default";

function requireDefaultName(name: string | undefined): void {
  if (name !== undefined && name !== DEFAULT_NAME) {
    throw new AwsError("NotFoundException", "No such policy exists");
  }
}

const getKeyPolicy: KmsOperation = operation(
  structure({ KeyId: required(members.keyId), PolicyName: members.policyName }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved);
    requireDefaultName(input.PolicyName);
    return { Policy: resolved.key.policy, PolicyName: DEFAULT_NAME };
  },
);

const putKeyPolicy: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    PolicyName: members.policyName,
    Policy: required(members.policyDocument),
    BypassPolicyLockoutSafetyCheck: boolean(),
  }),
  (input, call) => {
    const { key, arn, ...rest } = resolveKeyIdOnly(call, input.KeyId);
    const bypass = input.BypassPolicyLockoutSafetyCheck === true;
    requireKeyAccess(call, { key, arn, ...rest }, {
      conditions: { "kms:BypassPolicyLockoutSafetyCheck": String(bypass) },
    });
    requireDefaultName(input.PolicyName);
    if (key.state === "Creating") requireAlterable({ key, arn, ...rest });
    const family = call.store.family(key.keyId);
    checkKeyPolicy(call, { key, family }, arn, input.Policy, bypass);
    key.policy = input.Policy;
    call.store.changed();
    return null;
  },
);

const listKeyPolicies: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    Limit: members.limit,
    Marker: members.marker,
  }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved);
    const { items, more } = page(call, [DEFAULT_NAME], (name) => name, input, 100);
    return { PolicyNames: items, ...more };
  },
);

const tagResource: KmsOperation = operation(
  structure({ KeyId: required(members.keyId), Tags: required(members.tags) }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    const { key } = resolved;
    const requestTags = Object.fromEntries(input.Tags.map((tag) => [tag.TagKey, tag.TagValue]));
    requireKeyAccess(call, resolved, { requestTags });
    requireAlterable(resolved);
    key.tags = readTags(key.tags, input.Tags);
    call.store.changed();
    return null;
  },
);

const untagResource: KmsOperation = operation(
  structure({ KeyId: required(members.keyId), TagKeys: required(members.tagKeys) }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    const { key } = resolved;
    requireKeyAccess(call, resolved);
    requireAlterable(resolved);
    const gone = new Set(input.TagKeys);
    key.tags = Object.fromEntries(Object.entries(key.tags).filter(([name]) => !gone.has(name)));
    call.store.changed();
    return null;
  },
);

const listResourceTags: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    Limit: members.limit,
    Marker: members.marker,
  }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved);
    const { items, more } = page(
      call,
      wireTags(resolved.key.tags),
      (tag) => tag.TagKey,
      input,
      50,
    );
    return { Tags: items, ...more };
  },
);

export const policiesAndTags: Readonly<Record<string, KmsOperation>> = {
  GetKeyPolicy: getKeyPolicy,
  PutKeyPolicy: putKeyPolicy,
  ListKeyPolicies: listKeyPolicies,
  TagResource: tagResource,
  UntagResource: untagResource,
  ListResourceTags: listResourceTags,
};
