/** Configuration through `kms-admin`: tried before it is stored, followed by every function, and back. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import { type LocalVault, startLocalVault } from "../../local/vault/mod.ts";
import { databaseSinks, fileSinks, findings, logSinks } from "../security/canary/sinks.ts";
import { eventually } from "../stack/eventually.ts";
import { call, sharedStack as startedStack } from "../support/stack.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import {
  type Answer,
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

interface View {
  readonly revision: number;
  readonly source: string;
  readonly everywhere: boolean;
  readonly provider: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly credentials: { readonly set: readonly string[] };
  readonly readers: readonly string[];
  readonly stored?: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
}

interface Tested {
  readonly provider: string;
  readonly healthy: boolean;
  readonly classes: Readonly<Record<string, { healthy: boolean; error?: string; key_id?: string }>>;
  readonly locks_out: boolean;
}

const CLASSES = ["payment", "pii", "general"];
const ALL_DIRECT = { payment: "direct", pii: "direct", general: "direct" };
/** Every request asks for the settings: what is stored shows in the next one. */
const AT_ONCE = { KMS_CONFIG_CACHE_MS: "0", KMS_HEALTH_CACHE_MS: "0" };
/** Credentials that are looked for at the end, wherever they could have been left. */
const sent = new Set<string>();
/** Everything that kms-admin answered. */
const answers: Answer[] = [];

let ready: Promise<unknown> | undefined;
let started: Promise<LocalVault> | undefined;

async function sharedStack() {
  const stack = await startedStack();
  ready ??= Promise.all(stack.functions.map((name) => stack.restartFunction(name, AT_ONCE)));
  await ready;
  return stack;
}

/** The one Vault of this file, with the suite's keys. */
async function sharedVault(): Promise<LocalVault> {
  return await (started ??= (async () => {
    const vault = await startLocalVault();
    addEventListener("unload", () => void vault.close());
    for (const name of CLASSES) vault.createKey(`parker-flight-${name}-development`);
    for (const secret of [vault.roleId, vault.secretId]) sent.add(secret);
    return vault;
  })());
}

async function vaultConfig(changes: Record<string, unknown> = {}) {
  const { endpoint, roleId, secretId } = await sharedVault();
  return {
    provider: "vault",
    addr: endpoint,
    keyrings: ALL_DIRECT,
    credentials: { role_id: roleId, secret_id: secretId },
    ...changes,
  };
}

/** The guide's request, for the local AWS. */
async function awsConfig(changes: Record<string, unknown> = {}) {
  const { accessKeyId, secretAccessKey } = (await sharedStack()).aws.identities.caller;
  return {
    provider: "aws",
    keyId: "default",
    region: "us-east-1",
    credentials: { accessKeyId, secretAccessKey },
    ...changes,
  };
}

async function send(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  await sharedStack();
  const answer = await admin(SERVER, method, path, body, headers);
  answers.push(answer);
  return answer;
}

async function data<Data>(method: string, path: string, body?: unknown): Promise<Data> {
  const answer = await send(method, path, body);
  assertEquals(
    [answer.status, (answer.body as { success?: boolean }).success],
    [200, true],
    answer.text,
  );
  return (answer.body as { data?: Data }).data as Data;
}

const present = () => data<View>("GET", "/config");

async function store(userId: string): Promise<{ id: string; keyArn: string }> {
  const answer = await encrypt(SERVER, { user_id: userId, data_class: "pii", data: { a: 1 } });
  assertEquals(answer.status, 201, answer.text);
  const id = answer.body.record?.id ?? "";
  const [row] = await sql<{ kms_key_arn: string }>(
    "select kms_key_arn from kms.ciphertexts where record_id = $1",
    [id],
  );
  return { id, keyArn: row?.kms_key_arn ?? "" };
}

async function assertReadable(userId: string, id: string): Promise<void> {
  const revealed = await manage(SERVER, "POST", `/records/${id}/reveal`, {
    purpose: "test",
    user_id: userId,
  });
  assertEquals([revealed.status, revealed.body.record?.data], [200, { a: 1 }], revealed.text);
}

async function health(): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await call(await sharedStack(), HEALTH, "", { secret: true });
  return { status: response.status, body: await response.json() };
}

const auditOf = (requestId: string | undefined) =>
  sql<{ action: string; outcome: string; error_code: string | null; actor_type: string }>(
    `select action, outcome, error_code, actor_type from kms.audit_log
     where request_id::text = $1 order by chain_day, seq`,
    [requestId ?? ""],
  );

test("before anything is stored the environment alone counts", async () => {
  const answer = await send("GET", "/config");
  assertEquals(answer.headers.get("etag"), '"0"');
  const { settings, ...view } = await present();
  assertEquals(view, {
    revision: 0,
    source: "environment",
    everywhere: true,
    provider: "aws",
    credentials: { set: ["accessKeyId", "secretAccessKey", "external_id"] },
    readers: [],
    warnings: [],
  });
  assertEquals(settings.region, "us-east-1");
  assertEquals(settings.fallback_regions, ["us-west-2", "eu-west-1"]);
  assertEquals(
    (settings.aliases as Record<string, string>).payment,
    "alias/parker-flight-payment-development",
  );
  assertEquals(await data("GET", "/config/history"), { revisions: [], next_cursor: null });
});

