/** What administration of keys needs of the database. */
import type { DataClass } from "../data-class.ts";
import type { ErrorCode } from "../errors.ts";
import type { Actor } from "../telemetry/audit.ts";

/** What stands of a branch key. */
export interface BranchKeyInfo {
  /** The active one. */
  readonly version: string;
  /** When the active version was made, ISO 8601. */
  readonly created_at: string;
  /** How many there are, the active one among them. */
  readonly versions: number;
  /** Newest first, at most 100. */
  readonly old_versions: readonly {
    readonly version: string;
    readonly created_at: string;
    /** Whether a stored message hangs on it. */
    readonly in_use: boolean;
  }[];
}

export interface Retirement {
  readonly outcome: "retired" | "active" | "in_use" | "not_found";
  /** Messages that hang on the version. */
  readonly rows: number;
}

/** All methods throw `SuiteError` database_unavailable or internal_error, and audit what they do. */
export interface KeyAdminStore {
  branchKey(id: string): Promise<BranchKeyInfo | undefined>;
  /** A rotation of a branch key that did not get as far as the database. */
  rotationFailed(
    actor: Actor,
    dataClass: DataClass,
    branchKeyId: string,
    error: ErrorCode,
  ): Promise<void>;
  retire(actor: Actor, branchKeyId: string, version: string): Promise<Retirement>;
  /** The right to rotate a class's wrapping key, as a token; undefined while another caller has it. */
  beginRotation(
    actor: Actor,
    dataClass: DataClass,
    keyId: string,
    leaseSeconds: number,
  ): Promise<string | undefined>;
  endRotation(
    actor: Actor,
    dataClass: DataClass,
    token: string,
    keyId: string,
    error: ErrorCode | undefined,
  ): Promise<void>;
}
