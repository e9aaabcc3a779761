/** Who the configured AWS credentials are, and that they can do no more than they must. */
import type { AwsConfig } from "../../functions-shared/config.ts";
import {
  awsClientOptions,
  type AwsClock,
} from "../../functions-shared/keys/providers/aws/client-options.ts";
import type { AwsCredentials } from "../../functions-shared/keys/providers/aws/credentials.ts";
import { checkClock } from "./clock.ts";
import { isUnreachable, type Probe, probe } from "./probe.ts";
import type { Report } from "./report.ts";

/** The session that the functions would have. */
export interface AwsSession {
  readonly credentials: AwsCredentials;
  /** A wrong clock is one line, and no reason for others to fail. */
  readonly clock: AwsClock;
}

/** Undefined when there is none. */
export async function checkAwsSession(
  report: Report,
  aws: AwsConfig,
): Promise<AwsSession | undefined> {
  const offsetMs = await checkClock(
    report,
    "aws.clock",
    aws.endpoint ?? `https://sts.${aws.region}.amazonaws.com/`,
  );
  const clock: AwsClock = { offsetMs };
  const { GetCallerIdentityCommand, STSClient } = await import("@aws-sdk/client-sts");
  const caller: AwsCredentials = {
    accessKeyId: aws.accessKeyId,
    secretAccessKey: aws.secretAccessKey,
    ...aws.sessionToken ? { sessionToken: aws.sessionToken } : {},
  };
  const sts = new STSClient({
    ...awsClientOptions(aws, aws.region, caller, clock),
    sigv4aSigningRegionSet: [aws.region],
  });
  const identity = await probe((abortSignal) =>
    sts.send(new GetCallerIdentityCommand({}), { abortSignal })
  );
  if (!identity.ok) {
    const unreachable = isUnreachable(identity.error);
    report.fail(
      "aws.credentials",
      unreachable
        ? `STS in ${aws.region} does not answer: ${identity.error}`
        : `the access key is refused: ${identity.error}`,
      unreachable
        ? "look at the region, and whether it can be reached from here; docs/runbooks.md, 2"
        : "make a new access key for the caller (docs/deployment.md, 2) and set AWS_ACCESS_KEY_ID " +
          "and AWS_SECRET_ACCESS_KEY",
    );
    for (const check of ["aws.role", "aws.external_id", "aws.caller"]) {
      report.notChecked(check, "aws.credentials");
    }
    return undefined;
  }
  report.pass("aws.credentials", identity.value.Arn ?? "accepted");
  if (aws.role === undefined) {
    report.warn(
      "aws.role",
      "no role: the access key itself may use the keys",
      "for anything but development set AWS_ROLE_ARN and AWS_EXTERNAL_ID (docs/deployment.md, 2)",
    );
    return { credentials: caller, clock };
  }
  const credentials = await checkRole(report, aws.role, sts);
  await checkCaller(report, aws, caller, clock);
  return credentials && { credentials, clock };
}

type Sts = InstanceType<typeof import("@aws-sdk/client-sts").STSClient>;

async function checkRole(
  report: Report,
  role: NonNullable<AwsConfig["role"]>,
  sts: Sts,
): Promise<AwsCredentials | undefined> {
  const { AssumeRoleCommand } = await import("@aws-sdk/client-sts");
  const assume = (ExternalId: string | undefined) =>
    probe(async (abortSignal) => {
      const { Credentials: session } = await sts.send(
        new AssumeRoleCommand({
          RoleArn: role.arn,
          // A trust policy may ask for this name.
          RoleSessionName: role.sessionName,
          DurationSeconds: 900,
          ...ExternalId === undefined ? {} : { ExternalId },
        }),
        { abortSignal },
      );
      if (!session?.AccessKeyId || !session.SecretAccessKey || !session.SessionToken) {
        throw new Error("no session");
      }
      return {
        accessKeyId: session.AccessKeyId,
        secretAccessKey: session.SecretAccessKey,
        sessionToken: session.SessionToken,
      };
    });

  const session: Probe<AwsCredentials> = await assume(role.externalId);
  if (session.ok) report.pass("aws.role", role.arn);
  else {
    report.fail(
      "aws.role",
      `${role.arn} cannot be assumed: ${session.error}`,
      "compare the role's trust policy with AWS_ROLE_ARN, AWS_EXTERNAL_ID and the caller's ARN " +
        "(docs/deployment.md, 2)",
    );
  }
  // Refused for whatever reason proves nothing while the right one is refused as well.
  if (!session.ok) report.notChecked("aws.external_id", "aws.role");
  else if ((await assume(undefined)).ok) {
    report.warn(
      "aws.external_id",
      "the role can be assumed without the external id",
      "add the condition sts:ExternalId to the role's trust policy",
    );
  } else report.pass("aws.external_id", "without it the role is refused");
  return session.ok ? session.value : undefined;
}

/** The access key lies in the functions' secrets for years: it must be worth nothing by itself. */
async function checkCaller(
  report: Report,
  aws: AwsConfig,
  caller: AwsCredentials,
  clock: AwsClock,
): Promise<void> {
  const { DescribeKeyCommand, KMSClient } = await import("@aws-sdk/client-kms");
  const kms = new KMSClient(awsClientOptions(aws, aws.region, caller, clock));
  const described = await probe((abortSignal) =>
    kms.send(new DescribeKeyCommand({ KeyId: aws.aliases.payment }), { abortSignal })
  );
  if (described.ok) {
    report.warn(
      "aws.caller",
      "the access key may call KMS without the role",
      "leave it sts:AssumeRole on that role and nothing else (docs/deployment.md, 2)",
    );
  } else if (/AccessDenied/.test(described.error)) {
    report.pass("aws.caller", "the access key alone may not call KMS");
  } else if (described.error === "NotFoundException") {
    report.notChecked("aws.caller", "aws.alias.payment");
  } else {
    report.warn(
      "aws.caller",
      `KMS did not say what the access key may: ${described.error}`,
      "look at the other lines about AWS",
    );
  }
}
