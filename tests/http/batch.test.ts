/** Up to a hundred items in one request: each with its own result, all stored or none. */
import { assert, assertEquals } from "@std/assert";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  card,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  NO_ROWS,
  type Result,
  rowsOf,
  SERVER,
  sql,
  test,
  VISA,
  withoutDetail,
} from "./suite.ts";

const CARDS = [VISA, MASTERCARD, AMEX, "6011111111111117", "3566002020360505"];

function results(answer: { body: { results?: readonly Result[] }; text: string }) {
  assert(answer.body.results !== undefined, answer.text);
  return answer.body.results;
}

test("100 items: cards, records, duplicates and invalid ones, each answered in its place", async () => {
  const user = await newUser();
  const items = Array.from({ length: 100 }, (_, index) => {
    switch (index % 5) {
      case 0:
        return card(CARDS[(index / 5) % CARDS.length] ?? VISA);
      case 1:
        return { data_class: "pii", label: `n${index}`, data: { index } };
      case 2:
        return { data_class: "general", data: { text: "ü".repeat(index) } };
      case 3:
        return card("4242424242424241");
      default:
        return { data_class: "pii", data: {} };
    }
  });
  const answer = await encrypt(user, { items });
  assertEquals(answer.status, 200, answer.text);
  assertEquals(Object.keys(answer.body), ["results"]);
  const all = results(answer);
  assertEquals(all.map((result) => result.index), items.map((_, index) => index));
  const ids = new Map<string, string>();
  for (const result of all) {
    const { index } = result;
    switch (index % 5) {
      case 0: {
        const number = CARDS[(index / 5) % CARDS.length] ?? VISA;
        const known = ids.get(number);
        assertEquals(result.status, known === undefined ? 201 : 200);
        assertEquals(result.payment_method?.last4, number.slice(-4));
        if (known !== undefined) assertEquals(result.payment_method?.id, known);
        ids.set(number, result.payment_method?.id ?? "");
        break;
      }
      case 1:
      case 2:
        assertEquals([result.status, result.record?.user_id], [201, user.userId]);
        assertEquals(result.record?.label, index % 5 === 1 ? `n${index}` : null);
        break;
      default: {
        assertEquals([result.status, result.problem?.code], [422, "validation_failed"]);
        const field = index % 5 === 3 ? "card/number" : "data";
        const code = index % 5 === 3 ? "invalid_card_number" : "empty_object";
        assertEquals(withoutDetail(result.problem?.errors), [
          { pointer: `/items/${index}/${field}`, code },
        ]);
        assertEquals(Object.keys(result).sort(), ["index", "problem", "status"]);
      }
    }
  }
  assertNowhere(answer, [...CARDS, "4242424242424241"]);
  assertEquals(await rowsOf(user.userId), {
    payment_methods: 5,
    encrypted_records: 40,
    ciphertexts: 45,
    card_fingerprints: 5,
  });
  const audit = await sql<{ outcome: string; count: number }>(
    `select outcome, count(*)::int as count from kms.audit_log
     where request_id = $1 and actor_type = 'user' group by outcome order by outcome`,
    [answer.headers.get("x-request-id")],
  );
  assertEquals(audit, [{ outcome: "failure", count: 40 }, { outcome: "success", count: 60 }]);
});

test("what a batch stored is revealed as what was sent", async () => {
  const user = await newUser();
  const answer = await encrypt(user, {
    items: [card(VISA), { data_class: "pii", data: { a: "b" } }, card(AMEX)],
  });
  const [visa, record, amex] = results(answer);
  const named = { user_id: user.userId, purpose: "test" };
  for (
    const [path, expected] of [
      [`/${visa?.payment_method?.id}/reveal`, VISA],
      [`/${amex?.payment_method?.id}/reveal`, AMEX],
      [`/records/${record?.record?.id}/reveal`, '{"a":"b"}'],
    ] as const
  ) {
    const revealed = await manage(SERVER, "POST", path, named);
    assert(revealed.text.includes(expected), revealed.text);
  }
});

