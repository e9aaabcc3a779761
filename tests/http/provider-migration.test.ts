/** Branch keys move between every two providers, under live traffic that notices nothing. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import type { Stack } from "../../local/stack.ts";
import { startLocalVault } from "../../local/vault/mod.ts";
import { call, signUp, startTestStack, WITH_STACK } from "../support/stack.ts";
import { type Answer, assertProblem, card, ENCRYPT, MANAGE, read, VISA } from "./suite.ts";

const ADMIN = "kms-admin";
const CLASSES = ["payment", "pii", "general"];
const PREFIXES = { aws: "arn:", gcp: "projects/", vault: "vault:", env: "env:" };
type Name = keyof typeof PREFIXES;

/** Each of the twelve ordered pairs once. */
const WALK: readonly Name[] = [
  ...["aws", "gcp", "aws", "vault", "aws", "env", "gcp"] as const,
  ...["vault", "gcp", "env", "vault", "env", "aws"] as const,
];

interface Report {
  readonly from: Name;
  readonly to: Name;
  readonly step: string;
  readonly branch_keys: number;
  readonly remaining: number;
  readonly operations: number;
  readonly direct_rows: number;
}

/** One stack with all four providers; every request unwraps its branch key anew. */
async function setUp() {
  const gcp = await startLocalGcp();
  const vault = await startLocalVault();
  for (const name of CLASSES) {
    gcp.createKey(`parker-flight-${name}-development`);
    vault.createKey(`parker-flight-${name}-development`);
  }
  const functionEnv = {
    KMS_PROVIDER: "aws",
    GOOGLE_CLOUD_PROJECT: gcp.project,
    GOOGLE_KMS_LOCATION: gcp.location,
    GOOGLE_KMS_KEY_RING: gcp.keyRing,
    GOOGLE_KMS_ENDPOINT: gcp.endpoint,
    GOOGLE_CREDENTIALS_JSON: gcp.credentialsJson,
    VAULT_ADDR: vault.endpoint,
    VAULT_ROLE_ID: vault.roleId,
    VAULT_SECRET_ID: vault.secretId,
    ENCRYPTION_KEY: "0011223344556677".repeat(4),
    KMS_DATA_KEY_TTL_MS: "0",
    KMS_PII_BRANCH_KEY_SCOPE: "owner",
  };
  const stack = await startTestStack({ functionEnv });
  return { stack, gcp, vault };
}

const started = setUp();

async function admin(method: string, path: string, json?: unknown): Promise<Answer> {
  const { stack } = await started;
  const body = json === undefined ? {} : { json };
  return await read(await call(stack, ADMIN, path, { secret: true, method, ...body }));
}

async function step(from: Name, to: Name, name: string): Promise<Report> {
  const answer = await admin("POST", "/provider/migrate", { from, to, step: name });
  assertEquals(answer.status, 200, answer.text);
  const report = (answer.body as unknown as { data: Report }).data;
  assertEquals([report.from, report.to, report.step], [from, to, name]);
  return report;
}

/** Calls the step until nothing of it remains. */
async function whole(from: Name, to: Name, name: string): Promise<Report> {
  for (let calls = 0; calls < 100; calls++) {
    const report = await step(from, to, name);
    if (report.remaining === 0) return report;
  }
  throw new Error(`${name} from ${from} to ${to} does not end`);
}

/** Who wraps the records, and who their copies. */
async function holders(column: "record" | "copy"): Promise<string[]> {
  const { stack } = await started;
  const rows = await stack.sql<{ prefix: string }>(
    `select distinct kms.provider_of(${column} ->> 'kms-arn') as prefix from kms.branch_keys
     where ${column} is not null order by 1`,
  );
  return rows.map(({ prefix }) => prefix);
}

async function storeRecord(stack: Stack, user: string, dataClass: string): Promise<string> {
  const json = { data_class: dataClass, data: { of: user }, user_id: user };
  const headers = { "idempotency-key": crypto.randomUUID() };
  const answer = await read(await call(stack, ENCRYPT, "", { secret: true, json, headers }));
  assertEquals(answer.status, 201, answer.text);
  return answer.body.record?.id ?? "";
}

