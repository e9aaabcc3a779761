/** What a failure of AWS asks an operator to do. */
import {
  classifyAwsError,
  fromAwsError,
} from "../../functions-shared/keys/providers/aws/errors.ts";
import type { Failure } from "./probe.ts";

/** `silent`: nobody answered, or not as AWS does, or something broke inside of it. */
export type AwsFailureKind = "silent" | "throttled" | "denied" | "other";

/** By name, as the functions judge it. */
export function awsFailureKind({ cause }: Failure): AwsFailureKind {
  const kind = classifyAwsError(cause);
  if (kind === "throttled") return "throttled";
  if (kind === "infrastructure") return "silent";
  return fromAwsError(cause).code === "kms_access_denied" ? "denied" : "other";
}

/** What to do about a failure of KMS in a region; `denied` when it is permissions that are missing. */
export function nextAfter(failure: Failure, region: string, denied: string): string {
  switch (awsFailureKind(failure)) {
    case "silent":
      return `look whether KMS in ${region} can be reached from here, and at AWS's status page ` +
        "(docs/runbooks.md, 2)";
    case "throttled":
      return `KMS in ${region} is asked too often: wait a minute; then look at the account's quotas`;
    case "denied":
      return denied;
    case "other":
      return "look the error up in AWS's reference of the operation";
  }
}
