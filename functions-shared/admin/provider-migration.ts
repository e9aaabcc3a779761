/**
 * Moves branch keys from one provider to another, and back if need be, while both serve: each record gets a
 * copy that the other provider wrapped, then records and copies change places, then the copies go. No
 * stored row is touched, and no step is ever half done: each record is moved by itself, by whoever calls.
 * A call does a bounded part, and costs as much whether there are three branch keys or one for each user.
 */
import { type ErrorCode, SuiteError, validationFailed } from "../errors.ts";
import type { BranchKeyRecord, BranchKeyStore } from "../keys/branch-key-store.ts";
import type { KeyProvider } from "../keys/key-provider.ts";
import { inTurns } from "../storage/in-turns.ts";
import { type Actor, noteFailure } from "../telemetry/audit.ts";

export type ProviderName = KeyProvider["name"];
export type MigrationStep = "prepare" | "switch" | "finish" | "back";

export interface MigrationReport {
  readonly from: ProviderName;
  readonly to: ProviderName;
  readonly step: MigrationStep;
  /** Those that either provider wraps. */
  readonly branch_keys: number;
  /**
   * Branch keys for which the step is not done; more than 0 = call it again. Of more than 1000 records their
   * share of the branch keys; 0 only when there is none.
   */
  readonly remaining: number;
  /** Operations that this takes: each record is copied, exchanged, opened, and loses its copy. */
  readonly operations: number;
  /**
   * Messages whose data key the old provider wrapped itself: they need re-encryption, not this. 10001 are
   * more than 10000.
   */
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
  /** Records that need a copy, or such as must be opened before their copies may go. */
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
  /**
   * Drops so many copies, once all of them may go, and ends the migration with the last one.
   *
   * @returns what then remains of the step
   */
  end(
    actor: Actor,
    from: ProviderName,
    to: ProviderName,
    step: "finish" | "back",
    limit: number,
  ): Promise<MigrationReport>;
  /** Notes a failure that did not get as far as the database; `record`: what it was about, if known. */
  failed(move: Move, error: ErrorCode, record: BranchKeyRecord | undefined): Promise<void>;
}

/** Who does what. */
export interface Move {
  readonly actor: Actor;
  readonly from: ProviderName;
  readonly to: ProviderName;
  readonly step: MigrationStep;
}

/** Records of one call that cost key calls: three each, sixteen at a time. */
const KEY_WORK_LIMIT = 60;

/** Records of one call that cost none: half a second of the database's time at the most. */
const SWAP_LIMIT = 1_000;
const DROP_LIMIT = 5_000;

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
   * A bounded part of a step; the report's `remaining` says whether to call again. What fails is audited.
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
    const move = { actor, from, to, step };
    if (step !== "finish") {
      // What has a copy moves even while a provider is down; only then are others copied.
      if (step !== "prepare") await this.#store.swap(actor, from, to, SWAP_LIMIT);
      await this.#copy(move);
      if (step !== "prepare") await this.#store.swap(actor, from, to, SWAP_LIMIT);
    }
    if (step === "prepare" || step === "switch") return await this.#store.status(step) ?? begun;
    await this.#confirm(move);
    return await this.#store.end(actor, from, to, step, DROP_LIMIT);
  }

  async #copy(move: Move): Promise<void> {
    const { actor, from, to } = move;
    const records = await this.#store.work(from, to, "copy", KEY_WORK_LIMIT);
    if (records.length === 0) return;
    const unknown = this.#unconfigured(from, to);
    if (unknown !== undefined) throw await this.#failure(move, unknown, undefined);
    const [old, other] = [this.#provider(from), this.#provider(to)];
    await this.#each(
      move,
      records,
      async (record) => ({
        record,
        copy: await this.#branchKeys.copy(record, old.holds(record["kms-arn"] ?? "") ? other : old),
      }),
      (copies) => this.#store.copy(actor, from, to, copies),
    );
  }

  /** What is dropped then is needed no more: the present record of each was opened just now. */
  async #confirm(move: Move): Promise<void> {
    const { from, to } = move;
    await this.#each(
      move,
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
    move: Move,
    records: readonly BranchKeyRecord[],
    work: (record: BranchKeyRecord) => Promise<Done>,
    keep: (done: readonly Done[]) => Promise<void>,
  ): Promise<void> {
    const failures: { readonly error: unknown; readonly record: BranchKeyRecord }[] = [];
    const results = await inTurns(records.map((record) => async () => {
      // A provider that is down is not asked for the rest of them.
      if (failures.length > 0) return [];
      try {
        return [await work(record)];
      } catch (error) {
        failures.push({ error, record });
        return [];
      }
    }));
    const done = results.flat();
    if (done.length > 0) await keep(done);
    const [first] = failures;
    if (first !== undefined) throw await this.#failure(move, first.error, first.record);
  }

  /** The error to throw, noted in the audit. */
  async #failure(
    move: Move,
    cause: unknown,
    record: BranchKeyRecord | undefined,
  ): Promise<SuiteError> {
    const error = cause instanceof SuiteError ? cause : new SuiteError("internal_error", { cause });
    return await noteFailure(
      record === undefined ? error : named(error, record),
      (code) => this.#store.failed(move, code, record),
    );
  }

  /** Before the first thing is done: nothing is prepared towards what cannot be reached. */
  #require(from: ProviderName, to: ProviderName, step: MigrationStep): void {
    if (from === to) {
      const detail = "must be another provider than from";
      throw validationFailed([{ pointer: "/to", code: "same_provider", detail }]);
    }
    // The one that is left may be gone for good.
    const unknown = this.#unconfigured(
      step === "finish" ? undefined : from,
      step === "back" ? undefined : to,
    );
    if (unknown !== undefined) throw unknown;
    if (to === "env" && this.#isProduction) {
      const detail = "must not be env in production";
      throw validationFailed([{ pointer: "/to", code: "not_in_production", detail }]);
    }
  }

  #unconfigured(
    from: ProviderName | undefined,
    to: ProviderName | undefined,
  ): SuiteError | undefined {
    const violations = [{ pointer: "/from", name: from }, { pointer: "/to", name: to }]
      .filter(({ name }) => name !== undefined && !this.#providers.some((one) => one.name === name))
      .map(({ pointer }) => ({
        pointer,
        code: "provider_not_configured",
        detail: "must be a provider whose variables are set",
      }));
    return violations.length > 0 ? validationFailed(violations) : undefined;
  }

  #provider(name: ProviderName): KeyProvider {
    const provider = this.#providers.find((one) => one.name === name);
    if (provider === undefined) throw new SuiteError("configuration_invalid");
    return provider;
  }
}

/** With the record that it was about. */
function named(error: SuiteError, record: BranchKeyRecord): SuiteError {
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