async function revealRecord(stack: Stack, user: string, id: string): Promise<void> {
  const json = { purpose: "support", user_id: user };
  const path = `/records/${id}/reveal`;
  const answer = await read(await call(stack, MANAGE, path, { secret: true, json }));
  assertEquals(answer.body.record?.data, { of: user }, answer.text);
}

/** Requests of several clients at a time, until told to pause; any that fails fails the test. */
class Traffic {
  served = 0;
  readonly #old: { user: string; id: string }[] = [];
  readonly #failures: unknown[] = [];
  #clients: Promise<void>[] = [];
  #paused = true;

  constructor(readonly stack: Stack) {}

  async seed(): Promise<void> {
    for (const dataClass of ["pii", "general"]) {
      const user = (await signUp(this.stack)).userId;
      this.#old.push({ user, id: await storeRecord(this.stack, user, dataClass) });
    }
  }

  resume(): void {
    this.#paused = false;
    this.#clients = [0, 1].map((client) => this.#run(client));
  }

  /** Functions that are started again are not there for a moment: that is no matter of keys. */
  async pause(): Promise<void> {
    this.#paused = true;
    await Promise.all(this.#clients);
    assertEquals(this.#failures, []);
  }

  /** Resolves when so many more requests were served. */
  async more(count: number): Promise<void> {
    const until = this.served + count;
    while (this.served < until && this.#failures.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assertEquals(this.#failures, []);
  }

  async #run(client: number): Promise<void> {
    try {
      while (!this.#paused) {
        // A new user's branch key is made in the midst of it.
        const user = crypto.randomUUID();
        await this.stack.sql("insert into auth.users (id) values ($1)", [user]);
        const fresh = await storeRecord(this.stack, user, client === 0 ? "pii" : "general");
        await revealRecord(this.stack, user, fresh);
        for (const { user, id } of this.#old) await revealRecord(this.stack, user, id);
        this.served += 2 + this.#old.length;
      }
    } catch (error) {
      this.#failures.push(error);
    }
  }
}

async function configure(provider: Name): Promise<void> {
  const { stack } = await started;
  const restart = (name: string) => stack.restartFunction(name, { KMS_PROVIDER: provider });
  assertEquals(await Promise.all([ENCRYPT, MANAGE, ADMIN].map(restart)), [true, true, true]);
}

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, ...WITH_STACK });
}

test("a step that does not follow, or between providers that are none, is refused", async () => {
  const { stack } = await started;
  const { userId } = await signUp(stack);
  await storeRecord(stack, userId, "general");
  const migrate = (json: unknown) => admin("POST", "/provider/migrate", json);
  assertEquals((await admin("GET", "/provider/migration")).body as unknown, {
    success: true,
    data: null,
  });
  const at = (pointer: string, code: string) => [{ pointer, code }];
  for (
    const [body, errors] of [
      [{ from: "aws", to: "aws", step: "prepare" }, at("/to", "same_provider")],
      [{ from: "aws", to: "azure", step: "prepare" }, at("/to", "unknown_value")],
      [{ from: "aws", to: "gcp", step: "jump" }, at("/step", "unknown_value")],
      [{ from: "aws", to: "gcp" }, at("/step", "missing_field")],
    ] as const
  ) {
    assertProblem(await migrate(body), 422, "validation_failed", errors);
  }
  for (const name of ["switch", "finish"]) {
    const answer = await migrate({ from: "aws", to: "gcp", step: name });
    assertProblem(answer, 409, "migration_conflict");
  }
  await whole("aws", "gcp", "prepare");
  assertProblem(
    await migrate({ from: "aws", to: "vault", step: "prepare" }),
    409,
    "migration_conflict",
  );
  assertProblem(
    await migrate({ from: "aws", to: "gcp", step: "finish" }),
    409,
    "migration_conflict",
  );
  // New branch keys, the class's and the owner's, have no copies yet.
  await storeRecord(stack, userId, "pii");
  const early = await migrate({ from: "aws", to: "gcp", step: "switch" });
  assertProblem(early, 409, "migration_incomplete", at("/step", "incomplete"));
  const { data } = (await admin("GET", "/provider/migration")).body as unknown as { data: Report };
  assertEquals([data.step, data.remaining], ["prepare", 2]);
  await whole("aws", "gcp", "back");
  assertEquals([await holders("record"), await holders("copy")], [["aws"], []]);
  assertEquals(
    (await step("aws", "gcp", "back")).remaining,
    0,
    "and again, as after a lost answer",
  );

  await stack.restartFunction(ADMIN, { VAULT_ROLE_ID: "", VAULT_SECRET_ID: "", VAULT_ADDR: "" });
  const absent = await migrate({ from: "vault", to: "aws", step: "prepare" });
  assertProblem(absent, 422, "validation_failed", at("/from", "provider_not_configured"));
  await configure("aws");
});

