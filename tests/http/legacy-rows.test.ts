/** Rows of the key management guide's setups: which become cards and records, and which do not. */
import { assertEquals } from "@std/assert";
import { legacyCiphertext } from "../unit/support/legacy.ts";
import { admin, adminData } from "./admin.ts";
import {
  importKey,
  payment,
  revealData,
  revealNumber,
  type Row,
  rowOf,
  runAll,
  stage,
} from "./legacy.ts";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  auditOf,
  manage,
  MASTERCARD,
  newUser,
  NEXT_YEAR,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "./suite.ts";

test("rows in every encoding become cards and records, and leave nothing behind", async () => {
  await importKey("encodings");
  const user = await newUser();
  const encodings = [
    "v1_hex",
    "hex",
    "base64_iv_tag_ciphertext",
    "base64_iv_ciphertext_tag",
  ] as const;
  for (const encoding of encodings) {
    const items = [
      {
        user_id: user.userId,
        source_id: `encodings/${encoding}/text`,
        ciphertext: legacyCiphertext("Ünïcode, and { no JSON", encoding),
        as: { data_class: "general" },
      },
      {
        user_id: user.userId,
        source_id: `encodings/${encoding}/field`,
        ciphertext: legacyCiphertext('{"kept":"as it is"}', encoding),
        as: { data_class: "pii", field: "passport", label: "passport" },
      },
    ];
    const results = await stage("encodings", items, encoding);
    assertEquals(results.map(({ outcome }) => outcome), ["staged", "staged"]);
  }
  await stage("encodings", [
    payment(user.userId, "encodings/card", "4242-4242-4242-4242", { nickname: "Old" }),
    payment(
      user.userId,
      "encodings/object",
      JSON.stringify({ number: AMEX, cardholder_name: "Ada Lovelace" }),
    ),
  ]);
  assertEquals((await runAll()).failed, 0);
  for (const encoding of encodings) {
    const text = await rowOf(`encodings/${encoding}/text`);
    assertEquals(await revealData(user.userId, text.record_id), {
      value: "Ünïcode, and { no JSON",
    });
    const field = await rowOf(`encodings/${encoding}/field`);
    assertEquals(await revealData(user.userId, field.record_id), {
      passport: '{"kept":"as it is"}',
    });
  }
  const imported = await rowOf("encodings/card");
  assertEquals([imported.status, imported.table], ["imported", "payment_methods"]);
  assertEquals(await revealNumber(user.userId, imported.record_id), VISA);
  const list = await manage(user, "GET", "");
  assertEquals(
    list.body.payment_methods?.map(({ brand, last4, nickname }) => [brand, last4, nickname]).sort(),
    [["amex", "0005", null], ["visa", "4242", "Old"]],
  );
  const left = await sql<{ n: number }>(
    "select count(*)::int as n from kms.legacy_rows where user_id = $1 and ciphertext is not null",
    [user.userId],
  );
  assertEquals(left[0]?.n, 0);
  const [created] = await auditOf(imported.record_id ?? "");
  assertEquals([created?.action, created?.actor_type], ["payment_method.create", "secret_key"]);
  const actions = (await auditOf(imported.id)).map(({ action, outcome }) => `${action} ${outcome}`);
  assertEquals(actions, ["legacy_row.stage success", "legacy_row.import success"]);
});

