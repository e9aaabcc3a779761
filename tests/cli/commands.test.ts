/** Every command: the request it makes, what it prints, and how it ends. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { privateFile } from "./cli.ts";
import { type FakeSuite, problem, withSuite } from "./fake-suite.ts";

const JOB = "11111111-1111-4111-8111-111111111111";
const USER = "22222222-2222-4222-8222-222222222222";
const VERSION = "33333333-3333-4333-8333-333333333333";
const job = {
  id: JOB,
  kind: "reencrypt",
  status: "completed",
  dry_run: false,
  data_class: null,
  ...{ total: 10, done: 10, unchanged: 1, failed: 0, created_by: "default" },
  ...{ created_at: "2026-11-25T10:00:00.000Z", updated_at: "2026-11-25T10:00:01.000Z" },
  finished_at: "2026-11-25T10:00:01.000Z",
};
const config = {
  revision: 3,
  source: "database",
  provider: "vault",
  settings: { address: "https://vault.example.com" },
  credentials: { set: ["VAULT_TOKEN"] },
};

const CHANGE = { action: "config.update", actor_type: "admin", actor_id: "u", count: 2 };

interface Case {
  readonly args: readonly string[];
  readonly route: string;
  readonly query?: Record<string, string>;
  readonly body?: unknown;
  readonly data: unknown;
  readonly text: RegExp;
  readonly code?: number;
  /** What `--json` prints, when it is not `data`. */
  readonly document?: unknown;
}

const rotation = {
  newKeyVersion: VERSION,
  rotated: [{ target: "branch_key", version: VERSION }],
  failed: [],
};
const settings = { provider: "vault", credentials: { token: "s.not-a-real-token" } };

