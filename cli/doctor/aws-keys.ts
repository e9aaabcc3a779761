/** The keys of every class in every region: alias, state, rotation, and what they are for. */
import type { AwsConfig, Config } from "../../functions-shared/config.ts";
import { DATA_CLASSES, type DataClass } from "../../functions-shared/data-class.ts";
import { keyIdIn, parseKeyArn } from "../../functions-shared/keys/providers/aws/arn.ts";
import { awsClientOptions } from "../../functions-shared/keys/providers/aws/client-options.ts";
import type { KeyMetadata, KMSClient } from "@aws-sdk/client-kms";
import { nextAfter } from "./aws-failure.ts";
import type { AwsSession } from "./aws-session.ts";
import { checkAwsUse } from "./aws-use.ts";
import { type Failure, type Probe, probe } from "./probe.ts";
import { listed, type Report } from "./report.ts";

type Described = ReadonlyMap<string, Probe<KeyMetadata>>;

interface ClassKey {
  readonly dataClass: DataClass;
  readonly alias: string;
  /** By region. */
  readonly described: Described;
}

export async function checkAwsKeys(
  report: Report,
  config: Config,
  aws: AwsConfig,
  { credentials, clock }: AwsSession,
): Promise<void> {
  const { DescribeKeyCommand, KMSClient } = await import("@aws-sdk/client-kms");
  const clients = new Map<string, KMSClient>();
  const clientOf = (region: string) => {
    const client = clients.get(region) ??
      new KMSClient(awsClientOptions(aws, region, credentials, clock));
    clients.set(region, client);
    return client;
  };
  const regions = [aws.region, ...aws.fallbackRegions];
  let account = aws.accountId;
  for (const dataClass of DATA_CLASSES) {
    const alias = aws.aliases[dataClass];
    const described = new Map(
      await Promise.all(regions.map(async (region) => {
        const KeyId = keyIdIn(region, alias) ?? alias;
        const found = await probe(async (abortSignal) => {
          const { KeyMetadata: key } = await clientOf(region)
            .send(new DescribeKeyCommand({ KeyId }), { abortSignal });
          if (key === undefined) throw new Error("no key");
          return key;
        });
        return [region, found] as const;
      })),
    );
    // As the functions do: keys of one account only, by default the one of the class payment.
    account ??= accountOf(described);
    checkAlias(report, { dataClass, alias, described }, account, aws.accountId !== undefined);
    const usable = checkState(report, dataClass, described);
    await checkRotation(report, dataClass, described, clientOf);
    await checkAwsUse(report, config, { dataClass, alias, usable, all: regions, clientOf });
  }
}

/** There in every region, everywhere the same key, and one of the account whose keys are trusted. */
function checkAlias(
  report: Report,
  { dataClass, alias, described }: ClassKey,
  account: string | undefined,
  isConfigured: boolean,
) {
  const check = `aws.alias.${dataClass}`;
  const regions = [...described.keys()];
  const failures = [...described].flatMap(([region, found]) => found.ok ? [] : [{ region, found }]);
  const missing = failures.filter(({ found }) => found.error === "NotFoundException")
    .map(({ region }) => region);
  const other = failures.filter(({ found }) => found.error !== "NotFoundException");
  const keys = new Map(
    [...described].flatMap(([region, key]) => key.ok ? [[region, key.value.KeyId ?? ""]] : []),
  );
  const [first = ""] = keys.values();
  const strays = [...keys].filter(([, id]) => id !== first).map(([region]) => region);
  const owner = accountOf(described);
  const single = [...keys].filter(([, id]) => !id.startsWith("mrk-")).map(([region]) => region);
  if (regions.length > 1 && single.length > 0) {
    report.fail(
      check,
      `${alias} names a single-region key in ${listed(single)}`,
      "only multi-region keys have replicas: make one (docs/deployment.md, 1), point the alias at it " +
        "in every region, and re-encrypt",
    );
  } else if (missing.length > 0) {
    report.fail(
      check,
      `${alias} is not there in ${listed(missing)}`,
      `aws kms create-alias --region ${missing[0]} --alias-name ${alias} --target-key-id ` +
        `${first || "KEY-ID"} (replicate the key first: docs/deployment.md, 1)`,
    );
  } else if (other.length > 0) {
    report.fail(check, `${alias} cannot be described in ${inWords(other)}`, nextOf(other));
  } else if (strays.length > 0) {
    report.fail(
      check,
      `${alias} names another key in ${listed(strays)} than in ${regions[0]}`,
      `aws kms update-alias --region ${strays[0]} --alias-name ${alias} --target-key-id ${first}`,
    );
  } else if (owner !== account) {
    report.fail(
      check,
      `${alias} names a key of account ${owner}, and the functions take those of ${account} only`,
      isConfigured
        ? "compare AWS_ACCOUNT_ID, and the account of AWS_ROLE_ARN, with where the keys are"
        : "all classes' keys belong into one account: look at KMS_PAYMENT_ALIAS and the others",
    );
  } else report.pass(check, `${alias} is ${first} in ${listed(regions)}`);
}

