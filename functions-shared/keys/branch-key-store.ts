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
import {
  ACTIVE_TYPE,
  BEACON_TYPE,
  type BranchKeyRecord,
  CUSTOM_CONTEXT_PREFIX,
  dataClassOf,
  kmsContext,
  microsecondTimestamp,
  VERSION_PREFIX,
  versionOf,
} from "./branch-key-record.ts";
import { FailingProviders } from "./failing-providers.ts";
import type { KeyProvider, UnwrappedKey } from "./key-provider.ts";

export { type BranchKeyRecord, KEY_STORE_NAME } from "./branch-key-record.ts";

/** The table of records. All methods throw `SuiteError` database_unavailable or internal_error. */
export interface BranchKeyRecords {
  /**
   * The record; while keys move between providers also its copy: the same key, wrapped by the other one.
   * Empty when there is no such record.
   */
  get(branchKeyId: string, type: string): Promise<readonly BranchKeyRecord[]>;
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
  /** Where it was unwrapped; undefined when the provider has no regions. */
  readonly region?: string | undefined;
}

export class BranchKeyStore {
  readonly #records: BranchKeyRecords;
  readonly #provider: KeyProvider;
  readonly #readers: readonly KeyProvider[];
  readonly #customContext: Readonly<Record<string, string>>;
  readonly #now: () => number;
  readonly #failing: FailingProviders;
  /** Creations under way: one worker makes a branch key once, whoever asks for whatever part of it. */
  readonly #creating = new Map<string, ReturnType<BranchKeyRecords["create"]>>();

  /**
   * New records are wrapped by `provider`; old ones are read by whichever of `readers` wrapped them, by
   * `provider` first when there are copies.
   */
  constructor(options: {
    readonly records: BranchKeyRecords;
    readonly provider: KeyProvider;
    readonly readers: readonly KeyProvider[];
    readonly appName: string;
    readonly environment: string;
    /** How long one provider may take before the other one's copy is tried, milliseconds. */
    readonly failoverMs?: number;
    readonly now?: () => number;
  }) {
    this.#records = options.records;
    this.#provider = options.provider;
    this.#readers = options.readers;
    this.#customContext = { app: options.appName, environment: options.environment };
    this.#now = options.now ?? Date.now;
    this.#failing = new FailingProviders(options.failoverMs ?? 3_000, this.#now);
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
    let records = await this.#records.get(id, ACTIVE_TYPE);
    if (records.length === 0) records = [(await this.#create(id, dataClass)).active];
    return await this.#unwrapBranchKey(records, id, ACTIVE_TYPE, dataClass, signal);
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
    const records = await this.#records.get(id, type);
    return await this.#unwrapBranchKey(records, id, type, dataClass, signal);
  }

  /**
   * The beacon key, 32 bytes (GetBeaconKey); made with its branch key on first use. The caller zeroes it.
   * @throws {SuiteError} as `active`.
   */
  async beacon(id: string, dataClass: DataClass, signal?: AbortSignal): Promise<Uint8Array> {
    let records = await this.#records.get(id, BEACON_TYPE);
    if (records.length === 0) records = [(await this.#create(id, dataClass)).beacon];
    return (await this.#unwrap(records, id, BEACON_TYPE, dataClass, signal)).plaintext;
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
    if (old.length === 0) throw new SuiteError("not_found");
    // Authenticated before it is replaced, as the specification asks, and not seen here for that.
    const authenticated = await this.#first(
      old,
      (record) => this.#sealed(record, id, ACTIVE_TYPE, dataClass),
      async ({ reader, kmsArn, wrapped, context }) => {
        await reader.rewrapKey(kmsArn, wrapped, context, context);
        return { kmsArn, version: context.version ?? "" };
      },
    );
    const attributes = await this.#attributes(id, dataClass, authenticated.kmsArn);
    const records = await this.#newVersion(attributes);
    const { rotated, active } = await this.#records.rotate(actor, records, authenticated.version);
    return { rotated, version: versionOf(active) };
  }

  /**
   * The same key, wrapped by another provider: a record of its own, and proved to open. `record` must be
   * one of this store, as it stands.
   *
   * @throws {SuiteError} decryption_failed when it does not open, or is not of this application and
   *   environment; and what both providers throw.
   */
  async copy(record: BranchKeyRecord, to: KeyProvider): Promise<BranchKeyRecord> {
    const { "branch-key-id": id = "", type = "" } = record;
    const dataClass = dataClassOf(id);
    const { reader, kmsArn, wrapped, context } = this.#sealed(record, id, type, dataClass);
    const { enc: _, ...attributes } = record;
    const keyId = await to.wrappingKeyId(dataClass);
    const copied = { ...attributes, "kms-arn": keyId };
    const { plaintext: key } = await reader.unwrapKey(kmsArn, wrapped, context);
    let opened: Uint8Array | undefined;
    try {
      const rewrapped = await to.wrapKey(keyId, key, kmsContext(copied));
      opened = (await to.unwrapKey(keyId, rewrapped, kmsContext(copied))).plaintext;
      if (!equalBytes(key, opened)) throw new SuiteError("decryption_failed");
      return { ...copied, enc: encodeMessage(rewrapped) };
    } finally {
      key.fill(0);
      opened?.fill(0);
    }
  }

  /** Resolves when the record, one of this store, opens by its provider. @throws {SuiteError} as `copy`. */
  async confirm(record: BranchKeyRecord): Promise<void> {
    const { "branch-key-id": id = "", type = "" } = record;
    const { reader, kmsArn, wrapped, context } = this.#sealed(record, id, type, dataClassOf(id));
    (await reader.unwrapKey(kmsArn, wrapped, context)).plaintext.fill(0);
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
    records: readonly BranchKeyRecord[],
    id: string,
    type: string,
    dataClass: DataClass,
    signal: AbortSignal | undefined,
  ): Promise<UnwrappedBranchKey> {
    const { plaintext, region, record } = await this.#unwrap(records, id, type, dataClass, signal);
    return {
      branchKey: plaintext,
      branchKeyId: id,
      version: versionOf(record),
      wrappingKeyId: record["kms-arn"] ?? "",
      region,
    };
  }

  async #unwrap(
    records: readonly BranchKeyRecord[],
    id: string,
    type: string,
    dataClass: DataClass,
    signal: AbortSignal | undefined,
  ): Promise<UnwrappedKey & { readonly record: BranchKeyRecord }> {
    return await this.#first(
      records,
      (record) => ({ ...this.#sealed(record, id, type, dataClass), record }),
      async ({ reader, kmsArn, wrapped, context, record }, limit) => {
        return { ...await reader.unwrapKey(kmsArn, wrapped, context, limit), record };
      },
      signal,
    );
  }

  /** The first copy that opens, the present provider's before the others'. */
  async #first<Sealed extends { readonly reader: KeyProvider }, T>(
    records: readonly BranchKeyRecord[],
    seal: (record: BranchKeyRecord) => Sealed,
    open: (sealed: Sealed, signal: AbortSignal | undefined) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const sealed: Sealed[] = [];
    for (const record of records) {
      try {
        sealed.push(seal(record));
      } catch (error) {
        // A copy of a provider that is not configured here, or a record that is not this one's.
        if (!(error instanceof SuiteError)) throw error;
      }
    }
    sealed.sort((a, b) =>
      Number(b.reader === this.#provider) - Number(a.reader === this.#provider)
    );
    return await this.#failing.first(sealed, open, signal);
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

function equalBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}
