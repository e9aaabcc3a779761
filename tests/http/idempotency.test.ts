/** The Idempotency-Key: one effect and one answer, however often a request is sent. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { EVERY_CALL, sharedStack } from "../support/stack.ts";
import {
  AMEX,
  assertProblem,
  card,
  ENCRYPT,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  NO_ROWS,
  paymentMethod,
  rowsOf,
  SERVER,
  sql,
  test,
  VISA,
} from "./suite.ts";

test("a repeated request gets the stored answer, marked as replayed", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const first = await encrypt(user, card(VISA), key);
  assertEquals([first.status, first.headers.get("idempotent-replayed")], [201, null]);
  for (let round = 0; round < 3; round++) {
    const again = await encrypt(user, card(VISA), key);
    assertEquals([again.status, again.text], [201, first.text]);
    assertEquals(again.headers.get("idempotent-replayed"), "true");
    assertEquals(again.headers.get("location"), first.headers.get("location"));
    assertNotEquals(again.headers.get("x-request-id"), first.headers.get("x-request-id"));
  }
  assertEquals((await rowsOf(user.userId)).payment_methods, 1);
});

test("records are replayed too: no second record", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const body = { data_class: "pii", data: { a: 1 } };
  const [first, second] = [await encrypt(user, body, key), await encrypt(user, body, key)];
  assertEquals([first.status, second.status], [201, 201]);
  assertEquals(second.text, first.text);
  assertEquals((await rowsOf(user.userId)).encrypted_records, 1);
});

test("the answer 200 for a known card is replayed as 200", async () => {
  const user = await newUser();
  await encrypt(user, card(VISA));
  const key = crypto.randomUUID();
  assertEquals((await encrypt(user, card(VISA), key)).status, 200);
  assertEquals((await encrypt(user, card(VISA), key)).status, 200);
});

test("the order of members and white space make no other payload", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const { data_class, card: fields } = card(VISA);
  const first = await encrypt(user, { data_class, card: fields, nickname: "x" }, key);
  const turned = Object.fromEntries(Object.entries(fields).reverse());
  const second = await encrypt(user, { nickname: "x", card: turned, data_class }, key);
  assertEquals([second.status, second.text], [first.status, first.text]);
});

test("another payload under the same key is 422, and changes nothing", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  await encrypt(user, card(VISA), key);
  for (
    const body of [
      card(MASTERCARD),
      card(VISA, { nickname: "x" }),
      card(VISA, { card: { exp_month: 11 } }),
      { items: [card(VISA)] },
      { data_class: "pii", data: { a: 1 } },
    ]
  ) {
    assertProblem(await encrypt(user, body, key), 422, "idempotency_key_reused", []);
  }
  assertEquals(await rowsOf(user.userId), {
    payment_methods: 1,
    encrypted_records: 0,
    ciphertexts: 1,
    card_fingerprints: 1,
  });
  assertEquals((await encrypt(user, card(VISA), key)).status, 201);
});

test("another user's same key is another key, and so is a server's", async () => {
  const [one, two] = [await newUser(), await newUser()];
  const key = crypto.randomUUID();
  const first = await encrypt(one, card(VISA), key);
  const second = await encrypt(two, card(MASTERCARD), key);
  const third = await encrypt(SERVER, { user_id: one.userId, ...card(AMEX) }, key);
  assertEquals([first.status, second.status, third.status], [201, 201, 201]);
  for (const answer of [first, second, third]) {
    assertEquals(answer.headers.get("idempotent-replayed"), null);
  }
  const reused = await encrypt(SERVER, { user_id: two.userId, ...card(AMEX) }, key);
  assertProblem(reused, 422, "idempotency_key_reused");
});

test("a missing key is 400, a bad one too; quotes around it are no part of it", async () => {
  const user = await newUser();
  assertProblem(await encrypt(user, card(VISA), null), 400, "idempotency_key_required", []);
  for (const key of ["", " ", '""']) {
    assertProblem(await encrypt(user, card(VISA), key), 400, "idempotency_key_required", []);
  }
  for (const key of ["x".repeat(256), "a b", "a\tb", "clé"]) {
    assertProblem(await encrypt(user, card(VISA), key), 400, "invalid_request", [
      { parameter: "Idempotency-Key", code: "invalid_idempotency_key" },
    ]);
  }
  assertEquals(await rowsOf(user.userId), NO_ROWS);
  const key = "x".repeat(255);
  const first = await encrypt(user, card(VISA), key);
  assertEquals(first.status, 201);
  const quoted = await encrypt(user, card(VISA), `"${key}"`);
  assertEquals([quoted.status, quoted.headers.get("idempotent-replayed")], [201, "true"]);
});

test("a request that was refused does not use its key up", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  assertProblem(await encrypt(user, card("4242424242424241"), key), 422, "validation_failed");
  assertEquals((await encrypt(user, card(VISA), key)).status, 201);
});

test("an expired key starts anew", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const first = await encrypt(user, card(VISA), key);
  await sql(
    `update kms.idempotency_keys
     set lease_expires_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'
     where scope like $1`,
    [`user:${user.userId} %`],
  );
  const again = await encrypt(user, card(MASTERCARD), key);
  assertEquals([again.status, again.headers.get("idempotent-replayed")], [201, null]);
  assertNotEquals(paymentMethod(again).id, paymentMethod(first).id);
});

test("the request of a deleted card, repeated, is 404: nothing is told of it and nothing comes back", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const first = await encrypt(user, card(VISA), key);
  await manage(user, "DELETE", `/${paymentMethod(first).id}`);
  const again = await encrypt(user, card(VISA), key);
  assertProblem(again, 404, "not_found", []);
  assertEquals(await rowsOf(user.userId), NO_ROWS);
  const [kept] = await sql<{ response: string }>(
    "select response::text as response from kms.idempotency_keys where scope like $1",
    [`user:${user.userId} %`],
  );
  assertEquals(JSON.parse(kept?.response ?? ""), { results: [{ outcome: "gone" }] });
});

test("neither the key nor the payload is stored, only keyed hashes and the masked answer", async () => {
  const user = await newUser();
  const key = `my-key-${crypto.randomUUID()}`;
  await encrypt(user, card(VISA, { card: { cardholder_name: "Ada Lovelace" } }), key);
  const rows = await sql<Record<string, unknown>>(
    `select scope, key_hash, request_hash, response::text as response
     from kms.idempotency_keys where scope like $1`,
    [`user:${user.userId} %`],
  );
  assertEquals(rows.length, 1);
  const text = JSON.stringify(rows);
  for (const value of [key, VISA, "Lovelace"]) assert(!text.includes(value), text);
  assertMatch(String(rows[0]?.key_hash), /^[0-9a-f]{64}$/);
  assertMatch(String(rows[0]?.request_hash), /^[0-9a-f]{64}$/);
});

async function until(done: () => Promise<boolean>): Promise<void> {
  for (let round = 0; round < 600; round++) {
    if (await done()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("what the test waits for did not happen");
}

/** The function as one that waits for KMS with every message, long enough for what is done meanwhile. */
const PATIENT = { ...EVERY_CALL, KMS_TIMEOUT_MS: "30000", KMS_ATTEMPT_TIMEOUT_MS: "15000" };

