/** Listing, reading, changing, choosing the default, and deleting a payment method. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  auditOf,
  type Caller,
  card,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  NEXT_YEAR,
  NO_ROWS,
  paymentMethod,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  UUID,
  VISA,
} from "./suite.ts";

async function reveal(user: { userId: string }, id: string) {
  const answer = await manage(SERVER, "POST", `/${id}/reveal`, {
    user_id: user.userId,
    purpose: "test",
  });
  assertEquals(answer.status, 200, answer.text);
  return answer.body.payment_method?.card as Record<string, unknown>;
}

test("list: newest first, the very objects that were answered before", async () => {
  const user = await newUser();
  assertEquals((await manage(user, "GET", "")).body, { payment_methods: [], next_cursor: null });
  const first = await store(user, VISA);
  const second = await store(user, MASTERCARD, { nickname: "b" });
  const answer = await manage(user, "GET", "");
  assertEquals(answer.status, 200);
  assertEquals(answer.headers.get("cache-control"), "no-store");
  assertMatch(answer.headers.get("x-request-id") ?? "", UUID);
  assertEquals(answer.body, { payment_methods: [second, first], next_cursor: null });
  const asServer = await manage(SERVER, "GET", `?user_id=${user.userId.toUpperCase()}`);
  assertEquals(asServer.body, answer.body);
});

test("list: pages of limit rows, each row once, until next_cursor is null", async () => {
  const user = await newUser();
  const ids: string[] = [];
  for (const number of [VISA, MASTERCARD, AMEX, "6011111111111117", "3566002020360505"]) {
    ids.unshift((await store(user, number)).id);
  }
  const seen: string[][] = [];
  let path = "?limit=2";
  for (let pages = 0; pages < 4; pages++) {
    const { body } = await manage(user, "GET", path);
    seen.push((body.payment_methods ?? []).map((method) => method.id));
    if (body.next_cursor === null) break;
    assertMatch(body.next_cursor ?? "", /^[A-Za-z0-9_-]+$/);
    path = `?limit=2&cursor=${body.next_cursor}`;
  }
  assertEquals(seen, [ids.slice(0, 2), ids.slice(2, 4), ids.slice(4)]);
  const whole = await manage(user, "GET", "?limit=5");
  assertEquals([whole.body.payment_methods?.length, whole.body.next_cursor], [5, null]);

  const cursor = (await manage(user, "GET", "?limit=2")).body.next_cursor;
  const stranger = await newUser();
  assertEquals((await manage(stranger, "GET", `?cursor=${cursor}`)).body.payment_methods, []);
});

test("list: rows stored after the first page do not move the second", async () => {
  const user = await newUser();
  const oldest = await store(user, VISA);
  const middle = await store(user, MASTERCARD);
  const first = await manage(user, "GET", "?limit=1");
  assertEquals(first.body.payment_methods, [middle]);
  await store(user, AMEX);
  const second = await manage(user, "GET", `?limit=1&cursor=${first.body.next_cursor}`);
  assertEquals(second.body, { payment_methods: [oldest], next_cursor: null });
});

test("list: bad limits, cursors and parameters are 422 and name the parameter", async () => {
  const user = await newUser();
  for (const limit of ["0", "101", "-1", "1.5", "abc", "", "99999999999999999999"]) {
    assertProblem(await manage(user, "GET", `?limit=${limit}`), 422, "validation_failed", [
      { parameter: "limit", code: "out_of_range" },
    ]);
  }
  const id = crypto.randomUUID();
  const forged = [
    "nonsense",
    "%00",
    "***",
    btoa("2026-01-01"),
    btoa(`2026-13-01T00:00:00.000000Z|${id}`),
    btoa(`2026-02-30T00:00:00.000000Z|${id}`),
    btoa(`2026-01-01T24:00:01.000000Z|${id}`),
    btoa(`0000-01-01T00:00:00.000000Z|${id}`),
    btoa(`2026-01-01T00:00:00.000000|${id}`),
    btoa(`2026-01-01T00:00:00.000000Z|${id}' or '1'='1`),
    "A".repeat(5000),
  ];
  for (const cursor of forged) {
    const answer = await manage(user, "GET", `?cursor=${encodeURIComponent(cursor)}`);
    assertProblem(answer, 422, "validation_failed", [
      { parameter: "cursor", code: "invalid_cursor" },
    ]);
  }
  const answer = await manage(user, "GET", `?number=${VISA}&limit=1&limit=2`);
  assertProblem(answer, 422, "validation_failed", [
    { code: "unknown_parameter" },
    { parameter: "limit", code: "repeated_parameter" },
  ]);
  assertNowhere(answer, [VISA]);
  assertProblem(await manage(user, "GET", `?user_id=${user.userId}`), 422, "validation_failed", [
    { parameter: "user_id", code: "unknown_field" },
  ]);
  assertProblem(await manage(SERVER, "GET", ""), 422, "validation_failed", [
    { parameter: "user_id", code: "missing_field" },
  ]);
});

test("one: the masked object, by id in any letter case; HEAD as GET without a body", async () => {
  const user = await newUser();
  const stored = await store(user, VISA, { card: { cardholder_name: "Ada Lovelace" } });
  for (const id of [stored.id, stored.id.toUpperCase()]) {
    const answer = await manage(user, "GET", `/${id}`);
    assertEquals([answer.status, answer.body], [200, { payment_method: stored }]);
    assertNowhere(answer, [VISA, "Lovelace"]);
  }
  const head = await manage(user, "HEAD", `/${stored.id}`);
  assertEquals([head.status, head.text], [200, ""]);
});

test("PATCH: each field alone, the others untouched", async () => {
  const user = await newUser();
  let current = await store(user, VISA);
  const change = async (patch: Record<string, unknown>, expected: Record<string, unknown>) => {
    const answer = await manage(user, "PATCH", `/${current.id}`, patch);
    assertEquals(answer.status, 200, answer.text);
    const { updated_at, ...rest } = paymentMethod(answer);
    const { updated_at: before, ...kept } = current;
    assertEquals(rest, { ...kept, ...expected });
    assertNotEquals(updated_at, before);
    assertEquals((await manage(user, "GET", `/${current.id}`)).body, answer.body);
    current = paymentMethod(answer);
    return answer;
  };
  await change({ exp_month: 1 }, { exp_month: 1 });
  await change({ exp_year: NEXT_YEAR + 3 }, { exp_year: NEXT_YEAR + 3 });
  await change({ exp_month: 6, exp_year: NEXT_YEAR + 1 }, {
    exp_month: 6,
    exp_year: NEXT_YEAR + 1,
  });
  await change({ nickname: "Haushalt 🏠" }, { nickname: "Haushalt 🏠" });
  await change({ nickname: null }, { nickname: null });
  const named = await change({ cardholder_name: "Grace Hopper" }, {});
  assertNowhere(named, ["Grace"]);
  await change({ billing_address: { city: "Zürich", country: "CH" } }, {});
  assertEquals(await reveal(user, current.id), {
    number: VISA,
    exp_month: 6,
    exp_year: NEXT_YEAR + 1,
    cardholder_name: "Grace Hopper",
    billing_address: { city: "Zürich", country: "CH" },
  });
  await change({ cardholder_name: "Ada Lovelace", billing_address: { line1: "1" } }, {});
  const revealed = await reveal(user, current.id);
  assertEquals([revealed.cardholder_name, revealed.billing_address], ["Ada Lovelace", {
    line1: "1",
  }]);
  assertEquals((await rowsOf(user.userId)).ciphertexts, 3);
});

test("PATCH: null destroys the encrypted field's ciphertext", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA, {
    card: { cardholder_name: "Ada", billing_address: { city: "London" } },
  });
  assertEquals((await rowsOf(user.userId)).ciphertexts, 3);
  const one = await manage(user, "PATCH", `/${id}`, { cardholder_name: null });
  assertEquals(one.status, 200, one.text);
  assertEquals((await reveal(user, id)).cardholder_name, null);
  assertEquals((await rowsOf(user.userId)).ciphertexts, 2);
  const both = await manage(user, "PATCH", `/${id}`, {
    billing_address: null,
    cardholder_name: "Back",
  });
  assertEquals(both.status, 200, both.text);
  const card = await reveal(user, id);
  assertEquals([card.cardholder_name, card.billing_address], ["Back", null]);
  const again = await manage(user, "PATCH", `/${id}`, { billing_address: null });
  assertEquals(again.status, 200, "clearing what is not there changes nothing");
});

test("PATCH as a server, and what it writes to the audit", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  for (
    const [path, body] of [
      [`/${id}`, { user_id: user.userId, nickname: "a" }],
      [`/${id}?user_id=${user.userId}`, { nickname: "b" }],
      [`/${id}?user_id=${user.userId}`, { user_id: user.userId, nickname: "c" }],
    ] as const
  ) {
    const answer = await manage(SERVER, "PATCH", path, body);
    assertEquals(answer.status, 200, answer.text);
  }
  const contradiction = await manage(SERVER, "PATCH", `/${id}?user_id=${user.userId}`, {
    user_id: crypto.randomUUID(),
    nickname: "d",
  });
  assertProblem(contradiction, 422, "validation_failed", [
    { pointer: "/user_id", code: "contradiction" },
  ]);
  assertEquals(
    (await auditOf(id)).map((entry) => [entry.action, entry.actor_type, entry.outcome]),
    [
      ["payment_method.create", "user", "success"],
      ["payment_method.update", "secret_key", "success"],
      ["payment_method.update", "secret_key", "success"],
      ["payment_method.update", "secret_key", "success"],
    ],
  );
});

test("PATCH: what may not change or is not valid is 422 with its pointer", async () => {
  const user = await newUser();
  const stored = await store(user, VISA);
  const cases: readonly (readonly [unknown, readonly { pointer: string; code: string }[]])[] = [
    [{}, [{ pointer: "", code: "empty_object" }]],
    [[], [{ pointer: "", code: "wrong_type" }]],
    [{ number: MASTERCARD }, [{ pointer: "/number", code: "unknown_field" }]],
    [{ brand: "amex" }, [{ pointer: "/brand", code: "unknown_field" }]],
    [{ is_default: true }, [{ pointer: "/is_default", code: "unknown_field" }]],
    [{ id: crypto.randomUUID() }, [{ pointer: "/id", code: "unknown_field" }]],
    [{ clear: ["number"] }, [{ pointer: "/clear", code: "unknown_field" }]],
    [{ exp_month: null }, [{ pointer: "/exp_month", code: "wrong_type" }]],
    [{ exp_month: 13 }, [{ pointer: "/exp_month", code: "out_of_range" }]],
    [{ exp_month: 1.5 }, [{ pointer: "/exp_month", code: "out_of_range" }]],
    [{ exp_year: "2030" }, [{ pointer: "/exp_year", code: "wrong_type" }]],
    [{ exp_year: 2020 }, [{ pointer: "/exp_year", code: "expired_card" }]],
    [{ exp_year: 9999 }, [{ pointer: "/exp_year", code: "out_of_range" }]],
    [{ nickname: "" }, [{ pointer: "/nickname", code: "invalid_length" }]],
    [{ nickname: "x".repeat(65) }, [{ pointer: "/nickname", code: "invalid_length" }]],
    [{ nickname: "a\u0007b" }, [{ pointer: "/nickname", code: "invalid_text" }]],
    [{ nickname: "a\u2028b" }, [{ pointer: "/nickname", code: "invalid_text" }]],
    [{ nickname: `my ${VISA}` }, [{ pointer: "/nickname", code: "card_number_in_text" }]],
    [{ nickname: "1234567890123" }, [{ pointer: "/nickname", code: "card_number_in_text" }]],
    [{ nickname: "ref 1234-5678 9012 3" }, [
      { pointer: "/nickname", code: "card_number_in_text" },
    ]],
    [{ cardholder_name: "" }, [{ pointer: "/cardholder_name", code: "invalid_length" }]],
    [{ cardholder_name: 5 }, [{ pointer: "/cardholder_name", code: "wrong_type" }]],
    [{ billing_address: {} }, [{ pointer: "/billing_address", code: "empty_object" }]],
    [{ billing_address: { country: "ch" } }, [
      { pointer: "/billing_address/country", code: "invalid_country" },
    ]],
    [{ billing_address: { phone: "1" } }, [
      { pointer: "/billing_address/phone", code: "unknown_field" },
    ]],
    [{ exp_month: 0, nickname: 7 }, [
      { pointer: "/exp_month", code: "out_of_range" },
      { pointer: "/nickname", code: "wrong_type" },
    ]],
  ];
  for (const [patch, errors] of cases) {
    const answer = await manage(user, "PATCH", `/${stored.id}`, patch);
    assertProblem(answer, 422, "validation_failed", errors);
    assertNowhere(answer, [VISA, MASTERCARD, "1234567890123"]);
  }
  assertEquals(paymentMethod(await manage(user, "GET", `/${stored.id}`)), stored);
});

test("default: exactly one, by user and by server, with and without a body", async () => {
  const user = await newUser();
  const one = await store(user, VISA, { set_default: true });
  const two = await store(user, MASTERCARD);
  const three = await store(user, AMEX);
  const defaults = async () =>
    (await manage(user, "GET", "")).body.payment_methods?.filter((method) => method.is_default)
      .map((method) => method.id);
  assertEquals(await defaults(), [one.id]);
  const answer = await manage(user, "POST", `/${two.id}/default`);
  assertEquals(answer.status, 200, answer.text);
  assertEquals([paymentMethod(answer).id, paymentMethod(answer).is_default], [two.id, true]);
  assertEquals(await defaults(), [two.id]);
  assertEquals((await manage(user, "POST", `/${two.id}/default`, {})).status, 200);
  assertEquals(await defaults(), [two.id]);
  const byServer = [
    await manage(SERVER, "POST", `/${three.id}/default`, { user_id: user.userId }),
    await manage(SERVER, "POST", `/${one.id}/default?user_id=${user.userId}`),
  ];
  assertEquals(byServer.map((each) => each.status), [200, 200]);
  assertEquals(await defaults(), [one.id]);
  for (const body of [null, [], { is_default: false }]) {
    assertProblem(await manage(user, "POST", `/${two.id}/default`, body), 422, "validation_failed");
  }
  assertEquals(await defaults(), [one.id]);
  assertEquals((await manage(user, "DELETE", `/${one.id}`)).status, 204);
  assertEquals(await defaults(), []);
});

test("DELETE destroys ciphertext and fingerprint, keeps the audit, and the card can come back", async () => {
  const user = await newUser();
  const first = await store(user, VISA, { card: { cardholder_name: "Ada" } });
  const deleted = await manage(user, "DELETE", `/${first.id}`);
  assertEquals([deleted.status, deleted.text], [204, ""]);
  assertEquals(deleted.headers.get("cache-control"), "no-store");
  assertMatch(deleted.headers.get("x-request-id") ?? "", UUID);
  assertEquals(await rowsOf(user.userId), NO_ROWS);
  const [left] = await sql<{ count: number }>(
    "select count(*)::int as count from kms.ciphertexts where record_id = $1",
    [first.id],
  );
  assertEquals(left?.count, 0);
  assertEquals((await auditOf(first.id)).map((entry) => entry.action), [
    "payment_method.create",
    "payment_method.delete",
  ]);
  for (
    const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/default"],
    ] as const
  ) {
    assertProblem(await manage(user, method, `/${first.id}${path}`), 404, "not_found");
  }
  const back = await encrypt(user, card(VISA));
  assertEquals(back.status, 201, back.text);
  assertNotEquals(paymentMethod(back).id, first.id);
});

test("another user's id is 404 on every route, as an id that never was", async () => {
  const [owner, stranger] = [await newUser(), await newUser()];
  const stored = await store(owner, VISA);
  const routes: readonly (readonly [string, string, unknown?])[] = [
    ["GET", ""],
    ["PATCH", "", { nickname: "mine" }],
    ["PATCH", "", { exp_month: 1 }],
    ["PATCH", "", { cardholder_name: "Mallory" }],
    ["DELETE", ""],
    ["POST", "/default"],
  ];
  const asServer = (caller: Caller) => caller === SERVER ? `?user_id=${stranger.userId}` : "";
  for (const caller of [stranger, SERVER]) {
    for (const [method, path, body] of routes) {
      const texts = [];
      for (const id of [stored.id, crypto.randomUUID(), "not-an-id", "%00", VISA]) {
        const answer = await manage(caller, method, `/${id}${path}${asServer(caller)}`, body);
        assertProblem(answer, 404, "not_found");
        const { request_id: _, ...rest } = answer.body;
        texts.push(JSON.stringify(rest));
      }
      assertEquals(new Set(texts).size, 1);
    }
  }
  const reveal = await manage(SERVER, "POST", `/${stored.id}/reveal`, {
    user_id: stranger.userId,
    purpose: "x",
  });
  assertProblem(reveal, 404, "not_found");
  assertEquals(paymentMethod(await manage(owner, "GET", `/${stored.id}`)), stored);
  assert((await rowsOf(stranger.userId)).ciphertexts === 0);
});

test("deleting the user takes the cards, their ciphertext and fingerprints along", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  await sql("delete from auth.users where id = $1", [user.userId]);
  assertEquals(await rowsOf(user.userId), NO_ROWS);
  assertEquals((await auditOf(id)).length, 1);
  assertProblem(await manage(SERVER, "GET", `/${id}?user_id=${user.userId}`), 404, "not_found");
});
