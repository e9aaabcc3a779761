/**
 * Is the suite able to encrypt and decrypt right now? Answered by doing it: under every class a fresh
 * message there and back, and a stored one that must decrypt for ever. However often it is asked, at most one round of key calls runs per cache time.
 */
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { type ErrorCode, SuiteError } from "../errors.ts";
import type { EncryptedField, FieldCipher, FieldIdentity } from "../keys/field-cipher.ts";
import type { KeyDescription, KeyProvider, RegionReport } from "../keys/key-provider.ts";
import { SingleFlight } from "../keys/single-flight.ts";

/** Version of the answer's shape (`metadata.version`). */
export const HEALTH_VERSION = 2;

/** A message of each class that was written once and must decrypt for ever. */
export interface CanaryStore {
  get(dataClass: DataClass): Promise<string | undefined>;
  /** Stores the message unless there is one; answers the one that stands. */
  putIfAbsent(dataClass: DataClass, field: EncryptedField): Promise<string>;
}

export interface Check {
  readonly status: "pass" | "fail";
  /** An error code, never a message of the key service. */
  readonly error?: ErrorCode;
}

export interface HealthReport {
  readonly healthy: boolean;
  /** Milliseconds since the epoch. */
  readonly checkedAt: number;
  readonly connectivity: Check;
  readonly functionality: Check;
  /** Whether the stored message of each class still decrypts, read as rows are. */
  readonly canaries: Readonly<Record<DataClass, Check>>;
  /** Of the round of key calls, milliseconds. */
  readonly latencyMs: number;
}

/** Keeps reports for the dashboard; fire and forget, so it must not throw. */
export type HealthHistory = (
  report: HealthReport,
  regions: Readonly<Record<string, RegionReport>>,
) => void;

/** The wrapping key of a class, or why it could not be described. */
export type KeyReport = KeyDescription | { readonly error: ErrorCode };

const NOBODY = "00000000-0000-0000-0000-000000000000";

export class Health {
  readonly #provider: KeyProvider;
  readonly #cipher: FieldCipher;
  readonly #direct: FieldCipher;
  readonly #canaries: CanaryStore;
  readonly #report: SingleFlight<HealthReport>;
  readonly #keys: SingleFlight<Readonly<Record<DataClass, KeyReport>>>;
  readonly #history: HealthHistory;
  readonly #now: () => number;

  constructor(options: {
    readonly provider: KeyProvider;
    /** As rows are read and written. */
    readonly cipher: FieldCipher;
    /** Asks the key service for every message: a cached key would hide an outage. */
    readonly direct: FieldCipher;
    readonly canaries: CanaryStore;
    readonly history?: HealthHistory;
    /** Milliseconds. */
    readonly cacheMs: number;
    readonly now?: () => number;
  }) {
    this.#provider = options.provider;
    this.#cipher = options.cipher;
    this.#direct = options.direct;
    this.#canaries = options.canaries;
    this.#history = options.history ?? (() => {});
    const now = this.#now = options.now ?? Date.now;
    const cached = <T>(make: () => Promise<T>) =>
      new SingleFlight(async () => {
        const value = await make();
        return { value, expiresAt: now() + options.cacheMs };
      }, now);
    this.#report = cached(() => this.#check());
    this.#keys = cached(() => perClass((dataClass) => this.#describe(dataClass)));
  }

  /** Never throws: what fails is in the report. */
  report(): Promise<HealthReport> {
    return this.#report.get();
  }

  /** For holders of a secret key: the wrapping key of each class. */
  keys(): Promise<Readonly<Record<DataClass, KeyReport>>> {
    return this.#keys.get();
  }

  /** As this worker sees them; empty when the provider has no regions. */
  regions(): Readonly<Record<string, RegionReport>> {
    return this.#provider.regions();
  }

  async #check(): Promise<HealthReport> {
    const started = this.#now();
    // A fresh message tells that the key service works; only a stored one tells that these are still
    // the keys the rows were written with.
    const [fresh, canaries] = await Promise.all([
      perClass((dataClass) => outcome(() => this.#roundTrip(dataClass))),
      perClass((dataClass) => outcome(() => this.#canary(dataClass))),
    ]);
    const failures = [...Object.values(fresh), ...Object.values(canaries)]
      .filter((check) => check.status === "fail");
    // Reached means that the service answered, be it with a refusal of one key.
    const unreached = failures.find((check) =>
      check.error === "kms_unavailable" || check.error === "kms_access_denied"
    );
    const report: HealthReport = {
      healthy: failures.length === 0,
      checkedAt: this.#now(),
      connectivity: unreached ?? { status: "pass" },
      functionality: failures[0] ?? { status: "pass" },
      canaries,
      latencyMs: Math.round(this.#now() - started),
    };
    this.#history(report, this.regions());
    return report;
  }

  async #roundTrip(dataClass: DataClass): Promise<void> {
    const probe = crypto.getRandomValues(new Uint8Array(32));
    const identity = canaryIdentity(dataClass, "probe");
    const { message } = await this.#direct.encrypt(identity, probe);
    const back = await this.#direct.decrypt(identity, message);
    if (back.length !== probe.length || back.some((byte, index) => byte !== probe[index])) {
      throw new SuiteError("decryption_failed");
    }
  }

  async #describe(dataClass: DataClass): Promise<KeyReport> {
    try {
      return await this.#provider.describe(dataClass);
    } catch (error) {
      return { error: codeOf(error) };
    }
  }

  async #canary(dataClass: DataClass): Promise<void> {
    const identity = canaryIdentity(dataClass, "canary");
    const expected = new TextEncoder().encode(`canary of ${dataClass}`);
    const message = await this.#canaries.get(dataClass) ??
      await this.#canaries.putIfAbsent(dataClass, await this.#cipher.encrypt(identity, expected));
    const plaintext = await this.#cipher.decrypt(identity, message);
    if (new TextDecoder().decode(plaintext) !== `canary of ${dataClass}`) {
      throw new SuiteError("decryption_failed");
    }
  }
}

async function perClass<T>(
  make: (dataClass: DataClass) => Promise<T>,
): Promise<Readonly<Record<DataClass, T>>> {
  const entries = await Promise.all(
    DATA_CLASSES.map(async (dataClass) => [dataClass, await make(dataClass)] as const),
  );
  return Object.fromEntries(entries) as Record<DataClass, T>;
}

function canaryIdentity(dataClass: DataClass, field: "probe" | "canary"): FieldIdentity {
  return { dataClass, owner: NOBODY, table: "health_canaries", record: dataClass, field };
}

async function outcome(work: () => Promise<void>): Promise<Check> {
  try {
    await work();
    return { status: "pass" };
  } catch (error) {
    return { status: "fail", error: codeOf(error) };
  }
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof SuiteError ? error.code : "internal_error";
}
