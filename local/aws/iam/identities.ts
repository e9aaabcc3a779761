/** Who can call: two users, the suite's role, further roles of a test, and their sessions. */

import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import type { AccessKey, RoleOptions } from "../types.ts";
import { SignatureError } from "../sigv4.ts";
import { accountPrincipals } from "./evaluate.ts";
import { parsePolicy, type PolicyDocument, readPolicy } from "./policy.ts";
import { openSession, sealSession, type SessionClaims } from "./session-token.ts";

export interface Caller {
  readonly kind: "user" | "session";
  readonly accountId: string;
  readonly accessKeyId: string;
  /** As GetCallerIdentity answers it. */
  readonly arn: string;
  readonly userId: string;
  /** The ARNs by which a policy can name this caller. */
  readonly principalArns: readonly string[];
  readonly policies: readonly PolicyDocument[];
  readonly sessionPolicy: PolicyDocument | null;
}

export interface Role {
  readonly name: string;
  readonly arn: string;
  readonly id: string;
  readonly trustPolicy: PolicyDocument;
  readonly policies: readonly PolicyDocument[];
  readonly maxSessionDurationSeconds: number;
}

/** What of the identities is kept in the state file. */
export interface IdentityState {
  readonly accountId: string;
  readonly caller: AccessKey & { readonly userId: string };
  readonly operator: AccessKey & { readonly userId: string };
  readonly role: { readonly id: string; readonly externalId: string };
  /** Base64, 32 bytes; seals session tokens. */
  readonly sessionKey: string;
}

const ACCOUNT_ID = "000000000000";
const CALLER_NAME = "parker-flight-caller";
const OPERATOR_NAME = "operator";
const ROLE_NAME = "parker-flight-kms";

export function createIdentityState(): IdentityState {
  return {
    accountId: ACCOUNT_ID,
    caller: { ...createAccessKey("AKIA"), userId: createId("AIDA") },
    operator: { ...createAccessKey("AKIA"), userId: createId("AIDA") },
    role: { id: createId("AROA"), externalId: randomBytes(16).toString("hex") },
    sessionKey: randomBytes(32).toString("base64"),
  };
}

function createAccessKey(prefix: "AKIA" | "ASIA"): AccessKey {
  return {
    accessKeyId: createId(prefix),
    secretAccessKey: randomBytes(30).toString("base64"),
  };
}

/** Twenty characters, as AWS's unique ids. */
function createId(prefix: string): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  return prefix + [...randomBytes(16)].map((byte) => alphabet[byte % 32]).join("");
}

export class Identities {
  readonly accountId: string;
  readonly roleArn: string;
  readonly #state: IdentityState;
  readonly #users = new Map<string, { secret: string; caller: Caller }>();
  readonly #roles = new Map<string, Role>();
  readonly #sessionKey: Uint8Array;

