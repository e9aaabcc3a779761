/** Who can call: two users, the suite's role, further roles of a test, and their sessions. */

import { Buffer } from "node:buffer";
import { SignatureError } from "../sigv4.ts";
import type { AccessKey, RoleOptions } from "../types.ts";
import { accountPrincipals } from "./evaluate.ts";
import { ADMINISTRATOR, callerPolicy, suiteRole } from "./given.ts";
import { parsePolicy, type PolicyDocument, readPolicy } from "./policy.ts";
import {
  type AccessKeyRecord,
  CALLER_NAME,
  createAccessKey,
  createId,
  type IamState,
  type IdentityState,
  OPERATOR_NAME,
  ROLE_NAME,
  roleRecord,
  type UserRecord,
} from "./records.ts";
import { Role } from "./role.ts";
import { openSession, sealSession, type SessionClaims } from "./session-token.ts";

export interface Caller {
  readonly kind: "user" | "session";
  readonly accountId: string;
  readonly accessKeyId: string;
  /** As GetCallerIdentity answers it. */
  readonly arn: string;
  readonly userId: string;
  /** Of a session, when it was opened, in milliseconds since the epoch; null for a long-term key. */
  readonly issuedAt: number | null;
  /** The ARNs by which a policy can name this caller. */
  readonly principalArns: readonly string[];
  readonly policies: readonly PolicyDocument[];
  readonly sessionPolicy: PolicyDocument | null;
}

export interface User extends UserRecord {
  readonly arn: string;
  readonly policies: readonly PolicyDocument[];
}

export class Identities {
  readonly accountId: string;
  readonly roleArn: string;
  readonly #state: IdentityState;
  readonly #iam: IamState;
  readonly #users: ReadonlyMap<string, User>;
  readonly #roles = new Map<string, Role>();
  readonly #sessionKey: Uint8Array;
  readonly #changed: () => void;

