/**
 * Decides requests within one account.
 * Source: IAM User Guide, "Policy evaluation logic"; KMS Developer Guide, "Key policies".
 */

import { type ConditionContext, conditionsHold, matchesPattern } from "./conditions.ts";
import type { Caller } from "./identities.ts";
import type { PolicyDocument, Statement } from "./policy.ts";

export interface AccessRequest {
  /** `kms:Decrypt`. */
  readonly action: string;
  /** ARN, or `*` for actions on no resource. */
  readonly resource: string;
  readonly context: ConditionContext;
  readonly caller: Caller;
}

/** What identity policies, and the session policy where there is one, say. */
export type IdentityVerdict = "allow" | "explicit_deny" | "session_deny" | "none";

/** What a resource policy says: to the caller itself, or to the account which may delegate. */
export type ResourceVerdict = "allow" | "delegate" | "explicit_deny" | "none";

export function identityVerdict(request: AccessRequest): IdentityVerdict {
  const { caller } = request;
  const matching = matchingStatements(caller.policies, request);
  const session = caller.sessionPolicy === null
    ? null
    : matchingStatements([caller.sessionPolicy], request);
  if ([...matching, ...session ?? []].some((statement) => statement.effect === "Deny")) {
    return "explicit_deny";
  }
  if (session !== null && session.length === 0) return "session_deny";
  return matching.length > 0 ? "allow" : "none";
}

function matchingStatements(
  policies: readonly PolicyDocument[],
  request: AccessRequest,
): Statement[] {
  return policies.flatMap((policy) => policy.statements)
    .filter((statement) => applies(statement, request, true));
}

/** `resourceBound` false for trust policies, which name no resource. */
export function resourceVerdict(
  policy: PolicyDocument,
  request: AccessRequest,
  resourceBound: boolean,
): ResourceVerdict {
  let verdict: ResourceVerdict = "none";
  for (const statement of policy.statements) {
    const whom = principalMatch(statement, request.caller);
    if (whom === "nobody" || !applies(statement, request, resourceBound)) continue;
    if (statement.effect === "Deny") return "explicit_deny";
    if (whom === "caller") verdict = "allow";
    else if (verdict === "none") verdict = "delegate";
  }
  return verdict;
}

function applies(statement: Statement, request: AccessRequest, resourceBound: boolean): boolean {
  const action = request.action.toLowerCase();
  const matchesAction = (pattern: string) => matchesPattern(action, pattern.toLowerCase());
  const matchesResource = (pattern: string) => matchesPattern(request.resource, pattern);
  if (statement.actions !== null && !statement.actions.some(matchesAction)) return false;
  if (statement.notActions !== null && statement.notActions.some(matchesAction)) return false;
  if (resourceBound) {
    if (statement.resources !== null && !statement.resources.some(matchesResource)) return false;
    if (statement.notResources !== null && statement.notResources.some(matchesResource)) {
      return false;
    }
  }
  return conditionsHold(statement.conditions, request.context);
}

function principalMatch(statement: Statement, caller: Caller): "caller" | "account" | "nobody" {
  if (statement.notPrincipals !== null) {
    const named = [...caller.principalArns, ...accountPrincipals(caller.accountId)];
    return statement.notPrincipals.some((name) => named.includes(name)) ? "nobody" : "caller";
  }
  const principals = statement.principals ?? [];
  if (principals.some((name) => name === "*" || caller.principalArns.includes(name))) {
    return "caller";
  }
  const account = accountPrincipals(caller.accountId);
  return principals.some((name) => account.includes(name)) ? "account" : "nobody";
}

/** The ways in which a policy names a whole account. */
export function accountPrincipals(accountId: string): readonly string[] {
  return [accountId, `arn:aws:iam::${accountId}:root`];
}
