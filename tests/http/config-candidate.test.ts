/** Configurations that are tried through `kms-admin`, or refused: nothing of them is stored. */
import { assert, assertEquals } from "@std/assert";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import { ADMIN, admin, newAdmin } from "./admin.ts";
import {
  assertNoCredentialLeft,
  AT_ONCE,
  auditOf,
  awsConfig,
  CLASSES,
  data,
  present,
  send,
  sent,
  sharedStack,
  sharedVault,
  type Tested,
  vaultConfig,
} from "./config-api.ts";
import { assertProblem, newUser, test } from "./suite.ts";

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
  const oneWrong = await awsConfig({ account_id: null, aliases: { payment: "alias/of-nobody" } });
  const { healthy, classes } = await data<Tested>("POST", "/config/test", oneWrong);
  assertEquals(healthy, false);
  assertEquals(classes.payment, { healthy: false, error: "kms_key_unusable" });
  assertEquals([classes.pii?.healthy, classes.general?.healthy], [true, true]);
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

test("no credential is in any answer, log, table or file", async () => {
  await assertNoCredentialLeft({ atLeast: { sent: 8, answers: 40 }, stored: false });
});
