/** Parts of `kms doctor` where the embedded stack has nothing to find: other roles, other key services, other faults. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { checkAwsSession } from "../../cli/doctor/aws-session.ts";
import { checkConfiguration } from "../../cli/doctor/configuration.ts";
import { checkDatabase } from "../../cli/doctor/database.ts";
import { checkFunctions } from "../../cli/doctor/functions.ts";
import { checkKeyServices } from "../../cli/doctor/key-services.ts";
import { expectedObjects } from "../../cli/doctor/migrations.ts";
import { checkAwsKeys } from "../../cli/doctor/aws-keys.ts";
import { Report } from "../../cli/doctor/report.ts";
import { type LocalAws, seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import { localSecrets } from "../../local/platform-env.ts";
import { startLocalVault } from "../../local/vault/mod.ts";
import type { Config } from "../../functions-shared/config.ts";

const PLATFORM = {
  SUPABASE_URL: "http://127.0.0.1:1",
  SUPABASE_SECRET_KEYS: '{"default":"a-secret-key-of-tests-only"}',
  APP_ENVIRONMENT: "development",
};

function configOf(env: Record<string, string>): Config {
  const report = new Report();
  const config = checkConfiguration(report, { ...PLATFORM, ...env });
  assert(config !== undefined, JSON.stringify(report.lines));
  return config;
}

function byStatus(report: Report): Record<string, string[]> {
  const found: Record<string, string[]> = { pass: [], warn: [], fail: [] };
  for (const { check, status } of report.lines) found[status]?.push(check);
  return found;
}

async function withAws(test: (aws: LocalAws) => Promise<void>): Promise<void> {
  const aws = await startLocalAws({
    roles: [{
      name: "careless",
      trustPolicy: {
        Version: "2012-10-17",
        Statement: [{ Effect: "Allow", Principal: { AWS: "*" }, Action: "sts:AssumeRole" }],
      },
      policies: [{
        Version: "2012-10-17",
        Statement: [{ Effect: "Allow", Action: "kms:DescribeKey", Resource: "*" }],
      }],
    }],
  });
  try {
    await seedKeys(aws, { application: "parker-flight", environment: "development" });
    await test(aws);
  } finally {
    await aws.close();
  }
}

Deno.test("aws: a role that needs no external id, a caller that may do everything", () =>
  withAws(async (aws) => {
    const { operator } = aws.identities;
    const config = configOf({
      ...localSecrets(aws),
      AWS_ACCESS_KEY_ID: operator.accessKeyId,
      AWS_SECRET_ACCESS_KEY: operator.secretAccessKey,
      AWS_ROLE_ARN: `arn:aws:iam::${aws.accountId}:role/careless`,
    });
    const report = new Report();
    assert(config.aws !== undefined);
    const session = await checkAwsSession(report, config.aws);
    assert(session !== undefined);
    assertEquals(byStatus(report), {
      pass: ["aws.clock", "aws.credentials", "aws.role"],
      warn: ["aws.external_id", "aws.caller"],
      fail: [],
    });
  }));

Deno.test("aws: no role at all is a warning", () =>
  withAws(async (aws) => {
    const config = configOf({ ...localSecrets(aws), AWS_ROLE_ARN: "", AWS_EXTERNAL_ID: "" });
    const report = new Report();
    assert(config.aws !== undefined);
    assert(await checkAwsSession(report, config.aws) !== undefined);
    assertEquals(byStatus(report).warn, ["aws.role"]);
  }));

Deno.test("aws: a role that may look at keys but not use them; rotation off; a dead region", () =>
  withAws(async (aws) => {
    const config = configOf({
      ...localSecrets(aws),
      AWS_ROLE_ARN: `arn:aws:iam::${aws.accountId}:role/careless`,
    });
    assert(config.aws !== undefined);
    const session = await checkAwsSession(new Report(), config.aws);
    assert(session !== undefined);
    const looking = new Report();
    await checkAwsKeys(looking, config, config.aws, session);
    const perClass = (what: string) => ["payment", "pii", "general"].map((c) => `aws.${what}.${c}`);
    assertEquals(byStatus(looking).fail, perClass("use"));
    assertEquals(byStatus(looking).warn, perClass("rotation"), "it may not read the status");
    assertMatch(looking.lines.at(-1)?.next ?? "", /the role needs kms:GenerateDataKey/);

    const well = configOf(localSecrets(aws));
    assert(well.aws !== undefined);
    const entitled = await checkAwsSession(new Report(), well.aws);
    assert(entitled !== undefined);
    const alias = "alias/parker-flight-pii-development";
    const { KeyMetadata } = await aws.asOperator("us-east-1", "DescribeKey", { KeyId: alias });
    const { KeyId } = KeyMetadata as { KeyId: string };
    await aws.asOperator("us-east-1", "DisableKeyRotation", { KeyId });
    aws.faults.set([{ service: "kms", region: "eu-west-1", effect: { kind: "refuse" } }]);
    const report = new Report();
    await checkAwsKeys(report, well, well.aws, entitled);
    assertEquals(byStatus(report).fail, perClass("alias"));
    assertEquals(
      byStatus(report).warn?.toSorted(),
      [...perClass("use"), "aws.rotation.pii"].toSorted(),
    );
    for (const line of report.lines.filter(({ status }) => status === "fail")) {
      assertMatch(line.message, /cannot be described in eu-west-1/);
      assertMatch(line.next ?? "", /reached/);
    }
  }));

Deno.test("gcp: credentials, states and use; a disabled version and missing permissions", async () => {
  const gcp = await startLocalGcp();
  try {
    for (const name of ["payment", "pii", "general"]) {
      gcp.createKey(`parker-flight-${name}-development`);
    }
    const env = {
      KMS_PROVIDER: "gcp",
      GOOGLE_CLOUD_PROJECT: gcp.project,
      GOOGLE_KMS_LOCATION: gcp.location,
      GOOGLE_KMS_KEY_RING: gcp.keyRing,
      GOOGLE_KMS_ENDPOINT: gcp.endpoint,
      GOOGLE_CREDENTIALS_JSON: gcp.credentialsJson,
    };
    const checked = async (variables: Record<string, string>) => {
      const report = new Report();
      await checkKeyServices(report, configOf(variables));
      return report;
    };
    const well = byStatus(await checked(env));
    assertEquals([well.warn, well.fail, well.pass?.length], [[], [], 7]);

    gcp.setState("parker-flight-pii-development", 1, "DISABLED");
    const disabled = await checked(env);
    assertEquals(byStatus(disabled).fail, ["gcp.state.pii"]);
    assertEquals(byStatus(disabled).warn, ["gcp.use.pii"]);
    gcp.setState("parker-flight-pii-development", 1, "ENABLED");

    gcp.setPermissions(["cloudkms.cryptoKeys.get"]);
    const denied = await checked(env);
    assertEquals(byStatus(denied).fail, ["payment", "pii", "general"].map((c) => `gcp.use.${c}`));
    assertMatch(denied.lines.at(-1)?.next ?? "", /cryptoKeyEncrypterDecrypter/);
  } finally {
    await gcp.close();
  }
});

Deno.test("vault: states and use; a missing key, a sealed Vault; env beside it", async () => {
  const vault = await startLocalVault();
  try {
    for (const name of ["payment", "general"]) {
      vault.createKey(`parker-flight-${name}-development`);
    }
    const env = {
      KMS_PROVIDER: "vault",
      VAULT_ADDR: vault.endpoint,
      VAULT_ROLE_ID: vault.roleId,
      VAULT_SECRET_ID: vault.secretId,
      ENCRYPTION_KEY: "0011223344556677".repeat(4),
    };
    const report = new Report();
    await checkKeyServices(report, configOf(env));
    assertEquals(byStatus(report).fail, ["vault.state.pii"]);
    assertEquals(byStatus(report).warn, ["vault.use.pii"]);
    assert(!vault.keyExists("parker-flight-pii-development"), "looking makes no key");
    assertEquals(
      byStatus(report).pass?.filter((check) => check.startsWith("env.")).length,
      6,
      "those that only read are checked as well",
    );

    vault.setSealed(true);
    const sealed = new Report();
    await checkKeyServices(sealed, configOf(env));
    assertEquals(
      byStatus(sealed).fail,
      ["payment", "pii", "general"].map((c) => `vault.state.${c}`),
    );
    assertMatch(sealed.lines.at(-1)?.check ?? "", /^env\.use/);
    assert(!JSON.stringify([...report.lines, ...sealed.lines]).includes(vault.secretId));
  } finally {
    await vault.close();
  }
});

/** The Data API and the functions of a project in which everything is wrong in its own way. */
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
      pass: ["database.answers", "database.migrations"],
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
    await checkFunctions(report, configOf(production), target);
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

Deno.test("functions: a configuration in the database is in force, whatever the environment says", async () => {
  const refused = { type: "urn:supabase-kms:problem:unauthorized", code: "unauthorized" };
  await withProject((path, request) => {
    if (!request.headers.has("apikey")) return Response.json(refused, { status: 401 });
    return path.endsWith("/kms-admin/config")
      ? Response.json({ success: true, data: { source: "database", revision: 3, provider: "gcp" } })
      : Response.json({ success: true, data: {} });
  }, async (target) => {
    const report = new Report();
    await checkFunctions(report, undefined, target);
    const line = report.lines.find(({ check }) => check === "functions.configuration");
    assertEquals(line?.status, "warn");
    assertMatch(line?.message ?? "", /^revision 3 of the database is in force \(gcp\)/);
  });
});
