import { assert, assertEquals } from "@std/assert";
import { AuditTrail } from "../../functions-shared/admin/audit/audit-trail.ts";
import { AnchorSignatures } from "../../functions-shared/admin/audit/signatures.ts";
import type {
  Anchor,
  AuditTrailStore,
  DayPart,
  Fault,
  SignedAnchor,
  StoredAnchor,
} from "../../functions-shared/admin/audit/trail.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import type { Actor, AuditEntry } from "../../functions-shared/telemetry/audit.ts";
import { codeOf, suiteError } from "./support/thrown.ts";

const ACTOR: Actor = {
  actor_type: "secret_key",
  actor_id: "default",
  request_id: "0b9bd1a5-3333-4333-8333-333333333333",
  function: "kms-admin",
};
const NOW = Date.parse("2026-11-25T12:00:00Z");
const hash = (letter: string) => letter.repeat(64);

function part(day: string, first: number, last: number, from = "a", to = "b"): DayPart {
  const entries = last - first + 1;
  return { day, entries, prev_hash: hash(from), last_seq: last, last_hash: hash(to) };
}

/** A trail of pages that were laid out by hand; every call is noted. */
class MemoryTrail implements AuditTrailStore {
  readonly calls: string[] = [];
  pages: { days: DayPart[]; faults?: Fault[] }[] = [];
  pruned: StoredAnchor[] = [];
  standing: { last_seq: number | null; hash: string | null; pruned: boolean }[] = [];
  kept = 0;
  alreadyPruned = new Set<string>();

  entries() {
    this.calls.push("entries");
    return Promise.resolve({ entries: [], next: null });
  }
  exportDay() {
    this.calls.push("exportDay");
    return Promise.resolve({ entries: [], next: null });
  }
  anchors(_range: unknown, _limit: number, pruned: boolean) {
    this.calls.push("anchors");
    return Promise.resolve({
      anchors: pruned
        ? this.pruned
        : [{ ...part("2026-11-01", 1, 2), finished: true, pruned: false }],
      next: null,
    });
  }
  points() {
    return Promise.resolve(this.standing);
  }
  verifyPage(range: { from?: string }, after: string | undefined) {
    if (range.from === "2025-11-01") {
      return Promise.resolve({
        entries: 1,
        days: [],
        faults: [],
        fault_count: this.kept,
        next: null,
      });
    }
    const index = Number(after ?? 0);
    const { days, faults = [] } = this.pages[index] ?? { days: [] };
    return Promise.resolve({
      entries: days.reduce((sum, day) => sum + day.entries, 0),
      days,
      faults,
      fault_count: faults.length,
      next: index + 1 < this.pages.length ? String(index + 1) : null,
    });
  }
  prune(_actor: Actor, anchor: SignedAnchor) {
    this.calls.push(`prune ${anchor.day} ${anchor.signature}`);
    return Promise.resolve(!this.alreadyPruned.has(anchor.day));
  }
  alerts() {
    this.calls.push("alerts");
    return Promise.resolve({ since: "", alerts: [], changes: [] });
  }
}

/** `pageMs`: how far the clock goes each time that it is read. */
function rig({ pageMs = 0, failing = false } = {}) {
  const store = new MemoryTrail();
  const audited: AuditEntry[] = [];
  let now = NOW;
  const signatures = new AnchorSignatures({
    sign: (parts) => Promise.resolve(`signed ${parts.join(" ")}`),
    appName: "app",
    environment: "test",
    now: () => NOW,
  });
  const trail = new AuditTrail({
    audit: {
      append(_actor, entries) {
        if (failing) return Promise.reject(new SuiteError("database_unavailable"));
        store.calls.push("append");
        audited.push(...entries);
        return Promise.resolve();
      },
    },
    store,
    signatures,
    retentionDays: 365,
    now: () => now += pageMs,
    budgetMs: 1000,
  });
  return { store, audited, trail, signatures };
}

Deno.test("nothing is read before its own entry is committed, nor when it cannot be", async () => {
  const readings = (trail: AuditTrail) => [
    () => trail.read(ACTOR, {}, 20, undefined),
    () => trail.exportDay(ACTOR, "2026-11-01", undefined),
    () => trail.anchors(ACTOR, {}, 20, false),
    () =>
      trail.alerts(ACTOR, {
        hours: 1,
        revealsPerHour: 1,
        refusals: 1,
        cryptoperiodDays: { payment: 1, pii: 1, general: 1 },
      }),
  ];
  const { store, trail } = rig();
  for (const reading of readings(trail)) await reading();
  assertEquals(store.calls, [
    ...["append", "entries", "append", "exportDay"],
    ...["append", "anchors", "append", "alerts"],
  ]);
  const failing = rig({ failing: true });
  for (const reading of readings(failing.trail)) {
    assertEquals(await codeOf(reading), "database_unavailable");
  }
  assertEquals(failing.store.calls, []);
  // Its outcome is known at its end only; without the entry there is no answer.
  assertEquals(await codeOf(() => failing.trail.verify(ACTOR, {})), "database_unavailable");
});

