/** What a caller can send wrong, and that no answer repeats any of it. */
import { assert, assertEquals } from "@std/assert";
import {
  assertNowhere,
  assertProblem,
  bodyRoutes,
  card,
  ENCRYPT,
  encrypt,
  HEALTH,
  MANAGE,
  manage,
  newUser,
  NEXT_YEAR,
  NO_ROWS,
  POST_ENCRYPT,
  rowsOf,
  send,
  test,
  VISA,
} from "./suite.ts";

function stream(bytes: Uint8Array<ArrayBuffer>, chunk = 16 * 1024): ReadableStream<Uint8Array> {
  let offset = 0;
  return new ReadableStream({
    pull(controller) {
      if (offset >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(offset, offset += chunk));
    },
  });
}

test("malformed JSON is 400 on every route that reads a body", async () => {
  const invalidUtf8 = new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]);
  const bodies: readonly BodyInit[] = [
    "{",
    `{"number":"${VISA}"`,
    `{"number":"${VISA}"} x`,
    `{'number':'${VISA}'}`,
    "undefined",
    `{"a":NaN}`,
    `{"a":1,}`,
    " ",
    `\ufeff\ufeff{}`,
    invalidUtf8,
  ];
  for (const [caller, route] of await bodyRoutes()) {
    for (const body of bodies) {
      const answer = await send(caller, route, body);
      assertProblem(answer, 400, "malformed_json", []);
      assertNowhere(answer, [VISA]);
    }
  }
  const user = await newUser();
  assertProblem(await send(user, POST_ENCRYPT, ""), 400, "malformed_json");
  assertProblem(await send(user, POST_ENCRYPT, null), 400, "malformed_json");
});

test("a body that is not declared as JSON is 415", async () => {
  const user = await newUser();
  const text = JSON.stringify(card(VISA));
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]) {
    const answer = await send(user, POST_ENCRYPT, text, { "content-type": type });
    assertProblem(answer, 415, "unsupported_media_type");
  }
  for (const type of ["application/json; charset=utf-8", "APPLICATION/JSON"]) {
    const answer = await send(user, POST_ENCRYPT, text, { "content-type": type });
    assert(answer.status === 201 || answer.status === 200, answer.text);
  }
});

test("a body that is no object is 422", async () => {
  const user = await newUser();
  for (const body of [null, [], [card(VISA)], "text", 4242424242424242, true]) {
    const answer = await encrypt(user, body);
    assertProblem(answer, 422, "validation_failed", [{ pointer: "", code: "wrong_type" }]);
    assertNowhere(answer, [VISA]);
  }
});

const now = new Date();
const lastMonth = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1, 1));

