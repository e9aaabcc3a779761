/**
 * Proves the audit trail, or says where it was tampered with: every entry is recomputed and compared with
 * the one before it, and the whole with anchors that were exported before. A page is one short statement
 * of the database, so that no day is too long for its deadlines.
 */
import { SuiteError } from "../../errors.ts";
import type { AnchorSignatures } from "./signatures.ts";
import type {
  Anchor,
  AuditTrailStore,
  DayPart,
  DayRange,
  Fault,
  SignedAnchor,
  StoredAnchor,
} from "./trail.ts";

/** Entries of one statement: some tenths of a second, and seconds on a busy database. */
const PAGE_ENTRIES = 2_500;
const PAGE_ANCHORS = 100;
/** Faults that are told one by one; a rewritten year has millions. */
const MAX_FAULTS = 100;
const FIRST_HASH = "0".repeat(64);

export interface Walk {
  /** Every day that was seen, oldest first, as it stands. */
  readonly days: readonly DayPart[];
  readonly entries: number;
  readonly faults: readonly Fault[];
  readonly faultCount: number;
  /** Where to go on when the time was over; undefined when the range is done. */
  readonly next: string | undefined;
}

export class Verification {
  readonly #store: AuditTrailStore;
  readonly #signatures: AnchorSignatures;
  readonly #now: () => number;

  constructor(options: {
    readonly store: AuditTrailStore;
    readonly signatures: AnchorSignatures;
    readonly now?: () => number;
  }) {
    this.#store = options.store;
    this.#signatures = options.signatures;
    this.#now = options.now ?? Date.now;
  }

  /** The entries of the range from `after` on, until `deadline` (milliseconds since the epoch). */
  async walk(range: DayRange, after: string | undefined, deadline: number): Promise<Walk> {
    const days = new Map<string, DayPart>();
    const faults: Fault[] = [];
    let [entries, faultCount] = [0, 0];
    let next = after;
    do {
      const page = await this.#store.verifyPage(range, next, PAGE_ENTRIES);
      for (const part of page.days) days.set(part.day, joined(days.get(part.day), part));
      faults.push(...page.faults.slice(0, MAX_FAULTS - faults.length));
      entries += page.entries;
      faultCount += page.fault_count;
      next = page.next ?? undefined;
    } while (next !== undefined && this.#now() < deadline);
    return { days: [...days.values()], entries, faults, faultCount, next };
  }

  /** The anchors of pruned days: each signed, and each following the one before it. */
  async prunedDays(range: DayRange): Promise<{ readonly days: number; readonly faults: Fault[] }> {
    const faults: Fault[] = [];
    let expected = range.from === undefined ? FIRST_HASH : undefined;
    let days = 0;
    let from = range.from;
    do {
      const page = await this.#store.anchors(
        { ...range, ...from === undefined ? {} : { from } },
        PAGE_ANCHORS,
        true,
      );
      for (const anchor of page.anchors) {
        const { day, last_seq: seq } = anchor;
        if (!await this.#isSigned(anchor)) faults.push({ day, seq, kind: "forged_anchor" });
        if (expected !== undefined && anchor.prev_hash !== expected) {
          faults.push({ day, seq: 1, kind: "broken_link" });
        }
        expected = anchor.last_hash;
        days++;
      }
      from = page.next ?? undefined;
    } while (from !== undefined);
    return { days, faults };
  }

  /** Compares the trail with anchors of earlier days: what was cut off, added, or rewritten as a whole. */
  async against(anchors: readonly Anchor[]): Promise<readonly Fault[]> {
    if (anchors.length === 0) return [];
    const points = await this.#store.points(
      anchors.map(({ day, last_seq }) => ({ day, seq: last_seq })),
    );
    return anchors.flatMap((anchor, index): Fault[] => {
      const { day, last_seq: seq, finished } = anchor;
      const point = points[index];
      if (point === undefined) throw new SuiteError("internal_error");
      const last = point.last_seq ?? 0;
      if (last < seq) return [{ day, seq: last + 1, through: seq, kind: "missing" }];
      // Of a pruned day only its end is known: a part of it can no longer be compared.
      if (point.pruned && !finished && last > seq) return [];
      if (point.hash !== anchor.last_hash) return [{ day, seq, kind: "rewritten" }];
      return finished && last > seq ? [{ day, seq: seq + 1, kind: "inserted" }] : [];
    });
  }

  #isSigned(anchor: StoredAnchor): Promise<boolean> {
    if (!("signature" in anchor)) return Promise.resolve(false);
    const { pruned: _, ...signed } = anchor as SignedAnchor & { readonly pruned: boolean };
    return this.#signatures.holds(signed);
  }
}

function joined(before: DayPart | undefined, part: DayPart): DayPart {
  if (before === undefined) return part;
  return { ...part, entries: before.entries + part.entries, prev_hash: before.prev_hash };
}
