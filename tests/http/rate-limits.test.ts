/** Rate limits: counted exactly, per caller and address, before anything is written or revealed. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { eventually } from "../stack/eventually.ts";
import { call, sharedStack } from "../support/stack.ts";
import { ADMIN, admin } from "./admin.ts";
import {
  type Answer,
  assertProblem,
  auditOf,
  type Caller,
  card,
  ENCRYPT,
  encrypt,
  HEALTH,
  MANAGE,
  manage,
  newUser,
  paymentMethod,
  read,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "./suite.ts";

/** Longer than any test runs: no window ends by itself. */
const HOUR = 3600;

/** Runs `work` while the function has these limits, with every counter at nothing. */
async function limited(
  name: string,
  limits: Readonly<Record<string, number>>,
  work: () => Promise<void>,
  more: Readonly<Record<string, string>> = {},
): Promise<void> {
  const stack = await sharedStack();
  const env = Object.fromEntries(
    Object.entries(limits).map(([what, count]) => [`KMS_RATE_LIMIT_${what}`, `${count}/${HOUR}`]),
  );
  await sql("delete from kms.rate_limits");
  assert(await stack.restartFunction(name, { ...env, ...more }));
  try {
    await work();
  } finally {
    await stack.restartFunction(name, {});
  }
}

const list = (caller: Caller, query = "") => manage(caller, "GET", query);

/** `name remaining` of the answer's header. */
function left(answer: Answer): string {
  const [, name, remaining, reset] =
    /^"([a-z_]+)";r=(\d+);t=(\d+)$/.exec(answer.headers.get("ratelimit") ?? "") ?? [];
  assert(Number(reset) >= 1 && Number(reset) <= HOUR, answer.headers.get("ratelimit") ?? "none");
  return `${name} ${remaining}`;
}

function assertLimited(answer: Answer, name: string): void {
  assertProblem(answer, 429, "rate_limited");
  assertEquals(left(answer), `${name} 0`);
  const reset = /t=(\d+)$/.exec(answer.headers.get("ratelimit") ?? "")?.[1];
  assertEquals(answer.headers.get("retry-after"), reset);
}

test("a user, then all users of an address, are refused; a server is not, until its own limit", async () => {
  const [first, second] = [await newUser(), await newUser()];
  const stack = await sharedStack();
  await limited(MANAGE, { READ: 3, ADDRESS_READ: 5, SERVER_READ: 2 }, async () => {
    for (const remaining of [2, 1, 0]) {
      const answer = await list(first);
      assertEquals([answer.status, left(answer)], [200, `read ${remaining}`]);
      assertEquals(
        answer.headers.get("ratelimit-policy"),
        `"read";q=3;w=${HOUR}, "read_address";q=5;w=${HOUR}`,
      );
    }
    assertLimited(await list(first), "read");

    assertEquals(left(await list(second)), "read_address 1");
    // A failure is told as well, and counts.
    const missing = await manage(second, "GET", `/${crypto.randomUUID()}`);
    assertEquals([missing.status, left(missing)], [404, "read_address 0"]);
    assertLimited(await list(second), "read_address");
    const spoofed = await call(stack, MANAGE, "", {
      token: second.token,
      headers: { "x-forwarded-for": "203.0.113.9", "cf-connecting-ip": "203.0.113.9" },
    });
    assertLimited(await read(spoofed), "read_address");

    const asServer = () => list(SERVER, `?user_id=${first.userId}`);
    assertEquals(left(await asServer()), "read 1");
    assertEquals(left(await asServer()), "read 0");
    assertLimited(await asServer(), "read");

    // Other classes are other limits, and a preflight counts against none.
    assertEquals((await manage(first, "DELETE", `/${crypto.randomUUID()}`)).status, 404);
    const preflight = await call(stack, MANAGE, "", {
      method: "OPTIONS",
      headers: { origin: "https://shop.example", "access-control-request-method": "GET" },
    });
    assertEquals([preflight.status, preflight.headers.get("ratelimit")], [204, null]);
  });
});

test("when the window is over the next one is whole", async () => {
  const user = await newUser();
  await limited(MANAGE, { READ: 2 }, async () => {
    await list(user);
    await list(user);
    assertLimited(await list(user), "read");
    await sql(
      "update kms.rate_limits set ends_at = ends_at - interval '1 hour' where key = $1",
      [`read:user:${user.userId}`],
    );
    // A worker asks once a second whether a refusal still holds.
    const answer = await eventually(() => list(user), ({ status }) => status === 200);
    assertEquals(left(answer), "read 1");
  });
});

