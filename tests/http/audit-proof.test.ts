/** The audit trail proves itself, against a superuser too, and stays provable when it is pruned. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { sharedStack } from "../support/stack.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import {
  type Anchor,
  copied,
  daysAgo,
  history,
  rewriteChain,
  tamper,
  undone,
  type Verified,
} from "./audit-trail.ts";
import { assertProblem, newUser, SERVER, sql, test } from "./suite.ts";

const [A, B, C] = [daysAgo(502), daysAgo(500), daysAgo(400)];
const RECENT = daysAgo(100);
const place = (day: string, seq: number) => `(chain_day, seq) = ('${day}', ${seq})`;

function verify(body: Record<string, unknown> = {}): Promise<Verified> {
  return adminData<Verified>("POST", "/audit/verify", body);
}

async function anchorsOf(query = ""): Promise<readonly Anchor[]> {
  const path = `/audit/anchors${query}`;
  return (await adminData<{ anchors: Anchor[] }>("GET", path)).anchors;
}

async function lastEntry(action: string) {
  const [entry] = await sql<Record<string, string | null>>(
    `select actor_type, actor_id, outcome, error_code, purpose from kms.audit_log
     where action = $1 order by chain_day desc, seq desc limit 1`,
    [action],
  );
  return entry;
}

const TAMPERING: readonly (readonly [string, string | string[], Verified["faults"]])[] = [
  ["changed", `update kms.audit_log set actor_id = 'nobody' where ${place(A, 2)}`, [
    { day: A, seq: 2, kind: "changed" },
  ]],
  ["removed", `delete from kms.audit_log where ${place(A, 2)} or ${place(A, 3)}`, [
    { day: A, seq: 2, kind: "missing", through: 3 },
  ]],
  ["removed from the end of its day", `delete from kms.audit_log where ${place(A, 4)}`, [
    { day: B, seq: 1, kind: "broken_link" },
  ]],
  ["removed from the beginning of its day", `delete from kms.audit_log where ${place(B, 1)}`, [
    { day: B, seq: 1, kind: "missing", through: 1 },
  ]],
  ["removed with its day", `delete from kms.audit_log where chain_day = '${B}'`, [
    { day: C, seq: 1, kind: "broken_link" },
  ]],
  [
    "removed, the rest renumbered",
    [
      `delete from kms.audit_log where ${place(A, 3)}`,
      `update kms.audit_log set seq = 3 where ${place(A, 4)}`,
    ],
    [
      { day: A, seq: 3, kind: "moved" },
    ],
  ],
  [
    "reordered",
    [
      `update kms.audit_log set seq = 9 where ${place(A, 2)}`,
      `update kms.audit_log set seq = 2 where ${place(A, 3)}`,
      `update kms.audit_log set seq = 3 where ${place(A, 9)}`,
    ],
    [
      { day: A, seq: 2, kind: "moved" },
      { day: A, seq: 3, kind: "moved" },
      { day: A, seq: 4, kind: "broken_link" },
    ],
  ],
  [
    "inserted as a copy of another",
    copied(place(A, 1), "seq = 5"),
    [
      { day: A, seq: 5, kind: "moved" },
      { day: B, seq: 1, kind: "broken_link" },
    ],
  ],
  [
    "changed and hashed anew",
    [
      `update kms.audit_log set action = 'test.forged' where ${place(A, 2)}`,
      `update kms.audit_log a set hash = kms.audit_hash(a) where ${place(A, 2)}`,
    ],
    [{ day: A, seq: 3, kind: "broken_link" }],
  ],
];

test("an untouched trail is valid, whole or in part, and verifying it is an entry of it", async () => {
  await history([A, B, C, RECENT], 4);
  const whole = await verify();
  assertEquals([whole.valid, whole.days, whole.entries, whole.faults], [true, 4, 16, []]);
  assertEquals(whole.anchor, { ...whole.anchor as Anchor, day: RECENT, last_seq: 4, entries: 4 });
  assertEquals([whole.anchor?.finished, whole.next_cursor], [false, null]);
  assertEquals(await lastEntry("audit.verify"), {
    actor_type: "secret_key",
    actor_id: "default",
    outcome: "success",
    error_code: null,
    purpose: "days:4 entries:16 faults:0 anchors:0",
  });
  const part = await verify({ from: B, to: C });
  assertEquals([part.faults, part.days, part.entries], [[], 2, 8]);
  assertEquals((await verify({ from: daysAgo(499), to: daysAgo(498) })).days, 0);
});

for (const [how, statements, faults] of TAMPERING) {
  test(`an entry that was ${how} is found`, async () => {
    await undone(async () => {
      await tamper(statements);
      const found = await verify();
      assertEquals([found.valid, found.faults], [false, faults]);
      assertEquals(found.fault_count, faults.length);
      const entry = await lastEntry("audit.verify");
      assertEquals([entry?.outcome, entry?.error_code], ["failure", "audit_chain_broken"]);
    });
  });
}

test("a trail rewritten as a whole, or cut at its end, is found by an anchor", async () => {
  const anchors = await anchorsOf();
  assertEquals(
    anchors.map(({ day, entries, finished, pruned }) => [day, entries, finished, pruned]),
    [A, B, C, RECENT].map((day) => [day, 4, true, false]),
  );
  for (const { signature = "", signed_at = "" } of anchors) {
    assertMatch(signature, /^[0-9a-f]{64}$/);
    assert(!Number.isNaN(Date.parse(signed_at)));
  }
  const unsigned = await anchorsOf("?signed=false");
  assert(unsigned.every((anchor) => !("signature" in anchor)));
  assertEquals((await verify({ anchors })).valid, true);

  const { anchor: end } = await verify();
  await undone(async () => {
    await tamper(`update kms.audit_log set actor_id = 'nobody' where ${place(B, 2)}`);
    await rewriteChain();
    assertEquals((await verify()).valid, true);
    const found = await verify({ anchors });
    assertEquals(
      found.faults,
      [B, C, RECENT].map((day) => ({ day, seq: 4, kind: "rewritten" })),
    );
  });
  await undone(async () => {
    await tamper(`delete from kms.audit_log where ${place(RECENT, 4)} or chain_day > '${RECENT}'`);
    assertEquals((await verify()).valid, true);
    const { faults } = await verify({ anchors: [...unsigned, end] });
    assertEquals(
      faults,
      [
        { day: RECENT, seq: 4, kind: "missing", through: 4 },
        { ...faults[1], day: end?.day, kind: faults[1]?.kind },
      ] as typeof faults,
    );
    assert(["missing", "rewritten"].includes(faults[1]?.kind ?? ""));
  });
});

test("an anchor whose signature does not hold is refused", async () => {
  const [anchor] = await anchorsOf();
  assert(anchor !== undefined);
  for (
    const forged of [
      { ...anchor, last_hash: "0".repeat(64) },
      { ...anchor, signature: "0".repeat(64) },
      { ...anchor, signed_at: "2020-01-01T00:00:00.000Z" },
    ]
  ) {
    assertProblem(
      await admin(SERVER, "POST", "/audit/verify", { anchors: [forged] }),
      422,
      "validation_failed",
      [{ pointer: "/anchors/0/signature", code: "invalid_signature" }],
    );
  }
  const { signature: _, ...half } = anchor;
  assertProblem(
    await admin(SERVER, "POST", "/audit/verify", { anchors: [half] }),
    422,
    "validation_failed",
    [{ pointer: "/anchors/0/signature", code: "missing_field" }],
  );
});

test("anchors come in pages, and a cursor of another filter is refused", async () => {
  interface Page {
    readonly anchors: readonly Anchor[];
    readonly next_cursor: string | null;
  }
  const first = await adminData<Page>("GET", "/audit/anchors?limit=2");
  const second = await adminData<Page>(
    "GET",
    `/audit/anchors?limit=100&cursor=${first.next_cursor}`,
  );
  assertEquals(
    [...first.anchors, ...second.anchors].map(({ day }) => day),
    [A, B, C, RECENT],
  );
  assertEquals(second.next_cursor, null);
  assertProblem(
    await admin(SERVER, "GET", `/audit/anchors?to=${C}&cursor=${first.next_cursor}`),
    422,
    "validation_failed",
    [{ parameter: "cursor", code: "cursor_mismatch" }],
  );
});

test("pruning is refused without its confirmation, within the retention, and of a broken trail", async () => {
  const before = daysAgo(399);
  const refused: readonly (readonly [unknown, { pointer: string; code: string }])[] = [
    [{ before }, { pointer: "/confirm", code: "missing_field" }],
    [{ before, confirm: daysAgo(398) }, { pointer: "/confirm", code: "not_confirmed" }],
    [{ before: "2025-02-30", confirm: "2025-02-30" }, { pointer: "/before", code: "invalid_day" }],
    [{ before: daysAgo(364), confirm: daysAgo(364) }, {
      pointer: "/before",
      code: "retention_too_short",
    }],
  ];
  for (const [body, violation] of refused) {
    const answer = await admin(SERVER, "POST", "/audit/prune", body);
    assertProblem(answer, 422, "validation_failed", [violation]);
  }
  await undone(async () => {
    await tamper(`delete from kms.audit_log where ${place(C, 4)}`);
    const answer = await admin(SERVER, "POST", "/audit/prune", { before, confirm: before });
    assertProblem(answer, 422, "audit_chain_broken");
    assertEquals((await lastEntry("audit.prune"))?.error_code, "audit_chain_broken");
  });
  assertEquals((await verify()).valid, true);
  assertEquals(await sql("select from kms.audit_anchors"), []);
});

test("whole days are pruned, two at once prune them once, and the trail still proves itself", async () => {
  const exported = await anchorsOf();
  const before = daysAgo(499);
  interface Pruned {
    readonly before: string;
    readonly days: number;
    readonly entries: number;
    readonly complete: boolean;
    readonly anchor: Anchor | null;
  }
  const prune = () => adminData<Pruned>("POST", "/audit/prune", { before, confirm: before });
  const both = await Promise.all([prune(), prune()]);
  assertEquals(both.reduce((sum, { days }) => sum + days, 0), 2);
  assertEquals(both.reduce((sum, { entries }) => sum + entries, 0), 8);
  assert(both.every(({ complete }) => complete));

  assertEquals(
    await sql("select distinct chain_day::text as day from kms.audit_log order by 1 limit 1"),
    [{ day: C }],
  );
  const pruned = await sql<{ purpose: string }>(
    `select purpose from kms.audit_log where action = 'audit.prune' and purpose like 'day:%'
     and outcome = 'success' order by chain_day, seq`,
  );
  assertEquals(pruned.map(({ purpose }) => purpose), [
    `day:${A} entries:4`,
    `day:${B} entries:4`,
  ]);
  const whole = await verify({ anchors: exported });
  assertEquals([whole.valid, whole.faults], [true, []]);
  const anchors = await anchorsOf();
  assertEquals(anchors.map((anchor) => anchor.pruned), [true, true, false, false]);
  assertEquals(anchors.map((anchor) => anchor.last_hash), exported.map((one) => one.last_hash));
});

test("what is done to a pruned day is found", async () => {
  await undone(async () => {
    await tamper(copied(place(C, 1), `chain_day = '${A}'`));
    assertEquals((await verify()).faults, [{ day: A, seq: 1, kind: "inserted" }]);
  });
  await undone(async () => {
    await tamper(`delete from kms.audit_log where chain_day = '${C}'`);
    assertEquals((await verify()).faults, [{ day: RECENT, seq: 1, kind: "broken_link" }]);
  });
  await sql("create table public.anchors_before as select * from kms.audit_anchors");
  const restore = async () => {
    await tamper("delete from kms.audit_anchors", "audit_anchors");
    await tamper(
      "insert into kms.audit_anchors select * from public.anchors_before",
      "audit_anchors",
    );
  };
  for (
    const [statement, faults] of [
      [
        `update kms.audit_anchors set entries = 3, last_seq = 3 where chain_day = '${A}'`,
        [{ day: A, seq: 3, kind: "forged_anchor" }],
      ],
      [
        `delete from kms.audit_anchors where chain_day = '${A}'`,
        [{ day: B, seq: 1, kind: "broken_link" }],
      ],
      [
        `delete from kms.audit_anchors where chain_day = '${B}'`,
        [{ day: C, seq: 1, kind: "broken_link" }],
      ],
    ] as const
  ) {
    await tamper(statement, "audit_anchors");
    assertEquals((await verify()).faults as unknown, faults);
    await restore();
  }
  await sql("drop table public.anchors_before");
  assertEquals((await verify()).valid, true);
});

test("bad requests are 422 and change nothing, and nobody but administrators may ask", async () => {
  for (
    const [body, violation] of [
      [{ from: "yesterday" }, { pointer: "/from", code: "invalid_day" }],
      [{ from: C, to: B }, { pointer: "/to", code: "out_of_range" }],
      [{ days: 1 }, { pointer: "/days", code: "unknown_field" }],
      [{ anchors: {} }, { pointer: "/anchors", code: "wrong_type" }],
      [{ cursor: "x" }, { parameter: "cursor", code: "invalid_cursor" }],
    ] as const
  ) {
    const answer = await admin(SERVER, "POST", "/audit/verify", body);
    assertProblem(answer, 422, "validation_failed", [violation]);
  }
  const user = await newUser();
  for (
    const [method, path] of [["POST", "/verify"], ["POST", "/prune"], ["GET", "/anchors"]] as const
  ) {
    const answer = await admin(user, method, `/audit${path}`, method === "POST" ? {} : undefined);
    assertProblem(answer, 403, "admin_required");
  }
  const { valid } = await adminData<Verified>("POST", "/audit/verify", {}, await newAdmin());
  assertEquals(valid, true);
  assertEquals((await lastEntry("audit.verify"))?.actor_type, "admin");
});

test("KMS_AUDIT_RETENTION_DAYS shortens the retention", async () => {
  const stack = await sharedStack();
  await stack.restartFunction(ADMIN, { KMS_AUDIT_RETENTION_DAYS: "90" });
  try {
    const before = daysAgo(95);
    const pruned = await adminData<{ days: number }>("POST", "/audit/prune", {
      before,
      confirm: before,
    });
    assertEquals(pruned.days, 2);
    assertEquals((await verify()).valid, true);
  } finally {
    await stack.restartFunction(ADMIN, {});
  }
});