test("a replayed batch repeats every result, the problems too", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const body = { items: [card(VISA), card("4242424242424241"), { data_class: "x" }, 5] };
  const first = await encrypt(user, body, key);
  const second = await encrypt(user, body, key);
  assertEquals(results(first).map((result) => result.status), [201, 422, 422, 422]);
  assertEquals(second.body, first.body);
  assertEquals(second.headers.get("idempotent-replayed"), "true");
  assertEquals((await rowsOf(user.userId)).payment_methods, 1);
});

test("one default at most, however many items ask for it", async () => {
  const user = await newUser();
  const answer = await encrypt(user, {
    items: CARDS.map((number) => card(number, { set_default: true })),
  });
  assertEquals(answer.status, 200, answer.text);
  const list = await manage(user, "GET", "");
  const defaults = list.body.payment_methods?.filter((method) => method.is_default);
  assertEquals(defaults?.map((method) => method.last4), [CARDS.at(-1)?.slice(-4)]);
});

test("a batch that is none is 422", async () => {
  const user = await newUser();
  const item = { data_class: "general", data: { a: 1 } };
  for (const items of [[], Array.from({ length: 101 }, () => item), {}, "x", null, 1]) {
    assertProblem(await encrypt(user, { items }), 422, "validation_failed", [
      { pointer: "/items", code: "invalid_length" },
    ]);
  }
  assertProblem(await encrypt(user, { items: [item], ...card(VISA) }), 422, "validation_failed", [
    { pointer: "", code: "unknown_field" },
  ]);
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("items that are no objects, or name a user, are problems of their own", async () => {
  const user = await newUser();
  const answer = await encrypt(user, {
    items: [null, [], VISA, {}, { user_id: user.userId, ...card(VISA) }, card(AMEX)],
  });
  assertEquals(
    results(answer).map((result) => withoutDetail(result.problem?.errors)[0]),
    [
      { pointer: "/items/0", code: "wrong_type" },
      { pointer: "/items/1", code: "wrong_type" },
      { pointer: "/items/2", code: "wrong_type" },
      { pointer: "/items/3/data_class", code: "missing_field" },
      { pointer: "/items/4/user_id", code: "unknown_field" },
      undefined as never,
    ],
  );
  assertEquals(results(answer)[5]?.status, 201);
  assertNowhere(answer, [VISA]);
});

test("a server's batch belongs to the user it names", async () => {
  const user = await newUser();
  const items = [card(VISA), { data_class: "pii", data: { a: 1 } }];
  const answer = await encrypt(SERVER, { user_id: user.userId, items });
  assertEquals(results(answer).map((result) => result.status), [201, 201]);
  assertEquals((await rowsOf(user.userId)).ciphertexts, 2);
  assertProblem(await encrypt(SERVER, { items }), 422, "validation_failed", [
    { pointer: "/user_id", code: "missing_field" },
  ]);
  const unknown = await encrypt(SERVER, { user_id: crypto.randomUUID(), items });
  assertEquals(
    results(unknown).map((result) => [
      result.status,
      withoutDetail(result.problem?.errors)[0]?.code,
    ]),
    [[422, "unknown_user"], [422, "unknown_user"]],
  );
});

test("a replayed batch says of what was deleted since that it is not found, and of its user nothing", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const items = [card(VISA), { data_class: "pii", data: { a: 1 } }, card("1")];
  const first = await encrypt(user, { items }, key);
  const id = first.body.results?.[0]?.payment_method?.id;
  assertEquals((await manage(user, "DELETE", `/${id}`)).status, 204);
  const again = await encrypt(user, { items }, key);
  const [gone, ...rest] = again.body.results ?? [];
  assertEquals([again.status, gone?.status, gone?.problem?.code], [200, 404, "not_found"]);
  assertEquals(rest, first.body.results?.slice(1));
  await sql("delete from auth.users where id = $1", [user.userId]);
  const late = await encrypt(user, { items }, key);
  assertEquals(late.body.results?.map(({ status }) => status), [404, 404, 422], late.text);
});
