/**
 * What administrators do with the audit trail: read, export, verify, anchor, watch and prune it. Each of
 * these is itself an entry, committed before anything is answered.
 */
import { SuiteError, validationFailed } from "../../errors.ts";
import type { Actor, AuditEntry, AuditLog } from "../../telemetry/audit.ts";
import { containsCardNumber } from "../../validation.ts";
import type { AnchorSignatures } from "./signatures.ts";
import type {
  AlertReport,
  Anchor,
  AuditTrailStore,
  DayRange,
  EntryFilter,
  Fault,
  SignedAnchor,
  StoredAnchor,
  Thresholds,
  TrailEntry,
} from "./trail.ts";
import { Verification, type Walk } from "./verification.ts";

/** Entries of one page of an export. */
const EXPORT_ENTRIES = 500;
/** Of one request, milliseconds; the platform allows 150 s to the first byte. */
const BUDGET_MS = 60_000;
const DAY_MS = 86_400_000;
const MAX_FAULTS = 100;

export interface VerifyRequest extends DayRange {
  /** Where an earlier answer stopped. */
  readonly after?: string;
  /** Exported before, and kept elsewhere. */
  readonly anchors?: readonly (Anchor | SignedAnchor)[];
}

export interface VerifyResult {
  readonly valid: boolean;
  readonly days: number;
  readonly entries: number;
  /** By day and seq, at most 100 of `faultCount`. */
  readonly faults: readonly Fault[];
  readonly faultCount: number;
  /** The end of what was verified, to be kept and given to a later verification. */
  readonly anchor: Anchor | null;
  /** Where to go on; undefined when the range is done. */
  readonly next: string | undefined;
}

export interface PruneResult {
  readonly days: number;
  readonly entries: number;
  /** False when the time was over before the work was: ask again. */
  readonly complete: boolean;
  /** Of the last day that was removed. */
  readonly anchor: SignedAnchor | null;
}

export class AuditTrail {
  readonly #audit: AuditLog;
  readonly #store: AuditTrailStore;
  readonly #signatures: AnchorSignatures;
  readonly #verification: Verification;
  readonly #retentionDays: number;
  readonly #now: () => number;
  readonly #budgetMs: number;

  constructor(options: {
    readonly audit: AuditLog;
    readonly store: AuditTrailStore;
    readonly signatures: AnchorSignatures;
    readonly retentionDays: number;
    readonly now?: () => number;
    readonly budgetMs?: number;
  }) {
    this.#audit = options.audit;
    this.#store = options.store;
    this.#signatures = options.signatures;
    this.#verification = new Verification(options);
    this.#retentionDays = options.retentionDays;
    this.#now = options.now ?? Date.now;
    this.#budgetMs = options.budgetMs ?? BUDGET_MS;
  }

