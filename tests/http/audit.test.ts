/** What the audit trail says, to whom, and that it says everything of every action. */
import { createHmac } from "node:crypto";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { call, sharedStack } from "../support/stack.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import { daysAgo, type Entry } from "./audit-trail.ts";
import {
  AMEX,
  assertProblem,
  card,
  ENCRYPT,
  encrypt,
  MANAGE,
  manage,
  MASTERCARD,
  newUser,
  read,
  SERVER,
  sql,
  store,
  test,
  TIMESTAMP,
  VISA,
} from "./suite.ts";

interface Page {
  readonly entries: readonly Entry[];
  readonly next_cursor: string | null;
}
interface Alerts {
  readonly alerts: readonly {
    readonly name: string;
    readonly severity: string;
    readonly subject: string;
    readonly numbers: Readonly<Record<string, number>>;
    readonly first_at: string;
  }[];
  readonly changes: readonly {
    readonly action: string;
    readonly actor_type: string;
    readonly actor_id: string;
    readonly count: number;
    readonly first_at: string;
    readonly last_at: string;
  }[];
  readonly [more: string]: unknown;
}

const FIELDS = [
  ...["day", "seq", "prev_hash", "hash", "occurred_at", "actor_type", "actor_id", "request_id"],
  ...["function", "address_hash", "action", "outcome", "error_code", "data_class", "table_name"],
  ...["record_id", "owner_id", "purpose", "kms_key_arn", "kms_region", "branch_key_id"],
  "branch_key_version",
];
const PAYMENT_KEY = /^arn:aws:kms:us-east-1:\d{12}:key\/mrk-[0-9a-f]+$/;

function entries(query = ""): Promise<Page> {
  return adminData<Page>("GET", `/audit${query}`);
}

function reveal(user: { userId: string }, id: string, headers: Record<string, string> = {}) {
  return sharedStack().then((stack) =>
    call(stack, MANAGE, `/${id}/reveal`, {
      secret: true,
      json: { user_id: user.userId, purpose: "charge" },
      headers,
    })
  ).then(read);
}

/** As functions-shared/http/network.ts has it. */
async function hashOf(address: string): Promise<string> {
  const { secretKey } = await sharedStack();
  const key = createHmac("sha256", secretKey).update("supabase-kms address hash 1").digest();
  return createHmac("sha256", key).update(address).digest("base64");
}

test("a branch key made on first use is audited by the request that needed it", async () => {
  const stack = await sharedStack();
  await stack.restartFunction(ENCRYPT, { KMS_PAYMENT_BRANCH_KEY_SCOPE: "owner" });
  try {
    const user = await newUser();
    const answers = [await encrypt(user, card(VISA)), await encrypt(user, card(AMEX))];
    assertEquals(answers.map(({ status }) => status), [201, 201]);
    const { entries: found } = await entries(`?action=branch_key.create&owner_id=${user.userId}`);
    const made = found.filter(({ action }) => action === "branch_key.create");
    assertEquals(
      made.map((entry) => [entry.actor_type, entry.actor_id, entry.request_id]),
      [["system", "branch_key_store", answers[0]?.headers.get("x-request-id")]],
    );
  } finally {
    await stack.restartFunction(ENCRYPT, {});
  }
});

