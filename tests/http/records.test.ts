/** Personal and general data: any JSON object, encrypted whole, under a readable label. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { sharedStack } from "../support/stack.ts";
import {
  type Answer,
  assertNowhere,
  assertProblem,
  auditOf,
  ENCRYPT,
  encrypt,
  manage,
  newUser,
  NO_ROWS,
  type RecordAnswer,
  rowsOf,
  SERVER,
  sql,
  test,
  TIMESTAMP,
  UUID,
  VISA,
} from "./suite.ts";

function record(answer: Answer): RecordAnswer & { readonly data?: unknown } {
  assert(answer.body.record !== undefined, answer.text);
  return answer.body.record;
}

const PASSPORT = {
  data_class: "pii",
  label: "passport",
  data: { given_name: "Zoë", number: "C01X00T47", nested: { list: [1, 2.5, true, null, "𝄞"] } },
};

for (const dataClass of ["pii", "general"]) {
  test(`a ${dataClass} record is stored, listed, read, revealed and deleted`, async () => {
    const user = await newUser();
    const created = await encrypt(user, { ...PASSPORT, data_class: dataClass });
    assertEquals(created.status, 201, created.text);
    assertEquals(Object.keys(created.body), ["record"]);
    const { id, created_at, updated_at, ...rest } = record(created);
    assertEquals(rest, { user_id: user.userId, data_class: dataClass, label: "passport" });
    assertMatch(id, UUID);
    assertMatch(created_at, TIMESTAMP);
    assertMatch(updated_at, TIMESTAMP);
    assertNowhere(created, ["Zoë", "C01X00T47"]);

    const list = await manage(user, "GET", "/records");
    assertEquals(list.body, { records: [record(created)], next_cursor: null });
    assertEquals((await manage(user, "GET", `/records/${id}`)).body, created.body);
    const revealed = await manage(SERVER, "POST", `/records/${id}/reveal`, {
      user_id: user.userId,
      purpose: "support",
    });
    assertEquals(revealed.status, 200, revealed.text);
    assertEquals(record(revealed), { ...record(created), data: PASSPORT.data } as RecordAnswer);

    const [row] = await sql<{ message: string; kms_key_arn: string }>(
      "select message, kms_key_arn from kms.ciphertexts where record_id = $1",
      [id],
    );
    assert(row?.message.startsWith("AgR4"));
    const deleted = await manage(user, "DELETE", `/records/${id}`);
    assertEquals([deleted.status, deleted.text], [204, ""]);
    assertEquals(await rowsOf(user.userId), NO_ROWS);
    assertProblem(await manage(user, "GET", `/records/${id}`), 404, "not_found");
    assertProblem(await manage(user, "DELETE", `/records/${id}`), 404, "not_found");
    assertEquals(
      (await auditOf(id)).map((entry) => [entry.action, entry.outcome, entry.purpose]),
      [
        ["record.create", "success", null],
        ["record.reveal", "success", "support"],
        ["record.delete", "success", null],
      ],
    );
  });
}

test("each class is encrypted under its own KMS key", async () => {
  const user = await newUser();
  for (const data_class of ["pii", "general"]) await encrypt(user, { data_class, data: { a: 1 } });
  const rows = await sql<{ kms_key_arn: string }>(
    "select distinct kms_key_arn from kms.ciphertexts where owner_id = $1",
    [user.userId],
  );
  assertEquals(rows.length, 2);
});

test("data comes back as it was sent, whatever JSON it holds", async () => {
  const user = await newUser();
  const values: readonly string[] = [
    '{"a":""}',
    '{"":0}',
    '{"__proto__":{"x":1},"constructor":2,"toString":null}',
    '{"emoji":"👩‍👩‍👧‍👦","rtl":"שלום","nul":"\\u0000","lone":"\\ud800","line":"\\u2028\\r\\n\\t"}',
    '{"big":1e308,"small":5e-324,"negative":-0.1,"int":9007199254740991}',
    `{"deep":${'{"d":'.repeat(25)}1${"}".repeat(25)}}`,
    `{"long":"${"ü".repeat(20_000)}"}`,
    `{"many":[${Array.from({ length: 5000 }, (_, index) => index).join(",")}]}`,
    `{"card-like":"${VISA}"}`,
  ];
  for (const text of values) {
    const created = await encrypt(user, { data_class: "pii", data: JSON.parse(text) });
    assertEquals(created.status, 201, created.text);
    const revealed = await manage(SERVER, "POST", `/records/${record(created).id}/reveal`, {
      user_id: user.userId,
      purpose: "test",
    });
    assertEquals(JSON.stringify(record(revealed).data), JSON.stringify(JSON.parse(text)));
  }
});

test("a record has no label unless given, and equal records are two", async () => {
  const user = await newUser();
  const one = await encrypt(user, { data_class: "general", data: { a: 1 } });
  const two = await encrypt(user, { data_class: "general", data: { a: 1 } });
  assertEquals([one.status, two.status], [201, 201]);
  assertEquals(record(one).label, null);
  assert(record(one).id !== record(two).id);
});

test("list: by class, in pages, newest first", async () => {
  const user = await newUser();
  const made: RecordAnswer[] = [];
  for (const data_class of ["pii", "general", "pii", "general", "pii"]) {
    made.unshift(record(await encrypt(user, { data_class, data: { n: made.length } })));
  }
  const ofPii = made.filter((each) => each.data_class === "pii");
  const first = await manage(user, "GET", "/records?limit=3");
  assertEquals(first.body.records, made.slice(0, 3));
  const second = await manage(user, "GET", `/records?limit=3&cursor=${first.body.next_cursor}`);
  assertEquals(second.body, { records: made.slice(3), next_cursor: null });
  const pii = await manage(user, "GET", "/records?data_class=pii&limit=2");
  assertEquals(pii.body.records, ofPii.slice(0, 2));
  const rest = await manage(
    user,
    "GET",
    `/records?data_class=pii&limit=2&cursor=${pii.body.next_cursor}`,
  );
  assertEquals(rest.body, { records: ofPii.slice(2), next_cursor: null });
  const server = await manage(SERVER, "GET", `/records?user_id=${user.userId}&data_class=general`);
  assertEquals(server.body.records, made.filter((each) => each.data_class === "general"));
  assertProblem(
    await manage(user, "GET", "/records?data_class=payment"),
    422,
    "validation_failed",
    [
      { parameter: "data_class", code: "invalid_data_class" },
    ],
  );
});

test("another user's record is 404 on every route", async () => {
  const [owner, stranger] = [await newUser(), await newUser()];
  const created = record(await encrypt(owner, PASSPORT));
  for (const id of [created.id, crypto.randomUUID(), "nothing"]) {
    assertProblem(await manage(stranger, "GET", `/records/${id}`), 404, "not_found");
    assertProblem(await manage(stranger, "DELETE", `/records/${id}`), 404, "not_found");
    const reveal = await manage(SERVER, "POST", `/records/${id}/reveal`, {
      user_id: stranger.userId,
      purpose: "x",
    });
    assertProblem(reveal, 404, "not_found");
  }
  assertEquals((await manage(stranger, "GET", "/records")).body.records, []);
  // A record is no payment method, and the other way round.
  assertProblem(await manage(owner, "GET", `/${created.id}`), 404, "not_found");
  assertEquals((await rowsOf(owner.userId)).encrypted_records, 1);
});

test("a user may not reveal a record", async () => {
  const user = await newUser();
  const { id } = record(await encrypt(user, PASSPORT));
  const answer = await manage(user, "POST", `/records/${id}/reveal`, { purpose: "mine" });
  assertProblem(answer, 403, "reveal_not_allowed");
  assertNowhere(answer, ["Zoë"]);
});

test("invalid records are 422 with their pointers", async () => {
  const user = await newUser();
  const cases: readonly (readonly [unknown, string, string])[] = [
    [{ data_class: "pii" }, "/data", "missing_field"],
    [{ data_class: "pii", data: {} }, "/data", "empty_object"],
    [{ data_class: "pii", data: [] }, "/data", "wrong_type"],
    [{ data_class: "pii", data: "text" }, "/data", "wrong_type"],
    [{ data_class: "pii", data: null }, "/data", "wrong_type"],
    [{ data_class: "pii", data: { a: 1 }, label: "" }, "/label", "invalid_length"],
    [{ data_class: "pii", data: { a: 1 }, label: 1 }, "/label", "wrong_type"],
    [{ data_class: "pii", data: { a: 1 }, label: " x" }, "/label", "invalid_text"],
    [{ data_class: "pii", data: { a: 1 }, label: "a\nb" }, "/label", "invalid_text"],
    [{ data_class: "pii", data: { a: 1 }, label: VISA }, "/label", "card_number_in_text"],
    [{ data_class: "pii", data: { a: 1 }, nickname: "x" }, "/nickname", "unknown_field"],
    [{ data_class: "secret", data: { a: 1 } }, "/data_class", "invalid_data_class"],
    [{ data: { a: 1 } }, "/data_class", "missing_field"],
  ];
  for (const [body, pointer, code] of cases) {
    const answer = await encrypt(user, body);
    assertProblem(answer, 422, "validation_failed", [{ pointer, code }]);
    assertNowhere(answer, [VISA]);
  }
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("with a branch key per owner, each owner's data hangs on a key of its own", async () => {
  const stack = await sharedStack();
  const scope = { KMS_PII_BRANCH_KEY_SCOPE: "owner" };
  await stack.restartFunction(ENCRYPT, scope);
  try {
    const [ada, bob] = [await newUser(), await newUser()];
    const stored = await Promise.all(
      [ada, bob].map((user) => encrypt(user, { data_class: "pii", data: { of: user.userId } })),
    );
    const keys = await sql<{ branch_key_id: string; owner_id: string }>(
      `select c.branch_key_id, c.owner_id from kms.ciphertexts c
       join kms.branch_keys k on k.branch_key_id = c.branch_key_id
         and k.type = 'branch:version:' || c.branch_key_version
       where c.owner_id in ($1, $2)`,
      [ada.userId, bob.userId],
    );
    assertEquals(
      keys.map(({ branch_key_id }) => branch_key_id).sort(),
      [`pii:${ada.userId}`, `pii:${bob.userId}`].sort(),
    );
    // The function that reads has the other scope: messages say which key they need.
    for (const [index, user] of [ada, bob].entries()) {
      const id = stored[index]?.body.record?.id;
      const revealed = await manage(SERVER, "POST", `/records/${id}/reveal`, {
        user_id: user.userId,
        purpose: "kyc",
      });
      assertEquals(revealed.body.record?.data, { of: user.userId }, revealed.text);
    }
  } finally {
    await stack.restartFunction(ENCRYPT, {});
  }
});
