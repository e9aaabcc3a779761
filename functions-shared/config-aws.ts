/** Variables of the `aws` provider: where, as whom, and under which keys. */
import type { DataClass } from "./data-class.ts";
import { type EnvironmentReader, perClass } from "./environment.ts";

export interface AwsConfig {
  /** Region called first, for example `us-east-1`. */
  readonly region: string;
  /** Other regions that hold replicas of the keys, in order of preference. */
  readonly fallbackRegions: readonly string[];
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
  readonly role: {
    readonly arn: string;
    readonly externalId: string;
    readonly sessionName: string;
    /** Seconds, 900 to 43200. */
    readonly durationSeconds: number;
  } | undefined;
  /** Where KMS and STS are reached; undefined = AWS itself. */
  readonly endpoint: string | undefined;
  /** KMS alias (`alias/...`) or key ARN of each class. */
  readonly aliases: Readonly<Record<DataClass, string>>;
  /** Twelve digits; only keys of this account are trusted. Undefined = learnt from the aliases. */
  readonly accountId: string | undefined;
}

const REGION = /^[a-z]{2}(-[a-z]+)+-\d$/;
const ALIAS = /^alias\/[a-zA-Z0-9/_-]{1,250}$/;
const KEY_ARN =
  /^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(key\/[a-zA-Z0-9-]+|alias\/[a-zA-Z0-9/_-]+)$/;
const ROLE_ARN = /^arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@/-]{1,512}$/;
const EXTERNAL_ID = /^[\w+=,.@:/-]{2,1224}$/;

/** `required` says when the variables must be given. */
export function readAws(read: EnvironmentReader, required: string): AwsConfig {
  const region = read.text("AWS_REGION", {
    pattern: REGION,
    constraint: "must be an AWS region such as us-east-1",
    required,
  });
  const endpoint = read.serviceUrl("AWS_ENDPOINT_URL");
  return {
    region,
    fallbackRegions: readFallbackRegions(read, region),
    accessKeyId: read.text("AWS_ACCESS_KEY_ID", {
      pattern: /^[A-Z0-9]{16,128}$/,
      constraint: "must be an AWS access key id: 16 to 128 upper-case letters and digits",
      required,
    }),
    secretAccessKey: read.text("AWS_SECRET_ACCESS_KEY", {
      pattern: /^\S{16,128}$/,
      constraint: "must be an AWS secret access key: 16 to 128 characters without spaces",
      required,
    }),
    sessionToken: read.text("AWS_SESSION_TOKEN", {}) || undefined,
    role: readRole(read),
    endpoint: endpoint || undefined,
    aliases: perClass((name) => readAlias(read, `KMS_${name}_ALIAS`, required)),
    accountId: read.text("AWS_ACCOUNT_ID", {
      pattern: /^\d{12}$/,
      constraint: "must be twelve digits",
    }) || undefined,
  };
}

function readRole(read: EnvironmentReader): AwsConfig["role"] {
  const arn = read.text("AWS_ROLE_ARN", {
    pattern: ROLE_ARN,
    constraint: "must be the ARN of an IAM role",
  });
  const externalId = read.text("AWS_EXTERNAL_ID", {
    pattern: EXTERNAL_ID,
    constraint: "must be 2 to 1224 letters, digits or any of +=,.@:/-",
    required: arn === "" ? undefined : "when AWS_ROLE_ARN is set",
  });
  const sessionName = read.text("AWS_ROLE_SESSION_NAME", {
    pattern: /^[\w+=,.@-]{2,64}$/,
    constraint: "must be 2 to 64 letters, digits or any of +=,.@-",
    fallback: "supabase-kms",
  });
  const durationSeconds = read.integer("AWS_ROLE_DURATION_SECONDS", {
    min: 900,
    max: 43_200,
    fallback: 3_600,
  });
  if (arn === "") {
    if (externalId !== "") read.fault("AWS_ROLE_ARN", "is required when AWS_EXTERNAL_ID is set");
    return undefined;
  }
  return { arn, externalId, sessionName, durationSeconds };
}

function readAlias(read: EnvironmentReader, name: string, required: string): string {
  return read.text(name, {
    matches: (value) => ALIAS.test(value) || KEY_ARN.test(value),
    constraint: "must be alias/NAME or the ARN of a KMS key or alias",
    required,
  });
}

function readFallbackRegions(read: EnvironmentReader, primary: string): readonly string[] {
  const regions = read.list("KMS_FALLBACK_REGIONS");
  if (regions.some((region) => !REGION.test(region))) {
    read.fault("KMS_FALLBACK_REGIONS", 'must be AWS regions, such as ["us-west-2","eu-west-1"]');
    return [];
  }
  if (new Set([primary, ...regions]).size !== regions.length + 1) {
    read.fault("KMS_FALLBACK_REGIONS", "must not repeat a region or name AWS_REGION");
  }
  return regions;
}
