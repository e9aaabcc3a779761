/**
 * Rotation, as separate things: of a wrapping key, in its service; of a branch key, by a new version; and
 * the end of a version that nothing hangs on any more. None of them rewrites a stored row.
 */
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { type ErrorCode, SuiteError, validationFailed } from "../errors.ts";
import type { BranchKeyStore } from "../keys/branch-key-store.ts";
import type { KeyMetadata, KeyProvider } from "../keys/key-provider.ts";
import { type Actor, noteFailure } from "../telemetry/audit.ts";
import type { BranchKeyInfo, KeyAdminStore } from "./key-store.ts";

/** Longer than a request lives (150 s): whoever has not ended by then is dead. */
const LEASE_SECONDS = 300;

/** Messages under a version; one more stands for many more. */
const MAX_COUNTED = 10_000;

export interface RotatedBranchKey {
  readonly data_class: DataClass;
  readonly branch_key_id: string;
  readonly version: string;
}

export interface BranchKeyRotation {
  readonly rotated: readonly RotatedBranchKey[];
  /** Of several branch keys, those that were not rotated, and why. */
  readonly failed: readonly {
    readonly data_class: DataClass;
    readonly branch_key_id: string;
    readonly code: ErrorCode;
  }[];
}

export class KeyAdministration {
  readonly #provider: KeyProvider;
  readonly #branchKeys: Pick<BranchKeyStore, "rotate">;
  readonly #store: KeyAdminStore;

  constructor(options: {
    readonly provider: KeyProvider;
    readonly branchKeys: Pick<BranchKeyStore, "rotate">;
    readonly store: KeyAdminStore;
  }) {
    this.#provider = options.provider;
    this.#branchKeys = options.branchKeys;
    this.#store = options.store;
  }

  /** @throws {SuiteError} kms_*, database_unavailable. */
  async describe(dataClass: DataClass): Promise<{
    readonly key: KeyMetadata;
    /** The class's own; undefined before its first use. */
    readonly branchKey: BranchKeyInfo | undefined;
  }> {
    const [key, branchKey] = await Promise.all([
      this.#provider.metadata(dataClass),
      this.#store.branchKey(dataClass),
    ]);
    return { key, branchKey };
  }

  /**
   * A new version of the classes' branch keys, or of one owner's. Those that do not exist are left out.
   *
   * @throws {SuiteError} not_found when none exists; when none was rotated, why the first was not:
   *   rotation_conflict, kms_*, database_unavailable, decryption_failed.
   */
  async rotateBranchKeys(
    actor: Actor,
    dataClass: DataClass | undefined,
    owner: string | undefined,
  ): Promise<BranchKeyRotation> {
    const rotated: RotatedBranchKey[] = [];
    const failed: BranchKeyRotation["failed"][number][] = [];
    // In one order for all callers: of two at once, one is told so at the first branch key.
    for (const each of dataClass === undefined ? DATA_CLASSES : [dataClass]) {
      const id = owner === undefined ? each : `${each}:${owner}`;
      const key = { data_class: each, branch_key_id: id };
      try {
        const { rotated: won, version } = await this.#branchKeys.rotate(actor, id, each);
        if (!won) throw new SuiteError("rotation_conflict");
        rotated.push({ ...key, version });
      } catch (error) {
        if (!(error instanceof SuiteError)) throw error;
        if (error.code === "not_found") continue;
        // The database itself notes that another came first.
        const failure = error.code === "rotation_conflict"
          ? error
          : await noteFailure(error, (code) => this.#store.rotationFailed(actor, each, id, code));
        if (rotated.length === 0) throw failure;
        failed.push({ ...key, code: failure.code });
      }
    }
    if (rotated.length === 0) throw new SuiteError("not_found");
    return { rotated, failed };
  }

  /**
   * A new version of a class's wrapping key. `confirmed`: its id, as a person repeated it.
   *
   * @throws {SuiteError} validation_failed for another id; rotation_conflict, rotation_limit_reached,
   *   rotation_not_supported, kms_*, database_unavailable.
   */
  async rotateWrappingKey(
    actor: Actor,
    dataClass: DataClass,
    confirmed: string,
  ): Promise<{ readonly keyId: string; readonly version: string | null }> {
    // The same key in another region has another ARN: each is its name.
    if (await this.#provider.wrappingKeyId(dataClass, confirmed) !== confirmed) {
      throw validationFailed([{
        pointer: "/confirm",
        code: "confirmation_mismatch",
        detail: "must be the id of the key to rotate, as GET /key/metadata tells it",
      }]);
    }
    const token = await this.#store.beginRotation(actor, dataClass, confirmed, LEASE_SECONDS);
    if (token === undefined) throw new SuiteError("rotation_conflict");
    let outcome: { version: string | null } | { error: SuiteError };
    try {
      outcome = { version: await this.#provider.rotateNow(confirmed) };
    } catch (cause) {
      const error = cause instanceof SuiteError
        ? cause
        : new SuiteError("internal_error", { cause });
      outcome = { error };
    }
    const code = "error" in outcome ? outcome.error.code : undefined;
    await this.#store.endRotation(actor, dataClass, token, confirmed, code);
    if ("error" in outcome) throw outcome.error;
    return { keyId: confirmed, version: outcome.version };
  }

  /** @throws {SuiteError} not_found, branch_key_in_use, database_unavailable. */
  async retire(actor: Actor, branchKeyId: string, version: string): Promise<void> {
    const { outcome, rows } = await this.#store.retire(actor, branchKeyId, version);
    switch (outcome) {
      case "not_found":
        throw new SuiteError("not_found");
      case "active":
        throw inUse("active", "This version is the active one: rotate the branch key first.");
      case "in_use":
        throw inUse(
          "in_use",
          `Stored messages under this version: ${
            rows > MAX_COUNTED ? `more than ${MAX_COUNTED}` : rows
          }. Re-encrypt them first.`,
        );
    }
  }
}

function inUse(code: string, detail: string): SuiteError {
  const violations = [{ pointer: "/version", code, detail }];
  return new SuiteError("branch_key_in_use", { violations });
}
