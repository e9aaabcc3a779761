/**
 * Events as CloudTrail tells them. Requests' parameters are not kept: they hold secrets.
 * Source: CloudTrail User Guide, "CloudTrail record contents".
 */

import type { Caller } from "../iam/identities.ts";
import type { TrailEvent } from "./trail.ts";

/** Calls that change nothing although their names do not begin as if. */
const READS = new Set([
  "AssumeRole",
  "Decrypt",
  "Encrypt",
  "GenerateDataKey",
  "GenerateDataKeyWithoutPlaintext",
  "GenerateRandom",
  "ReEncrypt",
]);

export function isReadOnly(operation: string): boolean {
  return READS.has(operation) || /^(Get|List|Describe|Lookup)/.test(operation);
}

export function eventSource(service: string): string {
  return `${service}.amazonaws.com`;
}

/** The user's name, or the session's. */
export function userName({ arn }: Caller): string {
  return arn.slice(arn.lastIndexOf("/") + 1);
}

/** The record that `CloudTrailEvent` holds as JSON. */
export function record(event: TrailEvent): Readonly<Record<string, unknown>> {
  const { caller, error, opened } = event;
  const user = caller.kind === "user";
  return {
    eventVersion: "1.11",
    userIdentity: {
      type: user ? "IAMUser" : "AssumedRole",
      principalId: caller.userId,
      arn: caller.arn,
      accountId: caller.accountId,
      accessKeyId: caller.accessKeyId,
      ...user ? { userName: userName(caller) } : {},
    },
    eventTime: new Date(event.at).toISOString().replace(/\.\d{3}/, ""),
    eventSource: eventSource(event.service),
    eventName: event.operation,
    awsRegion: event.region,
    sourceIPAddress: "127.0.0.1",
    ...error === undefined ? {} : { errorCode: error.code, errorMessage: error.message },
    responseElements: opened === undefined ? null : { credentials: { accessKeyId: opened } },
    eventID: event.id,
    readOnly: isReadOnly(event.operation),
    eventType: "AwsApiCall",
    managementEvent: true,
    recipientAccountId: caller.accountId,
  };
}
