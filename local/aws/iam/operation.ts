/** What IAM's operations share: the call, whom it is about, whether the caller may, and lists in pages. */

import { Buffer } from "node:buffer";
import { AwsError } from "../errors.ts";
import type { Parameters } from "../query/parameters.ts";
import type { XmlTree } from "../query/xml.ts";
import type { AwsCall } from "../service.ts";
import { globalContext, identityRefusal } from "./access.ts";
import type { Identities, User } from "./identities.ts";
import type { Role } from "./role.ts";

export interface IamCall extends Pick<AwsCall, "operation" | "region" | "caller" | "now"> {
  readonly identities: Identities;
  readonly parameters: Parameters;
}

/** Null: nothing but that it was done. Throws AwsError. */
export type IamOperation = (call: IamCall) => XmlTree | null;

const NAME_PATTERN = "[\\w+=,.@-]+";
const ROLE_NAME = { min: 1, max: 64, pattern: NAME_PATTERN };
const USER_NAME = { min: 1, max: 128, pattern: NAME_PATTERN };
export const POLICY_NAME = { min: 1, max: 128, pattern: NAME_PATTERN };
export const ACCESS_KEY_ID = { min: 16, max: 128, pattern: "[\\w]+" };
/** Never shown: a trust policy holds the external id. */
export const POLICY_DOCUMENT = {
  min: 1,
  max: 131_072,
  pattern: "[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+",
  secret: true,
};

/**
 * Reads `UserName`, by default the caller's own, and checks that every parameter was read.
 * Throws AwsError: ValidationError, AccessDenied, NoSuchEntity.
 */
export function userOf(call: IamCall): User {
  const { identities, parameters, caller } = call;
  const given = parameters.text("UserName", USER_NAME);
  parameters.end();
  if (given === undefined && caller.kind !== "user") {
    throw new AwsError(
      "ValidationError",
      "Must specify userName when calling with non-User credentials",
    );
  }
  const name = given ?? caller.arn.slice(caller.arn.lastIndexOf("/") + 1);
  const arn = `arn:aws:iam::${identities.accountId}:user/${name}`;
  requireAllowed(call, arn, `user ${name}`);
  const user = identities.user(name);
  if (user === undefined) throw noSuch(`user with name ${name}`);
  return user;
}

/** As `userOf`, of `RoleName`. */
export function roleOf(call: IamCall): Role {
  const { identities, parameters } = call;
  const name = parameters.required("RoleName", ROLE_NAME);
  parameters.end();
  const arn = `arn:aws:iam::${identities.accountId}:role/${name}`;
  requireAllowed(call, arn, `role ${name}`);
  const role = identities.roleNamed(name);
  if (role === undefined) throw noSuch(`role with name ${name}`);
  return role;
}

/** `shown`: the resource as IAM words it. Throws AwsError (AccessDenied). */
export function requireAllowed(call: IamCall, resource: string, shown: string): void {
  const action = `iam:${call.operation}`;
  const context = globalContext(call);
  const refusal = identityRefusal({ action, resource, caller: call.caller, context }, shown);
  if (refusal !== null) throw new AwsError("AccessDenied", refusal);
}

export function noSuch(what: string): AwsError {
  return new AwsError("NoSuchEntity", `The ${what} cannot be found.`);
}

/** Whole seconds, as IAM states times. */
export function isoTime(at: number): string {
  return new Date(at).toISOString().replace(/\.\d{3}/, "");
}

const DEFAULT_ITEMS = 100;

export interface PageRequest {
  readonly maxItems: number;
  readonly marker: string | undefined;
}

/** To be read before the last parameter is. */
export function pageOf({ parameters }: IamCall): PageRequest {
  const marker = parameters.text("Marker", { min: 1, max: 320, pattern: "[\\u0020-\\u00FF]+" });
  const maxItems = parameters.integer("MaxItems", { min: 1, max: 1000 }) ?? DEFAULT_ITEMS;
  return { maxItems, marker };
}

/**
 * `id` must be unique; a marker holds the last one given out and the list it is of.
 * Throws AwsError (ValidationError) for a marker of no such list.
 */
export function page<T>(
  list: { readonly name: string; readonly all: readonly T[]; readonly id: (item: T) => string },
  { maxItems, marker }: PageRequest,
): { readonly items: readonly T[]; readonly more: XmlTree } {
  const { name, all, id } = list;
  const token = (item: T) => Buffer.from(`${name}\n${id(item)}`).toString("base64url");
  const last = marker === undefined ? -1 : all.findIndex((item) => token(item) === marker);
  if (marker !== undefined && last < 0) throw new AwsError("ValidationError", "Invalid Marker.");
  const items = all.slice(last + 1, last + 1 + maxItems);
  const end = items.at(-1);
  const truncated = last + 1 + items.length < all.length && end !== undefined;
  return {
    items,
    more: { IsTruncated: truncated, Marker: truncated ? token(end) : undefined },
  };
}
