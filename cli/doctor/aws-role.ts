/** The role of the functions: that it can be assumed with its external id, and only with it. */
import type { STSClient } from "@aws-sdk/client-sts";
import type { AwsConfig } from "../../functions-shared/config.ts";
import type { AwsCredentials } from "../../functions-shared/keys/providers/aws/credentials.ts";
import { awsFailureKind } from "./aws-failure.ts";
import { type Failure, type Probe, probe } from "./probe.ts";
import type { Report } from "./report.ts";

export type Sts = STSClient;
type Role = NonNullable<AwsConfig["role"]>;

interface Caller {
  readonly arn: string;
  readonly region: string;
  readonly sts: Sts;
}

/** @returns the role's session */
export async function checkRole(
  report: Report,
  role: Role,
  caller: Caller,
): Promise<AwsCredentials | undefined> {
  const session = await assume(caller.sts, role, role.externalId);
  if (!session.ok) {
    const { what, next } = refusal(session, role, caller);
    report.fail("aws.role", `${role.arn} cannot be assumed: ${what}`, next);
    // Refused for whatever reason proves nothing while the right one is refused as well.
    report.notChecked("aws.external_id", "aws.role");
    return undefined;
  }
  report.pass("aws.role", role.arn);
  const without = await assume(caller.sts, role, undefined);
  if (without.ok) {
    report.warn(
      "aws.external_id",
      "the role can be assumed without the external id",
      "add the condition sts:ExternalId to the role's trust policy (docs/deployment.md, 2)",
    );
  } else if (awsFailureKind(without) === "denied") {
    report.pass("aws.external_id", "without it the role is refused");
  } else {
    report.warn("aws.external_id", `not checked: ${without.reason}`, "ask again");
  }
  return session.value;
}

/** As the functions do it; `externalId` undefined: without one. */
async function assume(
  sts: Sts,
  role: Role,
  externalId: string | undefined,
): Promise<Probe<AwsCredentials>> {
  const { AssumeRoleCommand } = await import("@aws-sdk/client-sts");
  return await probe(async (abortSignal) => {
    const { Credentials: session } = await sts.send(
      new AssumeRoleCommand({
        RoleArn: role.arn,
        // A trust policy may ask for this name, and the role may allow no session as long as this.
        RoleSessionName: role.sessionName,
        DurationSeconds: role.durationSeconds,
        ...externalId === undefined ? {} : { ExternalId: externalId },
      }),
      { abortSignal },
    );
    if (!session?.AccessKeyId || !session.SecretAccessKey || !session.SessionToken) {
      throw Object.assign(new Error("no session"), { name: "Unknown" });
    }
    return {
      accessKeyId: session.AccessKeyId,
      secretAccessKey: session.SecretAccessKey,
      sessionToken: session.SessionToken,
    };
  });
}

interface Refusal {
  readonly what: string;
  readonly next: string;
}

/**
 * AWS answers a role that does not exist, a caller that it does not trust and a wrong external id with the
 * same words, so that nobody can try ids out. Sometimes it names the kind of policy that refused, and that
 * is as far as they can be told apart.
 *
 * Source: IAM User Guide, "Troubleshoot access denied error messages".
 */
function refusal(failure: Failure, role: Role, caller: Caller): Refusal {
  const said = failure.cause instanceof Error ? failure.cause.message : "";
  const kind = awsFailureKind(failure);
  if (kind === "silent" || kind === "throttled") {
    return {
      what: `STS in ${caller.region}: ${failure.reason}`,
      next: "wait a minute, then ask again (docs/runbooks.md, 2)",
    };
  }
  if (/DurationSeconds/.test(said)) {
    return {
      what: `it allows no sessions of ${role.durationSeconds} s`,
      next:
        "lower AWS_ROLE_DURATION_SECONDS (3600 for a caller that is a role itself), or raise the " +
        "role's maximum session duration",
    };
  }
  if (kind !== "denied") {
    return { what: failure.error, next: "compare AWS_ROLE_ARN with `aws iam get-role`" };
  }
  if (/explicit deny/.test(said)) {
    return {
      what: "a policy denies it explicitly",
      next:
        `look for a Deny of sts:AssumeRole in the policies of ${caller.arn}, of the role and of ` +
        "the organization",
    };
  }
  if (/identity-based policy/.test(said)) {
    return {
      what: "the caller's own policy does not allow it",
      next: `allow ${caller.arn} sts:AssumeRole on the role (docs/deployment.md, 2)`,
    };
  }
  if (/trust policy/.test(said)) {
    return {
      what: "its trust policy does not let this caller in with this external id",
      next:
        `compare AWS_EXTERNAL_ID with its condition sts:ExternalId, and ${caller.arn} with its ` +
        "principal: aws iam get-role --role-name " + nameOf(role),
    };
  }
  return {
    what: "AWS does not say whether it is the external id, the caller or the role that is wrong",
    next:
      `aws iam get-role --role-name ${
        nameOf(role)
      }: if it is not there, AWS_ROLE_ARN is wrong; in ` +
      `its trust policy compare sts:ExternalId with AWS_EXTERNAL_ID, and the principal with ` +
      `${caller.arn}, whose own policy must allow sts:AssumeRole (docs/deployment.md, 2)`,
  };
}

function nameOf(role: Role): string {
  return role.arn.split("/").at(-1) ?? "";
}