Deno.test("the entry of a reading says what was looked for, and never what may be a card number", async () => {
  const { audited, trail } = rig();
  const owner_id = "aaaaaaaa-0000-4000-8000-00000000000a";
  await trail.read(ACTOR, { action: "a.b", actor_id: "4242424242424242", owner_id }, 20, undefined);
  await trail.read(ACTOR, { actor_id: "x".repeat(128), action: "y".repeat(64) }, 20, undefined);
  assertEquals(audited[0], {
    action: "audit.read",
    outcome: "success",
    purpose: "action:a.b actor_id:...",
    owner_id,
  });
  assertEquals(audited[1]?.purpose?.length, 200);
});

Deno.test("days that are spread over pages are counted once, and faults come in their order", async () => {
  const { store, audited, trail } = rig();
  store.pages = [
    { days: [part("2026-11-01", 1, 3, "a", "b"), part("2026-11-02", 1, 2, "b", "c")] },
    {
      days: [part("2026-11-02", 3, 5, "c", "d")],
      faults: [{ day: "2026-11-02", seq: 4, kind: "changed" }],
    },
  ];
  const result = await trail.verify(ACTOR, {});
  assertEquals(result, {
    valid: false,
    days: 2,
    entries: 8,
    faults: [{ day: "2026-11-02", seq: 4, kind: "changed" }],
    faultCount: 1,
    anchor: { ...part("2026-11-02", 1, 5, "b", "d"), finished: false },
    next: undefined,
  });
  assertEquals(audited, [{
    action: "audit.verify",
    outcome: "failure",
    error_code: "audit_chain_broken",
    purpose: "days:2 entries:8 faults:1 anchors:0",
  }]);
});

Deno.test("when the time is over, verification says where to go on", async () => {
  const { store, trail } = rig({ pageMs: 400 });
  store.pages = Array.from({ length: 9 }, (_, n) => ({ days: [part("2026-11-01", n + 1, n + 1)] }));
  const first = await trail.verify(ACTOR, {});
  assert(first.next !== undefined && first.entries < 9);
  let [next, entries] = [first.next as string | undefined, first.entries];
  while (next !== undefined) {
    const more = await trail.verify(ACTOR, { after: next });
    [next, entries] = [more.next, entries + more.entries];
  }
  assertEquals(entries, 9);
});

const GIVEN: Anchor = { ...part("2026-11-01", 1, 5, "a", "e"), finished: true };
const COMPARISONS: readonly (readonly [
  string,
  Anchor,
  MemoryTrail["standing"][number],
  readonly Fault[],
])[] = [
  ["the same", GIVEN, { last_seq: 5, hash: hash("e"), pruned: false }, []],
  ["the same, pruned", GIVEN, { last_seq: 5, hash: hash("e"), pruned: true }, []],
  ["cut at its end", GIVEN, { last_seq: 3, hash: null, pruned: false }, [
    { day: GIVEN.day, seq: 4, through: 5, kind: "missing" },
  ]],
  ["gone", GIVEN, { last_seq: null, hash: null, pruned: false }, [
    { day: GIVEN.day, seq: 1, through: 5, kind: "missing" },
  ]],
  ["rewritten", GIVEN, { last_seq: 5, hash: hash("f"), pruned: false }, [
    { day: GIVEN.day, seq: 5, kind: "rewritten" },
  ]],
  ["longer than it was", GIVEN, { last_seq: 7, hash: hash("e"), pruned: false }, [
    { day: GIVEN.day, seq: 6, kind: "inserted" },
  ]],
  ["longer, but was not finished", { ...GIVEN, finished: false }, {
    last_seq: 7,
    hash: hash("e"),
    pruned: false,
  }, []],
  ["pruned when it was longer", { ...GIVEN, finished: false }, {
    last_seq: 7,
    hash: null,
    pruned: true,
  }, []],
  ["another day, pruned", GIVEN, { last_seq: 7, hash: null, pruned: true }, [
    { day: GIVEN.day, seq: 5, kind: "rewritten" },
  ]],
];
for (const [how, anchor, standing, faults] of COMPARISONS) {
  Deno.test(`a day against its anchor: ${how}`, async () => {
    const { store, trail } = rig();
    store.standing = [standing];
    assertEquals((await trail.verify(ACTOR, { anchors: [anchor] })).faults, faults);
  });
}

Deno.test("a signature covers every part of its anchor, its time and its project", async () => {
  const { signatures } = rig();
  const signed = await signatures.sign(GIVEN);
  assertEquals(await signatures.holds(signed), true);
  const changes: Partial<SignedAnchor>[] = [
    { day: "2026-11-02" },
    { entries: 4 },
    { prev_hash: hash("b") },
    { last_seq: 4 },
    { last_hash: hash("b") },
    { finished: false },
    { signed_at: "2026-11-25T12:00:00.001Z" },
    { signature: "signed" },
  ];
  for (const change of changes) {
    assertEquals(await signatures.holds({ ...signed, ...change }), false, JSON.stringify(change));
  }
  const elsewhere = new AnchorSignatures({
    sign: (parts) => Promise.resolve(`signed ${parts.join(" ")}`),
    appName: "app",
    environment: "production",
  });
  assertEquals(await elsewhere.holds(signed), false);
});

