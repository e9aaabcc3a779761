/** CreateAlias, UpdateAlias, DeleteAlias, ListAliases. Aliases belong to one region. */

import { AwsError } from "../../errors.ts";
import { aliasArn } from "../../regions.ts";
import { required, structure } from "../../shapes.ts";
import { requireIdentityAllows, requireKeyAccess } from "../access.ts";
import { type ResolvedKey, resolveKeyIdOnly } from "../key-ids.ts";
import { requireAlterable } from "../key-state.ts";
import * as members from "../members.ts";
import type { Alias } from "../model.ts";
import { type KmsCall, type KmsOperation, operation, seconds } from "../operation.ts";
import { page } from "../pages.ts";

const PREFIX = "alias/";

/** Throws ValidationException or NotAuthorizedException. */
function checkName(name: string): void {
  if (!name.startsWith(PREFIX) || name === PREFIX) {
    throw new AwsError(
      "ValidationException",
      'Alias must start with the prefix "alias/". Please see ' +
        "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
    );
  }
  if (name.startsWith("alias/aws/")) throw new AwsError("NotAuthorizedException");
  if (name.includes(":")) {
    throw new AwsError(
      "ValidationException",
      `${name} contains invalid characters for an alias`,
    );
  }
}

function arnOf(call: KmsCall, name: string): string {
  return aliasArn(call.region, call.identities.accountId, name);
}

/** AWS takes a key id or key ARN as target, no alias. */
function target(call: KmsCall, identifier: string): ResolvedKey {
  if (identifier.startsWith(PREFIX) || /^arn:[^/]*:alias\//.test(identifier)) {
    throw new AwsError("ValidationException", "Aliases must refer to keys. Not aliases");
  }
  return resolveKeyIdOnly(call, identifier);
}

function existing(call: KmsCall, name: string): Alias {
  const alias = call.store.alias(call.region, name);
  if (alias === undefined) {
    throw new AwsError("NotFoundException", `Alias ${arnOf(call, name)} is not found.`);
  }
  return alias;
}

const input = structure({
  AliasName: required(members.aliasName),
  TargetKeyId: required(members.keyId),
});

const createAlias: KmsOperation = operation(input, ({ AliasName, TargetKeyId }, call) => {
  checkName(AliasName);
  requireIdentityAllows(call, arnOf(call, AliasName));
  const resolved = target(call, TargetKeyId);
  requireKeyAccess(call, resolved);
  requireAlterable(resolved);
  if (call.store.alias(call.region, AliasName) !== undefined) {
    throw new AwsError(
      "AlreadyExistsException",
      `An alias with the name ${arnOf(call, AliasName)} already exists`,
    );
  }
  call.store.putAlias({
    name: AliasName,
    region: call.region,
    targetKeyId: resolved.key.keyId,
    createdAt: call.now,
    updatedAt: call.now,
  });
  return null;
});

const updateAlias: KmsOperation = operation(input, ({ AliasName, TargetKeyId }, call) => {
  checkName(AliasName);
  requireIdentityAllows(call, arnOf(call, AliasName));
  const alias = existing(call, AliasName);
  const resolved = target(call, TargetKeyId);
  requireCurrentKeyAccess(call, alias);
  requireKeyAccess(call, resolved);
  requireAlterable(resolved);
  alias.targetKeyId = resolved.key.keyId;
  alias.updatedAt = call.now;
  call.store.changed();
  return null;
});

const deleteAlias: KmsOperation = operation(
  structure({ AliasName: required(members.aliasName) }),
  ({ AliasName }, call) => {
    checkName(AliasName);
    requireIdentityAllows(call, arnOf(call, AliasName));
    const alias = existing(call, AliasName);
    requireCurrentKeyAccess(call, alias);
    call.store.deleteAlias(alias);
    return null;
  },
);

/** Alias operations need permission on the alias and on every key concerned. */
function requireCurrentKeyAccess(call: KmsCall, alias: Alias): void {
  requireKeyAccess(call, resolveKeyIdOnly(call, alias.targetKeyId));
}

const listAliases: KmsOperation = operation(
  structure({ KeyId: members.keyId, Limit: members.limit, Marker: members.marker }),
  (filter, call) => {
    requireIdentityAllows(call);
    const keyId = filter.KeyId === undefined
      ? null
      : resolveKeyIdOnly(call, filter.KeyId).key.keyId;
    const aliases = call.store.aliases(call.region)
      .filter((alias) => keyId === null || alias.targetKeyId === keyId);
    const { items, more } = page(call, aliases, (alias) => alias.name, filter, 50);
    return {
      Aliases: items.map((alias) => ({
        AliasName: alias.name,
        AliasArn: arnOf(call, alias.name),
        TargetKeyId: alias.targetKeyId,
        CreationDate: seconds(alias.createdAt),
        LastUpdatedDate: seconds(alias.updatedAt),
      })),
      ...more,
    };
  },
);

export const aliases: Readonly<Record<string, KmsOperation>> = {
  CreateAlias: createAlias,
  UpdateAlias: updateAlias,
  DeleteAlias: deleteAlias,
  ListAliases: listAliases,
};
