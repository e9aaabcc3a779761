/** Requests at the same time: one card, one default, one effect, whatever the order. */
import { assert, assertEquals } from "@std/assert";
import {
  AMEX,
  assertProblem,
  card,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  paymentMethod,
  rowsOf,
  sql,
  store,
  test,
  VISA,
} from "./suite.ts";

const CARDS = [VISA, MASTERCARD, AMEX, "6011111111111117", "3566002020360505"];

function times<T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => work(index)));
}

test("the very first requests of a new system, at once, agree on one beacon key", async () => {
  const user = await newUser();
  const answers = await times(8, () => encrypt(user, card(VISA)));
  assertEquals(new Set(answers.map((answer) => paymentMethod(answer).id)).size, 1);
  const rows = await sql<{ branch_key_id: string; type: string }>(
    "select branch_key_id, type from kms.branch_keys where type = 'beacon:ACTIVE'",
  );
  assertEquals(rows, [{ branch_key_id: "payment", type: "beacon:ACTIVE" }]);
});

test("the same card ten times at once is one payment method", async () => {
  const user = await newUser();
  const answers = await times(10, () => encrypt(user, card(VISA)));
  assertEquals(answers.map((answer) => answer.status).sort(), [...Array(9).fill(200), 201]);
  assertEquals(new Set(answers.map((answer) => paymentMethod(answer).id)).size, 1);
  assertEquals(await rowsOf(user.userId), {
    payment_methods: 1,
    encrypted_records: 0,
    ciphertexts: 1,
    card_fingerprints: 1,
  });
});

test("the same Idempotency-Key ten times at once has one effect", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const body = { data_class: "general", data: { a: 1 } };
  const answers = await times(10, () => encrypt(user, body, key));
  const originals = answers.filter((answer) =>
    answer.status === 201 && answer.headers.get("idempotent-replayed") === null
  );
  assertEquals(originals.length, 1);
  for (const answer of answers) {
    if (answer === originals[0]) continue;
    if (answer.status === 201) assertEquals(answer.text, originals[0]?.text);
    else {
      assertProblem(answer, 409, "idempotency_in_flight");
      assert(Number(answer.headers.get("retry-after")) >= 1);
    }
  }
  assertEquals((await rowsOf(user.userId)).encrypted_records, 1);
  assertEquals((await encrypt(user, body, key)).text, originals[0]?.text);
});

test("the same key with two payloads at once: one is stored, the other refused", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  const answers = await times(6, (index) => encrypt(user, card(CARDS[index % 2] ?? VISA), key));
  const stored = answers.filter((answer) => answer.status === 201);
  assert(stored.length >= 1);
  assertEquals(new Set(stored.map((answer) => paymentMethod(answer).id)).size, 1);
  for (const answer of answers) {
    assert(
      answer.status === 201 || answer.body.code === "idempotency_key_reused" ||
        answer.body.code === "idempotency_in_flight",
      answer.text,
    );
  }
  assert(answers.some((answer) => answer.body.code === "idempotency_key_reused"));
  assertEquals((await rowsOf(user.userId)).payment_methods, 1);
});

test("twenty calls that each choose a default leave exactly one", async () => {
  const user = await newUser();
  const ids: string[] = [];
  for (const number of CARDS) ids.push((await store(user, number)).id);
  const answers = await times(
    20,
    (index) => manage(user, "POST", `/${ids[index % ids.length]}/default`),
  );
  for (const answer of answers) {
    assertEquals(answer.status, 200, answer.text);
    assertEquals(paymentMethod(answer).is_default, true);
  }
  const list = await manage(user, "GET", "");
  assertEquals(list.body.payment_methods?.length, 5);
  assertEquals(list.body.payment_methods?.filter((method) => method.is_default).length, 1);
});

test("cards that are stored as the default at the same time leave exactly one", async () => {
  const user = await newUser();
  const answers = await times(
    5,
    (index) => encrypt(user, card(CARDS[index] ?? VISA, { set_default: true })),
  );
  assertEquals(answers.map((answer) => answer.status), [201, 201, 201, 201, 201]);
  const list = await manage(user, "GET", "");
  assertEquals(list.body.payment_methods?.filter((method) => method.is_default).length, 1);
});

test("one of several deletes at once succeeds, the others find nothing", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const answers = await times(5, () => manage(user, "DELETE", `/${id}`));
  assertEquals(answers.map((answer) => answer.status).sort(), [204, 404, 404, 404, 404]);
});

test("changes, defaults and a delete at once end in nothing or everything", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const answers = await times(12, (index) => {
    if (index === 5) return manage(user, "DELETE", `/${id}`);
    return index % 2 === 0
      ? manage(user, "PATCH", `/${id}`, { cardholder_name: `Name ${index}` })
      : manage(user, "POST", `/${id}/default`);
  });
  for (const answer of answers) assert([200, 204, 404].includes(answer.status), answer.text);
  assertEquals(await rowsOf(user.userId), {
    payment_methods: 0,
    encrypted_records: 0,
    ciphertexts: 0,
    card_fingerprints: 0,
  });
});

test("re-adding a card while it is deleted ends in one row or none, never a torn one", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const [deleted, added] = await Promise.all([
    manage(user, "DELETE", `/${id}`),
    encrypt(user, card(VISA)),
  ]);
  assertEquals(deleted.status, 204);
  const rows = await rowsOf(user.userId);
  assertEquals([rows.ciphertexts, rows.card_fingerprints], [
    rows.payment_methods,
    rows.payment_methods,
  ]);
  // Found before the delete: gone with it. Stored after it: a new row.
  assertEquals(added.status, rows.payment_methods === 1 ? 201 : 200, added.text);
});

test("two users' requests at once keep their rows apart", async () => {
  const users = [await newUser(), await newUser(), await newUser()];
  await times(12, (index) => encrypt(users[index % 3] ?? {}, card(CARDS[index % 4] ?? VISA)));
  for (const user of users) {
    const list = await manage(user, "GET", "");
    assertEquals(new Set(list.body.payment_methods?.map((method) => method.user_id)).size, 1);
    assertEquals(list.body.payment_methods?.[0]?.user_id, user.userId);
  }
});
