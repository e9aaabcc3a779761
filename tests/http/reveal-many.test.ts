/** Many cards at once, for servers: each answered in its place, all audited in one commit. */
import { assert, assertEquals } from "@std/assert";
import { sharedStack } from "../support/stack.ts";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  auditOf,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "./suite.ts";

function revealMany(body: unknown) {
  return manage(SERVER, "POST", "/reveal", body);
}

function cardOf(result: unknown): unknown {
  return (result as { payment_method?: { card?: { number?: unknown } } }).payment_method?.card
    ?.number;
}

test("cards of several users come back in the order asked for", async () => {
  const [ada, bob] = [await newUser(), await newUser()];
  const [visa, amex, mastercard] = [
    await store(ada, VISA),
    await store(ada, AMEX),
    await store(bob, MASTERCARD),
  ];
  const answer = await revealMany({
    purpose: "settlement",
    user_id: ada.userId,
    items: [
      { id: amex.id },
      { id: mastercard.id, user_id: bob.userId },
      { id: visa.id.toUpperCase() },
      { id: amex.id },
    ],
  });
  assertEquals(answer.status, 200, answer.text);
  const results = answer.body.results ?? [];
  assertEquals(results.map(({ index, status }) => [index, status]), [
    [0, 200],
    [1, 200],
    [2, 200],
    [3, 200],
  ]);
  assertEquals(results.map(cardOf), [AMEX, MASTERCARD, VISA, AMEX]);
  const requestId = answer.headers.get("x-request-id");
  const entries = await sql<{ record_id: string; outcome: string; purpose: string }>(
    `select record_id, outcome, purpose from kms.audit_log
     where request_id::text = $1 order by chain_day, seq`,
    [requestId],
  );
  assertEquals(entries.map(({ record_id }) => record_id), [
    amex.id,
    mastercard.id,
    visa.id,
    amex.id,
  ]);
  assert(
    entries.every(({ outcome, purpose }) => outcome === "success" && purpose === "settlement"),
  );
});

test("what cannot be revealed is a problem in its place, and takes no other down", async () => {
  const [ada, bob] = [await newUser(), await newUser()];
  const [good, broken, foreign] = [
    await store(ada, VISA),
    await store(ada, AMEX),
    await store(bob, MASTERCARD),
  ];
  await sql(
    `update kms.ciphertexts set message = (
       select message from kms.ciphertexts where record_id = $1 and field = 'number')
     where record_id = $2 and field = 'number'`,
    [good.id, broken.id],
  );
  const answer = await revealMany({
    purpose: "settlement",
    user_id: ada.userId,
    items: [{ id: broken.id }, { id: foreign.id }, { id: good.id }],
  });
  const results = answer.body.results ?? [];
  assertEquals(results.map(({ status, problem }) => [status, problem?.code]), [
    [500, "decryption_failed"],
    [404, "not_found"],
    [200, undefined],
  ]);
  assertEquals(cardOf(results[2]), VISA);
  assertNowhere(answer, [AMEX, MASTERCARD]);
  assertEquals((await auditOf(broken.id)).at(-1)?.error_code, "decryption_failed");
  assertEquals((await auditOf(foreign.id)).at(-1)?.error_code, "not_found");
});

test("100 cards are one request, 101 are too many, none are too few", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const items = (count: number) => Array.from({ length: count }, () => ({ id }));
  const full = await revealMany({ purpose: "p", user_id: user.userId, items: items(100) });
  assertEquals(full.body.results?.map(cardOf), Array(100).fill(VISA));
  for (const count of [0, 101]) {
    const wrong = await revealMany({ purpose: "p", user_id: user.userId, items: items(count) });
    assertProblem(wrong, 422, "validation_failed");
    assertEquals(wrong.body.errors?.[0]?.pointer, "/items");
  }
});

test("users may not, whatever they name; servers must name a user and a purpose", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const asUser = await manage(user, "POST", "/reveal", { purpose: "p", items: [{ id }] });
  assertProblem(asUser, 403, "reveal_not_allowed");
  const bodies: [unknown, string][] = [
    [{ purpose: "p", items: [{ id }] }, "/user_id"],
    [{ user_id: user.userId, items: [{ id }] }, "/purpose"],
    [{ purpose: VISA, user_id: user.userId, items: [{ id }] }, "/purpose"],
    [{ purpose: "p", user_id: user.userId, items: [{ id: "1" }] }, "/items/0/id"],
    [{ purpose: "p", user_id: user.userId, items: [{ id, card: 1 }] }, "/items/0/card"],
    [{ purpose: "p", user_id: "1", items: [{ id }] }, "/user_id"],
  ];
  for (const [body, pointer] of bodies) {
    const answer = await revealMany(body);
    assertProblem(answer, 422, "validation_failed");
    assertEquals(answer.body.errors?.[0]?.pointer, pointer, answer.text);
    assertNowhere(answer, [VISA]);
  }
});

test("warm, a hundred reveals ask KMS for nothing", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  const body = {
    purpose: "p",
    user_id: user.userId,
    items: Array.from({ length: 100 }, () => ({ id })),
  };
  await revealMany(body);
  aws.resetCalls();
  assertEquals((await revealMany(body)).status, 200);
  assertEquals((await encrypt(user, { data_class: "payment" })).status, 422);
  assertEquals(aws.calls().filter(({ service }) => service === "kms"), []);
});
