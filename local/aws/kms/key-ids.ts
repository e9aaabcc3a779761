/**
 * From what a request names a key by to the key: key id, key ARN, alias name or alias ARN, always
 * within the region of the request. Messages are the ones AWS answers.
 */

import { AwsError } from "../errors.ts";
import { aliasArn, keyArn, parseArn } from "../regions.ts";
import { requireIdentityAllows } from "./access.ts";
import type { KmsKey } from "./model.ts";
import type { KmsCall } from "./operation.ts";

const KEY_ID =
  /^(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/;

export interface ResolvedKey {
  readonly key: KmsKey;
  readonly arn: string;
  /** The alias the request named the key by, for `kms:RequestAlias`. */
  readonly requestAlias: string | null;
}

/** For operations that take any of the four forms. Throws NotFoundException, AccessDeniedException. */
export function resolveKey(call: KmsCall, identifier: string): ResolvedKey {
  return resolve(call, identifier, true);
}

/** For operations that take a key id or a key ARN only. Throws as `resolveKey`. */
export function resolveKeyIdOnly(call: KmsCall, identifier: string): ResolvedKey {
  return resolve(call, identifier, false);
}

function resolve(call: KmsCall, identifier: string, aliases: boolean): ResolvedKey {
  const { region, identities } = call;
  let resource = identifier;
  if (identifier.startsWith("arn:")) {
    const arn = parseArn(identifier);
    if (arn === null || arn.partition !== "aws" || arn.service !== "kms") {
      throw notFound("Invalid arn");
    }
    if (arn.region !== region) throw notFound(`Invalid arn ${arn.region}`);
    if (arn.accountId !== identities.accountId) throw foreign(call);
    const slash = arn.resource.indexOf("/");
    const type = arn.resource.slice(0, slash);
    if (type === "key") resource = arn.resource.slice(slash + 1);
    else if (type === "alias") resource = arn.resource;
    else throw notFound(`Invalid arn ${arn.region}`);
  }
  if (resource.startsWith("alias/") && aliases) return resolveAlias(call, resource);
  if (!KEY_ID.test(resource)) throw notFound(`Invalid keyId '${resource}'`);
  const arn = keyArn(region, identities.accountId, resource);
  const key = call.store.key(region, resource);
  if (key === undefined) {
    // Only who may perform the operation on it learns that a key does not exist.
    requireIdentityAllows(call, arn);
    throw notFound(`Key '${arn}' does not exist`);
  }
  return { key, arn, requestAlias: null };
}

function resolveAlias(call: KmsCall, name: string): ResolvedKey {
  const { region, store, identities } = call;
  const alias = store.alias(region, name);
  const key = alias === undefined ? undefined : store.key(region, alias.targetKeyId);
  if (key === undefined) {
    throw notFound(`Alias ${aliasArn(region, identities.accountId, name)} is not found.`);
  }
  const arn = keyArn(region, identities.accountId, key.keyId);
  return { key, arn, requestAlias: name };
}

function notFound(message: string): AwsError {
  return new AwsError("NotFoundException", message);
}

/** No key of another account exists here, and AWS does not tell that apart from a refusal. */
function foreign(call: KmsCall): AwsError {
  return new AwsError(
    "AccessDeniedException",
    `User: ${call.caller.arn} is not authorized to perform: kms:${call.operation} on this resource ` +
      "because the resource does not exist in this Region, no resource-based policies allow " +
      "access, or a resource-based policy explicitly denies access",
  );
}
