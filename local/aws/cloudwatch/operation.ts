/** One CloudWatch operation: its input shape, the permission it takes, and what it does. */

import { AwsError } from "../errors.ts";
import { identityVerdict } from "../iam/evaluate.ts";
import type { AwsCall } from "../service.ts";
import { type Infer, readInput, type Shape } from "../shapes.ts";
import type { MetricStore } from "./store.ts";

export interface CloudWatchCall extends Pick<AwsCall, "operation" | "region" | "caller" | "now"> {
  readonly store: MetricStore;
}

/** Dates are times; undefined members are left out. */
export type CloudWatchResult = Readonly<Record<string, unknown>>;

/** Reads the input and runs; throws AwsError. Null is the empty answer. */
export type CloudWatchOperation = (input: unknown, call: CloudWatchCall) => CloudWatchResult | null;

export function operation<S extends Shape<unknown>>(
  shape: S,
  run: (input: Infer<S>, call: CloudWatchCall) => CloudWatchResult | null,
): CloudWatchOperation {
  return (input, call) => run(readInput(shape, input) as Infer<S>, call);
}

/**
 * Metrics are no resources: policies restrict by the condition key `cloudwatch:namespace`, which only
 * PutMetricData has. Throws AccessDeniedException.
 */
export function requireAllowed(call: CloudWatchCall, namespace?: string): void {
  const { caller } = call;
  const action = `cloudwatch:${call.operation}`;
  const context = new Map<string, readonly string[]>([
    ["aws:principalarn", [caller.principalArns[0] ?? caller.arn]],
    ["aws:principalaccount", [caller.accountId]],
    ["aws:userid", [caller.userId]],
    ["aws:requestedregion", [call.region]],
    ["aws:currenttime", [new Date(call.now).toISOString()]],
    ["aws:securetransport", ["false"]],
  ]);
  if (namespace !== undefined) context.set("cloudwatch:namespace", [namespace]);
  const verdict = identityVerdict({ action, resource: "*", caller, context });
  if (verdict === "allow") return;
  const why = {
    explicit_deny: "with an explicit deny in an identity-based policy",
    session_deny: `because no session policy allows the ${action} action`,
    none: `because no identity-based policy allows the ${action} action`,
  }[verdict];
  throw new AwsError(
    "AccessDeniedException",
    `User: ${caller.arn} is not authorized to perform: ${action} ${why}`,
  );
}
