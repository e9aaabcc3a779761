/** What is down when: 503 with Retry-After, nothing half stored, and nothing lost. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { call, EVERY_CALL, sharedStack as startedStack } from "../support/stack.ts";
import {
  AMEX,
  type Answer,
  assertNowhere,
  assertProblem,
  auditOf,
  card,
  ENCRYPT,
  encrypt,
  MANAGE,
  manage,
  newUser,
  NO_ROWS,
  paymentMethod,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "./suite.ts";

function assertOutage(answer: Answer, code: string): void {
  assertProblem(answer, 503, code, []);
  assertMatch(answer.headers.get("retry-after") ?? "", /^[1-9]\d*$/);
  assertNowhere(answer, [VISA, AMEX, "arn:", "127.0.0.1", " at "]);
}

/** Deno 2.1.4 notices a connection that was closed unanswered only by the deadline. */
const SHORT_DEADLINE = { ...EVERY_CALL, KMS_TIMEOUT_MS: "3000" };

let shortened: Promise<unknown> | undefined;

/** The stack of this file, its functions with a short deadline for KMS. */
async function sharedStack() {
  const stack = await startedStack();
  shortened ??= Promise.all(
    [ENCRYPT, MANAGE].map((name) => stack.restartFunction(name, SHORT_DEADLINE)),
  );
  await shortened;
  return stack;
}

/** Functions with other settings, for as long as `work` runs. */
async function withSettings(
  env: Record<string, string>,
  work: () => Promise<void>,
): Promise<void> {
  const stack = await sharedStack();
  const all = (settings: Record<string, string>) =>
    Promise.all(
      [ENCRYPT, MANAGE].map((name) =>
        stack.restartFunction(name, { ...SHORT_DEADLINE, ...settings })
      ),
    );
  await all(env);
  try {
    await work();
  } finally {
    stack.aws.faults.clear();
    await all({});
  }
}

async function idempotencyRows(userId: string): Promise<number> {
  const [row] = await sql<{ count: number }>(
    "select count(*)::int as count from kms.idempotency_keys where scope like $1",
    [`user:${userId} %`],
  );
  return row?.count ?? -1;
}

const CARD = card(VISA, { card: { cardholder_name: "Ada", billing_address: { city: "X" } } });

test("KMS down: 503, nothing stored, and the same key succeeds once KMS is back", async () => {
  const { aws } = await sharedStack();
  await store(await newUser(), AMEX);
  const effects = [
    [{ kind: "refuse" }, "kms_unavailable"],
    [{ kind: "drop_after" }, "kms_unavailable"],
    [{ kind: "error", name: "ThrottlingException" }, "kms_unavailable"],
    [{ kind: "error", name: "KMSInternalException" }, "kms_unavailable"],
    [{ kind: "error", name: "AccessDeniedException" }, "kms_access_denied"],
    [{ kind: "error", name: "DisabledException" }, "kms_key_unusable"],
    [{ kind: "error", name: "NotFoundException" }, "kms_key_unusable"],
  ] as const;
  for (const [effect, code] of effects) {
    const user = await newUser();
    const key = crypto.randomUUID();
    aws.faults.set([{ service: "kms", effect }]);
    try {
      assertOutage(await encrypt(user, CARD, key), code);
      assertOutage(await encrypt(user, { items: [CARD, CARD] }), code);
      assertOutage(await encrypt(user, { data_class: "pii", data: { a: 1 } }), code);
    } finally {
      aws.faults.clear();
    }
    assertEquals(await rowsOf(user.userId), NO_ROWS);
    assertEquals(await idempotencyRows(user.userId), 0);
    const retry = await encrypt(user, CARD, key);
    assertEquals([retry.status, retry.headers.get("idempotent-replayed")], [201, null], retry.text);
    assertEquals((await rowsOf(user.userId)).ciphertexts, 3);
  }
});

test("KMS that fails in the middle of a batch: nothing of the batch is stored", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const items = Array.from({ length: 40 }, (_, n) => ({ data_class: "general", data: { n } }));
  await store(user, VISA);
  const key = crypto.randomUUID();
  aws.resetCalls();
  aws.faults.set([{ service: "kms", effect: { kind: "latency", ms: 200 } }]);
  try {
    const answer = encrypt(user, { items }, key);
    while (!aws.calls().some((record) => record.operation === "GenerateDataKey")) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
    assertOutage(await answer, "kms_unavailable");
  } finally {
    aws.faults.clear();
  }
  assertEquals((await rowsOf(user.userId)).encrypted_records, 0);
  assertEquals((await encrypt(user, { items }, key)).status, 200);
  assertEquals((await rowsOf(user.userId)).encrypted_records, 40);
});

test("KMS that hangs: 503 within the deadline", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  await withSettings({ KMS_TIMEOUT_MS: "500" }, async () => {
    assertEquals((await encrypt(user, card(VISA))).status, 200);
    aws.faults.set([{ service: "kms", effect: { kind: "blackhole" } }]);
    assertOutage(await encrypt(user, card(AMEX)), "kms_unavailable");
    const reveal = await manage(SERVER, "POST", `/${id}/reveal`, {
      user_id: user.userId,
      purpose: "test",
    });
    assertOutage(reveal, "kms_unavailable");
  });
  assertEquals((await rowsOf(user.userId)).payment_methods, 1);
});

