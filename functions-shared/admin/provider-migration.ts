/**
 * Moves branch keys from one provider to another, and back if need be, while both serve: each record gets a
 * copy that the other provider wrapped, then records and copies change places, then the copies go. No
 * stored row is touched, and no step is ever half done: each record is moved by itself, by whoever calls.
 */
import { SuiteError, validationFailed } from "../errors.ts";
import type { BranchKeyRecord, BranchKeyStore } from "../keys/branch-key-store.ts";
import type { KeyProvider } from "../keys/key-provider.ts";
import { inTurns } from "../storage/in-turns.ts";
import type { Actor } from "../telemetry/audit.ts";

export type ProviderName = KeyProvider["name"];
export type MigrationStep = "prepare" | "switch" | "finish" | "back";

export interface MigrationReport {
  readonly from: ProviderName;
  readonly to: ProviderName;
  readonly step: MigrationStep;
  /** Those that either provider wraps. */
  readonly branch_keys: number;
  /** Branch keys for which the step is not done; more than 0 = call it again. */
  readonly remaining: number;
  /** Messages whose data key the old provider wrapped itself: they need re-encryption, not this. */
  readonly direct_rows: number;
}

/** What one record becomes a copy of. */
export interface RecordCopy {
  readonly record: BranchKeyRecord;
  readonly copy: BranchKeyRecord;
}

/** All methods throw `SuiteError` database_unavailable or internal_error. */
export interface MigrationStore {
  /** As the migration's own step sees it, or the one given; undefined when none is under way. */
  status(step?: MigrationStep): Promise<MigrationReport | undefined>;
  step(actor: Actor, from: ProviderName, to: ProviderName, step: MigrationStep): Promise<
    MigrationReport & { readonly outcome: "ok" | "conflict" | "incomplete" | "ended" }
  >;
  /** Records without a copy, or such as must be opened before their copies may go. */
  work(
    from: ProviderName,
    to: ProviderName,
    kind: "copy" | "confirm",
    limit: number,
  ): Promise<readonly BranchKeyRecord[]>;
  /** Stores copies of records that still are what they were. */
  copy(
    actor: Actor,
    from: ProviderName,
    to: ProviderName,
    copies: readonly RecordCopy[],
  ): Promise<void>;
  /** Exchanges records and copies, towards where the present step goes. */
  swap(actor: Actor, from: ProviderName, to: ProviderName, limit: number): Promise<void>;
  confirm(
    from: ProviderName,
    to: ProviderName,
    records: readonly BranchKeyRecord[],
  ): Promise<void>;
  /** Drops all copies once nothing remains; false while something does. */
  end(
    actor: Actor,
    from: ProviderName,
    to: ProviderName,
    step: "finish" | "back",
  ): Promise<boolean>;
}

/** Records of one call that cost key calls: three each, sixteen at a time. */
const KEY_WORK_LIMIT = 60;

/** Records of one call that cost none. */
const SWAP_LIMIT = 1_000;

export class ProviderMigration {
  readonly #providers: readonly KeyProvider[];
  readonly #branchKeys: Pick<BranchKeyStore, "copy" | "confirm">;
  readonly #store: MigrationStore;
  readonly #isProduction: boolean;

  /** `providers`: those that are configured. */
  constructor(options: {
    readonly providers: readonly KeyProvider[];
    readonly branchKeys: Pick<BranchKeyStore, "copy" | "confirm">;
    readonly store: MigrationStore;
    readonly isProduction: boolean;
  }) {
    this.#providers = options.providers;
    this.#branchKeys = options.branchKeys;
    this.#store = options.store;
    this.#isProduction = options.isProduction;
  }

  /** The migration under way. */
  async status(): Promise<MigrationReport | undefined> {
    return await this.#store.status();
  }

  /**
   * A bounded part of a step; the report's `remaining` says whether to call again.
   *
   * @throws {SuiteError} validation_failed for providers that are not configured; migration_conflict when
   *   another migration is under way or the step does not follow; migration_incomplete when the step
   *   before is not done; kms_*, decryption_failed, database_unavailable.
   */
  async run(
    actor: Actor,
    from: ProviderName,
    to: ProviderName,
    step: MigrationStep,
  ): Promise<MigrationReport> {
    this.#require(from, to, step);
    const { outcome, ...begun } = await this.#store.step(actor, from, to, step);
    switch (outcome) {
      case "conflict":
        throw new SuiteError("migration_conflict");
      case "incomplete":
        throw incomplete(begun.remaining);
      case "ended":
        return begun;
    }
    if (step === "finish") await this.#confirm(from, to);
    else {
      // What has a copy moves even while a provider is down; only then are others copied.
      if (step !== "prepare") await this.#store.swap(actor, from, to, SWAP_LIMIT);
      await this.#copy(actor, from, to);
      if (step !== "prepare") await this.#store.swap(actor, from, to, SWAP_LIMIT);
    }
    const left = await this.#store.status(step);
    if (left === undefined || left.remaining > 0 || step === "prepare" || step === "switch") {
      return left ?? begun;
    }
    return await this.#store.end(actor, from, to, step)
      ? left
      : await this.#store.status(step) ?? left;
  }