  constructor(state: IdentityState, roles: readonly RoleOptions[]) {
    this.#state = state;
    this.accountId = state.accountId;
    this.#sessionKey = new Uint8Array(Buffer.from(state.sessionKey, "base64"));
    this.roleArn = `arn:aws:iam::${state.accountId}:role/${ROLE_NAME}`;
    this.#addUser(CALLER_NAME, state.caller, callerPolicy(this.roleArn));
    this.#addUser(OPERATOR_NAME, state.operator, ADMINISTRATOR);
    this.#addRole({
      name: ROLE_NAME,
      trustPolicy: trustPolicy(this.#userArn(CALLER_NAME), state.role.externalId),
      policies: [rolePolicy(state.accountId)],
    }, state.role.id);
    for (const role of roles) this.#addRole(role, createId("AROA"));
  }

  get operator(): Caller {
    const user = this.#users.get(this.#state.operator.accessKeyId);
    if (user === undefined) throw new Error("the operator is always there");
    return user.caller;
  }

  role(arn: string): Role | undefined {
    return this.#roles.get(arn);
  }

  /** Whether a key policy may name this principal. */
  isPrincipal(name: string): boolean {
    if (name === "*" || accountPrincipals(this.accountId).includes(name)) return true;
    if (/^Service:|^Federated:/.test(name)) return true;
    const users = [...this.#users.values()].map((user) => user.caller.arn);
    if (users.includes(name) || this.#roles.has(name)) return true;
    const session = /^arn:aws:sts::(\d{12}):assumed-role\/([^/]+)\/[\w+=,.@-]{2,64}$/.exec(name);
    if (session !== null) return this.#roles.has(`arn:aws:iam::${session[1]}:role/${session[2]}`);
    // Principals of other accounts cannot be looked up here; their shape has to do.
    const other = /^(?:arn:aws:iam::)?(\d{12})(?::(?:root|user\/.+|role\/.+))?$/.exec(name);
    return other !== null && other[1] !== this.accountId;
  }

  /**
   * The secret to verify a signature with, and whom it speaks for.
   * Throws SignatureError (`unknown_key`, `expired`). `now`: milliseconds since the epoch.
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
      const user = this.#users.get(accessKeyId);
      if (user === undefined) throw invalid;
      return user;
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

  /** Temporary credentials for a role; the decision to give them is the caller's. */
  openRoleSession(role: Role, options: {
    readonly sessionName: string;
    readonly expiresAt: number;
    readonly policy: string | null;
  }): { readonly key: AccessKey; readonly token: string; readonly caller: Caller } {
    const key = createAccessKey("ASIA");
    const claims: SessionClaims = {
      ...key,
      roleArn: role.arn,
      sessionName: options.sessionName,
      expiresAt: options.expiresAt,
      policy: options.policy,
    };
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
      principalArns: [role.arn, arn],
      policies: role.policies,
      sessionPolicy: claims.policy === null ? null : parsePolicy(claims.policy, "identity"),
    };
  }

  #userArn(name: string): string {
    return `arn:aws:iam::${this.accountId}:user/${name}`;
  }

  #addUser(name: string, key: AccessKey & { readonly userId: string }, policy: unknown) {
    const arn = this.#userArn(name);
    this.#users.set(key.accessKeyId, {
      secret: key.secretAccessKey,
      caller: {
        kind: "user",
        accountId: this.accountId,
        accessKeyId: key.accessKeyId,
        arn,
        userId: key.userId,
        principalArns: [arn],
        policies: [readPolicy(policy, "identity")],
        sessionPolicy: null,
      },
    });
  }

  #addRole(options: RoleOptions, id: string) {
    const arn = `arn:aws:iam::${this.accountId}:role/${options.name}`;
    this.#roles.set(arn, {
      name: options.name,
      arn,
      id,
      trustPolicy: readPolicy(options.trustPolicy, "trust"),
      policies: options.policies.map((policy) => readPolicy(policy, "identity")),
      maxSessionDurationSeconds: options.maxSessionDurationSeconds ?? 3600,
    });
  }
}

const ADMINISTRATOR = {
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }],
};

function callerPolicy(roleArn: string) {
  return {
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Action: "sts:AssumeRole", Resource: roleArn }],
  };
}

/** Names the exact principal and asks for the external id, as the deployment guide does. */
function trustPolicy(callerArn: string, externalId: string) {
  return {
    Version: "2012-10-17",
    Statement: [{
      Effect: "Allow",
      Principal: { AWS: callerArn },
      Action: "sts:AssumeRole",
      Condition: { StringEquals: { "sts:ExternalId": externalId } },
    }],
  };
}

/** What the functions need and no more; an alias ARN as resource would grant nothing. */
function rolePolicy(accountId: string) {
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Action: [
          "kms:GenerateDataKey*",
          "kms:Decrypt",
          "kms:Encrypt",
          "kms:ReEncrypt*",
          "kms:DescribeKey",
          "kms:GetKeyRotationStatus",
          "kms:ListKeyRotations",
          "kms:RotateKeyOnDemand",
        ],
        Resource: `arn:aws:kms:*:${accountId}:key/*`,
      },
      { Effect: "Allow", Action: "kms:ListAliases", Resource: "*" },
      { Effect: "Allow", Action: "cloudwatch:PutMetricData", Resource: "*" },
      // For the import of an older setup's key, and only while it lasts.
      {
        Effect: "Allow",
        Action: "ssm:GetParameter",
        Resource: `arn:aws:ssm:*:${accountId}:parameter/boosterbeacon/encryption-keys/*`,
      },
    ],
  };
}
