/** The local AWS, seeded with the suite's keys, and configurations that reach it. */
import type { AwsConfig } from "../../../functions-shared/config.ts";
import {
  AwsKeyProvider,
  type AwsProviderOptions,
} from "../../../functions-shared/keys/providers/aws/provider.ts";
import { type LocalAws, seedKeys, startLocalAws } from "../../../local/aws/mod.ts";

export interface SeededAws {
  readonly aws: LocalAws;
  /** Key ARN in us-east-1 by class. */
  readonly keys: Readonly<Record<"payment" | "pii" | "general", string>>;
}

/** Clients of the SDK keep their connections: not for the sanitizers of `Deno.test`. */
export const WITH_AWS = { sanitizeOps: false, sanitizeResources: false } as const;

/** Runs `test` against a local AWS of its own. */
export async function withAws(test: (seeded: SeededAws) => Promise<void>): Promise<void> {
  const aws = await startLocalAws();
  try {
    const seeded = await seedKeys(aws, {
      application: "parker-flight",
      environment: "development",
    });
    const arn = (dataClass: keyof typeof seeded) => seeded[dataClass].arns["us-east-1"] ?? "";
    const keys = { payment: arn("payment"), pii: arn("pii"), general: arn("general") };
    await test({ aws, keys });
  } finally {
    await aws.close();
  }
}

/** As the stack configures its functions: the caller's key, a role and its external id. */
export function awsConfig(aws: LocalAws, changes: Partial<AwsConfig> = {}): AwsConfig {
  const { caller, role } = aws.identities;
  return {
    region: "us-east-1",
    fallbackRegions: ["us-west-2", "eu-west-1"],
    accessKeyId: caller.accessKeyId,
    secretAccessKey: caller.secretAccessKey,
    sessionToken: undefined,
    role: { ...role, sessionName: "tests", durationSeconds: 3600 },
    endpoint: aws.endpoint,
    aliases: {
      payment: "alias/parker-flight-payment-development",
      pii: "alias/parker-flight-pii-development",
      general: "alias/parker-flight-general-development",
    },
    accountId: undefined,
    ...changes,
  };
}

export function awsProvider(
  aws: LocalAws,
  changes: Partial<AwsConfig> = {},
  options: Partial<AwsProviderOptions> = {},
): AwsKeyProvider {
  return new AwsKeyProvider(awsConfig(aws, changes), {
    timeoutMs: 5000,
    attemptTimeoutMs: 1000,
    maxAttempts: 5,
    circuitThreshold: 3,
    ...options,
  });
}

/** `operation` or `operation errorName` of every call since the last reset, oldest first. */
export function callsTo(aws: LocalAws): string[] {
  return aws.calls().map(({ operation, errorName }) =>
    errorName === undefined ? operation : `${operation} ${errorName}`
  );
}