  async #copy(actor: Actor, from: ProviderName, to: ProviderName): Promise<void> {
    const records = await this.#store.work(from, to, "copy", KEY_WORK_LIMIT);
    if (records.length === 0) return;
    this.#requireConfigured(from, to);
    const [old, other] = [this.#provider(from), this.#provider(to)];
    await this.#each(
      records,
      async (record) => ({
        record,
        copy: await this.#branchKeys.copy(record, old.holds(record["kms-arn"] ?? "") ? other : old),
      }),
      (copies) => this.#store.copy(actor, from, to, copies),
    );
  }

  /** What is dropped then is needed no more: the present record of each was opened just now. */
  async #confirm(from: ProviderName, to: ProviderName): Promise<void> {
    await this.#each(
      await this.#store.work(from, to, "confirm", KEY_WORK_LIMIT),
      async (record) => {
        await this.#branchKeys.confirm(record);
        return record;
      },
      (records) => this.#store.confirm(from, to, records),
    );
  }

  /** Keeps what was done for some records when others fail, and then fails. */
  async #each<Done>(
    records: readonly BranchKeyRecord[],
    work: (record: BranchKeyRecord) => Promise<Done>,
    keep: (done: readonly Done[]) => Promise<void>,
  ): Promise<void> {
    const failures: unknown[] = [];
    const results = await inTurns(records.map((record) => async () => {
      // A provider that is down is not asked for the rest of them.
      if (failures.length > 0) return [];
      try {
        return [await work(record)];
      } catch (error) {
        failures.push(named(error, record));
        return [];
      }
    }));
    const done = results.flat();
    if (done.length > 0) await keep(done);
    if (failures.length > 0) throw failures[0];
  }

  /** Before the first thing is done: nothing is prepared towards what cannot be reached. */
  #require(from: ProviderName, to: ProviderName, step: MigrationStep): void {
    if (from === to) {
      const detail = "must be another provider than from";
      throw validationFailed([{ pointer: "/to", code: "same_provider", detail }]);
    }
    // The one that is left may be gone for good.
    if (step === "finish") this.#requireConfigured(undefined, to);
    else if (step === "back") this.#requireConfigured(from, undefined);
    else this.#requireConfigured(from, to);
    if (to === "env" && this.#isProduction) {
      const detail = "must not be env in production";
      throw validationFailed([{ pointer: "/to", code: "not_in_production", detail }]);
    }
  }

  #requireConfigured(from: ProviderName | undefined, to: ProviderName | undefined): void {
    const violations = [{ pointer: "/from", name: from }, { pointer: "/to", name: to }]
      .filter(({ name }) => name !== undefined && !this.#providers.some((one) => one.name === name))
      .map(({ pointer }) => ({
        pointer,
        code: "provider_not_configured",
        detail: "must be a provider whose variables are set",
      }));
    if (violations.length > 0) throw validationFailed(violations);
  }

  #provider(name: ProviderName): KeyProvider {
    const provider = this.#providers.find((one) => one.name === name);
    if (provider === undefined) throw new SuiteError("configuration_invalid");
    return provider;
  }
}

/** With the record that it was about. */
function named(error: unknown, record: BranchKeyRecord): unknown {
  if (!(error instanceof SuiteError)) return error;
  return new SuiteError(error.code, {
    cause: error.cause,
    violations: [{
      pointer: "/step",
      code: "branch_key_failed",
      detail: `It failed for ${record.type} of branch key ${record["branch-key-id"]}.`,
    }],
  });
}

function incomplete(remaining: number): SuiteError {
  return new SuiteError("migration_incomplete", {
    violations: [{
      pointer: "/step",
      code: "incomplete",
      detail: `Branch keys that are not ready: ${remaining}. Call the step before again.`,
    }],
  });
}