Deno.test("anchors of pruned days must be signed and follow each other", async () => {
  const { store, signatures, trail } = rig();
  const sign = async (day: string, from: string, to: string) => ({
    ...await signatures.sign({ ...part(day, 1, 1, from, to), finished: true }),
    pruned: true,
  });
  const [first, second] = [
    await sign("2025-01-01", "0", "b"),
    await sign("2025-01-02", "b", "c"),
  ];
  store.pruned = [first, second];
  assertEquals((await trail.verify(ACTOR, {})).faults, []);
  store.pruned = [second];
  assertEquals((await trail.verify(ACTOR, {})).faults, [
    { day: "2025-01-02", seq: 1, kind: "broken_link" },
  ]);
  assertEquals((await trail.verify(ACTOR, { from: "2025-01-02" })).faults, []);
  store.pruned = [first, { ...second, last_hash: hash("d") }];
  assertEquals((await trail.verify(ACTOR, {})).faults, [
    { day: "2025-01-02", seq: 1, kind: "forged_anchor" },
  ]);
});

Deno.test("pruning removes whole verified days, oldest first, each behind its signed anchor", async () => {
  const { store, trail } = rig();
  store.pages = [
    { days: [part("2025-10-01", 1, 3), part("2025-10-02", 1, 2)] },
    { days: [part("2025-10-02", 3, 4), part("2025-10-03", 1, 1)] },
  ];
  store.alreadyPruned.add("2025-10-01");
  const result = await trail.prune(ACTOR, "2025-11-01");
  const pruned = store.calls.filter((call) => call.startsWith("prune"));
  assertEquals(pruned.map((call) => call.split(" ")[1]), [
    "2025-10-01",
    "2025-10-02",
    "2025-10-03",
  ]);
  assert(pruned.every((call) => call.includes("signed kms-audit-anchor-v1 app test")));
  assertEquals([result.days, result.entries, result.complete], [2, 5, true]);
  assertEquals(result.anchor?.day, "2025-10-03");
});

Deno.test("when the time is over, days seen in part stay, and the answer says so", async () => {
  const { store, trail } = rig({ pageMs: 200 });
  store.pages = Array.from({ length: 9 }, (_, n) => ({
    days: [part(`2025-10-0${n + 1}`, 1, 1)],
  }));
  const { days, complete } = await trail.prune(ACTOR, "2025-11-01");
  assertEquals(complete, false);
  assert(days >= 1 && days < 9, `${days}`);
});

Deno.test("nothing is pruned within the retention, nor of a trail that does not verify", async () => {
  const early = rig();
  const refused = await suiteError(() => early.trail.prune(ACTOR, "2025-11-26"));
  assertEquals(refused.violations.map(({ code }) => code), ["retention_too_short"]);
  assertEquals((await early.trail.prune(ACTOR, "2025-11-25")).days, 0);
  assertEquals(early.audited.map(({ action, purpose }) => [action, purpose]), [
    ["audit.prune", "before:2025-11-25"],
  ]);

  const fault: Fault = { day: "2025-10-01", seq: 1, kind: "changed" };
  for (
    const broken of [
      (store: MemoryTrail) => store.pages = [{ days: [part("2025-10-01", 1, 1)], faults: [fault] }],
      (store: MemoryTrail) => {
        store.pages = [{ days: [part("2025-10-01", 1, 1)] }];
        store.kept = 1;
      },
      (store: MemoryTrail) => {
        store.pages = [{ days: [part("2025-10-01", 1, 1)] }];
        store.pruned = [{ ...part("2025-09-01", 1, 1, "0"), finished: true, pruned: true }];
      },
    ]
  ) {
    const { store, audited, trail } = rig();
    broken(store);
    assertEquals(await codeOf(() => trail.prune(ACTOR, "2025-11-01")), "audit_chain_broken");
    assertEquals(store.calls.filter((call) => call.startsWith("prune")), []);
    assertEquals(audited.map((entry) => [entry.action, entry.error_code]), [
      ["audit.prune", "audit_chain_broken"],
    ]);
  }
});

Deno.test("a hundred faults are told, all are counted", async () => {
  const { store, trail } = rig();
  const faults = Array.from(
    { length: 60 },
    (_, n): Fault => ({ day: "2026-11-01", seq: n + 1, kind: "changed" }),
  );
  store.pages = [{ days: [], faults }, { days: [], faults }, { days: [], faults }];
  const result = await trail.verify(ACTOR, {});
  assertEquals([result.faults.length, result.faultCount], [100, 180]);
});
