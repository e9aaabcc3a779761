/** Stored settings as workers take them: one after another, within a cache time, and not at all. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { eventually } from "../stack/eventually.ts";
import { call } from "../support/stack.ts";
import { adminData } from "./admin.ts";
import {
  ALL_DIRECT,
  allFollowed,
  assertNoCredentialLeft,
  assertReadable,
  AT_ONCE,
  awsConfig,
  data,
  health,
  present,
  send,
  sharedStack,
  store,
  type Tested,
  vaultConfig,
  type View,
} from "./config-api.ts";
import {
  assertProblem,
  ENCRYPT,
  encrypt,
  HEALTH,
  MANAGE,
  manage,
  newUser,
  read,
  SERVER,
  sql,
  test,
  TIMESTAMP,
} from "./suite.ts";

test("a rollback to where the present provider was removed loses nothing of workers that follow later", async () => {
  const stack = await sharedStack();
  const { userId } = await newUser();
  const first = await store(userId);
  assertMatch(first.keyArn, /^arn:aws:kms:/);
  const withoutVault = await awsConfig({ keyrings: ALL_DIRECT, remove: ["vault"] });
  const { revision } = await data<View>("PUT", "/config", withoutVault);
  await data("PUT", "/config", await vaultConfig());
  await stack.restartFunction(ENCRYPT, { ...AT_ONCE, KMS_CONFIG_CACHE_MS: "300000" });
  try {
    // It takes the settings, and wraps nothing yet.
    assertEquals((await encrypt(SERVER, {})).status, 422);
    const view = await data<View>("POST", "/config/rollback", { revision });
    const late = await store(userId);
    assertMatch(late.keyArn, /^vault:/);
    for (const { id } of [first, late]) await assertReadable(userId, id);
    assertEquals([view.provider, view.readers], ["aws", ["vault"]]);

    const refused = await send("PUT", "/config", withoutVault);
    assertProblem(refused, 409, "configuration_locks_out", [
      { pointer: "/provider", code: "key_unreadable" },
      { pointer: "/provider", code: "key_still_written" },
    ]);
    assertEquals(refused.headers.get("retry-after"), null, "waiting does not help");
    const deleted = await manage(SERVER, "DELETE", `/records/${late.id}?user_id=${userId}`);
    assertEquals(deleted.status, 204, deleted.text);
    const early = await send("PUT", "/config", withoutVault);
    assertProblem(early, 409, "configuration_locks_out", [
      { pointer: "/provider", code: "key_still_written" },
    ]);
    assertMatch(early.headers.get("retry-after") ?? "", /^([1-9]|[1-4]\d)$/);
    const tested = await data<Tested>("POST", "/config/test", withoutVault);
    assertEquals([tested.healthy, tested.locks_out], [true, true]);
  } finally {
    await stack.restartFunction(ENCRYPT, AT_ONCE);
  }
  await allFollowed();
  assertEquals((await data<View>("PUT", "/config", withoutVault)).readers, []);
  await assertReadable(userId, first.id);
});

test("with a cache time workers in use follow within it, and no request fails meanwhile", async () => {
  const stack = await sharedStack();
  await data("PUT", "/config", await vaultConfig());
  await Promise.all(
    [ENCRYPT, MANAGE].map((name) => stack.restartFunction(name, { KMS_CONFIG_CACHE_MS: "300" })),
  );
  try {
    const { userId } = await newUser();
    assertMatch((await store(userId)).keyArn, /^vault:/);
    await data("PUT", "/config", await awsConfig({ keyrings: ALL_DIRECT }));
    const last = await eventually(() => store(userId), ({ keyArn }) => keyArn.startsWith("arn:"));
    assertMatch(last.keyArn, /^arn:aws:kms:/);
    await assertReadable(userId, last.id);
  } finally {
    await Promise.all([ENCRYPT, MANAGE].map((name) => stack.restartFunction(name, AT_ONCE)));
  }
});

test("settings that cannot be opened count for nothing, and health says so", async () => {
  const stack = await sharedStack();
  const restartAll = () =>
    Promise.all(stack.functions.map((name) => stack.restartFunction(name, AT_ONCE)));
  const older = await data<View>("PUT", "/config", await vaultConfig());
  const { revision } = await data<View>("PUT", "/config", await vaultConfig());
  const [row] = await sql<{ message: string }>(
    "select message from kms.settings where revision = $1",
    [revision],
  );
  const { userId } = await newUser();
  assertMatch((await store(userId)).keyArn, /^vault:/);
  // Whoever writes the database cannot even put an older revision in the place of the newest one.
  await sql(
    "update kms.settings set message = (select message from kms.settings where revision = $2) where revision = $1",
    [revision, older.revision],
  );
  // A worker opens a revision once.
  assertMatch((await store(userId)).keyArn, /^vault:/);
  await restartAll();
  try {
    // Branch keys are AWS's, and the environment has no class in direct mode.
    assertMatch((await store(userId)).keyArn, /^arn:aws:kms:/);
    const view = await present();
    assertEquals([view.source, view.provider, view.warnings.length], ["environment", "aws", 2]);
    const { status, body } = await health();
    assertEquals([status, body.status], [503, "unhealthy"]);
    const { config } = (body as { checks: Record<string, unknown> }).checks;
    assertEquals(config, { status: "fail", error: "configuration_invalid" });
    assertEquals((await adminData<{ healthy: boolean }>("GET", "/health")).healthy, false);
    assert(stack.functionLog(ENCRYPT).includes('"event":"settings_invalid"'));
  } finally {
    await sql("update kms.settings set message = $1 where revision = $2", [row?.message, revision]);
    await restartAll();
  }
  assertMatch((await store(userId)).keyArn, /^vault:/);
  assertEquals((await health()).status, 200);
});

/** As supabase_vault declares it; its cipher is the database's own affair, and base64 here. */
const VAULT_STAND_IN = [
  "create schema vault",
  `create table vault.secrets (
     id uuid primary key default gen_random_uuid(), name text, description text not null default '',
     secret text not null, key_id uuid, nonce bytea,
     created_at timestamptz not null default now(), updated_at timestamptz not null default now()
   )`,
  `create view vault.decrypted_secrets as
     select s.*, convert_from(decode(secret, 'base64'), 'utf8') as decrypted_secret
     from vault.secrets s`,
  `create function vault.create_secret(
     new_secret text, new_name text default null, new_description text default '',
     new_key_id uuid default null
   ) returns uuid language sql security definer set search_path = '' as $$
     insert into vault.secrets (secret, name, description)
     values (encode(convert_to(new_secret, 'utf8'), 'base64'), new_name, new_description)
     returning id
   $$`,
];