const CASES: readonly Case[] = [
  {
    args: ["key", "--class", "pii"],
    route: "GET /kms-admin/key/metadata",
    query: { data_class: "pii" },
    data: { keyId: "k", enabled: true, rotation: { automatic: true, next: null } },
    text: /^keyId +k\nenabled +true\nrotation\.automatic +true\nrotation\.next +-$/m,
  },
  {
    args: ["rotate"],
    route: "POST /kms-admin/key/rotate",
    body: { target: "branch_key" },
    data: rotation,
    text: new RegExp(`^target +version\nbranch_key +${VERSION}\n.*reencrypt`),
  },
  {
    args: ["rotate", "--class", "payment", "--user", USER.toUpperCase()],
    route: "POST /kms-admin/key/rotate",
    body: { target: "branch_key", data_class: "payment", user_id: USER },
    data: { ...rotation, failed: [{ branch_key_id: "pii", code: "kms_unavailable" }] },
    text: /^FAILED\nbranch_key_id +code\npii +kms_unavailable$/m,
    code: 1,
  },
  {
    args: ["rotate", "--target", "kms-key", "--class", "payment", "--confirm", "key-1"],
    route: "POST /kms-admin/key/rotate",
    body: { target: "kms_key", data_class: "payment", confirm: "key-1" },
    data: { newKeyVersion: null, rotated: [{ key_id: "key-1", version: null }], failed: [] },
    text: /^key_id +version\nkey-1 +-$/m,
  },
  {
    args: ["retire", "payment", VERSION],
    route: "POST /kms-admin/key/retire",
    body: { branch_key_id: "payment", version: VERSION },
    data: { branch_key_id: "payment", version: VERSION },
    text: /^retired version 3{8}-.* of payment$/m,
  },
  {
    args: ["jobs", "list", "--limit", "2", "--cursor", "abc"],
    route: "GET /kms-admin/jobs",
    query: { limit: "2", cursor: "abc" },
    data: { jobs: [job], next_cursor: "def" },
    text: /^id +status .*\n1{8}-.* +completed +- +false +10 +10 +0 .*\nmore: --cursor def$/m,
  },
  {
    args: ["jobs", "show", JOB],
    route: `GET /kms-admin/jobs/${JOB}`,
    data: { ...job, failed: 1 },
    text: /^failed +1$/m,
    code: 1,
  },
  {
    args: ["jobs", "cancel", JOB],
    route: `POST /kms-admin/jobs/${JOB}/cancel`,
    body: {},
    data: { ...job, status: "cancelled" },
    text: /^1{8}-\S+ is cancelled$/m,
  },
  {
    args: ["jobs", "cancel", JOB],
    route: `POST /kms-admin/jobs/${JOB}/cancel`,
    body: {},
    data: job,
    text: /^1{8}-\S+ is completed$/m,
    code: 1,
  },
  {
    args: ["jobs", "failures", JOB],
    route: `GET /kms-admin/jobs/${JOB}/failures`,
    query: { limit: "50" },
    data: { failures: [{ record_id: USER, code: "decryption_failed" }], next_cursor: null },
    text: /^record_id +code\n2{8}-\S+ +decryption_failed$/m,
    code: 1,
  },
  {
    args: ["jobs", "failures", JOB],
    route: `GET /kms-admin/jobs/${JOB}/failures`,
    query: { limit: "50" },
    data: { failures: [], next_cursor: null },
    text: /^none$/m,
  },
  {
    args: ["config", "get"],
    route: "GET /kms-admin/config",
    data: config,
    text: /^provider +vault$[\s\S]*^credentials\.set +\["VAULT_TOKEN"\]$/m,
  },
  {
    args: ["config", "test", privateFile(JSON.stringify(settings))],
    route: "POST /kms-admin/config/test",
    body: settings,
    data: { provider: "vault", healthy: false, classes: { pii: { error: "kms_access_denied" } } },
    text: /^classes\.pii\.error +kms_access_denied$/m,
    code: 1,
  },
  {
    args: ["config", "test", privateFile(JSON.stringify(settings))],
    route: "POST /kms-admin/config/test",
    body: settings,
    data: { provider: "vault", healthy: true, classes: {}, locks_out: true },
    text: /^locks_out +true$/m,
    code: 1,
  },
  {
    args: ["config", "set", privateFile(JSON.stringify(settings)), "--reason", "ticket 7"],
    route: "PUT /kms-admin/config",
    body: { ...settings, reason: "ticket 7" },
    data: config,
    text: /^revision +3$/m,
  },
  {
    args: ["config", "history"],
    route: "GET /kms-admin/config/history",
    query: { limit: "50" },
    data: { revisions: [{ revision: 3, provider: "vault" }], next_cursor: null },
    text: /^revision +provider\n3 +vault$/m,
  },
  {
    args: ["config", "rollback", "2", "--reason", "ticket 8"],
    route: "POST /kms-admin/config/rollback",
    body: { revision: 2, reason: "ticket 8" },
    data: { ...config, revision: 4 },
    text: /^revision +4$/m,
  },
  {
    args: [
      ...["audit", "list", "--from", "2026-11-01", "--action", "payment_method.reveal"],
      ...["--owner", USER, "--outcome", "failure"],
    ],
    route: "GET /kms-admin/audit",
    query: {
      ...{ limit: "50", from: "2026-11-01", action: "payment_method.reveal" },
      ...{ owner_id: USER, outcome: "failure" },
    },
    data: { entries: [{ day: "2026-11-02", seq: 3, action: "a.b", hash: "f" }], next_cursor: null },
    text: /^day +seq +occurred_at +action .* purpose\n2026-11-02 +3 +- +a\.b/m,
  },
  {
    args: ["audit", "alerts"],
    route: "GET /kms-admin/audit/alerts",
    data: {
      alerts: [{ name: "rotation_overdue", severity: "warning", subject: "pii" }],
      changes: [],
    },
    text: /^name +severity +subject\nrotation_overdue +warning +pii\n$/,
    code: 1,
  },
  {
    args: ["audit", "alerts"],
    route: "GET /kms-admin/audit/alerts",
    data: { alerts: [], changes: [CHANGE] },
    text: /^none\n\nadministrative changes\naction +actor_type.*\nconfig.update +admin +u +2\n$/,
  },
  {
    args: ["audit", "alerts", "--fail-on-changes"],
    route: "GET /kms-admin/audit/alerts",
    data: { alerts: [], changes: [CHANGE] },
    text: /^config.update +admin +u +2$/m,
    code: 1,
  },
  {
    args: ["audit", "alerts", "--hours", "48"],
    route: "GET /kms-admin/audit/alerts",
    query: { hours: "48" },
    data: { alerts: [], changes: [] },
    text: /^none$/m,
  },
  {
    args: ["erase", USER, "--purpose", "ticket-9", "--confirm", USER],
    route: `POST /kms-admin/users/${USER}/erase`,
    body: { purpose: "ticket-9", confirm: USER },
    data: { proof: "signed-text", erasure: { user_id: USER, rows: 3 } },
    text: /^proof +signed-text\nerasure\.user_id +2{8}-\S+\nerasure\.rows +3$/m,
  },
  {
    args: ["verify-erasure", privateFile("signed-text\n")],
    route: "POST /kms-admin/users/erase/verify",
    body: { proof: "signed-text" },
    data: { valid: true, erasure: { user_id: USER } },
    text: /^user_id +2{8}-/m,
  },
  {
    args: ["verify-erasure", privateFile("signed-text\n")],
    route: "POST /kms-admin/users/erase/verify",
    body: { proof: "signed-text" },
    data: { valid: false, erasure: null },
    text: /^NOT VALID/,
    code: 1,
  },
  {
    args: ["migrate-provider", "--status"],
    route: "GET /kms-admin/provider/migration",
    data: null,
    text: /^no migration is under way$/m,
  },
];

