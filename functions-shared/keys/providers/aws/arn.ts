/** Amazon Resource Names of KMS keys. */
export interface KeyArn {
  readonly partition: string;
  readonly region: string;
  readonly account: string;
  readonly keyId: string;
}

const KEY_ARN = /^arn:(aws[a-z-]*):kms:([a-z0-9-]{1,32}):(\d{12}):key\/([a-zA-Z0-9-]{1,128})$/;

/** Answers undefined when the text is no ARN of a KMS key (an alias ARN is none). */
export function parseKeyArn(text: string): KeyArn | undefined {
  const match = KEY_ARN.exec(text);
  if (match === null) return undefined;
  const [, partition = "", region = "", account = "", keyId = ""] = match;
  return { partition, region, account, keyId };
}

export function formatKeyArn(arn: KeyArn): string {
  return `arn:${arn.partition}:kms:${arn.region}:${arn.account}:key/${arn.keyId}`;
}

/** Multi-region keys share id and material, so any related key decrypts. */
export function isMultiRegion(arn: KeyArn): boolean {
  return arn.keyId.startsWith("mrk-");
}

/**
 * The same key as seen from another region, or undefined when it does not exist there.
 *
 * Source: AWS Encryption SDK specification, framework/aws-kms/aws-kms-mrk-match-for-decrypt.md.
 */
export function keyArnIn(region: string, arn: KeyArn): string | undefined {
  if (arn.region === region) return formatKeyArn(arn);
  return isMultiRegion(arn) ? formatKeyArn({ ...arn, region }) : undefined;
}

const ALIAS_ARN = /^(arn:aws[a-z-]*:kms:)[a-z0-9-]{1,32}(:\d{12}:alias\/.+)$/;
const ACCOUNT = /^arn:aws[a-z-]*:kms:[a-z0-9-]{1,32}:(\d{12}):(?:key|alias)\/.+$/;

/** The account that a key ARN or alias ARN names; undefined for an alias: it is the caller's own account's. */
export function accountIn(keyId: string): string | undefined {
  return ACCOUNT.exec(keyId)?.[1];
}

/**
 * How a key that is named by alias, alias ARN or key ARN is named in a region; undefined when it does not
 * exist there. An alias is taken to exist in every region: it is set up so (docs/deployment.md).
 */
export function keyIdIn(region: string, keyId: string): string | undefined {
  const arn = parseKeyArn(keyId);
  if (arn !== undefined) return keyArnIn(region, arn);
  return keyId.replace(ALIAS_ARN, `$1${region}$2`);
}
