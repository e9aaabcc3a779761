/** The suite's keys: one multi-region key per data class, with its alias in every region. */

import { AwsError } from "./errors.ts";
import { keyArn, REGIONS } from "./regions.ts";
import type { LocalAws } from "./types.ts";

export const DATA_CLASSES = ["payment", "pii", "general"] as const;
export type DataClass = typeof DATA_CLASSES[number];

export interface SeedOptions {
  readonly application: string;
  readonly environment: string;
}

export interface SeededKey {
  readonly keyId: string;
  /** `alias/<application>-<class>-<environment>`, in every region. */
  readonly alias: string;
  /** By region. */
  readonly arns: Readonly<Record<string, string>>;
}

const [PRIMARY = "us-east-1", ...REPLICAS] = REGIONS;

/**
 * Idempotent: makes what is missing and leaves what is there, also after a crash half-way.
 * Primary in us-east-1 with yearly rotation, replicas in the other regions.
 */
export async function seedKeys(
  aws: LocalAws,
  options: SeedOptions,
): Promise<Readonly<Record<DataClass, SeededKey>>> {
  const seeded: Partial<Record<DataClass, SeededKey>> = {};
  for (const dataClass of DATA_CLASSES) seeded[dataClass] = await seedKey(aws, options, dataClass);
  return seeded as Record<DataClass, SeededKey>;
}

async function seedKey(
  aws: LocalAws,
  { application, environment }: SeedOptions,
  dataClass: DataClass,
): Promise<SeededKey> {
  const alias = `alias/${application}-${dataClass}-${environment}`;
  const tags = { application, environment, "data-class": dataClass };
  const keyId = await keyIdOf(aws, PRIMARY, alias) ?? await keyWithTags(aws, tags) ??
    await createKey(aws, tags);
  for (const region of REPLICAS) {
    if (await exists(aws, region, keyId)) continue;
    await aws.asOperator(PRIMARY, "ReplicateKey", {
      KeyId: keyId,
      ReplicaRegion: region,
      Description: describe(tags),
      Tags: wireTags(tags),
    });
    await settled(aws, region, keyId);
  }
  for (const region of REGIONS) {
    if (await keyIdOf(aws, region, alias) !== null) continue;
    await aws.asOperator(region, "CreateAlias", { AliasName: alias, TargetKeyId: keyId });
  }
  const arns = REGIONS.map((region) => [region, keyArn(region, aws.accountId, keyId)]);
  return { keyId, alias, arns: Object.fromEntries(arns) };
}

type Tags = Readonly<Record<string, string>>;

async function createKey(aws: LocalAws, tags: Tags): Promise<string> {
  const created = await aws.asOperator(PRIMARY, "CreateKey", {
    MultiRegion: true,
    Description: describe(tags),
    Tags: wireTags(tags),
  });
  const { KeyId } = created.KeyMetadata as { KeyId: string };
  await aws.asOperator(PRIMARY, "EnableKeyRotation", { KeyId });
  return KeyId;
}

/** A key that an interrupted seeding made but did not name. */
async function keyWithTags(aws: LocalAws, tags: Tags): Promise<string | null> {
  let Marker: string | undefined;
  do {
    const listed = await aws.asOperator(PRIMARY, "ListKeys", { Marker });
    for (const { KeyId } of listed.Keys as { KeyId: string }[]) {
      const found = await aws.asOperator(PRIMARY, "ListResourceTags", { KeyId });
      const own = found.Tags as { TagKey: string; TagValue: string }[];
      const wanted = Object.entries(tags);
      const tagged = wanted.every(([name, value]) =>
        own.some((tag) => tag.TagKey === name && tag.TagValue === value)
      );
      if (tagged && await isUsable(aws, KeyId)) return KeyId;
    }
    Marker = listed.NextMarker as string | undefined;
  } while (Marker !== undefined);
  return null;
}

async function isUsable(aws: LocalAws, keyId: string): Promise<boolean> {
  const described = await aws.asOperator(PRIMARY, "DescribeKey", { KeyId: keyId });
  const { KeyState, MultiRegion } = described.KeyMetadata as {
    KeyState: string;
    MultiRegion: boolean;
  };
  return KeyState === "Enabled" && MultiRegion;
}

async function keyIdOf(aws: LocalAws, region: string, alias: string): Promise<string | null> {
  try {
    const described = await aws.asOperator(region, "DescribeKey", { KeyId: alias });
    return (described.KeyMetadata as { KeyId: string }).KeyId;
  } catch (error) {
    if (error instanceof AwsError && error.code === "NotFoundException") return null;
    throw error;
  }
}

async function exists(aws: LocalAws, region: string, keyId: string): Promise<boolean> {
  return await keyIdOf(aws, region, keyId) !== null;
}

/** Replication takes its time where `replicationMs` is set, as at AWS. */
async function settled(aws: LocalAws, region: string, keyId: string): Promise<void> {
  for (;;) {
    const described = await aws.asOperator(region, "DescribeKey", { KeyId: keyId });
    if ((described.KeyMetadata as { KeyState: string }).KeyState !== "Creating") return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function describe(tags: Tags): string {
  return `${tags.application} ${tags["data-class"]} data, ${tags.environment}`;
}

function wireTags(tags: Tags) {
  return Object.entries(tags).map(([TagKey, TagValue]) => ({ TagKey, TagValue }));
}