test("each invalid field is 422 with its JSON pointer and without its value", async () => {
  const user = await newUser();
  const of = (fields: Record<string, unknown>) => card(VISA, { card: fields });
  const cases: readonly (readonly [unknown, string, string])[] = [
    [{ data_class: "payment" }, "/card", "missing_field"],
    [{ data_class: "payment", card: VISA }, "/card", "wrong_type"],
    [{ data_class: "payment", card: [VISA] }, "/card/number", "missing_field"],
    [of({ number: undefined }), "/card/number", "missing_field"],
    [of({ number: Number(VISA) }), "/card/number", "wrong_type"],
    [of({ number: null }), "/card/number", "wrong_type"],
    [of({ number: "" }), "/card/number", "invalid_card_number"],
    [of({ number: "4242424242424241" }), "/card/number", "invalid_card_number"],
    [of({ number: "6200000000000006" }), "/card/number", "invalid_card_number"],
    [of({ number: "424242424242424" }), "/card/number", "invalid_card_number"],
    [of({ number: VISA + VISA }), "/card/number", "invalid_card_number"],
    [of({ number: "4242a42424242424" }), "/card/number", "invalid_card_number"],
    [of({ number: "４２４２４２４２４２４２４２４２" }), "/card/number", "invalid_card_number"],
    [of({ number: "4242\n4242\n4242\n4242" }), "/card/number", "invalid_card_number"],
    [of({ exp_month: undefined }), "/card/exp_month", "missing_field"],
    [of({ exp_month: "12" }), "/card/exp_month", "wrong_type"],
    [of({ exp_month: 0 }), "/card/exp_month", "out_of_range"],
    [of({ exp_month: 13 }), "/card/exp_month", "out_of_range"],
    [of({ exp_month: 1.5 }), "/card/exp_month", "out_of_range"],
    [of({ exp_year: undefined }), "/card/exp_year", "missing_field"],
    [of({ exp_year: 30 }), "/card/exp_year", "out_of_range"],
    [of({ exp_year: NEXT_YEAR + 30 }), "/card/exp_year", "out_of_range"],
    [of({ exp_year: 2020 }), "/card/exp_year", "expired_card"],
    [
      of({ exp_month: lastMonth.getUTCMonth() + 1, exp_year: lastMonth.getUTCFullYear() }),
      "/card/exp_year",
      "expired_card",
    ],
    [of({ cardholder_name: "" }), "/card/cardholder_name", "invalid_length"],
    [of({ cardholder_name: null }), "/card/cardholder_name", "wrong_type"],
    [of({ cardholder_name: "x".repeat(101) }), "/card/cardholder_name", "invalid_length"],
    [of({ cardholder_name: "Ada\u0000Love" }), "/card/cardholder_name", "invalid_text"],
    [of({ cardholder_name: "Ada\ud800" }), "/card/cardholder_name", "invalid_text"],
    [of({ billing_address: "London" }), "/card/billing_address", "wrong_type"],
    [of({ billing_address: {} }), "/card/billing_address", "empty_object"],
    [of({ billing_address: { zip: "1" } }), "/card/billing_address/zip", "unknown_field"],
    [
      of({ billing_address: { country: "GBR" } }),
      "/card/billing_address/country",
      "invalid_country",
    ],
    [of({ issuer: "bank" }), "/card/issuer", "unknown_field"],
    [of({ brand: "visa" }), "/card/brand", "unknown_field"],
    [card(VISA, { set_default: "yes" }), "/set_default", "wrong_type"],
    [card(VISA, { nickname: 5 }), "/nickname", "wrong_type"],
    [card(VISA, { nickname: VISA }), "/nickname", "card_number_in_text"],
    [card(VISA, { nickname: "4242-4242 4242.4242" }), "/nickname", "card_number_in_text"],
    [card(VISA, { nickname: "1234567890123" }), "/nickname", "card_number_in_text"],
    [card(VISA, { label: "x" }), "/label", "unknown_field"],
    [card(VISA, { data: {} }), "/data", "unknown_field"],
    [card(VISA, { id: crypto.randomUUID() }), "/id", "unknown_field"],
    [card(VISA, { constructor: 1 }), "/constructor", "unknown_field"],
    [JSON.parse(`{"data_class":"payment","__proto__":{"a":1}}`), "/__proto__", "unknown_field"],
  ];
  for (const [body, pointer, code] of cases) {
    const answer = await encrypt(user, body);
    assertEquals(answer.status, 422, `${pointer}: ${answer.text}`);
    const errors = answer.body.errors ?? [];
    assert(
      errors.some((error) => error.pointer === pointer && error.code === code),
      `${pointer} ${code}: ${answer.text}`,
    );
    assertProblem(answer, 422, "validation_failed");
    assertNowhere(answer, [
      VISA,
      "4242a42424242424",
      "４２４２",
      "4242-4242 4242",
      "London",
      "GBR",
      "bank",
    ]);
  }
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("several invalid fields are reported together", async () => {
  const user = await newUser();
  const answer = await encrypt(user, {
    data_class: "payment",
    card: { number: 5, exp_month: "1", exp_year: null },
    nickname: 1,
    extra: 1,
  });
  assertEquals(answer.body.errors?.map((error) => error.pointer).sort(), [
    "/card/exp_month",
    "/card/exp_year",
    "/card/number",
    "/extra",
    "/nickname",
  ]);
});

test("an unknown field whose name could be a card number is not named", async () => {
  const user = await newUser();
  for (const name of [VISA, `n${VISA}`, "4242 4242 4242 4242", "x".repeat(5000)]) {
    const answer = await encrypt(user, card(VISA, { card: { [name]: "x" } }));
    assertProblem(answer, 422, "validation_failed", [{ pointer: "/card", code: "unknown_field" }]);
    assertNowhere(answer, [VISA, "4242 4242", "xxxx"]);
  }
});

test("a card of a brand that is not supported is 422", async () => {
  const user = await newUser();
  const maestro = ["6759649826438453", "6799990100000000019"];
  for (const number of [...maestro, "6062826786276634", "6362970000457013"]) {
    const answer = await encrypt(user, card(number));
    assertProblem(answer, 422, "validation_failed", [
      { pointer: "/card/number", code: "unsupported_card_brand" },
    ]);
    assertNowhere(answer, [number]);
  }
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("a card is good through the month that is on it", async () => {
  const user = await newUser();
  const today = new Date();
  const answer = await encrypt(
    user,
    card(VISA, {
      card: { exp_month: today.getUTCMonth() + 1, exp_year: today.getUTCFullYear() },
    }),
  );
  assertEquals(answer.status, 201, answer.text);
});

/** A record whose body is exactly so many bytes. */
function bodyOf(bytes: number): Uint8Array<ArrayBuffer> {
  const empty = JSON.stringify({ data_class: "general", data: { a: "" } });
  const text = JSON.stringify({
    data_class: "general",
    data: { a: "x".repeat(bytes - empty.length) },
  });
  return new TextEncoder().encode(text);
}

test("64 KiB are accepted, one byte more is 413, with a content-length and without", async () => {
  const user = await newUser();
  const largest = bodyOf(65_536);
  assertEquals(largest.length, 65_536);
  assertEquals((await send(user, POST_ENCRYPT, largest)).status, 201);
  assertEquals((await send(user, POST_ENCRYPT, stream(largest))).status, 201);
  for (const bytes of [65_537, 70_000, 2_000_000]) {
    const body = bodyOf(bytes);
    assertProblem(await send(user, POST_ENCRYPT, body), 413, "payload_too_large", []);
    assertProblem(await send(user, POST_ENCRYPT, stream(body)), 413, "payload_too_large", []);
  }
  assertEquals((await rowsOf(user.userId)).encrypted_records, 2);
});

test("413 comes before parsing, on every route that reads a body", async () => {
  const garbage = new TextEncoder().encode(`{"cvv":"1","number":"${VISA}" `.repeat(4000));
  for (const [caller, route] of await bodyRoutes()) {
    assertProblem(await send(caller, route, garbage), 413, "payload_too_large", []);
    assertProblem(await send(caller, route, stream(garbage)), 413, "payload_too_large", []);
  }
});

test("documents made to exhaust a parser are refused", async () => {
  const user = await newUser();
  const deep = `{"data_class":"pii","data":${'{"a":'.repeat(40)}1${"}".repeat(40)}}`;
  assertProblem(await send(user, POST_ENCRYPT, deep), 422, "validation_failed", [
    { pointer: "", code: "nested_too_deeply" },
  ]);
  for (const text of [`${"[".repeat(30_000)}${"]".repeat(30_000)}`, `${'{"a":'.repeat(10_000)}`]) {
    const answer = await send(user, POST_ENCRYPT, text);
    assert(answer.status === 400 || answer.status === 422, answer.text);
  }
  const wide = `{"data_class":"pii","data":{"a":[${"0,".repeat(30_000)}0]}}`;
  assertEquals((await send(user, POST_ENCRYPT, wide)).status, 201);
});

test("a wrong method is 405 with Allow, before credentials are looked at", async () => {
  const id = crypto.randomUUID();
  const cases: readonly (readonly [string, string, readonly string[], string])[] = [
    [ENCRYPT, "", ["GET", "PUT", "PATCH", "DELETE"], "POST"],
    [HEALTH, "", ["POST", "PUT", "PATCH", "DELETE"], "GET, HEAD"],
    [MANAGE, "", ["POST", "PUT", "PATCH", "DELETE"], "GET, HEAD"],
    [MANAGE, `/${id}`, ["POST", "PUT"], "GET, PATCH, DELETE, HEAD"],
    [MANAGE, `/${id}/default`, ["GET", "PUT", "PATCH", "DELETE"], "POST"],
    [MANAGE, `/${id}/reveal`, ["GET", "PUT", "PATCH", "DELETE"], "POST"],
    [MANAGE, "/records", ["POST", "PUT", "PATCH", "DELETE"], "GET, HEAD"],
    [MANAGE, `/records/${id}`, ["POST", "PUT", "PATCH"], "GET, DELETE, HEAD"],
    [MANAGE, `/records/${id}/reveal`, ["GET", "PUT", "PATCH", "DELETE"], "POST"],
  ];
  for (const [name, path, methods, allow] of cases) {
    for (const method of methods) {
      const answer = await send({}, [name, method, path], null, {});
      assertProblem(answer, 405, "method_not_allowed", []);
      assertEquals(answer.headers.get("allow"), allow, `${method} ${name}${path}`);
    }
  }
});

test("an unknown path is 404", async () => {
  const user = await newUser();
  const id = crypto.randomUUID();
  for (
    const [name, path] of [
      [ENCRYPT, "/x"],
      [ENCRYPT, `/${VISA}`],
      [HEALTH, "/deep"],
      [MANAGE, `/${id}/unknown`],
      [MANAGE, `/${id}/default/x`],
      [MANAGE, `/records/${id}/x`],
      [MANAGE, "/a/b/c/d"],
    ] as const
  ) {
    for (const method of ["GET", "POST", "DELETE"]) {
      const answer = await send(user, [name, method, path], null, {});
      assertProblem(answer, 404, "not_found", []);
      assertNowhere(answer, [VISA]);
    }
  }
  assertEquals((await manage(user, "GET", "/")).status, 200);
});

test("a query parameter that encrypt-payment-data does not know is 422", async () => {
  const user = await newUser();
  const answer = await send(user, [ENCRYPT, "POST", `?number=${VISA}`], JSON.stringify(card(VISA)));
  assertProblem(answer, 422, "validation_failed", [{ code: "unknown_parameter" }]);
  assertNowhere(answer, [VISA]);
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("a browser of another origin may call, and may read the headers it needs", async () => {
  const origin = { origin: "https://shop.example" };
  const preflight = await send({}, POST_ENCRYPT, null, {});
  assertEquals(preflight.status, 401);
  const options = await send({}, [ENCRYPT, "OPTIONS", ""], null, {
    ...origin,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,idempotency-key,apikey,content-type",
  });
  assertEquals([options.status, options.text], [204, ""]);
  assertEquals(options.headers.get("access-control-allow-origin"), "*");
  assert(options.headers.get("access-control-allow-methods")?.includes("POST"));
  const allowed = options.headers.get("access-control-allow-headers")?.toLowerCase() ?? "";
  for (const name of ["authorization", "idempotency-key", "apikey", "content-type"]) {
    assert(allowed.includes(name), allowed);
  }
  const user = await newUser();
  const answer = await send(user, POST_ENCRYPT, JSON.stringify(card(VISA)), {
    ...origin,
    "content-type": "application/json",
  });
  assertEquals(answer.status, 201, answer.text);
  assertEquals(answer.headers.get("access-control-allow-origin"), "*");
  const exposed = answer.headers.get("access-control-expose-headers")?.toLowerCase() ?? "";
  for (const name of ["x-request-id", "retry-after", "idempotent-replayed"]) {
    assert(exposed.includes(name), exposed);
  }
});
