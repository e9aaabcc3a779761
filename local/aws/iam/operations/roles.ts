/** Roles, their trust policies and inline policies. Source: IAM API reference, "IAM and STS quotas". */

import { AwsError } from "../../errors.ts";
import type { Identities } from "../identities.ts";
import {
  type IamOperation,
  isoTime,
  noSuch,
  page,
  pageOf,
  POLICY_DOCUMENT,
  POLICY_NAME,
  roleOf,
} from "../operation.ts";
import { parsePolicy, PolicySyntaxError } from "../policy.ts";
import type { Role } from "../role.ts";

/** Of all inline policies of a role together, and of its trust policy; white space does not count. */
const MAX_INLINE_CHARACTERS = 10_240;
const MAX_TRUST_CHARACTERS = 2048;

export const roles: Readonly<Record<string, IamOperation>> = {
  GetRole(call) {
    const role = roleOf(call);
    return {
      Role: {
        Path: "/",
        RoleName: role.name,
        RoleId: role.id,
        Arn: role.arn,
        CreateDate: isoTime(role.createdAt),
        AssumeRolePolicyDocument: encode(role.trustPolicyText),
        MaxSessionDuration: role.maxSessionDurationSeconds,
      },
    };
  },

  UpdateAssumeRolePolicy(call) {
    const text = call.parameters.required("PolicyDocument", POLICY_DOCUMENT);
    const role = roleOf(call);
    if (sizeOf(text) > MAX_TRUST_CHARACTERS) {
      throw new AwsError(
        "LimitExceeded",
        `Cannot exceed quota for ACLSizePerRole: ${MAX_TRUST_CHARACTERS}`,
      );
    }
    wellFormed(() => {
      checkPrincipals(text, call.identities);
      role.trust(text);
    });
    call.identities.markChanged();
    return null;
  },

  ListRolePolicies(call) {
    const wanted = pageOf(call);
    const role = roleOf(call);
    const list = { name: role.id, all: role.policyNames, id: (name: string) => name };
    const { items, more } = page(list, wanted);
    return { PolicyNames: items, ...more };
  },

  GetRolePolicy(call) {
    const name = call.parameters.required("PolicyName", POLICY_NAME);
    const role = roleOf(call);
    return {
      RoleName: role.name,
      PolicyName: name,
      PolicyDocument: encode(policyText(role, name)),
    };
  },

  PutRolePolicy(call) {
    const name = call.parameters.required("PolicyName", POLICY_NAME);
    const text = call.parameters.required("PolicyDocument", POLICY_DOCUMENT);
    const role = roleOf(call);
    const others = role.policyNames.filter((other) => other !== name)
      .map((other) => sizeOf(policyText(role, other)));
    if (others.reduce((sum, size) => sum + size, sizeOf(text)) > MAX_INLINE_CHARACTERS) {
      throw new AwsError(
        "LimitExceeded",
        `Maximum policy size of ${MAX_INLINE_CHARACTERS} bytes exceeded for role ${role.name}`,
      );
    }
    wellFormed(() => role.putPolicy(name, text));
    call.identities.markChanged();
    return null;
  },

  DeleteRolePolicy(call) {
    const name = call.parameters.required("PolicyName", POLICY_NAME);
    const role = roleOf(call);
    policyText(role, name);
    role.deletePolicy(name);
    call.identities.markChanged();
    return null;
  },
};

/** Throws AwsError (NoSuchEntity). */
function policyText(role: Role, name: string): string {
  const text = role.policyText(name);
  if (text === undefined) throw noSuch(`role policy with name ${name}`);
  return text;
}

/** A trust policy may name only principals that exist. Throws PolicySyntaxError. */
function checkPrincipals(text: string, identities: Identities): void {
  for (const { principals, notPrincipals } of parsePolicy(text, "trust").statements) {
    const unknown = [...principals ?? [], ...notPrincipals ?? []]
      .find((name) => !identities.isPrincipal(name));
    if (unknown !== undefined) {
      throw new PolicySyntaxError(`Invalid principal in policy: "AWS":"${unknown}"`);
    }
  }
}

/** Throws AwsError (MalformedPolicyDocument). */
function wellFormed(change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!(error instanceof PolicySyntaxError)) throw error;
    throw new AwsError("MalformedPolicyDocument", error.message);
  }
}

function sizeOf(text: string): number {
  return text.replace(/\s/g, "").length;
}

/** RFC 3986, as IAM answers documents. */
function encode(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