test("where Supabase Vault exists it holds the settings, and there is no warning", async () => {
  const { userId } = await newUser();
  for (const statement of VAULT_STAND_IN) await sql(statement);
  const { revision, warnings, provider } = await data<View>("PUT", "/config", await vaultConfig());
  assertEquals([warnings, provider], [[], "vault"]);
  assertMatch((await store(userId)).keyArn, /^vault:/);
  const rows = await sql<{ message: string | null; secret: string }>(
    `select s.message, v.decrypted_secret as secret
     from kms.settings s join vault.decrypted_secrets v on v.id = s.secret_id
     where s.revision = $1`,
    [revision],
  );
  assertEquals(rows.map(({ message }) => message), [null]);
  assertMatch(rows[0]?.secret ?? "", /^AgR4/);
  assertEquals((await data<View>("POST", "/config/rollback", { revision })).warnings, []);
});

test("a cold worker without a database: 503 for a request, and the health check keeps its shape", async () => {
  const stack = await sharedStack();
  const down = { ...AT_ONCE, SUPABASE_URL: "http://127.0.0.1:1" };
  await Promise.all([MANAGE, HEALTH].map((name) => stack.restartFunction(name, down)));
  try {
    const named = `?user_id=${crypto.randomUUID()}`;
    assertProblem(await manage(SERVER, "GET", named), 503, "database_unavailable");
    const reveal = [`/${crypto.randomUUID()}/reveal${named}`, { purpose: "test" }] as const;
    assertProblem(await manage(SERVER, "POST", ...reveal), 503, "database_unavailable");
    assertProblem(await manage({}, "GET", ""), 401, "unauthorized");
    const answer = await read(await call(stack, HEALTH));
    const { timestamp, ...body } = answer.body as Record<string, unknown>;
    assertEquals(answer.status, 503);
    assert(TIMESTAMP.test(String(timestamp)));
    const failed = { status: "fail", error: "database_unavailable" };
    assertEquals(body, {
      status: "unhealthy",
      checks: { config: failed, kms_connectivity: failed, key_functionality: failed },
      metadata: { version: 2, region: null, environment: "development", latency_ms: 0 },
    });
  } finally {
    await Promise.all([MANAGE, HEALTH].map((name) => stack.restartFunction(name, AT_ONCE)));
  }
});

test("no credential is in any answer, log, table or file", async () => {
  await assertNoCredentialLeft({ atLeast: { sent: 2, answers: 10 }, stored: true });
});
