/** DescribeKey, ListKeys, UpdateKeyDescription, and the states a key can be put into. */

import { AwsError } from "../../errors.ts";
import { keyArn } from "../../regions.ts";
import { integer, required, structure } from "../../shapes.ts";
import { requireIdentityAllows, requireKeyAccess } from "../access.ts";
import { resolveKey, resolveKeyIdOnly } from "../key-ids.ts";
import { requireAlterable, requirePendingDeletion } from "../key-state.ts";
import * as members from "../members.ts";
import { keyMetadata } from "../metadata.ts";
import { DAY_MS } from "../model.ts";
import { type KmsOperation, operation, seconds } from "../operation.ts";
import { page } from "../pages.ts";

const keyOnly = structure({ KeyId: required(members.keyId) });

const describeKey: KmsOperation = operation(
  structure({ KeyId: required(members.keyId), GrantTokens: members.grantTokens }),
  (input, call) => {
    const resolved = resolveKey(call, input.KeyId);
    requireKeyAccess(call, resolved);
    return { KeyMetadata: keyMetadata(call, resolved.key) };
  },
);

const listKeys: KmsOperation = operation(
  structure({ Limit: members.limit, Marker: members.marker }),
  (input, call) => {
    requireIdentityAllows(call);
    const { items, more } = page(
      call,
      call.store.keys(call.region),
      (key) => key.keyId,
      input,
      100,
    );
    return {
      Keys: items.map((key) => ({
        KeyId: key.keyId,
        KeyArn: keyArn(key.region, call.identities.accountId, key.keyId),
      })),
      ...more,
    };
  },
);

const updateKeyDescription: KmsOperation = operation(
  structure({ KeyId: required(members.keyId), Description: required(members.description) }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved);
    requireAlterable(resolved);
    resolved.key.description = input.Description;
    call.store.changed();
    return null;
  },
);

function setState(state: "Enabled" | "Disabled"): KmsOperation {
  return operation(keyOnly, (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved);
    requireAlterable(resolved);
    resolved.key.state = state;
    call.store.changed();
    return null;
  });
}

const scheduleKeyDeletion: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    PendingWindowInDays: integer({ min: 1, max: 365 }),
  }),
  (input, call) => {
    const days = input.PendingWindowInDays ?? 30;
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved, {
      conditions: { "kms:ScheduleKeyDeletionPendingWindowInDays": String(days) },
    });
    if (days < 7 || days > 30) {
      throw new AwsError(
        "ValidationException",
        "PendingWindowInDays must be between 7 and 30 days inclusive.",
      );
    }
    requireAlterable(resolved);
    const { key, arn } = resolved;
    key.pendingWindowInDays = days;
    const family = call.store.family(key.keyId);
    const waits = family.primaryRegion === key.region && call.store.related(key.keyId).length > 1;
    if (waits) {
      key.state = "PendingReplicaDeletion";
    } else {
      key.state = "PendingDeletion";
      key.deletionAt = call.now + days * DAY_MS;
    }
    call.store.changed();
    return {
      KeyId: arn,
      DeletionDate: key.deletionAt === undefined ? undefined : seconds(key.deletionAt),
      KeyState: key.state,
      PendingWindowInDays: days,
    };
  },
);

const cancelKeyDeletion: KmsOperation = operation(keyOnly, (input, call) => {
  const resolved = resolveKeyIdOnly(call, input.KeyId);
  requireKeyAccess(call, resolved);
  requirePendingDeletion(resolved);
  resolved.key.state = "Disabled";
  delete resolved.key.deletionAt;
  delete resolved.key.pendingWindowInDays;
  call.store.changed();
  return { KeyId: resolved.arn };
});

export const keys: Readonly<Record<string, KmsOperation>> = {
  DescribeKey: describeKey,
  ListKeys: listKeys,
  UpdateKeyDescription: updateKeyDescription,
  EnableKey: setState("Enabled"),
  DisableKey: setState("Disabled"),
  ScheduleKeyDeletion: scheduleKeyDeletion,
  CancelKeyDeletion: cancelKeyDeletion,
};
