/** Branch key records in the shape of the AWS Encryption SDK specification (framework/branch-key-store.md). */
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";

/** The specification's `logical key store name`, bound into every wrapped key as `tablename`. */
export const KEY_STORE_NAME = "kms.branch_keys";

export const ACTIVE_TYPE = "branch:ACTIVE";
export const BEACON_TYPE = "beacon:ACTIVE";
export const VERSION_PREFIX = "branch:version:";
export const CUSTOM_CONTEXT_PREFIX = "aws-crypto-ec:";

/** Attribute names are the specification's; `enc` is base64; every other attribute is authenticated. */
export type BranchKeyRecord = Readonly<Record<string, string>>;

/** @throws {SuiteError} decryption_failed when the record is of no version. */
export function versionOf(record: BranchKeyRecord): string {
  const type = record.type === ACTIVE_TYPE ? record.version : record.type;
  if (!type?.startsWith(VERSION_PREFIX)) throw new SuiteError("decryption_failed");
  return type.slice(VERSION_PREFIX.length);
}

/** Every attribute but the wrapped key itself, and the logical name of the store. */
export function kmsContext(attributes: BranchKeyRecord): Readonly<Record<string, string>> {
  return { ...attributes, tablename: KEY_STORE_NAME };
}

/** Of a class's branch key, or of an owner's. @throws {SuiteError} decryption_failed */
export function dataClassOf(branchKeyId: string): DataClass {
  const found = DATA_CLASSES.find((one) =>
    branchKeyId === one || branchKeyId.startsWith(`${one}:`)
  );
  if (found === undefined) throw new SuiteError("decryption_failed");
  return found;
}

/** ISO 8601 in UTC to the microsecond, as the specification asks; the clock gives milliseconds. */
export function microsecondTimestamp(now: number): string {
  return new Date(now).toISOString().replace("Z", "000Z");
}