test("a candidate is tried for real, and nothing is stored", async () => {
  const { aws } = await sharedStack();
  const vault = await sharedVault();
  for (
    const candidate of [
      await awsConfig(),
      await vaultConfig(),
      await vaultConfig({ keyId: "default" }),
    ]
  ) {
    aws.resetCalls();
    const tested = await data<Tested>("POST", "/config/test", candidate);
    const { provider, healthy, classes, locks_out } = tested;
    assertEquals([provider, healthy, locks_out], [candidate.provider, true, false]);
    assertEquals(CLASSES.map((name) => classes[name]?.healthy), [true, true, true]);
    const uses = aws.calls().map(({ operation }) => operation);
    if (provider === "aws") {
      for (
        const one of ["GenerateDataKey", "Decrypt", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"]
      ) {
        assert(uses.filter((used) => used === one).length >= 3, `${one} in ${uses}`);
      }
    } else assert(classes.pii?.key_id?.startsWith("vault:"), classes.pii?.key_id);
  }

  const bad: readonly (readonly [Record<string, unknown>, string])[] = [
    [
      await awsConfig({
        credentials: {
          accessKeyId: aws.identities.caller.accessKeyId,
          secretAccessKey: "canary-secret-access-key-of-nobody",
        },
      }),
      "kms_access_denied",
    ],
    [await awsConfig({ external_id: "canary-external-id" }), "kms_access_denied"],
    [await awsConfig({ keyId: "alias/of-nobody" }), "kms_key_unusable"],
    [await vaultConfig({ credentials: { token: "hvs.canary-token" } }), "kms_access_denied"],
    [await vaultConfig({ keyId: "of-nobody" }), "kms_key_unusable"],
    [await vaultConfig({ addr: "http://127.0.0.1:1" }), "kms_unavailable"],
  ];
  for (
    const one of ["canary-secret-access-key-of-nobody", "canary-external-id", "hvs.canary-token"]
  ) {
    sent.add(one);
  }
  for (const [candidate, code] of bad) {
    const answer = await send("POST", "/config/test", candidate);
    const { healthy, classes } = (answer.body as { data?: Tested }).data as Tested;
    assertEquals([answer.status, healthy], [200, false], answer.text);
    assertEquals(classes.payment, { healthy: false, error: code }, JSON.stringify(candidate.keyId));
    assertEquals(
      await auditOf(answer.headers.get("x-request-id") ?? ""),
      [{
        action: "config.test",
        outcome: "failure",
        error_code: "configuration_test_failed",
        actor_type: "secret_key",
      }],
    );
    const refused = await send("PUT", "/config", candidate);
    assertProblem(refused, 422, "configuration_test_failed");
    assertEquals(refused.body.errors?.[0]?.code, code);
    assertEquals((await auditOf(refused.body.request_id)).map(({ error_code }) => error_code), [
      "configuration_test_failed",
    ]);
  }
  assertEquals((await present()).revision, 0);
  assert(vault.endpoint.startsWith("http://127.0.0.1:"));
});

test("a service account is an object in the request, and works as one", async () => {
  const stack = await sharedStack();
  const gcp = await startLocalGcp();
  try {
    for (const name of CLASSES) gcp.createKey(`parker-flight-${name}-development`);
    await stack.restartFunction(ADMIN, { ...AT_ONCE, GOOGLE_KMS_ENDPOINT: gcp.endpoint });
    const service_account = JSON.parse(gcp.credentialsJson) as { private_key: string };
    sent.add(service_account.private_key.slice(100, 160).replaceAll("\n", ""));
    const tested = await data<Tested>("POST", "/config/test", {
      provider: "gcp",
      project: gcp.project,
      location: gcp.location,
      key_ring: gcp.keyRing,
      credentials: { service_account },
    });
    assertEquals([tested.provider, tested.healthy, tested.locks_out], ["gcp", true, false]);
  } finally {
    await stack.restartFunction(ADMIN, AT_ONCE);
    await gcp.close();
  }
});

test("bad input: every field by its pointer, and no value", async () => {
  const canary = "canary value";
  sent.add(canary);
  for (const method of ["PUT", "POST"]) {
    const path = method === "PUT" ? "/config" : "/config/test";
    assertProblem(await send(method, path, { provider: "azure" }), 422, "validation_failed", [
      { pointer: "/provider", code: "unknown_value" },
    ]);
    for (const name of ["app_name", "environment"]) {
      assertProblem(
        await send(method, path, { ...await awsConfig(), [name]: "other" }),
        422,
        "validation_failed",
        [{ pointer: `/${name}`, code: "unknown_field" }],
      );
    }
    assertProblem(
      await send(method, path, {
        provider: "vault",
        addr: canary,
        credentials: { token: canary, secret_id: canary },
      }),
      422,
      "validation_failed",
      [
        { pointer: "/addr", code: "invalid_value" },
        { pointer: "/credentials/secret_id", code: "invalid_value" },
        { pointer: "/credentials/token", code: "invalid_value" },
      ],
    );
    assertProblem(
      await send(method, path, { provider: "gcp", project: "some-project" }),
      422,
      "validation_failed",
      [
        { pointer: "/credentials/service_account", code: "missing_field" },
      ],
    );
    assertProblem(
      await send(method, path, { provider: "aws", remove: ["aws"] }),
      422,
      "validation_failed",
      [
        { pointer: "/remove", code: "contradiction" },
      ],
    );
  }
  for (
    const [body, code] of [[{ revision: 7 }, "unknown_revision"], [{}, "missing_field"]] as const
  ) {
    assertProblem(await send("POST", "/config/rollback", body), 422, "validation_failed", [
      { pointer: "/revision", code },
    ]);
  }
  const refused = await send("PUT", "/config", await vaultConfig(), { "if-match": "7" });
  assertProblem(refused, 422, "validation_failed", [{
    pointer: "/revision",
    code: "invalid_if_match",
  }]);
  assertProblem(await send("GET", "/config/history?cursor=x"), 422, "validation_failed", [
    { parameter: "cursor", code: "invalid_cursor" },
  ]);
});

test("production refuses the provider env", async () => {
  const stack = await sharedStack();
  await stack.restartFunction(ADMIN, {
    ...AT_ONCE,
    KMS_HEALTH_CACHE_MS: "",
    APP_ENVIRONMENT: "production",
  });
  try {
    const encryption_key = "0c".repeat(32);
    sent.add(encryption_key);
    assertProblem(
      await send("PUT", "/config", { provider: "env", credentials: { encryption_key } }),
      422,
      "validation_failed",
      [{ pointer: "/provider", code: "invalid_value" }],
    );
  } finally {
    await stack.restartFunction(ADMIN, AT_ONCE);
  }
});

test("in production no Vault can be named that the environment does not, and administrators need a second factor", async () => {
  const stack = await sharedStack();
  const production = { ...AT_ONCE, KMS_HEALTH_CACHE_MS: "", APP_ENVIRONMENT: "production" };
  const notAllowed = [{ pointer: "/addr", code: "address_not_allowed" }];
  try {
    await stack.restartFunction(ADMIN, production);
    for (const [method, path] of [["PUT", "/config"], ["POST", "/config/test"]] as const) {
      const answer = await send(method, path, await vaultConfig());
      assertProblem(answer, 422, "validation_failed", notAllowed);
    }
    assertProblem(await admin(await newAdmin(), "GET", "/config"), 403, "admin_required");
    assertEquals((await admin(await newAdmin("aal2"), "GET", "/config")).status, 200);

    const addr = "https://vault.example:8200";
    await stack.restartFunction(ADMIN, { ...production, VAULT_ALLOWED_ADDRS: `["${addr}/"]` });
    const other = await vaultConfig({ addr: "https://vault.example:8201" });
    assertProblem(await send("PUT", "/config", other), 422, "validation_failed", notAllowed);
  } finally {
    await stack.restartFunction(ADMIN, AT_ONCE);
  }
});

test("a user who is no administrator may not even look", async () => {
  const user = await newUser();
  for (const [method, path] of [["GET", "/config"], ["GET", "/config/history"]] as const) {
    assertProblem(await admin(user, method, path), 403, "admin_required");
  }
  for (const [method, path] of [["PUT", ""], ["POST", "/test"], ["POST", "/rollback"]] as const) {
    assertProblem(
      await admin(user, method, `/config${path}`, await vaultConfig()),
      403,
      "admin_required",
    );
  }
});

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

test("with a cache time workers in use follow within it, and no request fails meanwhile", async () => {
  const stack = await sharedStack();
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
  const { revision } = await data<View>("PUT", "/config", await vaultConfig());
  const [row] = await sql<{ message: string }>(
    "select message from kms.settings where revision = $1",
    [revision],
  );
  const { userId } = await newUser();
  assertMatch((await store(userId)).keyArn, /^vault:/);
  // Whoever writes the database cannot even put an older revision in the place of the newest one.
  await sql(
    "update kms.settings set message = (select message from kms.settings where revision = 1) where revision = $1",
    [revision],
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
  const stack = await sharedStack();
  const needles = [...sent].flatMap((secret) =>
    [secret, btoa(secret).slice(0, -4), encodeURIComponent(secret)].map((form) => ({
      form: `${secret.slice(0, 8)}…`,
      bytes: new TextEncoder().encode(form),
    }))
  );
  assert(needles.length > 20 && answers.length > 40);
  const sinks = [
    ...await databaseSinks(stack),
    ...logSinks(stack),
    ...fileSinks(stack.dataDir),
    {
      name: "answers",
      content: answers.map(({ text, headers }) => JSON.stringify([...headers]) + text).join("\n"),
    },
  ];
  assert(
    sinks.some(({ name, content }) =>
      name === "table kms.settings" && content.includes("AgR4" as never)
    ),
  );
  const planted = { name: "planted", content: `x${[...sent][0]}x` };
  assertEquals(findings([planted], needles).length > 0, true);
  assertEquals(findings(sinks, needles), []);
});