test("with two copies either provider serves, and a migration can be taken back", async () => {
  const { stack, vault } = await started;
  const { userId } = await signUp(stack);
  const ids = [
    await storeRecord(stack, userId, "pii"),
    await storeRecord(stack, userId, "general"),
  ];
  const serves = async () => {
    for (const id of ids) await revealRecord(stack, userId, id);
    await storeRecord(stack, userId, "pii");
  };
  vault.setSealed(true);
  const sealed = await admin("POST", "/provider/migrate", {
    from: "aws",
    to: "vault",
    step: "prepare",
  });
  assertProblem(sealed, 503, "kms_unavailable", [{ pointer: "/step", code: "branch_key_failed" }]);
  const [failure] = await stack.sql<Record<string, string>>(
    `select action, outcome, error_code, purpose, branch_key_id, kms_key_arn from kms.audit_log
     where action = 'provider.prepare' and error_code = 'kms_unavailable'`,
  );
  const detail = sealed.body.errors?.[0]?.detail ?? "";
  assert(detail.includes(`branch key ${failure?.branch_key_id}.`), detail);
  assertMatch(failure?.kms_key_arn ?? "", /^arn:/);
  assertEquals([failure?.outcome, failure?.purpose], ["failure", "from aws to vault"]);
  await serves();
  // What has begun can be undone without it.
  await whole("aws", "vault", "back");
  vault.setSealed(false);
  await whole("aws", "vault", "prepare");
  stack.aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
  await serves();
  stack.aws.faults.clear();
  vault.setSealed(true);
  await serves();
  vault.setSealed(false);

  await whole("aws", "vault", "switch");
  assertEquals(await holders("record"), ["vault"]);
  assertEquals(await holders("copy"), ["aws"]);
  await serves();
  await configure("vault");
  const late = await storeRecord(stack, (await signUp(stack)).userId, "pii");
  assert(late !== "", "a branch key that the new provider made");
  await configure("aws");
  const { rotated } = ((await admin("POST", "/key/rotate")).body as unknown as {
    data: { rotated: unknown[] };
  }).data;
  assert(rotated.length > 0);
  assertEquals(await holders("record"), ["aws", "vault"]);
  await whole("aws", "vault", "back");
  assertEquals([await holders("record"), await holders("copy")], [["aws"], []]);
  vault.setSealed(true);
  await serves();
  vault.setSealed(false);
});

