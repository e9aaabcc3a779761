/** The keys of every class in every region: alias, state, rotation, and what they are for. */
import type { AwsConfig, Config } from "../../functions-shared/config.ts";
import { DATA_CLASSES, type DataClass } from "../../functions-shared/data-class.ts";
import { keyIdIn, parseKeyArn } from "../../functions-shared/keys/providers/aws/arn.ts";
import { awsClientOptions } from "../../functions-shared/keys/providers/aws/client-options.ts";
import type { KeyMetadata, KMSClient } from "@aws-sdk/client-kms";
import type { AwsSession } from "./aws-session.ts";
import { checkAwsUse } from "./aws-use.ts";
import { isUnreachable, type Probe, probe } from "./probe.ts";
import { listed, type Report } from "./report.ts";

type Described = ReadonlyMap<string, Probe<KeyMetadata>>;

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
    checkAlias(report, dataClass, alias, described);
    const usable = checkState(report, dataClass, described);
    await checkRotation(report, dataClass, described, clientOf);
    await checkAwsUse(report, config, { dataClass, alias, usable, all: regions, clientOf });
  }
}

/** There in every region, and everywhere the same key. */
function checkAlias(report: Report, dataClass: DataClass, alias: string, described: Described) {
  const check = `aws.alias.${dataClass}`;
  const regions = [...described.keys()];
  const missing = regions.filter((region) => errorOf(described, region) === "NotFoundException");
  const other = regions.filter((region) =>
    !["", "NotFoundException"].includes(errorOf(described, region))
  );
  const keys = new Map(
    [...described].flatMap(([region, key]) => key.ok ? [[region, key.value.KeyId ?? ""]] : []),
  );
  const [first = ""] = keys.values();
  const strays = [...keys].filter(([, id]) => id !== first).map(([region]) => region);
  if (missing.length > 0) {
    report.fail(
      check,
      `${alias} is not there in ${listed(missing)}`,
      `aws kms create-alias --region ${missing[0]} --alias-name ${alias} --target-key-id ` +
        `${first || "KEY-ID"} (replicate the key first: docs/deployment.md, 1)`,
    );
  } else if (other.length > 0) {
    const error = errorOf(described, other[0] ?? "");
    report.fail(
      check,
      `${alias} cannot be described in ${listed(other)}: ${error}`,
      isUnreachable(error)
        ? "look whether KMS there can be reached from here"
        : "the role needs kms:DescribeKey on the keys of every region (docs/deployment.md, 2)",
    );
  } else if (strays.length > 0) {
    report.fail(
      check,
      `${alias} names another key in ${listed(strays)} than in ${regions[0]}`,
      `aws kms update-alias --region ${strays[0]} --alias-name ${alias} --target-key-id ${first}`,
    );
  } else if (regions.length > 1 && !first.startsWith("mrk-")) {
    report.fail(
      check,
      `${alias} names a single-region key`,
      "only multi-region keys have replicas: make one, point the alias at it, and re-encrypt",
    );
  } else report.pass(check, `${alias} is ${first} in ${listed(regions)}`);
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
      `cannot be read in ${region}: ${status.error}`,
      "the role needs kms:GetKeyRotationStatus to tell",
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

function errorOf(described: Described, region: string): string {
  const found = described.get(region);
  return found === undefined || found.ok ? "" : found.error;
}
