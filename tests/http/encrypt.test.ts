/** The main job: a user signs up, sends a card, and sees a masked payment method. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { createClient } from "@supabase/supabase-js";
import { dataApi, sharedStack } from "../support/stack.ts";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  auditOf,
  card,
  ENCRYPT,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  NEXT_YEAR,
  NO_ROWS,
  type PaymentMethod,
  paymentMethod,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  TIMESTAMP,
  UUID,
  VISA,
} from "./suite.ts";

const TEST_CARDS: readonly (readonly [brand: string, number: string])[] = [
  ["visa", VISA],
  ["visa", "4000056655665556"],
  ["mastercard", MASTERCARD],
  ["mastercard", "2223003122003222"],
  ["amex", AMEX],
  ["discover", "6011111111111117"],
  ["diners", "3056930009020004"],
  ["diners", "36227206271667"],
  ["jcb", "3566002020360505"],
  ["unionpay", "6200000000000005"],
];

for (const [brand, number] of TEST_CARDS) {
  test(`a ${brand} card ending in ${number.slice(-4)} is stored and comes back masked`, async () => {
    const user = await newUser();
    const answer = await encrypt(user, card(number));
    assertEquals(answer.status, 201, answer.text);
    assertEquals(answer.headers.get("content-type"), "application/json");
    assertEquals(answer.headers.get("cache-control"), "no-store");
    assertMatch(answer.headers.get("x-request-id") ?? "", UUID);
    assertEquals(Object.keys(answer.body), ["payment_method"]);
    const { id, created_at, updated_at, ...rest } = paymentMethod(answer);
    assertEquals(rest, {
      user_id: user.userId,
      brand,
      last4: number.slice(-4),
      exp_month: 12,
      exp_year: NEXT_YEAR,
      nickname: null,
      is_default: false,
      data_class: "payment",
    });
    assertMatch(id, UUID);
    assertMatch(created_at, TIMESTAMP);
    assertMatch(updated_at, TIMESTAMP);
    assertEquals(
      answer.headers.get("location"),
      `/functions/v1/manage-payment-methods-kms/${id}`,
    );
    assertNowhere(answer, [number, number.slice(0, -4)]);

    const revealed = await manage(SERVER, "POST", `/${id}/reveal?user_id=${user.userId}`, {
      purpose: "charge",
    });
    assertEquals(revealed.status, 200, revealed.text);
    assertEquals(paymentMethod(revealed), {
      ...paymentMethod(answer),
      card: {
        number,
        exp_month: 12,
        exp_year: NEXT_YEAR,
        cardholder_name: null,
        billing_address: null,
      },
    } as PaymentMethod);
  });
}

test("spaces and hyphens in a card number are no part of it", async () => {
  const user = await newUser();
  const first = await encrypt(user, card("4242 4242-4242 4242"));
  assertEquals([first.status, paymentMethod(first).last4], [201, "4242"]);
  const again = await encrypt(user, card(VISA));
  assertEquals([again.status, paymentMethod(again).id], [200, paymentMethod(first).id]);
});

test("all optional fields are stored, and the encrypted ones are not in the answer", async () => {
  const user = await newUser();
  const address = {
    line1: "1 Rue de l’Été",
    line2: "Hof 3",
    city: "Zürich",
    state: "ZH",
    postal_code: "8001",
    country: "CH",
  };
  const answer = await encrypt(
    user,
    card(VISA, {
      nickname: "Reise 旅行 ✈️",
      set_default: true,
      card: { cardholder_name: "Zoë Müller-O’Hara", billing_address: address },
    }),
  );
  assertEquals(answer.status, 201, answer.text);
  const method = paymentMethod(answer);
  assertEquals([method.nickname, method.is_default], ["Reise 旅行 ✈️", true]);
  assertNowhere(answer, ["Müller", "Rue de"]);
  const revealed = await manage(SERVER, "POST", `/${method.id}/reveal`, {
    user_id: user.userId,
    purpose: "charge",
  });
  assertEquals(revealed.body.payment_method?.card, {
    number: VISA,
    exp_month: 12,
    exp_year: NEXT_YEAR,
    cardholder_name: "Zoë Müller-O’Hara",
    billing_address: address,
  });
});

test("the database holds ciphertext of our message format and no card number", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA, { card: { cardholder_name: "Ada Lovelace" } });
  const rows = await sql<{ field: string; message: string; kms_key_arn: string }>(
    "select field, message, kms_key_arn from kms.ciphertexts where record_id = $1 order by field",
    [id],
  );
  assertEquals(rows.map((row) => row.field), ["cardholder_name", "number"]);
  for (const { message, kms_key_arn } of rows) {
    assert(message.startsWith("AgR4"));
    assertMatch(kms_key_arn, /^arn:aws:kms:us-east-1:\d{12}:key\/mrk-/);
    const bytes = Uint8Array.from(atob(message), (char) => char.charCodeAt(0));
    const latin = String.fromCharCode(...bytes);
    assert(!latin.includes(VISA) && !latin.includes("Ada Lovelace"));
  }
  assertEquals(await rowsOf(user.userId), {
    payment_methods: 1,
    encrypted_records: 0,
    ciphertexts: 2,
    card_fingerprints: 1,
  });
  const trail = await auditOf(id);
  assertEquals(
    trail.map(({ action, outcome, actor_type, actor_id }) => ({
      action,
      outcome,
      actor_type,
      actor_id,
    })),
    [{
      action: "payment_method.create",
      outcome: "success",
      actor_type: "user",
      actor_id: user.userId,
    }],
  );
});

test("a user sees their own masked row through the Data API, and nobody else's", async () => {
  const [user, other] = [await newUser(), await newUser()];
  const { id } = await store(user, VISA);
  const own = await user.client.from("payment_methods").select("id,last4");
  assertEquals([own.error, own.data], [null, [{ id, last4: "4242" }]]);
  const theirs = await other.client.from("payment_methods").select("id,last4");
  assertEquals([theirs.error, theirs.data], [null, []]);
});

test("the same card twice is one payment method: 200, the same id, the new expiry", async () => {
  const user = await newUser();
  const first = await store(user, VISA, { nickname: "first" });
  const answer = await encrypt(
    user,
    card(VISA, { nickname: "second", set_default: true, card: { exp_month: 3 } }),
  );
  assertEquals(answer.status, 200, answer.text);
  const { updated_at, ...again } = paymentMethod(answer);
  const { updated_at: _, ...before } = first;
  assertEquals(again, { ...before, exp_month: 3, is_default: true });
  assertNotEquals(updated_at, first.updated_at);
  assertEquals((await rowsOf(user.userId)).ciphertexts, 1);
});

test("two users with the same card have a payment method each", async () => {
  const [one, two] = [await newUser(), await newUser()];
  assertNotEquals((await store(one, VISA)).id, (await store(two, VISA)).id);
  const [row] = await sql<{ fingerprints: number }>(
    `select count(distinct fingerprint)::int as fingerprints from kms.card_fingerprints
     where owner_id in ($1, $2)`,
    [one.userId, two.userId],
  );
  assertEquals(row?.fingerprints, 1);
});

test("supabase-js as a signed-in user encrypts and lists", async () => {
  const user = await newUser();
  const created = await user.client.functions.invoke(ENCRYPT, {
    body: card(VISA),
    headers: { "Idempotency-Key": crypto.randomUUID() },
  });
  assertEquals(created.error, null);
  assertEquals(created.data.payment_method.last4, "4242");
  const listed = await user.client.functions.invoke("manage-payment-methods-kms", {
    method: "GET",
  });
  assertEquals(listed.error, null);
  assertEquals(listed.data, {
    payment_methods: [created.data.payment_method],
    next_cursor: null,
  });
  const id = created.data.payment_method.id;
  const made = await user.client.functions.invoke(`manage-payment-methods-kms/${id}/default`);
  assertEquals([made.error, made.data.payment_method.is_default], [null, true]);
  const changed = await user.client.functions.invoke(`manage-payment-methods-kms/${id}`, {
    method: "PATCH",
    body: { nickname: "mine" },
  });
  assertEquals([changed.error, changed.data.payment_method.nickname], [null, "mine"]);
  const deleted = await user.client.functions.invoke(`manage-payment-methods-kms/${id}`, {
    method: "DELETE",
  });
  assertEquals(deleted.error, null);
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});

test("supabase-js after a password sign-up encrypts with the session it got", async () => {
  const stack = await sharedStack();
  const client = createClient(stack.apiUrl, stack.publishableKey, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
  const email = `user-${crypto.randomUUID()}@example.com`;
  const signedUp = await client.auth.signUp({ email, password: crypto.randomUUID() });
  assertEquals(signedUp.error, null);
  const { data, error } = await client.functions.invoke(ENCRYPT, {
    body: card(MASTERCARD),
    headers: { "Idempotency-Key": crypto.randomUUID() },
  });
  assertEquals(error, null);
  assertEquals(data.payment_method.user_id, signedUp.data.user?.id);
});

test("a server with the secret key works for the user it names", async () => {
  const stack = await sharedStack();
  const user = await newUser();
  const server = dataApi(stack, stack.secretKey);
  const created = await server.functions.invoke(ENCRYPT, {
    body: { user_id: user.userId, ...card(AMEX) },
    headers: { "Idempotency-Key": crypto.randomUUID() },
  });
  assertEquals(created.error, null);
  assertEquals(created.data.payment_method.user_id, user.userId);
  const { id } = created.data.payment_method;
  const revealed = await server.functions.invoke(`manage-payment-methods-kms/${id}/reveal`, {
    body: { user_id: user.userId, purpose: "charge" },
  });
  assertEquals([revealed.error, revealed.data.payment_method.card.number], [null, AMEX]);
  const [entry] = await auditOf(id);
  assertEquals([entry?.actor_type, entry?.actor_id], ["secret_key", "default"]);
  const listed = await manage(user, "GET", "");
  assertEquals(listed.body.payment_methods?.map((method) => method.id), [id]);
});

test("a server must name a user, a user must not, and the user must exist", async () => {
  const user = await newUser();
  assertProblem(await encrypt(SERVER, card(VISA)), 422, "validation_failed", [
    { pointer: "/user_id", code: "missing_field" },
  ]);
  assertProblem(
    await encrypt(SERVER, { user_id: "4242424242424242", ...card(VISA) }),
    422,
    "validation_failed",
    [{ pointer: "/user_id", code: "invalid_user_id" }],
  );
  assertProblem(
    await encrypt(user, { user_id: user.userId, ...card(VISA) }),
    422,
    "validation_failed",
    [{ pointer: "/user_id", code: "unknown_field" }],
  );
  const stranger = crypto.randomUUID();
  assertProblem(
    await encrypt(SERVER, { user_id: stranger, ...card(VISA) }),
    422,
    "validation_failed",
    [{ pointer: "/user_id", code: "unknown_user" }],
  );
  assertEquals(await rowsOf(stranger), NO_ROWS);
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});