test("each step of a card's life says who, what, which record, with which key, and from where", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const revealed = await reveal(user, id);
  await manage(user, "PATCH", `/${id}`, { cardholder_name: "Ada Lovelace" });
  await manage(user, "POST", `/${id}/default`);
  await manage(user, "POST", `/${id}/reveal`, { purpose: "mine" });
  await manage(user, "DELETE", `/${id}`);

  const { entries: found } = await entries(`?record_id=${id}`);
  assertEquals(found.map(({ action }) => action), [
    "audit.read",
    "payment_method.delete",
    "payment_method.reveal",
    "payment_method.set_default",
    "payment_method.update",
    "payment_method.reveal",
    "payment_method.create",
  ]);
  for (const entry of found) assertEquals(Object.keys(entry).sort(), FIELDS.toSorted());
  const address_hash = await hashOf("127.0.0.1");
  assertEquals(new Set(found.map((entry) => entry.address_hash)), new Set([address_hash]));
  assert(found.every((entry) => entry.record_id === id));

  const [, removed, refused, preferred, updated, opened, created] = found;
  const [active] = await sql<{ version: string; arn: string }>(
    `select record ->> 'version' as version, record ->> 'kms-arn' as arn from kms.branch_keys
     where branch_key_id = 'payment' and type = 'branch:ACTIVE'`,
  );
  assertMatch(active?.arn ?? "", PAYMENT_KEY);
  for (const entry of [created, opened, updated, removed]) {
    assertEquals(
      [entry?.kms_key_arn, entry?.kms_region, entry?.branch_key_id, entry?.branch_key_version],
      [active?.arn, "us-east-1", "payment", active?.version.replace("branch:version:", "")],
    );
  }
  assertEquals([preferred?.kms_key_arn, preferred?.branch_key_version], [null, null]);
  const { day, seq, prev_hash, hash, occurred_at, ...told } = opened as Entry;
  assertEquals(
    told,
    {
      actor_type: "secret_key",
      actor_id: "default",
      request_id: revealed.headers.get("x-request-id"),
      function: MANAGE,
      address_hash,
      action: "payment_method.reveal",
      outcome: "success",
      error_code: null,
      data_class: "payment",
      table_name: "payment_methods",
      record_id: id,
      owner_id: user.userId,
      purpose: "charge",
      kms_key_arn: active?.arn,
      kms_region: "us-east-1",
      branch_key_id: "payment",
      branch_key_version: active?.version.replace("branch:version:", ""),
    } as typeof told,
  );
  assertEquals(day, daysAgo(0));
  assert(Number(seq) > 0);
  assertMatch(`${prev_hash} ${hash}`, /^[0-9a-f]{64} [0-9a-f]{64}$/);
  assertMatch(`${occurred_at}`, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  assertEquals([refused?.outcome, refused?.error_code, refused?.data_class], [
    "failure",
    "reveal_not_allowed",
    "payment",
  ]);
  assertEquals([removed?.actor_type, removed?.actor_id], ["user", user.userId]);
});

test("the region is the one that was called, also when the key's ARN names another", async () => {
  const { aws, restartFunction } = await sharedStack();
  const restart = (env = {}) =>
    Promise.all([ENCRYPT, MANAGE].map((name) => restartFunction(name, env)));
  const user = await newUser();
  const dead = [{ region: "us-east-1", effect: { kind: "refuse" } }] as const;
  const lastOf = async (id: string) => {
    const entry = (await entries(`?record_id=${id}&limit=2`)).entries[1];
    return { action: entry?.action, region: entry?.kms_region, arn: `${entry?.kms_key_arn}` };
  };
  try {
    for (const keyring of ["hierarchical", "direct"]) {
      aws.faults.clear();
      await restart({ KMS_PAYMENT_KEYRING: keyring });
      const { id } = await store(user, keyring === "direct" ? AMEX : VISA);
      assertEquals((await lastOf(id)).region, "us-east-1");

      // Workers that hold no key, while the region is down.
      aws.faults.set([...dead]);
      await restart({ KMS_PAYMENT_KEYRING: keyring });
      assertEquals((await reveal(user, id)).status, 200);
      const failedOver = await lastOf(id);
      assertEquals(failedOver.action, "payment_method.reveal");
      assertMatch(failedOver.arn, PAYMENT_KEY);
      assert(["us-west-2", "eu-west-1"].includes(`${failedOver.region}`), failedOver.region + "");
      await manage(user, "PATCH", `/${id}`, { cardholder_name: "Ada" });
      const updated = await lastOf(id);
      assertEquals(updated.action, "payment_method.update");
      assert(["us-west-2", "eu-west-1"].includes(`${updated.region}`), updated.region + "");

      // The branch key in the cache came from there; a direct message is opened now.
      aws.faults.clear();
      await sql("delete from kms.region_health");
      assertEquals((await reveal(user, id)).status, 200);
      if (keyring === "hierarchical") assertEquals((await lastOf(id)).region, failedOver.region);
      await restart({ KMS_PAYMENT_KEYRING: keyring });
      await reveal(user, id);
      assertEquals((await lastOf(id)).region, "us-east-1");
    }
  } finally {
    aws.faults.clear();
    await sql("delete from kms.region_health");
    await restart();
  }
});

test("a reveal names the keys that opened the message, not those a column claims", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  await sql(
    `update kms.ciphertexts
     set kms_key_arn = 'arn:other', branch_key_id = null, branch_key_version = null
     where record_id = $1`,
    [id],
  );
  assertEquals((await reveal(user, id)).status, 200);
  const [, opened, created] = (await entries(`?record_id=${id}`)).entries;
  assertEquals(opened?.action, "payment_method.reveal");
  assertEquals(opened?.kms_key_arn, created?.kms_key_arn);
  assertEquals(opened?.branch_key_version, created?.branch_key_version);
});

test("the address is the one that the gateway saw, whatever the client says of itself", async () => {
  const user = await newUser();
  const { id } = await store(user, AMEX);
  const claims: Record<string, string>[] = [
    { "x-forwarded-for": "203.0.113.7" },
    { "x-forwarded-for": "203.0.113.7, 127.0.0.1", forwarded: "for=203.0.113.7" },
  ];
  for (const headers of claims) {
    assertEquals((await reveal(user, id, headers)).status, 200);
    const [, entry] = (await entries(`?record_id=${id}&limit=2`)).entries;
    assertEquals(entry?.address_hash, await hashOf("127.0.0.1"));
  }
});

