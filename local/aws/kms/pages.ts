/** Limit and Marker of the list operations. */

import { Buffer } from "node:buffer";
import { AwsError } from "../errors.ts";
import type { KmsCall, KmsResult } from "./operation.ts";

export interface Page<T> {
  readonly items: readonly T[];
  /** Spread into the answer. */
  readonly more: KmsResult;
}

/**
 * `id` must be unique and stable; a marker holds the last id given out.
 * Throws InvalidMarkerException when the marker is not one of this operation.
 */
export function page<T>(
  call: KmsCall,
  all: readonly T[],
  id: (item: T) => string,
  input: { readonly Limit?: number; readonly Marker?: string },
  defaultLimit: number,
): Page<T> {
  const prefix = `${call.operation}\n${call.region}\n`;
  let start = 0;
  if (input.Marker !== undefined) {
    const text = Buffer.from(input.Marker, "base64url").toString("utf8");
    const last = text.startsWith(prefix) ? text.slice(prefix.length) : null;
    const at = last === null ? -1 : all.findIndex((item) => id(item) === last);
    if (at < 0) throw new AwsError("InvalidMarkerException", "Could not deserialize marker");
    start = at + 1;
  }
  const items = all.slice(start, start + (input.Limit ?? defaultLimit));
  const last = items.at(-1);
  const truncated = start + items.length < all.length && last !== undefined;
  return {
    items,
    more: truncated
      ? {
        NextMarker: Buffer.from(prefix + id(last), "utf8").toString("base64url"),
        Truncated: true,
      }
      : { Truncated: false },
  };
}
