/**
 * Branch keys and beacon keys: wrapped by a class's wrapping key and kept in the database, in the record
 * shapes and under the KMS contexts of the AWS Encryption SDK specification (framework/branch-key-store.md),
 * so that AWS's own keyring reads them through a storage of its own.
 *
 * A branch key is three records: its versions (`branch:version:<uuid>`), the active one once more
 * (`branch:ACTIVE`), and its beacon key (`beacon:ACTIVE`), the source of all keyed fingerprints, which
 * never rotates.
 */
import type { DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";
import { type BranchKeyMaterial, decodeMessage, encodeMessage } from "../message/mod.ts";
import type { Actor } from "../telemetry/audit.ts";
import type { KeyProvider } from "./key-provider.ts";

/** The specification's `logical key store name`, bound into every wrapped key as `tablename`. */
export const KEY_STORE_NAME = "kms.branch_keys";

const ACTIVE_TYPE = "branch:ACTIVE";
const BEACON_TYPE = "beacon:ACTIVE";
const VERSION_PREFIX = "branch:version:";
const CUSTOM_CONTEXT_PREFIX = "aws-crypto-ec:";

/** Attribute names are the specification's; `enc` is base64; every other attribute is authenticated. */
export type BranchKeyRecord = Readonly<Record<string, string>>;

/** The table of records. All methods throw `SuiteError` database_unavailable or internal_error. */
export interface BranchKeyRecords {
  get(branchKeyId: string, type: string): Promise<BranchKeyRecord | undefined>;
  /** Stores the records of a new branch key unless it exists; answers those that stand. Atomic. */
  create(records: readonly BranchKeyRecord[]): Promise<{
    readonly active: BranchKeyRecord;
    readonly beacon: BranchKeyRecord;
  }>;
  /** Stores a new version as the active one if the active one still is `expectedVersion`. Atomic. */
  rotate(
    actor: Actor,
    records: readonly BranchKeyRecord[],
    expectedVersion: string,
  ): Promise<{ readonly rotated: boolean; readonly active: BranchKeyRecord }>;
}

/** A branch key in the clear, and which wrapping key it came from. */
export interface UnwrappedBranchKey extends BranchKeyMaterial {
  readonly wrappingKeyId: string;
}

export class BranchKeyStore {
  readonly #records: BranchKeyRecords;
  readonly #provider: KeyProvider;
  readonly #readers: readonly KeyProvider[];
  readonly #customContext: Readonly<Record<string, string>>;
  readonly #now: () => number;
  /** Creations under way: one worker makes a branch key once, whoever asks for whatever part of it. */
  readonly #creating = new Map<string, ReturnType<BranchKeyRecords["create"]>>();

  /** New records are wrapped by `provider`; old ones are read by whichever of `readers` wrapped them. */
  constructor(options: {
    readonly records: BranchKeyRecords;
    readonly provider: KeyProvider;
    readonly readers: readonly KeyProvider[];
    readonly appName: string;
    readonly environment: string;
    readonly now?: () => number;
  }) {
    this.#records = options.records;
    this.#provider = options.provider;
    this.#readers = options.readers;
    this.#customContext = { app: options.appName, environment: options.environment };
    this.#now = options.now ?? Date.now;
  }

  /**
   * The version to encrypt under (GetActiveBranchKey); the branch key is made on first use. Of several
   * workers that make it at the same time, one stands and all use it. The caller zeroes the key.
   * When `signal` ends, so does the unwrapping; a branch key in the making is made to the end.
   *
   * @throws {SuiteError} what the provider and the records throw.
   */
  async active(
    id: string,
    dataClass: DataClass,
    signal?: AbortSignal,
  ): Promise<UnwrappedBranchKey> {
    const record = await this.#records.get(id, ACTIVE_TYPE) ??
      (await this.#create(id, dataClass)).active;
    return await this.#unwrapBranchKey(record, id, ACTIVE_TYPE, dataClass, signal);
  }

  /**
   * One version, to decrypt under (GetBranchKeyVersion). The caller zeroes the key.
   * @throws {SuiteError} decryption_failed when there is none, and as `active`.
   */
  async version(
    id: string,
    version: string,
    dataClass: DataClass,
    signal?: AbortSignal,
  ): Promise<UnwrappedBranchKey> {
    const type = VERSION_PREFIX + version;
    const record = await this.#records.get(id, type);
    if (record === undefined) throw new SuiteError("decryption_failed");
    return await this.#unwrapBranchKey(record, id, type, dataClass, signal);
  }

  /**
   * The beacon key, 32 bytes (GetBeaconKey); made with its branch key on first use. The caller zeroes it.
   * @throws {SuiteError} as `active`.
   */
  async beacon(id: string, dataClass: DataClass, signal?: AbortSignal): Promise<Uint8Array> {
    const record = await this.#records.get(id, BEACON_TYPE) ??
      (await this.#create(id, dataClass)).beacon;
    return await this.#unwrap(record, id, BEACON_TYPE, dataClass, signal);
  }

  /**
   * A new version becomes the active one (VersionKey); old ones still decrypt. When another rotation came
   * between, that one stands and `rotated` is false.
   *
   * @throws {SuiteError} not_found when there is no such branch key, and as `active`.
   */
  async rotate(
    actor: Actor,
    id: string,
    dataClass: DataClass,
  ): Promise<{ readonly rotated: boolean; readonly version: string }> {
    const old = await this.#records.get(id, ACTIVE_TYPE);
    if (old === undefined) throw new SuiteError("not_found");
    // Authenticated before it is replaced, as the specification asks, and not seen here for that.
    const { reader, kmsArn, wrapped, context } = this.#sealed(old, id, ACTIVE_TYPE, dataClass);
    await reader.rewrapKey(kmsArn, wrapped, context, context);
    const records = await this.#newVersion(await this.#attributes(id, dataClass, kmsArn));
    const { rotated, active } = await this.#records.rotate(actor, records, old.version ?? "");
    return { rotated, version: versionOf(active) };
  }

  #create(id: string, dataClass: DataClass): ReturnType<BranchKeyRecords["create"]> {
    const creating = this.#creating.get(id) ??
      this.#makeRecords(id, dataClass)
        .then((records) => this.#records.create(records))
        .finally(() => this.#creating.delete(id));
    this.#creating.set(id, creating);
    return creating;
  }

  async #makeRecords(id: string, dataClass: DataClass): Promise<readonly BranchKeyRecord[]> {
    const attributes = await this.#attributes(id, dataClass);
    const [version, beacon] = await Promise.all([
      this.#newVersion(attributes),
      this.#wrapNew({ ...attributes, type: BEACON_TYPE }),
    ]);
    return [...version, beacon];
  }

  /** The decrypt-only record, and the same key once more as the active record. */
  async #newVersion(
    attributes: Readonly<Record<string, string>>,
  ): Promise<readonly BranchKeyRecord[]> {
    const version = VERSION_PREFIX + crypto.randomUUID();
    const decryptOnly = { ...attributes, type: version };
    const active = { ...attributes, type: ACTIVE_TYPE, version };
    const record = await this.#wrapNew(decryptOnly);
    const rewrapped = await this.#provider.rewrapKey(
      attributes["kms-arn"] ?? "",
      decodeMessage(record.enc ?? ""),
      kmsContext(decryptOnly),
      kmsContext(active),
    );
    return [record, { ...active, enc: encodeMessage(rewrapped) }];
  }

  async #wrapNew(attributes: Readonly<Record<string, string>>): Promise<BranchKeyRecord> {
    const wrapped = await this.#provider.generateWrappedKey(
      attributes["kms-arn"] ?? "",
      kmsContext(attributes),
    );
    return { ...attributes, enc: encodeMessage(wrapped) };
  }

  /** What all records of one branch key version have in common. `kmsArn`: of the version before. */
  async #attributes(
    id: string,
    dataClass: DataClass,
    kmsArn?: string,
  ): Promise<Record<string, string>> {
    return {
      "branch-key-id": id,
      "create-time": microsecondTimestamp(this.#now()),
      "hierarchy-version": "1",
      "kms-arn": await this.#provider.wrappingKeyId(dataClass, kmsArn),
      ...this.#custom(id, dataClass),
    };
  }

  async #unwrapBranchKey(
    record: BranchKeyRecord,
    id: string,
    type: string,
    dataClass: DataClass,
    signal: AbortSignal | undefined,
  ): Promise<UnwrappedBranchKey> {
    const branchKey = await this.#unwrap(record, id, type, dataClass, signal);
    return {
      branchKey,
      branchKeyId: id,
      version: versionOf(record),
      wrappingKeyId: record["kms-arn"] ?? "",
    };
  }

  async #unwrap(
    record: BranchKeyRecord,
    id: string,
    type: string,
    dataClass: DataClass,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const { reader, kmsArn, wrapped, context } = this.#sealed(record, id, type, dataClass);
    return await reader.unwrapKey(kmsArn, wrapped, context, signal);
  }

  /** A record's wrapped key, the context that must open it, and the provider that can. */
  #sealed(record: BranchKeyRecord, id: string, type: string, dataClass: DataClass) {
    const { enc = "", ...attributes } = record;
    const expected = { "branch-key-id": id, type, ...this.#custom(id, dataClass) };
    // A record moved here from another class, owner, application or environment is not this one's key.
    if (Object.entries(expected).some(([name, value]) => attributes[name] !== value)) {
      throw new SuiteError("decryption_failed");
    }
    const kmsArn = attributes["kms-arn"] ?? "";
    const reader = this.#readers.find((candidate) => candidate.holds(kmsArn));
    if (reader === undefined) throw new SuiteError("decryption_failed");
    try {
      return { reader, kmsArn, wrapped: decodeMessage(enc), context: kmsContext(attributes) };
    } catch (cause) {
      throw new SuiteError("decryption_failed", { cause });
    }
  }

  /** The custom encryption context, as the attributes that carry it. */
  #custom(id: string, dataClass: DataClass): Readonly<Record<string, string>> {
    const owner = id.startsWith(`${dataClass}:`) ? { owner: id.slice(dataClass.length + 1) } : {};
    const context = { ...this.#customContext, "data-class": dataClass, ...owner };
    return Object.fromEntries(
      Object.entries(context).map(([name, value]) => [CUSTOM_CONTEXT_PREFIX + name, value]),
    );
  }
}

function versionOf(record: BranchKeyRecord): string {
  const type = record.type === ACTIVE_TYPE ? record.version : record.type;
  if (!type?.startsWith(VERSION_PREFIX)) throw new SuiteError("decryption_failed");
  return type.slice(VERSION_PREFIX.length);
}

/** Every attribute but the wrapped key itself, and the logical name of the store. */
function kmsContext(attributes: BranchKeyRecord): Readonly<Record<string, string>> {
  return { ...attributes, tablename: KEY_STORE_NAME };
}

/** ISO 8601 in UTC to the microsecond, as the specification asks; the clock gives milliseconds. */
function microsecondTimestamp(now: number): string {
  return new Date(now).toISOString().replace("Z", "000Z");
}
