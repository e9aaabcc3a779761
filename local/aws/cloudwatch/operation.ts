/** One CloudWatch operation: its input shape, the permission it takes, and what it does. */

import { AwsError } from "../errors.ts";
import { globalContext, identityRefusal } from "../iam/access.ts";
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
  const context = globalContext(call);
  if (namespace !== undefined) context.set("cloudwatch:namespace", [namespace]);
  const { caller } = call;
  const action = `cloudwatch:${call.operation}`;
  const refusal = identityRefusal({ action, resource: "*", caller, context }, null);
  if (refusal !== null) throw new AwsError("AccessDeniedException", refusal);
}
