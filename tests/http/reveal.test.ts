/** Plaintext leaves for a stated purpose only, to those who may see it, and never unaudited. */
import { assert, assertEquals } from "@std/assert";
import { mintJwt, sharedStack } from "../support/stack.ts";
import {
  AMEX,
  type Answer,
  assertNowhere,
  assertProblem,
  auditOf,
  type Caller,
  encrypt,
  MANAGE,
  manage,
  MASTERCARD,
  newUser,
  NEXT_YEAR,
  paymentMethod,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "./suite.ts";

interface User {
  readonly userId: string;
  readonly token: string;
}

function reveal(user: User, id: string, purpose: unknown = "charge"): Promise<Answer> {
  return manage(SERVER, "POST", `/${id}/reveal`, { user_id: user.userId, purpose });
}

async function secondFactor(user: User): Promise<Caller> {
  return {
    token: await mintJwt(await sharedStack(), {
      sub: user.userId,
      role: "authenticated",
      aud: "authenticated",
      aal: "aal2",
    }),
  };
}

test("a server reveals a card: the payment method and its card, audited with the purpose", async () => {
  const user = await newUser();
  const stored = await store(user, VISA, { card: { cardholder_name: "Ada Lovelace" } });
  const answer = await reveal(user, stored.id, "charge.order:2026-1_a");
  assertEquals(answer.status, 200, answer.text);
  assertEquals(answer.headers.get("cache-control"), "no-store");
  assertEquals(answer.body as unknown, {
    payment_method: {
      ...stored,
      card: {
        number: VISA,
        exp_month: 12,
        exp_year: NEXT_YEAR,
        cardholder_name: "Ada Lovelace",
        billing_address: null,
      },
    },
  });
  const [, entry] = await auditOf(stored.id);
  assertEquals(entry, {
    action: "payment_method.reveal",
    outcome: "success",
    error_code: null,
    actor_type: "secret_key",
    actor_id: "default",
    owner_id: user.userId,
    purpose: "charge.order:2026-1_a",
    request_id: answer.headers.get("x-request-id") ?? "",
  });
});

test("a reveal without a good purpose is 422", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const cases: readonly (readonly [unknown, string, string])[] = [
    [{}, "/purpose", "missing_field"],
    [{ purpose: 1 }, "/purpose", "wrong_type"],
    [{ purpose: "" }, "/purpose", "invalid_purpose"],
    [{ purpose: "two words" }, "/purpose", "invalid_purpose"],
    [{ purpose: "x".repeat(65) }, "/purpose", "invalid_purpose"],
    [{ purpose: `p${VISA}` }, "/purpose", "card_number_in_text"],
    [{ purpose: "p1234567890123" }, "/purpose", "card_number_in_text"],
    [{ purpose: "ok", fields: ["number"] }, "/fields", "unknown_field"],
  ];
  for (const [body, pointer, code] of cases) {
    const answer = await manage(SERVER, "POST", `/${id}/reveal?user_id=${user.userId}`, body);
    assertProblem(answer, 422, "validation_failed", [{ pointer, code }]);
    assertNowhere(answer, [VISA]);
  }
  assertEquals((await auditOf(id)).map((entry) => entry.action), ["payment_method.create"]);
});

test("a user may not reveal, with one factor or two, and each try is audited", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  for (const caller of [user, await secondFactor(user)]) {
    const answer = await manage(caller, "POST", `/${id}/reveal`, { purpose: "mine" });
    assertProblem(answer, 403, "reveal_not_allowed", []);
    assertNowhere(answer, [VISA]);
    const tries = await sql<{ action: string; error_code: string; actor_id: string }>(
      "select action, error_code, actor_id from kms.audit_log where request_id = $1",
      [answer.headers.get("x-request-id")],
    );
    assertEquals(tries, [{
      action: "payment_method.reveal",
      error_code: "reveal_not_allowed",
      actor_id: user.userId,
    }]);
  }
  // No difference between an own row, a stranger's and none at all.
  const none = await manage(user, "POST", `/${crypto.randomUUID()}/reveal`, { purpose: "mine" });
  assertProblem(none, 403, "reveal_not_allowed");
});

test("KMS_USER_REVEAL=aal2 lets a user with a second factor reveal their own", async () => {
  const stack = await sharedStack();
  const [user, stranger] = [await newUser(), await newUser()];
  const { id } = await store(user, VISA);
  await stack.restartFunction(MANAGE, { KMS_USER_REVEAL: "aal2" });
  try {
    const purpose = { purpose: "show_to_owner" };
    const strong = await manage(await secondFactor(user), "POST", `/${id}/reveal`, purpose);
    assertEquals(strong.status, 200, strong.text);
    assertEquals((strong.body.payment_method?.card as { number: string }).number, VISA);
    const weak = await manage(user, "POST", `/${id}/reveal`, purpose);
    assertProblem(weak, 403, "reveal_not_allowed");
    const other = await manage(await secondFactor(stranger), "POST", `/${id}/reveal`, purpose);
    assertProblem(other, 404, "not_found");
    const entries = (await auditOf(id)).filter((entry) => entry.outcome === "success");
    assertEquals(entries.map((entry) => [entry.action, entry.actor_type, entry.actor_id]), [
      ["payment_method.create", "user", user.userId],
      ["payment_method.reveal", "user", user.userId],
    ]);
  } finally {
    await stack.restartFunction(MANAGE, {});
  }
});