test("a crash between two writes: nothing half stored, 409, and success after the lease", async () => {
  const stack = await sharedStack();
  await stack.restartFunction(ENCRYPT, PATIENT);
  const user = await newUser();
  await encrypt(user, { data_class: "general", data: { warm: "up" } });
  const stored = await rowsOf(user.userId);
  const key = crypto.randomUUID();
  const leases = () =>
    sql<{ response: unknown }>(
      "select response from kms.idempotency_keys where scope like $1 and response is null",
      [`user:${user.userId} %`],
    );
  stack.aws.faults.set([{
    service: "kms",
    operation: "GenerateDataKey",
    effect: { kind: "blackhole" },
  }]);
  try {
    const dying = encrypt(user, card(VISA), key);
    await until(async () => (await leases()).length === 1);
    const meanwhile = await encrypt(user, card(VISA), key);
    assertProblem(meanwhile, 409, "idempotency_in_flight", []);
    await stack.restartFunction(ENCRYPT, PATIENT);
    assert((await dying).status >= 500);
  } finally {
    stack.aws.faults.clear();
  }
  assertEquals(await rowsOf(user.userId), stored);

  const early = await encrypt(user, card(VISA), key);
  assertProblem(early, 409, "idempotency_in_flight", []);
  const retryAfter = Number(early.headers.get("retry-after"));
  assert(retryAfter >= 1 && retryAfter <= 60, early.headers.get("retry-after") ?? "none");
  const reused = await encrypt(user, card(MASTERCARD), key);
  assertProblem(reused, 422, "idempotency_key_reused");

  await sql(
    `update kms.idempotency_keys set lease_expires_at = now() - interval '1 second'
     where scope like $1 and response is null`,
    [`user:${user.userId} %`],
  );
  const late = await encrypt(user, card(VISA), key);
  assertEquals(late.status, 201, late.text);
  assertEquals(late.headers.get("idempotent-replayed"), null);
  assertEquals((await encrypt(user, card(VISA), key)).text, late.text);
  assertEquals(await rowsOf(user.userId), {
    ...stored,
    payment_methods: 1,
    ciphertexts: 2,
    card_fingerprints: 1,
  });
});

test("a slow request whose lease was taken over stores nothing", async () => {
  const stack = await sharedStack();
  await stack.restartFunction(ENCRYPT, PATIENT);
  const user = await newUser();
  const key = crypto.randomUUID();
  stack.aws.faults.set([{
    service: "kms",
    operation: "GenerateDataKey",
    effect: { kind: "latency", ms: 6000 },
    times: 1,
  }]);
  const slow = encrypt(user, card(VISA), key);
  const mine = [`user:${user.userId} %`];
  await until(async () =>
    (await sql("select 1 from kms.idempotency_keys where scope like $1", mine)).length === 1
  );
  await until(() => Promise.resolve(stack.aws.faults.rules().every((rule) => rule.times === 0)));
  await sql(
    `update kms.idempotency_keys set lease_expires_at = now() - interval '1 second'
     where scope like $1`,
    mine,
  );
  const fast = await encrypt(user, card(VISA), key);
  assertEquals(fast.status, 201, fast.text);
  const answer = await slow;
  stack.aws.faults.clear();
  assertProblem(answer, 409, "idempotency_in_flight", []);
  assertEquals((await encrypt(user, card(VISA), key)).text, fast.text);
  assertEquals((await rowsOf(user.userId)).ciphertexts, 1);
});
