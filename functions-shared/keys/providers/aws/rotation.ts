/**
 * Rotation of a KMS key: what KMS does by itself, and what it is asked for. Related multi-region keys share
 * their material, and only the primary is told to rotate.
 */
import { SuiteError } from "../../../errors.ts";
import type { KeyRotation } from "../../key-provider.ts";
import { awsErrorName, fromAwsError } from "./errors.ts";
import type { Kms } from "./kms.ts";

/** `RotateKeyOnDemand` in the life of a key (AWS KMS Developer Guide, "Rotate AWS KMS keys"). */
export const ON_DEMAND_LIMIT = 25;

/** More rotations than this no key has: 25 on demand, and one every 90 days. */
const MAX_PAGES = 10;

/** What `KeyRotation` says when the role may not ask. */
export const UNKNOWN_ROTATION: KeyRotation = {
  automatic: null,
  next: null,
  last: null,
  onDemandLeft: null,
};

export async function rotationOf(
  kms: Kms,
  region: string,
  keyArn: string,
  signal: AbortSignal,
): Promise<KeyRotation> {
  const [status, rotations] = await Promise.all([
    kms.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(new sdk.GetKeyRotationStatusCommand({ KeyId: keyArn }), options),
    ),
    listRotations(kms, region, keyArn, signal),
  ]);
  const dates = rotations.flatMap(({ at }) => at === undefined ? [] : [at.getTime()]);
  return {
    automatic: status.KeyRotationEnabled ?? false,
    next: status.NextRotationDate?.toISOString() ?? null,
    last: dates.length === 0 ? null : new Date(Math.max(...dates)).toISOString(),
    onDemandLeft: Math.max(0, ON_DEMAND_LIMIT - onDemand(rotations)),
  };
}

/**
 * Asks for one rotation, in the primary's region.
 * @throws {SuiteError} rotation_limit_reached before KMS would say so, and what `refusal` makes of its no.
 */
export async function rotateOnDemand(
  kms: Kms,
  region: string,
  keyArn: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    // Counted first: what is asked for beyond the limit would look to KMS like an attack or a loop.
    if (onDemand(await listRotations(kms, region, keyArn, signal)) >= ON_DEMAND_LIMIT) {
      throw new SuiteError("rotation_limit_reached");
    }
    await kms.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(new sdk.RotateKeyOnDemandCommand({ KeyId: keyArn }), options),
    );
  } catch (error) {
    throw refusal(error);
  }
}

function refusal(error: unknown): SuiteError {
  switch (awsErrorName(error)) {
    case "LimitExceededException":
      return new SuiteError("rotation_limit_reached", { cause: error });
    case "ConflictException":
      return new SuiteError("rotation_conflict", { cause: error });
    case "UnsupportedOperationException":
      return new SuiteError("rotation_not_supported", { cause: error });
    default:
      return fromAwsError(error);
  }
}

interface Rotation {
  readonly type: string | undefined;
  readonly at: Date | undefined;
}

function onDemand(rotations: readonly Rotation[]): number {
  return rotations.filter(({ type }) => type === "ON_DEMAND").length;
}

async function listRotations(
  kms: Kms,
  region: string,
  keyArn: string,
  signal: AbortSignal,
): Promise<readonly Rotation[]> {
  const rotations: Rotation[] = [];
  let marker: string | undefined;
  for (let page = 0; page < MAX_PAGES; page++) {
    const answer = await kms.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(new sdk.ListKeyRotationsCommand({ KeyId: keyArn, Marker: marker }), options),
    );
    rotations.push(
      ...(answer.Rotations ?? []).map(({ RotationType: type, RotationDate: at }) => ({ type, at })),
    );
    marker = answer.NextMarker;
    if (!answer.Truncated || marker === undefined) break;
  }
  return rotations;
}