test("what may not be stored fails its row, is listed, and is not lost", async () => {
  await importKey("failures");
  const other = crypto.getRandomValues(new Uint8Array(32));
  const user = await newUser();
  const cases: [string, string, object, string, string | null][] = [
    ["no-card", "4242424242424241", {}, "validation_failed", "invalid_card_number"],
    ["words", "not a number", {}, "validation_failed", "invalid_card_number"],
    ["expired", VISA, { exp_year: 2001 }, "validation_failed", "expired_card"],
    ["bar", `${VISA}|123`, {}, "sensitive_authentication_data", "sensitive_authentication_data"],
    ["space", `${VISA} 123`, {}, "sensitive_authentication_data", "sensitive_authentication_data"],
    [
      "object",
      JSON.stringify({ number: VISA, cvv: "123" }),
      {},
      "sensitive_authentication_data",
      "sensitive_authentication_data",
    ],
  ];
  await stage(
    "failures",
    cases.map(([name, text, as]) => payment(user.userId, `failures/${name}`, text, as)),
  );
  const foreign = {
    ...payment(user.userId, "failures/foreign", VISA),
    ciphertext: legacyCiphertext(VISA, "v1_hex", other),
  };
  const pii = (name: string, text: string) => ({
    user_id: user.userId,
    source_id: `failures/${name}`,
    ciphertext: legacyCiphertext(text),
    as: { data_class: "pii" },
  });
  await stage("failures", [foreign, pii("pin", '{"name":"Ada","card":{"pin":"1234"}}')]);
  const run = await runAll();
  assertEquals([run.imported, run.failed], [0, 8]);
  for (const [name, , , code, detail] of cases) {
    const row = await rowOf(`failures/${name}`);
    assertEquals([row.status, row.error_code, row.error_detail], ["failed", code, detail], name);
  }
  assertEquals((await rowOf("failures/foreign")).error_code, "decryption_failed");
  assertEquals((await rowOf("failures/pin")).error_code, "sensitive_authentication_data");
  assertEquals(await rowsOf(user.userId), {
    payment_methods: 0,
    encrypted_records: 0,
    ciphertexts: 0,
    card_fingerprints: 0,
  });
  const { rows } = await adminData<{ rows: Row[] }>("GET", "/legacy/rows?status=failed&limit=100");
  assertEquals(rows.filter(({ source_id }) => source_id.startsWith("failures/")).length, 8);
  const failure = (await auditOf((await rowOf("failures/bar")).id)).at(-1);
  assertEquals([failure?.action, failure?.error_code], [
    "legacy_row.import",
    "sensitive_authentication_data",
  ]);

  // The key stays while one of them needs it.
  assertProblem(await admin(SERVER, "DELETE", "/legacy/keys/failures"), 409, "legacy_key_in_use");
  // One is put right, the others are given up.
  const { ciphertext } = (await sql<{ ciphertext: string }>(
    "select ciphertext from kms.legacy_rows where source_id = 'failures/expired'",
  ))[0] ?? { ciphertext: "" };
  const put = { ...payment(user.userId, "failures/expired", VISA), ciphertext };
  assertEquals((await stage("failures", [put]))[0]?.outcome, "staged");
  assertEquals((await runAll()).imported, 1);
  assertEquals((await rowOf("failures/expired")).status, "imported");
  for (const { id, source_id } of rows) {
    if (source_id.startsWith("failures/") && source_id !== "failures/expired") {
      await adminData("DELETE", `/legacy/rows/${id}`);
    }
  }
  assertProblem(
    await admin(SERVER, "DELETE", `/legacy/rows/${(await rowOf("failures/expired")).id}`),
    404,
    "not_found",
  );
  await adminData("DELETE", "/legacy/keys/failures");
  assertProblem(await admin(SERVER, "DELETE", "/legacy/keys/failures"), 404, "not_found");
  assertProblem(
    await admin(SERVER, "POST", "/legacy/rows", {
      key_id: "failures",
      encoding: "v1_hex",
      items: [payment(user.userId, "failures/late", VISA)],
    }),
    422,
    "validation_failed",
    [{ pointer: "/key_id", code: "unknown_key" }],
  );
});

test("a source id is imported once, and other ciphertext under it is refused", async () => {
  await importKey("once");
  const user = await newUser();
  const stranger = await newUser();
  const item = payment(user.userId, "once/1", VISA);
  const outcomeOf = async (one: unknown) => (await stage("once", [one]))[0]?.outcome;
  assertEquals(await outcomeOf(item), "staged");
  assertEquals(await outcomeOf(item), "known");
  assertEquals(await outcomeOf({ ...item, ciphertext: legacyCiphertext(VISA) }), "conflict");
  assertEquals(await outcomeOf({ ...item, user_id: stranger.userId }), "conflict");
  assertEquals((await runAll()).imported, 1);
  assertEquals(await outcomeOf(item), "imported");
  assertEquals(await outcomeOf({ ...item, ciphertext: legacyCiphertext(VISA) }), "conflict");
  assertEquals(await outcomeOf({ ...item, user_id: stranger.userId }), "conflict");
  assertEquals(
    await outcomeOf(payment(crypto.randomUUID(), "once/nobody", VISA)),
    "owner_not_found",
  );
  const pair = [payment(user.userId, "once/b", AMEX), payment(user.userId, "once/a", AMEX)];
  assertEquals(
    (await stage("once", pair)).map(({ source_id, outcome }) => [source_id, outcome]),
    [["once/b", "staged"], ["once/a", "staged"]],
  );
  assertEquals((await runAll()).imported, 2);
  // Two rows of the same card are one card.
  assertEquals((await rowsOf(user.userId)).payment_methods, 2);
  assertEquals((await rowOf("once/a")).record_id, (await rowOf("once/b")).record_id);
});