test("when the audit entry cannot be written, nothing is revealed", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  await sql(
    "alter table kms.audit_log add constraint no_such_purpose check (purpose <> 'unwritable')",
  );
  try {
    const answer = await reveal(user, id, "unwritable");
    assertEquals(answer.status, 500, answer.text);
    assertProblem(answer, 500, "internal_error");
    assertNowhere(answer, [VISA]);
  } finally {
    await sql("alter table kms.audit_log drop constraint no_such_purpose");
  }
  assertEquals((await reveal(user, id)).status, 200);
});

async function messageOf(id: string, field = "number"): Promise<string> {
  const [row] = await sql<{ message: string }>(
    "select message from kms.ciphertexts where record_id = $1 and field = $2",
    [id, field],
  );
  assert(row !== undefined);
  return row.message;
}

async function replace(id: string, message: string, field = "number"): Promise<void> {
  await sql("update kms.ciphertexts set message = $1 where record_id = $2 and field = $3", [
    message,
    id,
    field,
  ]);
}

function flipped(message: string, position: number): string {
  const bytes = Uint8Array.from(atob(message), (char) => char.charCodeAt(0));
  const index = position < 0 ? bytes.length + position : position;
  bytes[index] = (bytes[index] ?? 0) ^ 1;
  return btoa(String.fromCharCode(...bytes));
}

test("a stored message that was tampered with is 500 decryption_failed, alike in every case", async () => {
  const [user, other] = [await newUser(), await newUser()];
  const named = { card: { cardholder_name: "Ada Lovelace" } };
  const { id } = await store(user, VISA, named);
  const sibling = await store(user, MASTERCARD, named);
  const stranger = await store(other, VISA, named);
  const record = await encrypt(user, { data_class: "pii", data: { number: VISA } });
  const recordId = record.body.record?.id ?? "";
  const original = await messageOf(id);
  const { length } = atob(original);
  const cases: Record<string, string> = {
    "the message of another row": await messageOf(sibling.id),
    "the message of another owner": await messageOf(stranger.id),
    "the message of another field": await messageOf(id, "cardholder_name"),
    "the message of another table and class": await messageOf(recordId, "data"),
    "its message id": flipped(original, 10),
    "its encryption context": flipped(original, 60),
    "its encrypted data key": flipped(original, Math.floor(length * 0.65)),
    "its header tag": flipped(original, -100),
    "its ciphertext": flipped(original, -20),
    "its tag": flipped(original, -1),
  };
  const bodies = new Set<string>();
  for (const [what, message] of Object.entries(cases)) {
    const before = (await auditOf(id)).length;
    await replace(id, message);
    const answer = await reveal(user, id);
    assertEquals([answer.status, answer.body.code], [500, "decryption_failed"], what);
    assertProblem(answer, 500, "decryption_failed", []);
    assertNowhere(answer, [VISA, MASTERCARD, "Lovelace"]);
    const { request_id: _, ...rest } = answer.body;
    bodies.add(JSON.stringify(rest));
    const added = (await auditOf(id)).slice(before);
    assertEquals(
      added.map((entry) => [entry.action, entry.outcome, entry.error_code, entry.purpose]),
      [["payment_method.reveal", "failure", "decryption_failed", "charge"]],
      what,
    );
  }
  assertEquals(bodies.size, 1);
  await replace(id, original);
  assertEquals((await reveal(user, id)).status, 200, "the row itself was never the problem");
});

test("two rows whose messages were swapped both fail, and neither shows the other's card", async () => {
  const user = await newUser();
  const [one, two] = [await store(user, VISA), await store(user, AMEX)];
  const [messageOne, messageTwo] = [await messageOf(one.id), await messageOf(two.id)];
  await replace(one.id, messageTwo);
  await replace(two.id, messageOne);
  for (const { id } of [one, two]) {
    const answer = await reveal(user, id);
    assertProblem(answer, 500, "decryption_failed", []);
    assertNowhere(answer, [VISA, AMEX]);
  }
});

test("a tampered second field fails the whole reveal", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA, { card: { cardholder_name: "Ada" } });
  await replace(id, flipped(await messageOf(id, "cardholder_name"), -1), "cardholder_name");
  const answer = await reveal(user, id);
  assertProblem(answer, 500, "decryption_failed", []);
  assertNowhere(answer, [VISA]);
});

test("a card whose ciphertext is gone fails the same way, and can still be deleted", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  await sql("delete from kms.ciphertexts where record_id = $1", [id]);
  assertProblem(await reveal(user, id), 500, "decryption_failed", []);
  assertEquals((await auditOf(id)).at(-1)?.error_code, "decryption_failed");
  assertEquals(paymentMethod(await manage(user, "GET", `/${id}`)).id, id);
  assertEquals((await manage(user, "DELETE", `/${id}`)).status, 204);
});

test("a tampered record fails like a tampered card", async () => {
  const user = await newUser();
  const one = await encrypt(user, { data_class: "pii", data: { name: "Ada Lovelace" } });
  const two = await encrypt(user, { data_class: "general", data: { name: "Grace Hopper" } });
  const [pii, general] = [one.body.record?.id ?? "", two.body.record?.id ?? ""];
  await replace(pii, await messageOf(general, "data"), "data");
  const answer = await manage(SERVER, "POST", `/records/${pii}/reveal`, {
    user_id: user.userId,
    purpose: "test",
  });
  assertProblem(answer, 500, "decryption_failed", []);
  assertNowhere(answer, ["Lovelace", "Grace"]);
  assertEquals((await auditOf(pii)).at(-1)?.error_code, "decryption_failed");
});
