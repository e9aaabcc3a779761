/** Who may do what with which key: identity policies, key policies and KMS's condition keys. */

import { AwsError } from "../errors.ts";
import { globalContext } from "../iam/access.ts";
import type { ConditionContext } from "../iam/conditions.ts";
import { type AccessRequest, identityVerdict, resourceVerdict } from "../iam/evaluate.ts";
import { parsePolicy, type PolicyDocument } from "../iam/policy.ts";
import type { EncryptionContext } from "./ciphertext.ts";
import type { ResolvedKey } from "./key-ids.ts";
import type { KeyFamily, KmsKey } from "./model.ts";
import type { KmsCall } from "./operation.ts";

export interface AccessDetails {
  /** Default: the call's operation. */
  readonly action?: string;
  readonly encryptionContext?: EncryptionContext;
  readonly requestTags?: Readonly<Record<string, string>>;
  readonly conditions?: Readonly<Record<string, string>>;
}

/** Throws AccessDeniedException unless identity and key policies together allow it. */
export function requireKeyAccess(
  call: KmsCall,
  { key, arn, requestAlias }: ResolvedKey,
  details: AccessDetails = {},
): void {
  const request: AccessRequest = {
    action: `kms:${details.action ?? call.operation}`,
    resource: arn,
    caller: call.caller,
    context: keyContext(call, key, call.store.family(key.keyId), requestAlias, details),
  };
  const byKey = resourceVerdict(keyPolicy(key), request, true);
  const byIdentity = identityVerdict(request);
  if (byIdentity === "explicit_deny") {
    throw denied(request, "with an explicit deny in an identity-based policy");
  }
  if (byKey === "explicit_deny") {
    throw denied(request, "with an explicit deny in a resource-based policy");
  }
  if (byIdentity === "session_deny") {
    throw denied(request, "because no session policy allows", true);
  }
  if (byKey === "allow") return;
  if (byKey === "none") throw denied(request, "because no resource-based policy allows", true);
  if (byIdentity !== "allow") {
    throw denied(request, "because no identity-based policy allows", true);
  }
}

/** For operations on no key, or on one that does not exist. Throws AccessDeniedException. */
export function requireIdentityAllows(
  call: KmsCall,
  resource = "*",
  details: AccessDetails = {},
): void {
  const request: AccessRequest = {
    action: `kms:${details.action ?? call.operation}`,
    resource,
    caller: call.caller,
    context: callContext(call, details),
  };
  const verdict = identityVerdict(request);
  if (verdict === "explicit_deny") {
    throw denied(request, "with an explicit deny in an identity-based policy");
  }
  if (verdict === "session_deny") throw denied(request, "because no session policy allows", true);
  if (verdict !== "allow") throw denied(request, "because no identity-based policy allows", true);
}

/** Whether the caller could still change the policy once `policy` were in place. */
export function couldPutPolicy(
  call: KmsCall,
  { key, family }: { readonly key: KmsKey; readonly family: KeyFamily },
  arn: string,
  policy: PolicyDocument,
): boolean {
  const request: AccessRequest = {
    action: "kms:PutKeyPolicy",
    resource: arn,
    caller: call.caller,
    context: keyContext(call, key, family, null, {}),
  };
  const byKey = resourceVerdict(policy, request, true);
  const byIdentity = identityVerdict(request);
  if (byKey === "explicit_deny" || byKey === "none") return false;
  return byKey === "allow" || byIdentity === "allow";
}

const parsedPolicies = new WeakMap<KmsKey, { text: string; document: PolicyDocument }>();

function keyPolicy(key: KmsKey): PolicyDocument {
  const cached = parsedPolicies.get(key);
  if (cached !== undefined && cached.text === key.policy) return cached.document;
  const document = parsePolicy(key.policy, "key");
  parsedPolicies.set(key, { text: key.policy, document });
  return document;
}

function keyContext(
  call: KmsCall,
  key: KmsKey,
  family: KeyFamily,
  requestAlias: string | null,
  details: AccessDetails,
): ConditionContext {
  const context = new Map(callContext(call, details));
  const set = (name: string, ...values: readonly string[]) =>
    context.set(name.toLowerCase(), values);
  set("kms:KeySpec", "SYMMETRIC_DEFAULT");
  set("kms:KeyUsage", "ENCRYPT_DECRYPT");
  set("kms:KeyOrigin", "AWS_KMS");
  set("kms:MultiRegion", String(family.multiRegion));
  if (family.multiRegion) {
    set("kms:MultiRegionKeyType", family.primaryRegion === key.region ? "PRIMARY" : "REPLICA");
  }
  if (requestAlias !== null) set("kms:RequestAlias", requestAlias);
  const aliases = call.store.aliases(key.region)
    .filter((alias) => alias.targetKeyId === key.keyId).map((alias) => alias.name);
  if (aliases.length > 0) set("kms:ResourceAliases", ...aliases);
  for (const [name, value] of Object.entries(key.tags)) set(`aws:ResourceTag/${name}`, value);
  return context;
}

function callContext(call: KmsCall, details: AccessDetails): ConditionContext {
  const context = globalContext(call);
  const set = (name: string, ...values: readonly string[]) =>
    context.set(name.toLowerCase(), values);
  set("kms:CallerAccount", call.caller.accountId);
  const pairs = Object.entries(details.encryptionContext ?? {});
  for (const [name, value] of pairs) set(`kms:EncryptionContext:${name}`, value);
  if (pairs.length > 0) set("kms:EncryptionContextKeys", ...pairs.map(([name]) => name));
  const requestTags = Object.entries(details.requestTags ?? {});
  for (const [name, value] of requestTags) set(`aws:RequestTag/${name}`, value);
  if (requestTags.length > 0) set("aws:TagKeys", ...requestTags.map(([name]) => name));
  for (const [name, value] of Object.entries(details.conditions ?? {})) set(name, value);
  return context;
}

function denied(request: AccessRequest, why: string, withAction = false): AwsError {
  const reason = withAction ? `${why} the ${request.action} action` : why;
  return new AwsError(
    "AccessDeniedException",
    `User: ${request.caller.arn} is not authorized to perform: ${request.action} ` +
      `on resource: ${request.resource} ${reason}`,
  );
}
