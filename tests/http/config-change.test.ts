/** Configuration through `kms-admin`: stored, followed by every function, and taken back. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startLocalVault } from "../../local/vault/mod.ts";
import { admin, adminData, newAdmin } from "./admin.ts";
import {
  ALL_DIRECT,
  answers,
  assertNoCredentialLeft,
  assertReadable,
  auditOf,
  awsConfig,
  CLASSES,
  data,
  health,
  present,
  send,
  sent,
  store,
  type Tested,
  vaultConfig,
  type View,
} from "./config-api.ts";
import { assertProblem, newUser, test, TIMESTAMP } from "./suite.ts";

test("PUT: every function follows, what was written before stays readable, and rollback leads back", async () => {
  const { userId } = await newUser();
  const before = await store(userId);
  assertMatch(before.keyArn, /^arn:aws:kms:/);

  const operator = await newAdmin();
  const put = await admin(operator, "PUT", "/config", {
    ...await vaultConfig(),
    reason: "AWS is closing the account",
  });
  answers.push(put);
  assertEquals(put.status, 200, put.text);
  assertEquals(put.headers.get("etag"), '"1"');
  const view = (put.body as { data?: View }).data as View;
  assertEquals([view.revision, view.source, view.provider], [1, "database", "vault"]);
  assertEquals(view.credentials.set, ["role_id", "secret_id"]);
  assertEquals(view.readers, ["aws"]);
  assertEquals(view.settings.keyrings, ALL_DIRECT);
  assertEquals(view.warnings.length, 1);
  assertMatch(view.warnings[0] ?? "", /no Supabase Vault/);
  assertEquals(await auditOf(put.headers.get("x-request-id") ?? ""), [
    { action: "config.update", outcome: "success", error_code: null, actor_type: "admin" },
  ]);

  const after = await store(userId);
  assertMatch(after.keyArn, /^vault:/);
  await assertReadable(userId, before.id);
  await assertReadable(userId, after.id);
  const report = await health();
  assertEquals([report.status, report.body.provider], [200, "vault"], JSON.stringify(report.body));
  assertEquals((await adminData<{ provider: string }>("GET", "/health")).provider, "vault");

  // A change of one setting keeps the credentials that nobody could send again.
  const { credentials: _, ...without } = await vaultConfig({ keyrings: { pii: "direct" } });
  const changed = await data<View>("PUT", "/config", without);
  assertEquals([changed.revision, changed.credentials.set], [2, ["role_id", "secret_id"]]);

  const back = await data<View>("POST", "/config/rollback", { revision: 0, reason: "Not yet" });
  assertEquals([back.revision, back.provider, back.readers], [3, "aws", ["vault"]]);
  const third = await store(userId);
  assertMatch(third.keyArn, /^arn:aws:kms:/);
  for (const { id } of [before, after, third]) await assertReadable(userId, id);
  assertEquals((await health()).body.provider, "aws");

  const history = await data<{ revisions: Record<string, unknown>[]; next_cursor: string | null }>(
    "GET",
    "/config/history?limit=2",
  );
  assertEquals(
    history.revisions.map((
      { revision, provider, restores, reason },
    ) => [revision, provider, restores, reason]),
    [
      [3, "aws", 0, "Not yet"],
      [2, "vault", null, null],
    ],
  );
  const rest = await data<typeof history>(
    "GET",
    `/config/history?limit=2&cursor=${history.next_cursor}`,
  );
  const { created_at, ...first } = rest.revisions[0] ?? {};
  assert(TIMESTAMP.test(String(created_at)));
  assertEquals(first, {
    revision: 1,
    provider: "vault",
    restores: null,
    reason: "AWS is closing the account",
    created_by: { type: "admin", id: operator.userId },
    restorable: true,
  });
  assertEquals(rest.next_cursor, null);
});

test("what would lock everybody out is refused", async () => {
  const withoutVault = { ...await awsConfig(), remove: ["vault"] };
  const { revision } = await present();
  for (
    const [method, path, body] of [
      ["PUT", "/config", withoutVault],
      ["POST", "/config/rollback", { revision: 0, remove: ["vault"] }],
    ] as const
  ) {
    const refused = await send(method, path, body);
    assertProblem(refused, 409, "configuration_locks_out");
    assertEquals(refused.body.errors?.map(({ code }) => code).includes("key_unreadable"), true);
    assertEquals((await auditOf(refused.body.request_id)).map(({ error_code }) => error_code), [
      "configuration_locks_out",
    ]);
  }
  const tested = await data<Tested>("POST", "/config/test", withoutVault);
  assertEquals([tested.healthy, tested.locks_out], [true, true]);
  assertEquals((await present()).revision, revision);
  // Workers still write under the present one.
  assertProblem(
    await send("PUT", "/config", { ...await vaultConfig(), remove: ["aws"] }),
    422,
    "validation_failed",
    [{ pointer: "/remove", code: "contradiction" }],
  );
});

test("another Vault gets no credential that it was not given", async () => {
  const other = await startLocalVault();
  try {
    for (const name of CLASSES) other.createKey(`parker-flight-${name}-development`);
    for (const [method, path] of [["PUT", "/config"], ["POST", "/config/test"]] as const) {
      assertProblem(
        await send(method, path, { provider: "vault", addr: other.endpoint }),
        422,
        "validation_failed",
        [{ pointer: "/credentials", code: "missing_field" }],
      );
    }
    sent.add(other.secretId);
    // Nor can it take the place of the one that wrapped what is there.
    assertProblem(
      await send("PUT", "/config", {
        provider: "vault",
        addr: other.endpoint,
        credentials: { role_id: other.roleId, secret_id: other.secretId },
      }),
      409,
      "configuration_locks_out",
    );
  } finally {
    await other.close();
  }
});

test("of two writers at once one wins, and a stale one is told", async () => {
  const { revision } = await present();
  const candidate = await vaultConfig();
  const tag = { "if-match": `"${revision}"` };
  const both = await Promise.all([
    send("PUT", "/config", candidate, tag),
    send("PUT", "/config", { ...candidate, revision }),
    send("POST", "/config/rollback", { revision: 1 }, tag),
  ]);
  assertEquals(both.map(({ status }) => status).sort(), [200, 409, 409]);
  for (const answer of both.filter(({ status }) => status === 409)) {
    assertProblem(answer, 409, "configuration_conflict");
  }
  assertEquals((await present()).revision, revision + 1);
  assertProblem(await send("PUT", "/config", candidate, tag), 409, "configuration_conflict");
  assertProblem(
    await send("PUT", "/config", { ...candidate, revision: 1 }, {
      "if-match": `"${revision + 1}"`,
    }),
    422,
    "validation_failed",
    [{ pointer: "/revision", code: "contradiction" }],
  );
});

test("no credential is in any answer, log, table or file", async () => {
  await assertNoCredentialLeft({ atLeast: { sent: 3, answers: 20 }, stored: true });
});
