/** `kms doctor` about projects in which everything is wrong in its own way: the Data API and the functions. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Begun, checkBegun } from "../../cli/doctor/begun.ts";
import { checkDatabase } from "../../cli/doctor/database.ts";
import { checkFunctions } from "../../cli/doctor/functions.ts";
import { askSettings } from "../../cli/doctor/in-force.ts";
import { expectedObjects } from "../../cli/doctor/migrations.ts";
import { Report } from "../../cli/doctor/report.ts";
import { byStatus, configOf } from "./doctor-support.ts";

async function withProject(
  answer: (path: string, request: Request) => Response,
  test: (target: { apiUrl: string; secretKey: string; publishableKey: string }) => Promise<void>,
): Promise<void> {
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => answer(new URL(request.url).pathname, request),
  );
  try {
    const apiUrl = `http://127.0.0.1:${server.addr.port}`;
    await test({ apiUrl, secretKey: "eyJ.legacy.key-of-tests", publishableKey: "publishable" });
  } finally {
    await server.shutdown();
  }
}

Deno.test("database: an exposed schema, missing objects, jobs that are not scheduled", async () => {
  const expected = await expectedObjects();
  assert(expected.names.includes("kms.audit_log") && expected.names.includes("public.kms_store"));
  const findings = {
    postgres: "15.8",
    migrations: expected.versions,
    tables: expected.names.filter((name) => name !== "kms.audit_log"),
    ...{ functions: [], not_executable: [], not_readable: [], excess: [], without_rls: [] },
    ...{ open_policies: ["all on public.payment_methods"], disabled_triggers: ["t on kms.x"] },
    cron: { health_check: true, purge: false },
    ...{ provider_migration: null, jobs: [] },
    unsigned_erasures: Array.from({ length: 7 }, (_, index) => `erasure-${index}`),
  };
  let bearer: string | null = null;
  await withProject((path, request) => {
    if (path === "/rest/v1/rpc/kms_doctor") {
      bearer = request.headers.get("authorization");
      return Response.json(findings);
    }
    // Exposed, and to the publishable key only because a privilege stops it.
    return request.headers.get("apikey") === "publishable"
      ? Response.json({ code: "42501" }, { status: 401 })
      : Response.json([{ id: 1 }]);
  }, async (target) => {
    const report = new Report();
    await checkDatabase(report, target);
    assertEquals(byStatus(report), {
      pass: [
        ...["database.answers", "database.migrations"],
        ...["provider.migration", "jobs.running", "jobs.failures"],
      ],
      warn: ["database.cron", "database.erasures"],
      fail: [
        ...["database.objects", "database.privileges"],
        ...["database.hidden.publishable_key", "database.hidden.secret_key"],
      ],
    });
    const messages = report.lines.map(({ message }) => message).join("\n");
    assertMatch(messages, /not there: kms\.audit_log/);
    assertMatch(messages, /policy all on public\.payment_methods shows more/);
    assertMatch(messages, /trigger t on kms\.x is disabled/);
    assertMatch(messages, /no active job calls kms\.purge_expired\(\)/);
    assertMatch(messages, /no signed proof yet: erasure-0, .* erasure-4 and 2 more$/m);
    assertEquals(bearer, "Bearer eyJ.legacy.key-of-tests", "a legacy key is a token");
  });
});

Deno.test("database: without the migrations, and with nobody there", async () => {
  const missing = () => Response.json({ code: "PGRST202" }, { status: 404 });
  await withProject(missing, async (target) => {
    const report = new Report();
    await checkDatabase(report, { ...target, publishableKey: undefined });
    assertEquals(byStatus(report).fail, ["database.answers", "database.hidden.secret_key"]);
    assertEquals(report.lines[0]?.next, "supabase db push");
    assertMatch(JSON.stringify(report.lines), /there is no publishable key/);
  });
  const report = new Report();
  await checkDatabase(report, {
    apiUrl: "http://127.0.0.1:1",
    secretKey: "a-secret-key-of-tests-only",
    publishableKey: undefined,
  });
  assertEquals(byStatus(report).fail, ["database.answers"]);
});

Deno.test("functions: not deployed, open to strangers, any origin in production", async () => {
  const urn = "urn:supabase-kms:problem:";
  await withProject((path, request) => {
    if (request.method === "OPTIONS") {
      return new Response(null, { headers: { "access-control-allow-origin": "*" } });
    }
    if (path.endsWith("/kms-health-check")) {
      return Response.json({
        ...{ status: "degraded", checks: {}, metadata: { environment: "production" } },
        regions: { "us-east-1": true, "eu-west-1": false },
      });
    }
    if (path.endsWith("/kms-admin/health")) return Response.json({ success: true, data: {} });
    if (path.endsWith("/manage-payment-methods-kms")) {
      const body = { type: `${urn}not_found`, code: "not_found" };
      return Response.json(body, { status: 404 });
    }
    return Response.json({ code: "NOT_FOUND", message: "no function" }, { status: 404 });
  }, async (target) => {
    const report = new Report();
    const production = {
      APP_ENVIRONMENT: "production",
      KMS_PROVIDER: "vault",
      VAULT_ADDR: "https://vault.example.com",
      VAULT_TOKEN: "token",
    };
    await checkFunctions(report, configOf(production), target, await askSettings(target));
    const found = byStatus(report);
    assertEquals(found.fail?.filter((c) => c !== "functions.manage-wallets-kms"), [
      ...["functions.encrypt-payment-data", "functions.kms-admin"],
      "functions.manage-payment-methods-kms",
    ]);
    const lineOf = (check: string) => report.lines.find((line) => line.check === check);
    assertEquals(lineOf("functions.encrypt-payment-data")?.message, "is not deployed");
    assertEquals(lineOf("functions.health")?.message, "degraded: eu-west-1");
    assertEquals(lineOf("functions.cors")?.status, "warn");
    assertEquals(lineOf("functions.secret_key")?.message, "not checked");
  });
});

Deno.test("functions: stored settings are in force, though the worker that was asked has not heard of them", async () => {
  const refused = { type: "urn:supabase-kms:problem:unauthorized", code: "unauthorized" };
  const classes = Object.fromEntries(["payment", "pii", "general"].map((name) => [name, {
    key: name === "pii"
      ? { error: "kms_key_unusable" }
      : { key_id: "key", state: name === "payment" ? "Disabled" : "Enabled" },
    canary: { status: "pass" },
  }]));
  await withProject((path, request) => {
    const health = { status: "healthy", checks: {}, metadata: { environment: null } };
    if (path.endsWith("/kms-health-check")) {
      return Response.json({ ...health, provider: "aws", classes });
    }
    if (!request.headers.has("apikey")) return Response.json(refused, { status: 401 });
    return path.endsWith("/kms-admin/config")
      ? Response.json({ success: true, data: { source: "database", revision: 3, provider: "gcp" } })
      : Response.json({ success: true, data: {} });
  }, async (target) => {
    const report = new Report();
    await checkFunctions(report, undefined, target, await askSettings(target));
    const lineOf = (check: string) => report.lines.find((line) => line.check === check);
    const settings = lineOf("functions.configuration");
    assertEquals(settings?.status, "pass");
    assertMatch(settings?.message ?? "", /^revision 3 of the database is in force \(gcp\)/);
    assertMatch(lineOf("functions.health")?.message ?? "", /has not heard of gcp yet$/);
    assertEquals(lineOf("functions.keys.payment")?.status, "fail");
    assertEquals(lineOf("functions.keys.payment")?.message, "aws: key is Disabled");
    assertEquals(lineOf("functions.keys.pii")?.status, "warn");
    assertEquals(lineOf("functions.keys.general")?.status, "pass");
  });
});

Deno.test("functions: a database that does not answer is one fault, and so is a project that is not there", async () => {
  const urn = "urn:supabase-kms:problem:";
  const down = { type: `${urn}database_unavailable`, code: "database_unavailable" };
  const stranger = { type: `${urn}unauthorized`, code: "unauthorized" };
  const error = { status: "fail", error: "database_unavailable" };
  await withProject((path, request) => {
    if (path.startsWith("/rest/")) return Response.json({ code: "PGRST001" }, { status: 503 });
    if (path.endsWith("/kms-health-check")) {
      return Response.json({ status: "unhealthy", checks: { config: error } }, { status: 503 });
    }
    return request.headers.has("apikey")
      ? Response.json(down, { status: 503 })
      : Response.json(stranger, { status: 401 });
  }, async (target) => {
    const report = new Report();
    await checkDatabase(report, target);
    await checkFunctions(report, undefined, target, await askSettings(target));
    const [first, ...more] = report.lines.filter(({ status }) => status === "fail");
    assertEquals(first?.check, "database.answers");
    assertEquals(first?.message, "the Data API answered 503 PGRST001");
    assertMatch(first?.next ?? "", /down or paused/);
    assertEquals(more, []);
    const lineOf = (check: string) => report.lines.find((line) => line.check === check);
    assertEquals(lineOf("functions.configuration")?.next, "mend database.answers first");
    assertEquals(lineOf("functions.health")?.message, "unhealthy: database_unavailable");
  });

  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const apiUrl = `http://127.0.0.1:${listener.addr.port}`;
  listener.close();
  const nobody = { apiUrl, secretKey: "a-secret-key-of-tests-only", publishableKey: "publishable" };
  const report = new Report();
  await checkDatabase(report, nobody);
  await checkFunctions(report, undefined, nobody, await askSettings(nobody));
  assertEquals(byStatus(report).fail, ["database.answers"]);
  assertEquals(
    report.lines[0]?.message,
    "the Data API cannot be reached: the connection is refused",
  );
  assert(report.lines.slice(1).every(({ next }) => next === "mend database.answers first"));
  assert(report.lines.some(({ check }) => check === "functions.encrypt-payment-data"));
});

const JOB = "11111111-1111-4111-8111-111111111111";
const job = {
  ...{ id: JOB, status: "running" as const, data_class: "pii", dry_run: false, total: 100 },
  ...{ worked: 40, failed: 0, held: false, idle_seconds: 10 },
};

function begun(changes: Partial<Begun>) {
  const report = new Report();
  checkBegun(report, { provider_migration: null, jobs: [], ...changes });
  return (check: string) => {
    const line = report.lines.find((one) => one.check === check);
    assert(line !== undefined);
    return [line.status, line.message, line.next ?? ""] as const;
  };
}

Deno.test("jobs: one that is worked on is well; one that nobody works on is said with how to go on", () => {
  assertEquals(begun({})("jobs.running"), ["pass", "none", ""]);
  const between = begun({ jobs: [job] })("jobs.running");
  assertEquals(between[0], "pass", "the next call comes within a minute");
  const held = begun({ jobs: [{ ...job, held: true, idle_seconds: 600 }] })("jobs.running");
  assertEquals(held[0], "pass", "its lease has not run out");
  const [status, message, next] = begun({ jobs: [{ ...job, idle_seconds: 7300 }] })("jobs.running");
  assertEquals(status, "warn");
  assertEquals(message, `job ${JOB} (pii) at 40 of 100 rows, idle for 2 h`);
  assertMatch(next, /kms -- reencrypt --class pii goes on/);
  assertMatch(next, new RegExp(`kms -- jobs cancel ${JOB}$`));
  const dry = { ...job, data_class: null, dry_run: true, idle_seconds: 500 };
  assertMatch(begun({ jobs: [dry] })("jobs.running")[2], /kms -- reencrypt --dry-run goes on/);
});

Deno.test("jobs: rows that could not be done fail, with the way to see them", () => {
  const failed = { ...job, status: "completed" as const, data_class: null, worked: 100, failed: 3 };
  const line = begun({ jobs: [failed] });
  assertEquals(line("jobs.running")[0], "pass");
  const [status, message, next] = line("jobs.failures");
  assertEquals([status, message], ["fail", `3 rows of job ${JOB} (all classes)`]);
  assertMatch(next, new RegExp(`kms -- jobs failures ${JOB}`));
});

Deno.test("a migration under way: which, since when, how far, and both ways out", () => {
  const migration = (step: "prepare" | "switch" | "finish" | "back", remaining: number) =>
    begun({
      provider_migration: {
        ...{ from: "aws", to: "vault", step, remaining },
        started_at: "2026-11-20T10:00:00.000Z",
      },
    })("provider.migration");
  const command = "deno task kms -- migrate-provider --from aws --to vault";
  const prepare = migration("prepare", 1200);
  assertEquals(prepare[0], "warn");
  assertEquals(
    prepare[1],
    "from aws to vault since 2026-11-20T10:00:00.000Z: prepare, 1200 branch keys remain",
  );
  assertMatch(prepare[2], new RegExp(`^go on: ${command}; or return: ${command} --back `));
  assertMatch(migration("switch", 2)[2], new RegExp(`^go on: ${command};`));
  const switched = migration("switch", 0);
  assertMatch(switched[1], /: switch, done for all branch keys$/);
  assertMatch(switched[2], new RegExp(`: ${command} --step finish; or return: ${command} --back `));
  assertEquals(migration("finish", 1)[2], `end it: ${command} --step finish`);
  assertEquals(migration("back", 1)[2], `end it: ${command} --back`);
});