test("of thirty writes at once exactly the limit is stored; replays count, refusals leave nothing", async () => {
  const user = await newUser();
  const body = { data_class: "general", data: { a: 1 } };
  await limited(ENCRYPT, { WRITE: 12 }, async () => {
    const key = crypto.randomUUID();
    assertEquals(left(await encrypt(user, body, key)), "write 11");
    const replay = await encrypt(user, body, key);
    assertEquals([replay.headers.get("idempotent-replayed"), left(replay)], ["true", "write 10"]);

    const answers = await Promise.all(Array.from({ length: 30 }, () => encrypt(user, body)));
    const stored = answers.filter(({ status }) => status === 201);
    assertEquals(stored.length, 10);
    for (const answer of answers) if (!stored.includes(answer)) assertLimited(answer, "write");
    assertEquals((await rowsOf(user.userId)).encrypted_records, 11);
    const keys = await sql<{ count: number }>(
      "select count(*)::int as count from kms.idempotency_keys where scope like $1",
      [`user:${user.userId} %`],
    );
    assertEquals(keys, [{ count: 11 }]);
  });
});

test("over the limit nothing is decrypted, revealed or audited as if it were", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  const reveal = () =>
    manage(SERVER, "POST", `/${id}/reveal`, { purpose: "refund", user_id: user.userId });
  await limited(MANAGE, { SERVER_REVEAL: 1 }, async () => {
    const revealed = await reveal();
    assertEquals([revealed.status, left(revealed)], [200, "reveal 0"]);
    assert(paymentMethod(revealed).id === id && revealed.text.includes(VISA));
    const asked = aws.calls().length;
    assert(asked > 0);
    const refused = await reveal();
    assertLimited(refused, "reveal");
    assert(!refused.text.includes(VISA));
    // The way to many at once is the same.
    assertLimited(
      await manage(SERVER, "POST", "/reveal", {
        purpose: "refund",
        user_id: user.userId,
        items: [{ id }],
      }),
      "reveal",
    );
    const reveals = (await auditOf(id)).filter(({ action }) => action === "payment_method.reveal");
    assertEquals(reveals.map(({ outcome }) => outcome), ["success"]);
    assertEquals(aws.calls().length, asked);
    // Without a cached key every decryption is a call.
  }, { KMS_DATA_KEY_TTL_MS: "0" });
});

test("who knocks at kms-admin without being one is heard, and audited, only so often", async () => {
  const user = await newUser();
  await limited(ADMIN, { ADMIN: 1 }, async () => {
    const refused = await admin(user, "GET", "/health");
    assertProblem(refused, 403, "admin_required");
    assertEquals(left(refused), "admin 0");
    assertLimited(await admin(user, "GET", "/health"), "admin");
    const entries = await sql(
      "select seq from kms.audit_log where actor_id = $1 and action = 'admin.access'",
      [user.userId],
    );
    assertEquals(entries.length, 1);
    assertEquals((await admin(SERVER, "GET", "/health")).status, 200);
  });
});

test("failed authentications count by address; good credentials from there are not locked out", async () => {
  const user = await newUser();
  await limited(MANAGE, { AUTH_FAILURE: 2 }, async () => {
    for (const [caller, remaining] of [[{}, 1], [{ token: `${user.token}x` }, 0]] as const) {
      const answer = await list(caller);
      assertProblem(answer, 401, "unauthorized");
      assertEquals(left(answer), `auth_failure ${remaining}`);
    }
    assertLimited(await list({ token: "a.b.c" }), "auth_failure");
    assertEquals((await list(user)).status, 200);
    assertEquals((await list(SERVER, `?user_id=${user.userId}`)).status, 200);
    // What was refused before it was authenticated counts against no user.
    const keys = await sql<{ key: string }>(
      "select key from kms.rate_limits where key like 'auth_failure:%' or key like '%\\_address:%'",
    );
    assert(keys.length >= 2);
    for (const { key } of keys) assertMatch(key, /^[a-z_]+:[A-Za-z0-9+/]{43}=$/);
  });
});

test("the health check has no limit: probes share addresses, and it must answer without a database", async () => {
  const answer = await read(await call(await sharedStack(), HEALTH));
  assertEquals([answer.status, answer.headers.get("ratelimit")], [200, null]);
});

test("a batch is one request", async () => {
  const user = await newUser();
  await limited(ENCRYPT, { WRITE: 1 }, async () => {
    const items = [card(VISA), { data_class: "general", data: { a: 1 } }];
    const answer = await encrypt(user, { items });
    assertEquals([answer.status, left(answer)], [200, "write 0"]);
    assertLimited(await encrypt(user, { items }), "write");
  });
});