test("KMS down: masked data is still served, and a reveal is refused and audited", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const stored = await store(user, VISA);
  aws.faults.set([{ effect: { kind: "refuse" } }]);
  try {
    assertEquals((await manage(user, "GET", "")).body.payment_methods, [stored]);
    assertEquals((await manage(user, "PATCH", `/${stored.id}`, { nickname: "n" })).status, 200);
    assertEquals((await manage(user, "POST", `/${stored.id}/default`)).status, 200);
    const named = await manage(user, "PATCH", `/${stored.id}`, {
      nickname: "changed",
      cardholder_name: "Ada",
    });
    assertOutage(named, "kms_unavailable");
    const after = paymentMethod(await manage(user, "GET", `/${stored.id}`));
    assertEquals([after.nickname, (await rowsOf(user.userId)).ciphertexts], ["n", 1]);
    const reveal = await manage(SERVER, "POST", `/${stored.id}/reveal`, {
      user_id: user.userId,
      purpose: "charge",
    });
    assertOutage(reveal, "kms_unavailable");
    const last = (await auditOf(stored.id)).at(-1);
    assertEquals([last?.action, last?.outcome, last?.error_code], [
      "payment_method.reveal",
      "failure",
      "kms_unavailable",
    ]);
    assertEquals((await manage(user, "DELETE", `/${stored.id}`)).status, 204);
  } finally {
    aws.faults.clear();
  }
});

test("STS down or denying: 503 for a new worker, success when it is back", async () => {
  const { aws } = await sharedStack();
  for (
    const [effect, code] of [
      [{ kind: "refuse" }, "kms_unavailable"],
      [{ kind: "error", name: "AccessDenied" }, "kms_access_denied"],
      [{ kind: "error", name: "ExpiredToken" }, "kms_access_denied"],
    ] as const
  ) {
    const user = await newUser();
    const key = crypto.randomUUID();
    aws.faults.set([{ service: "sts", effect }]);
    await withSettings({}, async () => {
      assertOutage(await encrypt(user, CARD, key), code);
      assertEquals(await rowsOf(user.userId), NO_ROWS);
      aws.faults.clear();
      assertEquals((await encrypt(user, CARD, key)).status, 201);
    });
  }
});

test("STS down: a worker with a session goes on", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  await store(user, AMEX);
  aws.faults.set([{ service: "sts", effect: { kind: "refuse" } }]);
  try {
    assertEquals((await encrypt(user, card(VISA))).status, 201);
  } finally {
    aws.faults.clear();
  }
});

test("database down: 503 on every route, nothing revealed, and nothing lost", async () => {
  const user = await newUser();
  const stored = await store(user, VISA);
  const key = crypto.randomUUID();
  const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = closed.addr as Deno.NetAddr;
  closed.close();
  await withSettings({ SUPABASE_URL: `http://127.0.0.1:${port}` }, async () => {
    const named = `?user_id=${user.userId}`;
    const answers = [
      await encrypt(user, card(AMEX), key),
      await encrypt(user, { items: [card(AMEX)] }),
      await manage(user, "GET", ""),
      await manage(user, "GET", `/${stored.id}`),
      await manage(user, "PATCH", `/${stored.id}`, { nickname: "x" }),
      await manage(user, "POST", `/${stored.id}/default`),
      await manage(user, "DELETE", `/${stored.id}`),
      await manage(user, "POST", `/${stored.id}/reveal`, { purpose: "x" }),
      await manage(SERVER, "POST", `/${stored.id}/reveal${named}`, { purpose: "x" }),
      await manage(user, "GET", "/records"),
    ];
    for (const answer of answers) assertOutage(answer, "database_unavailable");
  });
  assertEquals((await manage(user, "GET", "")).body.payment_methods, [stored]);
  assertEquals((await encrypt(user, card(AMEX), key)).status, 201);
});

test("a database that refuses the work in hand: 503 for its own faults, and nothing stored", async () => {
  const user = await newUser();
  const key = crypto.randomUUID();
  await store(user, AMEX);
  await sql(`create function kms.test_fault() returns trigger language plpgsql as $$
    begin raise exception 'out of space' using errcode = '53100'; end $$`);
  await sql(`create trigger test_fault before insert on kms.ciphertexts
    for each row execute function kms.test_fault()`);
  try {
    assertOutage(await encrypt(user, CARD, key), "database_unavailable");
  } finally {
    await sql("drop trigger test_fault on kms.ciphertexts");
    await sql("drop function kms.test_fault()");
  }
  assertEquals((await rowsOf(user.userId)).payment_methods, 1);
  assertEquals((await encrypt(user, CARD, key)).status, 201);
});