  /** `changed` is called after every change, to mark the state file stale. */
  constructor(
    state: IdentityState,
    iam: IamState,
    roles: readonly RoleOptions[],
    changed: () => void,
  ) {
    this.#state = state;
    this.#iam = iam;
    this.#changed = changed;
    this.accountId = state.accountId;
    this.#sessionKey = new Uint8Array(Buffer.from(state.sessionKey, "base64"));
    this.roleArn = `arn:aws:iam::${state.accountId}:role/${ROLE_NAME}`;
    const policyOf: Readonly<Record<string, unknown>> = {
      [CALLER_NAME]: callerPolicy(this.roleArn),
      [OPERATOR_NAME]: ADMINISTRATOR,
    };
    this.#users = new Map(iam.users.map((record) => [record.name, {
      ...record,
      arn: this.#userArn(record.name),
      policies: [readPolicy(policyOf[record.name], "identity")],
    }]));
    const given = suiteRole(state.accountId, this.#userArn(CALLER_NAME), state.role.externalId);
    for (const record of iam.roles) this.#addRole(new Role(state.accountId, given, record));
    for (const { name, policies, maxSessionDurationSeconds = 3600, ...rest } of roles) {
      const named = policies.map((policy, index) => [`policy-${index + 1}`, policy]);
      const options = { ...rest, maxSessionDurationSeconds, policies: Object.fromEntries(named) };
      this.#addRole(
        new Role(state.accountId, options, roleRecord(name, createId("AROA"), Date.now())),
      );
    }
  }

  snapshot(): IamState {
    return this.#iam;
  }

  /** To be called after a user, key or role was changed. */
  markChanged(): void {
    this.#changed();
  }

  /** The administrator, whatever became of its keys. */
  get operator(): Caller {
    const user = this.#users.get(OPERATOR_NAME);
    if (user === undefined) throw new Error("the operator is always there");
    return this.#userCaller(user, this.#state.operator.accessKeyId);
  }

  user(name: string): User | undefined {
    return this.#users.get(name);
  }

  /** The user's key and whose it is, active or not. */
  accessKey(accessKeyId: string): { readonly user: User; readonly key: AccessKeyRecord } | null {
    for (const user of this.#users.values()) {
      const key = user.keys.find((one) => one.accessKeyId === accessKeyId);
      if (key !== undefined) return { user, key };
    }
    return null;
  }

  role(arn: string): Role | undefined {
    return this.#roles.get(arn);
  }

  roleNamed(name: string): Role | undefined {
    return this.#roles.get(`arn:aws:iam::${this.accountId}:role/${name}`);
  }

  /** Whether a key policy or trust policy may name this principal. */
  isPrincipal(name: string): boolean {
    if (name === "*" || accountPrincipals(this.accountId).includes(name)) return true;
    if (/^Service:|^Federated:/.test(name)) return true;
    const users = [...this.#users.values()].map((user) => user.arn);
    if (users.includes(name) || this.#roles.has(name)) return true;
    const session = /^arn:aws:sts::(\d{12}):assumed-role\/([^/]+)\/[\w+=,.@-]{2,64}$/.exec(name);
    if (session !== null) return this.#roles.has(`arn:aws:iam::${session[1]}:role/${session[2]}`);
    // Principals of other accounts cannot be looked up here; their shape has to do.
    const other = /^(?:arn:aws:iam::)?(\d{12})(?::(?:root|user\/.+|role\/.+))?$/.exec(name);
    return other !== null && other[1] !== this.accountId;
  }

  /**
   * The secret to verify a signature with, and whom it speaks for.
   * Throws SignatureError (`unknown_key`, also for an inactive one, and `expired`).
   * `now`: milliseconds since the epoch.
   */
  credentials(
    accessKeyId: string,
    sessionToken: string | undefined,
    now: number,
  ): { readonly secret: string; readonly caller: Caller } {
    const invalid = new SignatureError(
      "unknown_key",
      "The security token included in the request is invalid.",
    );
    if (sessionToken === undefined) {
      const found = this.accessKey(accessKeyId);
      if (found === null || !found.key.active) throw invalid;
      return {
        secret: found.key.secretAccessKey,
        caller: this.#userCaller(found.user, accessKeyId),
      };
    }
    const claims = openSession(sessionToken, this.#sessionKey);
    if (claims === null || claims.accessKeyId !== accessKeyId) throw invalid;
    const role = this.#roles.get(claims.roleArn);
    if (role === undefined) throw invalid;
    if (now >= claims.expiresAt) {
      throw new SignatureError(
        "expired",
        "The security token included in the request is expired",
      );
    }
    return { secret: claims.secretAccessKey, caller: this.#session(role, claims) };
  }

  /** Notes a request that was signed with the key; one of a session is nobody's. */
  used(accessKeyId: string, use: NonNullable<AccessKeyRecord["lastUsed"]>): void {
    const found = this.accessKey(accessKeyId);
    if (found !== null) found.key.lastUsed = use;
  }

  /** Temporary credentials for a role; the decision to give them is the caller's. */
  openRoleSession(
    role: Role,
    options: Pick<SessionClaims, "sessionName" | "issuedAt" | "expiresAt" | "policy">,
  ): { readonly key: AccessKey; readonly token: string; readonly caller: Caller } {
    const key = createAccessKey("ASIA");
    const claims: SessionClaims = { ...key, roleArn: role.arn, ...options };
    const token = sealSession(claims, this.#sessionKey);
    return { key, token, caller: this.#session(role, claims) };
  }

  #session(role: Role, claims: SessionClaims): Caller {
    const arn = `arn:aws:sts::${this.accountId}:assumed-role/${role.name}/${claims.sessionName}`;
    return {
      kind: "session",
      accountId: this.accountId,
      accessKeyId: claims.accessKeyId,
      arn,
      userId: `${role.id}:${claims.sessionName}`,
      issuedAt: claims.issuedAt,
      principalArns: [role.arn, arn],
      policies: role.policies,
      sessionPolicy: claims.policy === null ? null : parsePolicy(claims.policy, "identity"),
    };
  }

  #userCaller({ arn, id, policies }: User, accessKeyId: string): Caller {
    return {
      kind: "user",
      accountId: this.accountId,
      accessKeyId,
      arn,
      userId: id,
      issuedAt: null,
      principalArns: [arn],
      policies,
      sessionPolicy: null,
    };
  }

  #userArn(name: string): string {
    return `arn:aws:iam::${this.accountId}:user/${name}`;
  }

  #addRole(role: Role): void {
    this.#roles.set(role.arn, role);
  }
}