test("a card that its owner has by now keeps the later expiry", async () => {
  await importKey("expiry");
  const user = await newUser();
  const stored = await store(user, MASTERCARD, { card: { exp_year: NEXT_YEAR + 3 } });
  await stage("expiry", [payment(user.userId, "expiry/1", MASTERCARD, { exp_month: 1 })]);
  assertEquals((await runAll()).imported, 1);
  const row = await rowOf("expiry/1");
  assertEquals(row.record_id, stored.id);
  const after = (await manage(user, "GET", `/${stored.id}`)).body.payment_method;
  assertEquals([after?.exp_month, after?.exp_year], [12, NEXT_YEAR + 3]);
  await stage("expiry", [
    payment(user.userId, "expiry/2", MASTERCARD, { exp_year: NEXT_YEAR + 4 }),
  ]);
  assertEquals((await runAll()).imported, 1);
  const later = (await manage(user, "GET", `/${stored.id}`)).body.payment_method;
  assertEquals(later?.exp_year, NEXT_YEAR + 4);
});

test("bad rows are refused before anything is staged", async () => {
  await importKey("bad");
  const { userId } = await newUser();
  const good = payment(userId, "bad/1", VISA);
  const item = (change: object) => ({
    encoding: "v1_hex",
    key_id: "bad",
    items: [good, { ...good, ...change }],
  });
  const v1 = good.ciphertext;
  const cases: [unknown, string, string][] = [
    [item({ ciphertext: v1.slice(0, -1) }), "/items/1/ciphertext", "invalid_ciphertext"],
    [item({ ciphertext: v1.replace("v1:", "v2:") }), "/items/1/ciphertext", "invalid_ciphertext"],
    [item({ ciphertext: `${v1} ` }), "/items/1/ciphertext", "invalid_ciphertext"],
    [{ ...item({}), encoding: "hex" }, "/items/0/ciphertext", "invalid_ciphertext"],
    [{ ...item({}), encoding: "rot13" }, "/encoding", "invalid_encoding"],
    [{ ...item({}), items: [] }, "/items", "invalid_length"],
    [item({ source_id: `card-${VISA}` }), "/items/1/source_id", "card_number_in_text"],
    [item({ source_id: "card/4242-4242-4242-4242" }), "/items/1/source_id", "card_number_in_text"],
    [item({ source_id: "a b" }), "/items/1/source_id", "invalid_id"],
    [item({ user_id: "me" }), "/items/1/user_id", "invalid_uuid"],
    [item({ as: { ...good.as, nickname: VISA } }), "/items/1/as/nickname", "card_number_in_text"],
    [item({ as: { ...good.as, exp_month: 13 } }), "/items/1/as/exp_month", "out_of_range"],
  ];
  for (const [body, pointer, code] of cases) {
    const answer = await admin(SERVER, "POST", "/legacy/rows", body);
    assertProblem(answer, 422, "validation_failed", [{ pointer, code }]);
    assertNowhere(answer, [VISA]);
  }
  assertProblem(
    await admin(SERVER, "POST", "/legacy/rows", item({ as: { data_class: "pii", field: "cvv" } })),
    422,
    "sensitive_authentication_data",
  );
  const staged = await sql<{ n: number }>(
    "select count(*)::int as n from kms.legacy_rows where source_id like 'bad/%'",
  );
  assertEquals(staged[0]?.n, 0);
  // Digits as of track 2, by chance: such a ciphertext is as good as any.
  const tag = "4242424242424242d30121234567890a";
  const lookalike = { ...good, ciphertext: v1.split(":").with(2, tag).join(":") };
  assertEquals((await stage("bad", [lookalike]))[0]?.outcome, "staged");
  // Snowflakes, UUIDs and serial numbers are no card numbers.
  const ids = ["1834567890123456789", crypto.randomUUID(), "550e8400-e29b-41d4-a716-446655440000"];
  const results = await stage("bad", ids.map((id) => payment(userId, id, VISA)));
  assertEquals(results.map(({ outcome }) => outcome), ["staged", "staged", "staged"]);
  await runAll();
});