test("an item that is refused in a batch says whose it was and of which class", async () => {
  const { userId } = await newUser();
  const answer = await encrypt(SERVER, {
    user_id: userId,
    items: [card("4242424242424241"), card(MASTERCARD)],
  });
  assertEquals(answer.body.results?.map(({ status }) => status), [422, 201]);
  const { entries: [refused] } = await entries(`?owner_id=${userId}&action=item.refuse`);
  assertEquals([refused?.error_code, refused?.data_class, refused?.owner_id], [
    "validation_failed",
    "payment",
    userId,
  ]);
});

test("entries come newest first, in pages of one filter each", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  for (let n = 0; n < 4; n++) await reveal(user, id);
  const query = `?owner_id=${user.userId}&action=payment_method.reveal&outcome=success`;
  const whole = await entries(`${query}&from=${daysAgo(1)}&to=${daysAgo(0)}`);
  assertEquals(whole.entries.length, 4);
  const places = whole.entries.map(({ seq }) => Number(seq));
  assertEquals(places, places.toSorted((a, b) => b - a));
  assertEquals(whole.next_cursor, null);

  const paged: Entry[] = [];
  let cursor = "";
  do {
    const page = await entries(`${query}&limit=2${cursor}`);
    paged.push(...page.entries);
    cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
  } while (cursor !== "");
  assertEquals(paged, whole.entries as Entry[]);
  assertEquals((await entries(`${query}&to=${daysAgo(1)}`)).entries, []);
  assertEquals(
    (await entries(`?actor_id=${user.userId}`)).entries.map(({ action }) => action),
    ["payment_method.create"],
  );

  const { next_cursor } = await entries(`${query}&limit=1`);
  for (const other of [query.replace("success", "failure"), "?limit=1", `?owner_id=${id}`]) {
    assertProblem(
      await admin(SERVER, "GET", `/audit${other}&cursor=${next_cursor}`),
      422,
      "validation_failed",
      [{ parameter: "cursor", code: "cursor_mismatch" }],
    );
  }
});

test("reading, exporting and asking for alerts are entries themselves", async () => {
  const user = await newUser();
  await entries(`?owner_id=${user.userId}&action=record.reveal&from=2026-01-01`);
  await adminData("GET", `/audit/export?day=${daysAgo(3)}`);
  await adminData("GET", "/audit/alerts?hours=2");
  const told = await sql<{ action: string; owner_id: string | null; purpose: string }>(
    `select action, owner_id::text as owner_id, purpose from kms.audit_log
     order by chain_day desc, seq desc limit 3`,
  );
  assertEquals(told, [
    { action: "audit.alerts", owner_id: null, purpose: "hours:2" },
    { action: "audit.export", owner_id: null, purpose: `day:${daysAgo(3)}` },
    {
      action: "audit.read",
      owner_id: user.userId,
      purpose: "action:record.reveal from:2026-01-01",
    },
  ]);
});

test("what is no filter is 422, and nobody but administrators may read", async () => {
  const bad: readonly (readonly [string, string, string])[] = [
    ["?action=Reveal", "action", "invalid_action"],
    ["?outcome=maybe", "outcome", "invalid_outcome"],
    [`?actor_id=${"x".repeat(129)}`, "actor_id", "invalid_actor_id"],
    ["?owner_id=me", "owner_id", "invalid_uuid"],
    ["?record_id=4242424242424242", "record_id", "invalid_uuid"],
    ["?from=2026-02-30", "from", "invalid_day"],
    ["?from=2026-02-02&to=2026-02-01", "to", "out_of_range"],
    ["?limit=101", "limit", "out_of_range"],
    ["?cursor=AAAA", "cursor", "invalid_cursor"],
    ["?cursor=%00", "cursor", "invalid_cursor"],
    ["/export", "day", "missing_parameter"],
    ["/export?day=today", "day", "invalid_day"],
    ["/alerts?hours=169", "hours", "out_of_range"],
    ["/alerts?reveals_per_hour=-1", "reveals_per_hour", "out_of_range"],
  ];
  for (const [query, parameter, code] of bad) {
    const answer = await admin(SERVER, "GET", `/audit${query}`);
    assertProblem(answer, 422, "validation_failed", [{ parameter, code }]);
    assert(!answer.text.includes("4242424242424242"));
  }
  const user = await newUser();
  for (const path of ["", `/export?day=${daysAgo(0)}`, "/alerts"]) {
    assertProblem(await admin(user, "GET", `/audit${path}`), 403, "admin_required");
  }
});

