/** AssumeRole. Source: STS API reference; messages as AWS answers them. */

import { AwsError } from "../errors.ts";
import { type AccessRequest, identityVerdict, resourceVerdict } from "../iam/evaluate.ts";
import { globalContext } from "../iam/access.ts";
import type { Identities } from "../iam/identities.ts";
import { parsePolicy, PolicySyntaxError } from "../iam/policy.ts";
import type { Role } from "../iam/role.ts";
import type { Parameters } from "../query/parameters.ts";
import type { XmlTree } from "../query/xml.ts";
import type { AwsCall } from "../service.ts";

const MIN_SECONDS = 900;
const MAX_SECONDS = 43_200;
const DEFAULT_SECONDS = 3600;
/** What a role may ask for when it assumes a role. */
const CHAINED_SECONDS = 3600;
const MAX_SESSION_POLICY_CHARACTERS = 2048;

/**
 * The answer, and the access key id of the session.
 * Throws AwsError: ValidationError, AccessDenied, MalformedPolicyDocument, PackedPolicyTooLarge.
 */
export function assumeRole(
  call: AwsCall,
  parameters: Parameters,
  identities: Identities,
): { readonly result: XmlTree; readonly opened: string } {
  const roleArn = parameters.required("RoleArn", { min: 20, max: 2048 });
  const sessionName = parameters.required("RoleSessionName", {
    min: 2,
    max: 64,
    pattern: "[\\w+=,.@-]*",
  });
  const externalId = parameters.text("ExternalId", {
    min: 2,
    max: 1224,
    pattern: "[\\w+=,.@:\\/-]*",
  });
  const seconds = parameters.integer("DurationSeconds", { min: MIN_SECONDS, max: MAX_SECONDS });
  const policy = parameters.text("Policy", { min: 1 });
  parameters.end();
  checkSessionPolicy(policy);
  if (!/^arn:aws:iam::\d{12}:role\/.+$/.test(roleArn)) {
    throw new AwsError("ValidationError", `${roleArn} is invalid`);
  }

  const role = identities.role(roleArn);
  if (role === undefined || !mayAssume(call, role, { externalId, sessionName })) {
    throw new AwsError(
      "AccessDenied",
      `User: ${call.caller.arn} is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`,
    );
  }
  const duration = seconds ?? DEFAULT_SECONDS;
  if (call.caller.kind === "session" && duration > CHAINED_SECONDS) {
    throw new AwsError(
      "ValidationError",
      "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by " +
        "role chaining",
    );
  }
  if (duration > role.maxSessionDurationSeconds) {
    throw new AwsError(
      "ValidationError",
      "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    );
  }
  // AWS states both in whole seconds.
  const issuedAt = Math.floor(call.now / 1000) * 1000;
  const expiresAt = Math.floor(call.now / 1000 + duration) * 1000;
  const session = identities.openRoleSession(role, {
    sessionName,
    issuedAt,
    expiresAt,
    policy: policy ?? null,
  });
  const result = {
    AssumedRoleUser: { AssumedRoleId: session.caller.userId, Arn: session.caller.arn },
    Credentials: {
      AccessKeyId: session.key.accessKeyId,
      SecretAccessKey: session.key.secretAccessKey,
      SessionToken: session.token,
      Expiration: new Date(expiresAt).toISOString().replace(".000Z", "Z"),
    },
    PackedPolicySize: policy === undefined
      ? undefined
      : Math.ceil(policy.length * 100 / MAX_SESSION_POLICY_CHARACTERS),
  };
  return { result, opened: session.key.accessKeyId };
}

function checkSessionPolicy(policy: string | undefined): void {
  if (policy === undefined) return;
  if (policy.length > MAX_SESSION_POLICY_CHARACTERS) {
    throw new AwsError(
      "PackedPolicyTooLarge",
      `Packed policy consumes ${
        Math.ceil(policy.length * 100 / MAX_SESSION_POLICY_CHARACTERS)
      }% of allotted space, please use smaller policy.`,
    );
  }
  try {
    parsePolicy(policy, "identity");
  } catch (error) {
    if (error instanceof PolicySyntaxError) {
      throw new AwsError("MalformedPolicyDocument", error.message);
    }
    throw error;
  }
}

/**
 * A trust policy that names the caller is enough; one that names the account leaves it to the
 * caller's own policies. An explicit deny anywhere wins.
 */
function mayAssume(
  call: AwsCall,
  role: Role,
  request: { readonly externalId: string | undefined; readonly sessionName: string },
): boolean {
  const context = globalContext(call);
  context.set("sts:rolesessionname", [request.sessionName]);
  if (request.externalId !== undefined) context.set("sts:externalid", [request.externalId]);
  const access: AccessRequest = {
    action: "sts:AssumeRole",
    resource: role.arn,
    context,
    caller: call.caller,
  };
  const byTrust = resourceVerdict(role.trustPolicy, access, false);
  const byIdentity = identityVerdict(access);
  if (byIdentity === "explicit_deny" || byIdentity === "session_deny") return false;
  return byTrust === "allow" || (byTrust === "delegate" && byIdentity === "allow");
}
