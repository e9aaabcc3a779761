/** Who the configured AWS credentials are, and that they can do no more than they must. */
import type { AwsConfig, Config } from "../../functions-shared/config.ts";
import {
  awsClientOptions,
  type AwsClock,
} from "../../functions-shared/keys/providers/aws/client-options.ts";
import type { AwsCredentials } from "../../functions-shared/keys/providers/aws/credentials.ts";
import { checkCaller } from "./aws-caller.ts";
import { awsFailureKind } from "./aws-failure.ts";
import { checkRole, type Sts } from "./aws-role.ts";
import { checkClock } from "./clock.ts";
import { type Failure, type Probe, probe } from "./probe.ts";
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
  config: Config,
  aws: AwsConfig,
): Promise<AwsSession | undefined> {
  const offsetMs = await checkClock(
    report,
    "aws.clock",
    aws.endpoint ?? `https://sts.${aws.region}.amazonaws.com/`,
  );
  const clock: AwsClock = { offsetMs };
  const caller: AwsCredentials = {
    accessKeyId: aws.accessKeyId,
    secretAccessKey: aws.secretAccessKey,
    ...aws.sessionToken ? { sessionToken: aws.sessionToken } : {},
  };
  const identity = await checkCredentials(report, aws, caller, clock);
  if (identity === undefined) {
    for (const check of ["aws.role", "aws.external_id", "aws.caller"]) {
      report.notChecked(check, "aws.credentials");
    }
    return undefined;
  }
  if (aws.role === undefined) {
    report.warn(
      "aws.role",
      "no role: the access key itself may use the keys",
      "for anything but development set AWS_ROLE_ARN and AWS_EXTERNAL_ID (docs/deployment.md, 2)",
    );
    return { credentials: caller, clock };
  }
  const session = await checkRole(report, aws.role, identity);
  await checkCaller(report, config, aws, { credentials: caller, clock, session });
  return session && { credentials: session, clock };
}

interface Identity {
  /** ARN of the caller. */
  readonly arn: string;
  /** Whose STS answered, and the client of it. */
  readonly region: string;
  readonly sts: Sts;
}

/** In the first region whose STS answers, as the functions do. */
async function checkCredentials(
  report: Report,
  aws: AwsConfig,
  caller: AwsCredentials,
  clock: AwsClock,
): Promise<Identity | undefined> {
  const check = "aws.credentials";
  const silent: string[] = [];
  for (const region of [aws.region, ...aws.fallbackRegions]) {
    const { sts, found } = await identify(aws, region, caller, clock);
    if (!found.ok && awsFailureKind(found) === "silent") {
      silent.push(`STS in ${region} does not answer: ${found.reason}`);
      continue;
    }
    if (!found.ok) {
      report.fail(check, ...refusal(found, region));
      return undefined;
    }
    if (silent.length === 0) report.pass(check, found.value);
    else {
      report.warn(
        check,
        `${found.value} in ${region}; ${silent.join("; ")}`,
        "the functions go on with the others; look at the region (docs/runbooks.md, 2)",
      );
    }
    return { arn: found.value, region, sts };
  }
  report.fail(
    check,
    silent.join("; "),
    `look at ${aws.endpoint === undefined ? "" : "AWS_ENDPOINT_URL, "}the regions, and whether ` +
      "they can be reached from here (docs/runbooks.md, 2)",
  );
}

async function identify(
  aws: AwsConfig,
  region: string,
  caller: AwsCredentials,
  clock: AwsClock,
): Promise<{ readonly sts: Sts; readonly found: Probe<string> }> {
  const { GetCallerIdentityCommand, STSClient } = await import("@aws-sdk/client-sts");
  const sts = new STSClient({
    ...awsClientOptions(aws, region, caller, clock),
    sigv4aSigningRegionSet: [region],
  });
  const found = await probe(async (abortSignal) => {
    const { Arn } = await sts.send(new GetCallerIdentityCommand({}), { abortSignal });
    // A page of somebody on the way reads as an answer without content.
    if (Arn === undefined) throw Object.assign(new Error("no ARN"), { name: "Unknown" });
    return Arn;
  });
  return { sts, found };
}

const NEW_KEY = "make a new access key for the caller (docs/deployment.md, 2) and set " +
  "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/** By AWS's names of them: what is wrong with the access key, and what to do. */
const REFUSALS: Readonly<Record<string, readonly [what: string, next: string]>> = {
  InvalidClientTokenId: ["AWS does not know the access key, or it is inactive", NEW_KEY],
  SignatureDoesNotMatch: [
    "the secret is not that of the access key",
    "set AWS_SECRET_ACCESS_KEY to the secret of AWS_ACCESS_KEY_ID, or make a new pair " +
    "(docs/deployment.md, 2)",
  ],
  ExpiredToken: [
    "the session token has expired",
    "give an access key that lasts, without AWS_SESSION_TOKEN (docs/deployment.md, 2)",
  ],
};

function refusal(failure: Failure, region: string): readonly [what: string, next: string] {
  const { error } = failure;
  if (awsFailureKind(failure) === "throttled") {
    return [`STS in ${region} is asked too often: ${error}`, "wait a minute, then ask again"];
  }
  return REFUSALS[error.replace(/Exception$/, "")] ??
    [`the access key is refused in ${region}: ${error}`, NEW_KEY];
}
