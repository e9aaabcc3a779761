/** Rotation, automatic and on demand: new backing keys; old ones go on decrypting. */

import { AwsError } from "../../errors.ts";
import { integer, oneOf, required, structure } from "../../shapes.ts";
import { requireKeyAccess } from "../access.ts";
import { type ResolvedKey, resolveKeyIdOnly } from "../key-ids.ts";
import { requireAlterable, requireEnabled } from "../key-state.ts";
import * as members from "../members.ts";
import { DAY_MS, type KeyFamily } from "../model.ts";
import { type KmsCall, type KmsOperation, operation, seconds } from "../operation.ts";
import { page } from "../pages.ts";
import { createBackingKey } from "../store.ts";

/** For the life of a key. */
const ON_DEMAND_LIMIT = 25;
const DEFAULT_PERIOD_DAYS = 365;
const keyOnly = structure({ KeyId: required(members.keyId) });

/** Rotation is a property that related keys share and only the primary sets. */
function requirePrimary(call: KmsCall, { key, arn }: ResolvedKey): KeyFamily {
  const family = call.store.family(key.keyId);
  if (family.primaryRegion !== key.region) {
    throw new AwsError(
      "UnsupportedOperationException",
      `${arn} is a multi-Region replica key, which is not valid for this operation.`,
    );
  }
  return family;
}

const enableKeyRotation: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    RotationPeriodInDays: integer({ min: 90, max: 2560 }),
  }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    const days = input.RotationPeriodInDays;
    requireKeyAccess(call, resolved, {
      conditions: days === undefined ? {} : { "kms:RotationPeriodInDays": String(days) },
    });
    requireEnabled(resolved);
    const family = requirePrimary(call, resolved);
    // A call without a period leaves the one that is set; a changed period counts from now.
    const period = days ?? family.rotation?.periodInDays ?? DEFAULT_PERIOD_DAYS;
    if (family.rotation?.periodInDays !== period) {
      family.rotation = { periodInDays: period, nextAt: call.now + period * DAY_MS };
      call.store.changed();
    }
    return null;
  },
);

const disableKeyRotation: KmsOperation = operation(keyOnly, (input, call) => {
  const resolved = resolveKeyIdOnly(call, input.KeyId);
  requireKeyAccess(call, resolved);
  requireEnabled(resolved);
  requirePrimary(call, resolved).rotation = null;
  call.store.changed();
  return null;
});

const getKeyRotationStatus: KmsOperation = operation(keyOnly, (input, call) => {
  const resolved = resolveKeyIdOnly(call, input.KeyId);
  requireKeyAccess(call, resolved);
  if (resolved.key.state === "Creating") requireAlterable(resolved);
  const { rotation } = call.store.family(resolved.key.keyId);
  return {
    KeyId: resolved.arn,
    // AWS suspends rotation while a key awaits its deletion.
    KeyRotationEnabled: rotation !== null && !resolved.key.state.startsWith("Pending"),
    RotationPeriodInDays: rotation?.periodInDays,
    NextRotationDate: rotation === null ? undefined : seconds(rotation.nextAt),
  };
});

const rotateKeyOnDemand: KmsOperation = operation(keyOnly, (input, call) => {
  const resolved = resolveKeyIdOnly(call, input.KeyId);
  requireKeyAccess(call, resolved);
  requireEnabled(resolved);
  const family = requirePrimary(call, resolved);
  if (family.onDemandRotations >= ON_DEMAND_LIMIT) {
    throw new AwsError(
      "LimitExceededException",
      `${resolved.arn} has reached the limit of ${ON_DEMAND_LIMIT} on-demand rotations.`,
    );
  }
  family.onDemandRotations++;
  family.backingKeys.push(createBackingKey("ON_DEMAND", call.now));
  call.store.changed();
  return { KeyId: resolved.arn };
});

const listKeyRotations: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    IncludeKeyMaterial: oneOf(["ALL_KEY_MATERIAL", "ROTATIONS_ONLY"]),
    Limit: members.limit,
    Marker: members.marker,
  }),
  (input, call) => {
    const resolved = resolveKeyIdOnly(call, input.KeyId);
    requireKeyAccess(call, resolved);
    const { backingKeys } = call.store.family(resolved.key.keyId);
    const all = input.IncludeKeyMaterial === "ALL_KEY_MATERIAL";
    const shown = backingKeys.filter((material) => all || material.origin !== "INITIAL");
    const { items, more } = page(call, shown, (material) => material.id, input, 100);
    return {
      Rotations: items.map((material) => ({
        KeyId: resolved.arn,
        KeyMaterialId: material.id,
        KeyMaterialState: material === backingKeys.at(-1) ? "CURRENT" : "NON_CURRENT",
        RotationDate: material.origin === "INITIAL" ? undefined : seconds(material.createdAt),
        RotationType: material.origin === "INITIAL" ? undefined : material.origin,
      })),
      ...more,
    };
  },
);

export const rotation: Readonly<Record<string, KmsOperation>> = {
  EnableKeyRotation: enableKeyRotation,
  DisableKeyRotation: disableKeyRotation,
  GetKeyRotationStatus: getKeyRotationStatus,
  RotateKeyOnDemand: rotateKeyOnDemand,
  ListKeyRotations: listKeyRotations,
};
