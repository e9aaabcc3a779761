/** The audit trail as its readers and keepers see it, and the port to where it is kept. */
import type { DataClass } from "../../data-class.ts";
import type { Actor } from "../../telemetry/audit.ts";

/** One entry, with every field that its hash covers. */
export interface TrailEntry {
  /** UTC day of the chain, YYYY-MM-DD. */
  readonly day: string;
  /** 1, 2, 3... within the day. */
  readonly seq: number;
  readonly prev_hash: string;
  readonly hash: string;
  readonly [field: string]: unknown;
}

/** Where a day began and ended in the chain. */
export interface Anchor {
  readonly day: string;
  readonly entries: number;
  /** Hash that the day's first entry follows. */
  readonly prev_hash: string;
  readonly last_seq: number;
  readonly last_hash: string;
  /** False for a day that was still being written: it may have grown since, but not changed. */
  readonly finished: boolean;
}

export interface SignedAnchor extends Anchor {
  /** ISO 8601, UTC, milliseconds. */
  readonly signed_at: string;
  /** HMAC-SHA256 in hexadecimal digits. */
  readonly signature: string;
}

export type StoredAnchor = (Anchor | SignedAnchor) & { readonly pruned: boolean };

export type FaultKind =
  /** The entry is not the one that was hashed. */
  | "changed"
  /** Entries seq to through are not there. */
  | "missing"
  /** The entry before it is not the one it followed. */
  | "broken_link"
  /** Neither its hash nor its link fits: reordered, or put there. */
  | "moved"
  /** An entry where none can be: behind a finished day's end, or of a day that was pruned. */
  | "inserted"
  /** The day holds together, but is not the one that was anchored: rewritten as a whole. */
  | "rewritten"
  /** The anchor of a pruned day is not the one that was signed when it was pruned. */
  | "forged_anchor";

export interface Fault {
  readonly day: string;
  readonly seq: number;
  readonly kind: FaultKind;
  /** Last seq of a gap. */
  readonly through?: number;
}

/** A part of one day, as far as a page of verification has seen it. */
export type DayPart = Omit<Anchor, "finished">;

export interface VerifiedPage {
  readonly entries: number;
  readonly days: readonly DayPart[];
  /** At most 100 of `fault_count`. */
  readonly faults: readonly Fault[];
  readonly fault_count: number;
  /** Position of the next page; null when there is none. */
  readonly next: string | null;
}

/** Days of the chain, both included. */
export interface DayRange {
  readonly from?: string;
  readonly to?: string;
}

export interface EntryFilter extends DayRange {
  readonly action?: string;
  readonly actor_id?: string;
  readonly owner_id?: string;
  readonly record_id?: string;
  readonly outcome?: "success" | "failure";
}

export interface Alert {
  readonly name: string;
  readonly severity: "warning" | "critical";
  readonly subject: string;
  readonly numbers: Readonly<Record<string, number>>;
  /** ISO 8601. */
  readonly first_at: string;
}

/** What the suite runs on was changed, or something was destroyed for good. */
export interface AdministrativeChange {
  readonly action: string;
  /** `admin` is a user; `system` is the database itself, such as a user deleted in Supabase Auth. */
  readonly actor_type: Actor["actor_type"];
  readonly actor_id: string;
  /** Entries of this action and actor. */
  readonly count: number;
  /** ISO 8601. */
  readonly first_at: string;
  readonly last_at: string;
}

export interface AlertReport {
  readonly since: string;
  readonly alerts: readonly Alert[];
  /** Of all that was done in the time, the last one first: at most 100. */
  readonly changes: readonly AdministrativeChange[];
}

export interface Thresholds {
  readonly hours: number;
  readonly revealsPerHour: number;
  readonly refusals: number;
  readonly cryptoperiodDays: Readonly<Record<DataClass, number>>;
}

/** All methods throw `SuiteError` database_unavailable or internal_error. None but `prune` is audited. */
export interface AuditTrailStore {
  entries(filter: EntryFilter, limit: number, before: string | undefined): Promise<{
    readonly entries: readonly TrailEntry[];
    readonly next: string | null;
  }>;
  exportDay(day: string, after: number | undefined, limit: number): Promise<{
    readonly entries: readonly TrailEntry[];
    readonly next: number | null;
  }>;
  /** Of finished days, oldest first; `pruned`: only those whose entries are gone. */
  anchors(range: DayRange, limit: number, pruned: boolean): Promise<{
    readonly anchors: readonly StoredAnchor[];
    readonly next: string | null;
  }>;
  /** What stands at up to 200 places of the chain. */
  points(places: readonly { readonly day: string; readonly seq: number }[]): Promise<
    readonly {
      readonly last_seq: number | null;
      readonly hash: string | null;
      readonly pruned: boolean;
    }[]
  >;
  verifyPage(range: DayRange, after: string | undefined, limit: number): Promise<VerifiedPage>;
  /** False when somebody else has pruned the day. Audited in the same transaction. */
  prune(actor: Actor, anchor: SignedAnchor): Promise<boolean>;
  alerts(thresholds: Thresholds): Promise<AlertReport>;
}
