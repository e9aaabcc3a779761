/** One KMS operation: its input shape and what it does. */

import type { AwsCall } from "../service.ts";
import type { Identities } from "../iam/identities.ts";
import { type Infer, readInput, type Shape } from "../shapes.ts";
import type { KeyStore } from "./store.ts";

export interface KmsCall extends Pick<AwsCall, "operation" | "region" | "caller" | "now"> {
  readonly store: KeyStore;
  readonly identities: Identities;
  /** How long a new replica stays `Creating`. */
  readonly replicationMs: number;
}

/** Members are JSON as they go over the wire; undefined ones are left out. */
export type KmsResult = Readonly<Record<string, unknown>>;

/** Reads the JSON body and runs; throws AwsError. Null is the empty body of AWS's void operations. */
export type KmsOperation = (json: unknown, call: KmsCall) => KmsResult | null;

export function operation<S extends Shape<unknown>>(
  shape: S,
  run: (input: Infer<S>, call: KmsCall) => KmsResult | null,
): KmsOperation {
  return (json, call) => run(readInput(shape, json) as Infer<S>, call);
}

/** Wire form of a time: seconds since the epoch, with milliseconds as fraction. */
export function seconds(at: number): number {
  return at / 1000;
}
