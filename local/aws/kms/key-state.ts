/**
 * What a key's state forbids. Source: KMS Developer Guide, "Key states of AWS KMS keys"; messages
 * are those of the table's footnotes.
 */

import { AwsError } from "../errors.ts";
import type { ResolvedKey } from "./key-ids.ts";

const PENDING: Readonly<Record<string, string>> = {
  PendingDeletion: "is pending deletion.",
  PendingReplicaDeletion: "is pending replica deletion.",
};

/** For cryptographic operations. Throws DisabledException or KMSInvalidStateException. */
export function requireEnabled(resolved: ResolvedKey): void {
  requireAlterable(resolved);
  if (resolved.key.state === "Disabled") {
    throw new AwsError("DisabledException", `${resolved.arn} is disabled.`);
  }
}

/** For changes that a disabled key takes but one on its way in or out does not. */
export function requireAlterable({ key, arn }: ResolvedKey): void {
  const pending = PENDING[key.state];
  if (pending !== undefined) throw new AwsError("KMSInvalidStateException", `${arn} ${pending}`);
  if (key.state === "Creating") {
    throw new AwsError("KMSInvalidStateException", `${arn} is creating.`);
  }
}

export function requirePendingDeletion({ key, arn }: ResolvedKey): void {
  if (PENDING[key.state] === undefined) {
    throw new AwsError("KMSInvalidStateException", `${arn} is not pending deletion.`);
  }
}
