/** What every service asks of a caller's policies: the condition keys of any request, and AWS's words. */

import type { AwsCall } from "../service.ts";
import { type AccessRequest, type IdentityVerdict, identityVerdict } from "./evaluate.ts";

/**
 * Condition keys that a request has whatever the service; names in lower case.
 * Source: IAM User Guide, "AWS global condition context keys".
 */
export function globalContext(
  { caller, region, now }: Pick<AwsCall, "caller" | "region" | "now">,
): Map<string, readonly string[]> {
  const context = new Map<string, readonly string[]>([
    ["aws:principalarn", [caller.principalArns[0] ?? caller.arn]],
    ["aws:principalaccount", [caller.accountId]],
    ["aws:userid", [caller.userId]],
    ["aws:requestedregion", [region]],
    ["aws:currenttime", [new Date(now).toISOString()]],
    ["aws:securetransport", ["false"]],
  ]);
  // Long-term keys have no time of issue: conditions on it do not see them.
  if (caller.issuedAt !== null) {
    context.set("aws:tokenissuetime", [new Date(caller.issuedAt).toISOString()]);
  }
  return context;
}

const REASONS: Readonly<Record<IdentityVerdict, (action: string) => string | null>> = {
  allow: () => null,
  explicit_deny: () => "with an explicit deny in an identity-based policy",
  session_deny: (action) => `because no session policy allows the ${action} action`,
  none: (action) => `because no identity-based policy allows the ${action} action`,
};

/**
 * Null when the caller's policies allow the request, AWS's message otherwise.
 * `shown`: how the service words the resource; null for one that has none.
 */
export function identityRefusal(
  request: AccessRequest,
  shown: string | null = request.resource,
): string | null {
  const reason = REASONS[identityVerdict(request)](request.action);
  if (reason === null) return null;
  const on = shown === null ? "" : `on resource: ${shown} `;
  return `User: ${request.caller.arn} is not authorized to perform: ${request.action} ${on}${reason}`;
}