  /** Newest first; the first entry of the first page is that of this very reading. */
  async read(
    actor: Actor,
    filter: EntryFilter,
    limit: number,
    before: string | undefined,
  ): Promise<{
    readonly entries: readonly TrailEntry[];
    readonly next: string | undefined;
  }> {
    const { record_id, owner_id, ...rest } = filter;
    await this.#append(actor, "audit.read", rest, {
      ...record_id === undefined ? {} : { record_id },
      ...owner_id === undefined ? {} : { owner_id },
    });
    const { entries, next } = await this.#store.entries(filter, limit, before);
    return { entries, next: next ?? undefined };
  }

  /** A day's entries in the order of the chain. */
  async exportDay(actor: Actor, day: string, after: number | undefined): Promise<{
    readonly entries: readonly TrailEntry[];
    readonly next: number | undefined;
  }> {
    await this.#append(actor, "audit.export", { day });
    const { entries, next } = await this.#store.exportDay(day, after, EXPORT_ENTRIES);
    return { entries, next: next ?? undefined };
  }

  /**
   * Anchors of finished days, oldest first. The entry that this appends finishes every earlier day.
   * @throws {SuiteError} kms_* when they are to be signed.
   */
  async anchors(actor: Actor, range: DayRange, limit: number, signed: boolean): Promise<{
    readonly anchors: readonly StoredAnchor[];
    readonly next: string | undefined;
  }> {
    await this.#append(actor, "audit.anchors", { ...range });
    const page = await this.#store.anchors(range, limit, false);
    const anchors: StoredAnchor[] = [];
    for (const anchor of page.anchors) {
      // A pruned day keeps the signature that it was pruned under.
      if (!signed || "signature" in anchor) anchors.push(anchor);
      else anchors.push({ ...await this.#signatures.sign(anchor), pruned: anchor.pruned });
    }
    return { anchors, next: page.next ?? undefined };
  }

  /**
   * Recomputes the range and compares it with the anchors given.
   * @throws {SuiteError} validation_failed when a given anchor has a signature that does not hold.
   */
  async verify(actor: Actor, request: VerifyRequest): Promise<VerifyResult> {
    const { after, anchors = [], ...range } = request;
    await this.#requireSignatures(anchors);
    const walk = await this.#verification.walk(range, after, this.#now() + this.#budgetMs);
    const pruned = after === undefined
      ? await this.#verification.prunedDays(range)
      : { days: 0, faults: [] };
    const other = [...pruned.faults, ...await this.#verification.against(anchors)];
    const faults = [...other, ...walk.faults].sort(byPlace);
    const faultCount = other.length + walk.faultCount;
    const days = pruned.days + walk.days.length;
    const last = walk.days.at(-1);
    await this.#append(
      actor,
      "audit.verify",
      { ...range, days, entries: walk.entries, faults: faultCount, anchors: anchors.length },
      faultCount === 0 ? {} : { outcome: "failure", error_code: "audit_chain_broken" },
    );
    return {
      valid: faultCount === 0,
      days,
      entries: walk.entries,
      faults: faults.slice(0, MAX_FAULTS),
      faultCount,
      anchor: last === undefined ? null : { ...last, finished: false },
      next: walk.next,
    };
  }

  /**
   * Removes the days before a date and keeps their signed anchors. What does not verify is evidence and
   * stays: then nothing is removed.
   *
   * @throws {SuiteError} validation_failed within the retention, audit_chain_broken, kms_*.
   */
  async prune(actor: Actor, before: string): Promise<PruneResult> {
    const started = this.#now();
    this.#requireRetention(before, started);
    const walk = await this.#verification.walk(
      { to: addDays(before, -1) },
      undefined,
      started + this.#budgetMs / 2,
    );
    await this.#requireProof(actor, before, walk);
    // An entry of today, so that even the last day there is has one that follows it.
    await this.#append(actor, "audit.prune", { before });

    // A day that was seen in part only is left for the next request.
    const seen = walk.next === undefined ? walk.days : walk.days.slice(0, -1);
    let [days, entries] = [0, 0];
    let anchor: SignedAnchor | null = null;
    let complete = walk.next === undefined;
    for (const day of seen) {
      if (this.#now() >= started + this.#budgetMs) {
        complete = false;
        break;
      }
      const signed = await this.#signatures.sign({ ...day, finished: true });
      if (!await this.#store.prune(actor, signed)) continue;
      days++;
      entries += day.entries;
      anchor = signed;
    }
    return { days, entries, complete, anchor };
  }

  async alerts(actor: Actor, thresholds: Thresholds): Promise<AlertReport> {
    await this.#append(actor, "audit.alerts", { hours: thresholds.hours });
    return await this.#store.alerts(thresholds);
  }

  async #requireSignatures(anchors: readonly (Anchor | SignedAnchor)[]): Promise<void> {
    for (const [index, anchor] of anchors.entries()) {
      if (!("signature" in anchor) || await this.#signatures.holds(anchor)) continue;
      throw validationFailed([{
        pointer: `/anchors/${index}/signature`,
        code: "invalid_signature",
        detail: "must be the signature that this anchor was exported with",
      }]);
    }
  }

  #requireRetention(before: string, now: number): void {
    const latest = addDays(new Date(now).toISOString().slice(0, 10), -this.#retentionDays);
    if (before <= latest) return;
    throw validationFailed([{
      pointer: "/before",
      code: "retention_too_short",
      detail: `must be ${latest} or earlier: entries are kept for ${this.#retentionDays} days`,
    }]);
  }

  /** The days to remove, the anchors before them, and that what is kept follows them. */
  async #requireProof(actor: Actor, before: string, walk: Walk): Promise<void> {
    const pruned = await this.#verification.prunedDays({});
    const kept = await this.#store.verifyPage({ from: before }, undefined, 1);
    if (walk.faultCount + pruned.faults.length + kept.fault_count === 0) return;
    await this.#append(actor, "audit.prune", { before }, {
      outcome: "failure",
      error_code: "audit_chain_broken",
    });
    throw new SuiteError("audit_chain_broken");
  }

  /** `details` become the purpose, in words that the trail accepts. */
  async #append(
    actor: Actor,
    action: string,
    details: Readonly<Record<string, string | number | undefined>>,
    more: Partial<AuditEntry> = {},
  ): Promise<void> {
    const words = Object.entries(details)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}:${containsCardNumber(`${value}`) ? "..." : value}`);
    const purpose = words.join(" ").slice(0, 200);
    await this.#audit.append(actor, [{
      action,
      outcome: "success",
      ...purpose === "" ? {} : { purpose },
      ...more,
    }]);
  }
}

function byPlace(a: Fault, b: Fault): number {
  return a.day < b.day ? -1 : a.day > b.day ? 1 : a.seq - b.seq;
}

function addDays(day: string, count: number): string {
  return new Date(Date.parse(day) + count * DAY_MS).toISOString().slice(0, 10);
}
