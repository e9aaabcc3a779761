/** Tokens of the next page: how far the last one came. */

import { Buffer } from "node:buffer";
import type { CloudWatchCall } from "./operation.ts";

export function writeToken(call: CloudWatchCall, offset: number): string {
  return Buffer.from(`${call.operation}\n${call.region}\n${offset}`, "utf8").toString("base64url");
}

/** Null when the token is not one of this operation in this region. */
export function readToken(call: CloudWatchCall, token: string): number | null {
  const [operation, region, offset = ""] = Buffer.from(token, "base64url").toString("utf8")
    .split("\n");
  if (operation !== call.operation || region !== call.region) return null;
  return /^\d{1,9}$/.test(offset) ? Number(offset) : null;
}