test("every ordered pair of providers, under traffic: no request fails", async () => {
  const { stack } = await started;
  const traffic = new Traffic(stack);
  await traffic.seed();
  for (const [index, to] of WALK.entries()) {
    const from = WALK[index - 1];
    if (from === undefined) continue;
    traffic.resume();
    await traffic.more(1);
    await whole(from, to, "prepare");
    // A version is made in the midst of it, and two callers share the rest of the work.
    assertEquals((await admin("POST", "/key/rotate", { data_class: "general" })).status, 200);
    await traffic.more(1);
    for (let switched = false; !switched;) {
      await Promise.all([whole(from, to, "prepare"), whole(from, to, "prepare")]);
      const answer = await admin("POST", "/provider/migrate", { from, to, step: "switch" });
      // The traffic makes branch keys all the time.
      switched = answer.status === 200;
      if (!switched) assertProblem(answer, 409, "migration_incomplete");
    }
    await traffic.more(1);
    await traffic.pause();
    await configure(to);
    traffic.resume();
    await traffic.more(1);
    await Promise.all([whole(from, to, "switch"), whole(from, to, "switch")]);
    const report = await whole(from, to, "finish");
    await traffic.more(1);
    await traffic.pause();
    assertEquals(report.direct_rows, 0);
    assertEquals(await holders("record"), [to], `${from} to ${to}`);
    assertEquals(await holders("copy"), []);
    const again = await step(from, to, "finish");
    assertEquals(again.remaining, 0, "a finish whose answer was lost is a finish");
  }
  assertEquals(new Set(WALK.slice(1).map((to, index) => `${WALK[index]} ${to}`)).size, 12);
  const ends = await stack.sql<{ count: number }>(
    `select count(*)::int as count from kms.audit_log
     where action = 'provider.end' and purpose like 'finish%'`,
  );
  assertEquals(ends[0]?.count, 12);
});

test("stored settings and a migration: copies keep a provider readable, and its end needs the new one alone", async () => {
  const { stack } = await started;
  const { userId } = await signUp(stack);
  const ids = [
    await storeRecord(stack, userId, "pii"),
    await storeRecord(stack, userId, "general"),
  ];
  const put = (json: unknown) => admin("PUT", "/config", json);
  const stored = async (answer: Promise<Answer>) => {
    const { status, text, body } = await answer;
    assertEquals(status, 200, text);
    return (body as unknown as { data: { revision: number } }).data.revision;
  };
  const migrate = (name: string) =>
    admin("POST", "/provider/migrate", { from: "aws", to: "vault", step: name });
  const withoutAws = { provider: "vault", remove: ["aws"] };

  const both = await stored(put({ provider: "vault" }));
  // As if it were long ago: until then nobody who wrapped new keys before is removed.
  await stack.sql("update kms.settings set created_at = created_at - interval '1 hour'");
  assertProblem(await put(withoutAws), 409, "configuration_locks_out", [
    { pointer: "/provider", code: "key_unreadable" },
  ]);
  await whole("aws", "vault", "prepare");
  await stored(put(withoutAws));
  const absent = [{ pointer: "/from", code: "provider_not_configured" }];
  assertProblem(await migrate("switch"), 422, "validation_failed", absent);
  await stored(admin("POST", "/config/rollback", { revision: both }));
  await whole("aws", "vault", "switch");
  await stored(put(withoutAws));
  assertProblem(await migrate("back"), 422, "validation_failed", absent);
  await whole("aws", "vault", "finish");
  assertEquals([await holders("record"), await holders("copy")], [["vault"], []]);

  await stored(admin("POST", "/config/rollback", { revision: 0 }));
  for (const name of ["prepare", "switch", "finish"]) await whole("vault", "aws", name);
  for (const id of ids) await revealRecord(stack, userId, id);
});

test("rows under a key of the old provider itself are counted, and stay", async () => {
  const { stack } = await started;
  const { userId } = await signUp(stack);
  const settings = { KMS_PROVIDER: "aws", KMS_PAYMENT_KEYRING: "direct" };
  await stack.restartFunction(ENCRYPT, settings);
  const json = { ...card(VISA), user_id: userId };
  const headers = { "idempotency-key": crypto.randomUUID() };
  const stored = await read(await call(stack, ENCRYPT, "", { secret: true, json, headers }));
  assertEquals(stored.status, 201, stored.text);
  assertEquals((await step("aws", "env", "prepare")).direct_rows, 1);
  await whole("aws", "env", "back");
});