async function answered(suite: FakeSuite, one: Case, flags: readonly string[]) {
  suite.on(one.route, one.data);
  const finished = await suite.run([...one.args, ...flags]);
  const [method = "", path = ""] = one.route.split(" ");
  assertEquals(suite.seen.at(-1), {
    method,
    path,
    query: one.query ?? {},
    body: one.body,
  });
  assertEquals(finished.code, one.code ?? 0, finished.stderr);
  return finished;
}

for (const one of CASES) {
  const name = one.args.map((arg) => arg.includes("/") ? "FILE" : arg).join(" ");
  Deno.test(`kms ${name}: one request, readable, and as JSON`, () =>
    withSuite(async (suite) => {
      const text = await answered(suite, one, []);
      assertMatch(text.stdout, one.text);
      const json = await answered(suite, one, ["--json"]);
      assertEquals(json.json(), one.document ?? one.data);
    }));
}

Deno.test("kms health: unhealthy is exit code 1, degraded is not, anything else is no answer", () =>
  withSuite(async (suite) => {
    const view = (status: string) => ({
      ...{ status, checks: {}, provider: "aws" },
      metadata: { environment: "test" },
    });
    const route = "GET /kms-health-check";
    suite.on(route, () => Response.json(view("unhealthy"), { status: 503 }));
    const ill = await suite.run(["health", "--json"]);
    assertEquals([ill.code, ill.json().status], [1, "unhealthy"]);
    suite.on(route, () => Response.json(view("degraded")));
    const degraded = await suite.run(["health"]);
    assertEquals(degraded.code, 0);
    assertMatch(degraded.stdout, /^status +degraded$/m);
    suite.on(route, () => new Response("<html>gone</html>", { status: 502 }));
    assertEquals((await suite.run(["health"])).code, 4);
  }));

Deno.test("kms migrate-provider: prepares until nothing remains, switches, and says how it ends", () =>
  withSuite(async (suite) => {
    const at = (step: string, remaining: number) => ({
      from: "aws",
      to: "vault",
      step,
      branch_keys: 3,
      remaining,
      operations: remaining * 3,
      direct_rows: 0,
    });
    const args = ["migrate-provider", "--from", "aws", "--to", "vault"];
    const route = "POST /kms-admin/provider/migrate";
    const steps = () => suite.seen.flatMap(({ body }) => body ? [body] : []);
    const asked = (step: string) => ({ from: "aws", to: "vault", step });
    suite.on(route, at("prepare", 2), at("prepare", 0), at("switch", 0));
    suite.on("GET /kms-admin/config", { provider: "vault" });
    const done = await suite.run([...args, "--json"]);
    assertEquals(done.json(), at("switch", 0));
    assertEquals(steps(), [asked("prepare"), asked("prepare"), asked("switch")]);
    assertMatch(
      done.stderr,
      /^prepare: 1 of 3 branch keys, 6 operations left\nprepare: 3 of 3 branch keys$/m,
    );
    assert(!done.stderr.includes("still wrapped"));

    suite.on(route, at("back", 0));
    const back = await suite.run([...args, "--back"]);
    assertEquals([back.code, steps().at(-1)], [0, asked("back")]);
    assertMatch(back.stdout, /^step +back$/m);
    assertMatch(back.stderr, /still wrapped by vault: make aws the provider/);
    suite.on("GET /kms-admin/config", () => problem(503, "database_unavailable", "Gone"));
    assertEquals((await suite.run([...args, "--back"])).code, 0, "the step itself is done");

    suite.on(route, at("prepare", 1));
    const stuck = await suite.run(args);
    assertEquals(stuck.code, 1);
    assertStringIncludes(stuck.stderr, "leaves 1 branch keys undone");

    // A branch key of many versions takes many portions, and the end goes over all records twice.
    const portions = [9, 8, 7, 6, 5, 0].map((operations) => ({
      ...at("finish", Math.min(operations, 1)),
      operations,
    }));
    suite.on(route, ...portions);
    assertEquals((await suite.run([...args, "--step", "finish"])).code, 0);

    suite.on(route, { ...at("finish", 0), direct_rows: 7 });
    const finished = await suite.run([...args, "--step", "finish"]);
    assertEquals(finished.code, 0);
    assertStringIncludes(finished.stdout, "7 rows were wrapped by aws itself");
    suite.on(route, { ...at("finish", 0), direct_rows: 10_001 });
    const many = await suite.run([...args, "--step", "finish"]);
    assertStringIncludes(many.stdout, "more than 10000 rows were wrapped by aws itself");
  }));