interface RegionFailure {
  readonly region: string;
  readonly found: Failure;
}

function inWords(failures: readonly RegionFailure[]): string {
  return listed(failures.map(({ region, found }) => `${region}: ${found.reason}`));
}

function nextOf([one]: readonly RegionFailure[]): string {
  return one === undefined ? "" : nextAfter(
    one.found,
    one.region,
    "the role needs kms:DescribeKey on the keys of every region (docs/deployment.md, 2)",
  );
}

function accountOf(described: Described): string | undefined {
  const key = [...described.values()].find((one) => one.ok);
  return key?.ok ? key.value.AWSAccountId ?? parseKeyArn(key.value.Arn ?? "")?.account : undefined;
}

/** @returns the regions where the key may be used */
function checkState(report: Report, dataClass: DataClass, described: Described): string[] {
  const check = `aws.state.${dataClass}`;
  const found = [...described].flatMap(([region, key]) => key.ok ? [{ region, ...key.value }] : []);
  const bad = found.filter((key) =>
    key.KeyState !== "Enabled" || key.KeyUsage !== "ENCRYPT_DECRYPT" ||
    key.KeySpec !== "SYMMETRIC_DEFAULT"
  );
  if (found.length === 0) report.notChecked(check, `aws.alias.${dataClass}`);
  else if (bad.length === 0) {
    report.pass(check, `enabled in ${listed(found.map(({ region }) => region))}`);
  } else {
    const [one] = bad;
    const next = one?.KeyState === "Disabled"
      ? `aws kms enable-key --region ${one.region} --key-id ${one.KeyId}`
      : one?.KeyState === "PendingDeletion"
      ? `aws kms cancel-key-deletion --region ${one.region} --key-id ${one.KeyId}, then enable-key`
      : one?.KeyState === "Creating"
      ? "a replica takes a minute: ask again"
      : "the class needs an enabled symmetric key for encryption (docs/deployment.md, 1)";
    const where = bad.map(({ region, KeyState, KeySpec }) =>
      `${KeyState === "Enabled" ? KeySpec : KeyState} in ${region}`
    );
    report.fail(check, listed(where), next);
  }
  return found.filter((key) => !bad.includes(key)).map(({ region }) => region);
}

/** Automatic, where it is set: at the primary. */
async function checkRotation(
  report: Report,
  dataClass: DataClass,
  described: Described,
  clientOf: (region: string) => KMSClient,
): Promise<void> {
  const check = `aws.rotation.${dataClass}`;
  const key = [...described.values()].find((one) => one.ok);
  if (!key?.ok) return report.notChecked(check, `aws.alias.${dataClass}`);
  const arn = key.value.MultiRegionConfiguration?.PrimaryKey?.Arn ?? key.value.Arn ?? "";
  const region = parseKeyArn(arn)?.region;
  if (region === undefined) return report.notChecked(check, `aws.alias.${dataClass}`);
  const { GetKeyRotationStatusCommand } = await import("@aws-sdk/client-kms");
  const status = await probe((abortSignal) =>
    clientOf(region).send(new GetKeyRotationStatusCommand({ KeyId: arn }), { abortSignal })
  );
  if (!status.ok) {
    report.warn(
      check,
      `cannot be read in ${region}: ${status.reason}`,
      nextAfter(status, region, "the role needs kms:GetKeyRotationStatus to tell"),
    );
  } else if (status.value.KeyRotationEnabled) {
    report.pass(
      check,
      `every ${status.value.RotationPeriodInDays ?? 365} days, at the primary in ${region}`,
    );
  } else {
    report.warn(
      check,
      `automatic rotation is off at the primary in ${region}`,
      `aws kms enable-key-rotation --region ${region} --key-id ${arn}`,
    );
  }
}
