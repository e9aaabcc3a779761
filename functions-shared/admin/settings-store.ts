/** The port to the stored settings. All methods throw `SuiteError` database_unavailable or internal_error. */
import type { Actor } from "../telemetry/audit.ts";
import type { KeysInUse } from "./candidate.ts";
import type { ProviderName } from "./settings-fields.ts";

/** One revision, without its settings. */
export interface Revision {
  readonly revision: number;
  readonly provider: ProviderName;
  /** The revision that a rollback went back to; 0 = the environment alone. */
  readonly restores: number | null;
  readonly reason: string | null;
  readonly actor_type: Actor["actor_type"];
  readonly actor_id: string;
  /** ISO 8601. */
  readonly created_at: string;
  /** Whether Supabase Vault holds the settings. */
  readonly in_vault: boolean;
  readonly restorable: boolean;
}

export interface SealedRevision extends Revision {
  /** Null when the settings were forgotten. */
  readonly message: string | null;
}

export interface NewRevision {
  readonly provider: ProviderName;
  /** Sealed for the revision after the one expected. */
  readonly message: string;
  readonly restores?: number;
  readonly reason?: string;
}

export interface SettingsStore {
  /** The newest revision unless one is named. */
  read(revision?: number): Promise<SealedRevision | undefined>;
  /** Atomic with its audit entry; false when `expected` is no longer the newest revision. */
  put(actor: Actor, settings: NewRevision, expected: number): Promise<boolean>;
  /** Newest first; `next` is what the next page is `before`. */
  history(limit: number, before?: number): Promise<{
    readonly revisions: readonly Revision[];
    readonly next: number | undefined;
  }>;
  keysInUse(): Promise<KeysInUse>;
}
