/** Users, their keys and roles as they are kept, and how new ones are made. */

import { randomBytes } from "node:crypto";
import type { AccessKey } from "../types.ts";

/** What was handed out when this account was made, and the key that seals its sessions. */
export interface IdentityState {
  readonly accountId: string;
  readonly caller: AccessKey & { readonly userId: string };
  readonly operator: AccessKey & { readonly userId: string };
  readonly role: { readonly id: string; readonly externalId: string };
  /** Base64, 32 bytes; seals session tokens. */
  readonly sessionKey: string;
}

/** What IAM's operations have made of it since. Times are milliseconds since the epoch. */
export interface IamState {
  readonly users: readonly UserRecord[];
  readonly roles: readonly RoleRecord[];
}

export interface UserRecord {
  readonly name: string;
  readonly id: string;
  readonly createdAt: number;
  /** Oldest first, at most two. */
  readonly keys: AccessKeyRecord[];
}

export interface AccessKeyRecord extends AccessKey {
  readonly createdAt: number;
  active: boolean;
  /** Kept with the next change of something else: AWS is late with it as well. */
  lastUsed?: { readonly at: number; readonly service: string; readonly region: string };
}

/** Only what differs from the role as this version of the local AWS makes it. */
export interface RoleRecord {
  readonly name: string;
  readonly id: string;
  readonly createdAt: number;
  /** Policy document; null for the one it was made with. */
  trustPolicy: string | null;
  /** Inline policies that were put or, with null, deleted; one entry a name. */
  policies: readonly { readonly name: string; readonly document: string | null }[];
}

export const CALLER_NAME = "parker-flight-caller";
export const OPERATOR_NAME = "operator";
export const ROLE_NAME = "parker-flight-kms";

const ACCOUNT_ID = "000000000000";

export function createIdentityState(): IdentityState {
  return {
    accountId: ACCOUNT_ID,
    caller: { ...createAccessKey("AKIA"), userId: createId("AIDA") },
    operator: { ...createAccessKey("AKIA"), userId: createId("AIDA") },
    role: { id: createId("AROA"), externalId: randomBytes(16).toString("hex") },
    sessionKey: randomBytes(32).toString("base64"),
  };
}

/** Of an account in which nothing was changed yet; `now`: milliseconds since the epoch. */
export function createIamState({ caller, operator, role }: IdentityState, now: number): IamState {
  const user = (name: string, { userId, ...key }: IdentityState["caller"]): UserRecord => ({
    name,
    id: userId,
    createdAt: now,
    keys: [{ ...key, createdAt: now, active: true }],
  });
  return {
    users: [user(CALLER_NAME, caller), user(OPERATOR_NAME, operator)],
    roles: [roleRecord(ROLE_NAME, role.id, now)],
  };
}

export function roleRecord(name: string, id: string, createdAt: number): RoleRecord {
  return { name, id, createdAt, trustPolicy: null, policies: [] };
}

/** `AKIA` for a user's key, `ASIA` for a session's. */
export function createAccessKey(prefix: "AKIA" | "ASIA"): AccessKey {
  return {
    accessKeyId: createId(prefix),
    secretAccessKey: randomBytes(30).toString("base64"),
  };
}

/** Twenty characters, as AWS's unique ids. */
export function createId(prefix: string): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  return prefix + [...randomBytes(16)].map((byte) => alphabet[byte % 32]).join("");
}