test("an invalid configuration: 503 configuration_invalid that names nothing", async () => {
  const stack = await sharedStack();
  const user = await newUser();
  await withSettings({ KMS_PAYMENT_ALIAS: "", AWS_REGION: "atlantis" }, async () => {
    const answers = [
      await encrypt(user, card(VISA)),
      await encrypt({}, card(VISA)),
      await manage(user, "GET", ""),
    ];
    for (const answer of answers) {
      assertOutage(answer, "configuration_invalid");
      assertNowhere(answer, ["KMS_PAYMENT_ALIAS", "AWS_REGION", "atlantis"]);
    }
    const log = stack.functionLog(ENCRYPT);
    assert(log.includes("KMS_PAYMENT_ALIAS") && log.includes("AWS_REGION"), log);
    assert(!log.includes("atlantis"), log);
  });
  assertEquals((await manage(user, "GET", "")).status, 200);
});

test("KMS_CARD_BRANDS narrows what is accepted", async () => {
  const user = await newUser();
  await withSettings({ KMS_CARD_BRANDS: "visa" }, async () => {
    assertEquals((await encrypt(user, card(VISA))).status, 201);
    assertProblem(await encrypt(user, card(AMEX)), 422, "validation_failed", [
      { pointer: "/card/number", code: "unsupported_card_brand" },
    ]);
  });
});

test("a key that was disabled: nothing new is stored, and the old data is back with the key", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  const [row] = await sql<{ kms_key_arn: string }>(
    "select kms_key_arn from kms.ciphertexts where record_id = $1",
    [id],
  );
  const named = { user_id: user.userId, purpose: "test" };
  await aws.asOperator("us-east-1", "DisableKey", { KeyId: row?.kms_key_arn });
  try {
    assertOutage(await encrypt(user, card(AMEX)), "kms_key_unusable");
    assertOutage(await manage(SERVER, "POST", `/${id}/reveal`, named), "kms_key_unusable");
    const general = await encrypt(user, { data_class: "general", data: { a: 1 } });
    assertEquals(general.status, 201, "other classes have keys of their own");
  } finally {
    await aws.asOperator("us-east-1", "EnableKey", { KeyId: row?.kms_key_arn });
  }
  assertEquals((await manage(SERVER, "POST", `/${id}/reveal`, named)).status, 200);
});

test("data encrypted by one worker is read by the next", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  await withSettings({}, async () => {
    const answer = await manage(SERVER, "POST", `/${id}/reveal`, {
      user_id: user.userId,
      purpose: "test",
    });
    assertEquals((answer.body.payment_method?.card as { number: string }).number, VISA);
    assertEquals((await encrypt(user, card(VISA))).status, 200);
  });
});

test("a client that hangs up ends the work: KMS is asked no more, and the key is free at once", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const patient = {
    KMS_TIMEOUT_MS: "30000",
    KMS_ATTEMPT_TIMEOUT_MS: "1000",
    KMS_RETRY_ATTEMPTS: "5",
  };
  const hierarchical = { KMS_PAYMENT_KEYRING: "hierarchical", KMS_PII_KEYRING: "hierarchical" };
  // Asked for every use, asked once for all who wait, and the direct keyring.
  for (const settings of [hierarchical, { ...hierarchical, KMS_DATA_KEY_TTL_MS: "300000" }, {}]) {
    await withSettings({ ...patient, ...settings }, async () => {
      if (!("KMS_DATA_KEY_TTL_MS" in settings)) {
        const first = await encrypt(user, card(AMEX));
        assert(first.status === 201 || first.status === 200, first.text);
      }
      // Not DescribeKey: what an alias stands for is asked once a worker, for all its requests.
      // The first request of a process under `deno serve` does not hear of a hang-up.
      const other = await encrypt(user, { data_class: "general", data: { a: 1 } });
      assertEquals(other.status, 201, other.text);
      aws.faults.set(
        ["Decrypt", "GenerateDataKey"].map((operation) => ({
          operation,
          effect: { kind: "blackhole" },
        })),
      );
      aws.resetCalls();
      const key = crypto.randomUUID();
      const client = new AbortController();
      const stack = await sharedStack();
      const left = call(stack, ENCRYPT, "", {
        token: user.token,
        json: CARD,
        headers: { "idempotency-key": key },
        signal: client.signal,
      }).catch((error) => error.name);
      const calls = () => aws.calls().filter(({ fault }) => fault === "blackhole").length;
      await until(() => calls() > 0);
      client.abort();
      assertEquals(await left, "AbortError");
      await new Promise((resolve) => setTimeout(resolve, 200));
      const made = calls();
      await new Promise((resolve) => setTimeout(resolve, 2500));
      assertEquals(calls(), made, JSON.stringify(settings));
      aws.faults.clear();
      const again = await encrypt(user, CARD, key);
      assert(again.status === 201 || again.status === 200, again.text);
      assertEquals(again.headers.get("idempotent-replayed"), null);
    });
  }
});

async function until(holds: () => boolean): Promise<void> {
  for (let round = 0; !holds() && round < 400; round++) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
