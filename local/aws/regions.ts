/** The regions this AWS has, and the shape of its resource names. */

export const REGIONS: readonly string[] = ["us-east-1", "us-west-2", "eu-west-1"];

/** AWS's own pattern of a region's name. */
export const REGION_PATTERN = "^([a-z]+-){2,3}\\d+$";

export function isRegion(name: string): boolean {
  return REGIONS.includes(name);
}

export interface Arn {
  readonly partition: string;
  readonly service: string;
  readonly region: string;
  readonly accountId: string;
  readonly resource: string;
}

/** Null when the text is not an ARN of six parts. */
export function parseArn(text: string): Arn | null {
  const parts = text.split(":");
  if (parts.length < 6 || parts[0] !== "arn") return null;
  const [, partition = "", service = "", region = "", accountId = ""] = parts;
  return { partition, service, region, accountId, resource: parts.slice(5).join(":") };
}

export function keyArn(region: string, accountId: string, keyId: string): string {
  return `arn:aws:kms:${region}:${accountId}:key/${keyId}`;
}

export function aliasArn(region: string, accountId: string, aliasName: string): string {
  return `arn:aws:kms:${region}:${accountId}:${aliasName}`;
}