test("a day is exported in pages, in the chain's order, and hashes to what it says", async () => {
  const actor = JSON.stringify({
    actor_type: "system",
    actor_id: "test",
    request_id: crypto.randomUUID(),
    function: "test",
  });
  const thousand = JSON.stringify(
    Array.from({ length: 1000 }, () => ({ action: "test.append", outcome: "success" })),
  );
  await sql("select public.kms_audit_append($1, $2)", [actor, thousand]);
  const exported: Entry[] = [];
  let cursor = "";
  do {
    const page = await adminData<Page & { day: string }>(
      "GET",
      `/audit/export?day=${daysAgo(0)}${cursor}`,
    );
    assertEquals(page.day, daysAgo(0));
    assert(page.entries.length <= 500);
    exported.push(...page.entries);
    cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
    if (exported.length === 500) {
      assertProblem(
        await admin(SERVER, "GET", `/audit/export?day=${daysAgo(1)}${cursor}`),
        422,
        "validation_failed",
        [{ parameter: "cursor", code: "cursor_mismatch" }],
      );
    }
  } while (cursor !== "");
  assert(exported.length > 1000);
  assertEquals(exported.map(({ seq }) => seq), exported.map((_, index) => index + 1));
  exported.slice(1).forEach((entry, index) =>
    assertEquals(entry.prev_hash, exported[index]?.hash ?? "")
  );
});

test("alerts: many reveals, messages that do not decrypt, refusals, and keys past their period", async () => {
  assertEquals((await adminData<Alerts>("GET", "/audit/alerts")).alerts, []);
  const user = await newUser();
  const { id } = await store(user, VISA);
  const other = await store(user, AMEX);
  await sql(
    `update kms.ciphertexts set message = (
       select message from kms.ciphertexts where record_id = $2 and field = 'number')
     where record_id = $1 and field = 'number'`,
    [other.id, id],
  );
  assertProblem(await reveal(user, other.id), 500, "decryption_failed");
  const { alerts, ...more } = await adminData<Alerts>(
    "GET",
    "/audit/alerts?hours=1&reveals_per_hour=3&refusals=0",
  );
  assertEquals(
    alerts.map(({ severity, name, subject }) => [severity, name, subject]),
    [
      ["critical", "reveals_above_threshold", "secret_key:default"],
      ["critical", "decryption_failed", "decryption_failed"],
      ["warning", "refusals_above_threshold", "admin_required"],
      ["warning", "refusals_above_threshold", "reveal_not_allowed"],
    ],
  );
  const [reveals, failed] = alerts;
  assert((reveals?.numbers.most_in_an_hour ?? 0) > 3 && reveals?.numbers.threshold === 3);
  assertEquals(failed?.numbers, { count: 1, actors: 1, threshold: 0 });
  assertEquals(more.thresholds, {
    reveals_per_hour: 3,
    refusals: 0,
    cryptoperiod_days: { payment: 365, pii: 365, general: 365 },
  });

  // What was changed is told of, and is no alert.
  const nobody = crypto.randomUUID();
  const boss = await newAdmin();
  const body = { purpose: "test", confirm: nobody };
  await adminData("POST", `/users/${nobody}/erase`, body, boss);
  const after = await adminData<Alerts>("GET", "/audit/alerts?hours=1&reveals_per_hour=1000");
  const { first_at, last_at, ...change } = after.changes[0] ?? { first_at: "", last_at: "" };
  assertEquals(change, {
    action: "user.erase",
    actor_type: "admin",
    actor_id: boss.userId,
    count: 1,
  });
  assertMatch(first_at, TIMESTAMP);
  assertEquals(last_at, first_at);
  assertEquals(after.alerts.map(({ name }) => name), ["decryption_failed"]);

  // The last thing done here: no message of this key decrypts any more.
  await sql("alter table kms.branch_keys disable trigger user");
  await sql(
    `update kms.branch_keys set record = record || '{"create-time": "2026-01-01T00:00:00.000000Z"}'
     where branch_key_id = 'payment' and type = 'branch:ACTIVE'`,
  );
  await (await sharedStack()).restartFunction(ADMIN, { KMS_PAYMENT_CRYPTOPERIOD_DAYS: "30" });
  const late = await adminData<Alerts>("GET", "/audit/alerts?hours=1");
  assertEquals(late.alerts.filter(({ name }) => name === "rotation_overdue"), [{
    name: "rotation_overdue",
    severity: "warning",
    subject: "payment",
    numbers: { branch_keys: 1, cryptoperiod_days: 30 },
    first_at: "2026-01-01T00:00:00.000Z",
  }]);
});
