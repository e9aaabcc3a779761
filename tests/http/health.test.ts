/** The health check: the deployment guide's shape, true under every fault, cheap, and discreet. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { call, EVERY_CALL, sharedStack } from "../support/stack.ts";
import {
  type Answer,
  assertNowhere,
  assertProblem,
  type Caller,
  HEALTH,
  newUser,
  read,
  SERVER,
  sql,
  test,
  TIMESTAMP,
  UUID,
} from "./suite.ts";

interface Check {
  readonly status: string;
  readonly error?: string;
}

interface HealthBody {
  readonly status: string;
  readonly timestamp: string;
  readonly checks: {
    readonly config: Check;
    readonly kms_connectivity: Check;
    readonly key_functionality: Check;
  };
  readonly metadata: {
    readonly version: number;
    readonly region: string | null;
    readonly environment: string | null;
    readonly latency_ms: number;
  };
  readonly provider?: string;
  readonly classes?: Record<string, {
    readonly key: Record<string, unknown>;
    readonly canary: Check;
  }>;
}

interface Health extends Omit<Answer, "body"> {
  readonly body: HealthBody;
}

const PASS = { status: "pass" };

async function health(caller: Caller = {}, headers: Record<string, string> = {}): Promise<Health> {
  const answer = await read(
    await call(await sharedStack(), HEALTH, "", {
      ...caller.token === undefined ? {} : { token: caller.token },
      ...caller.secret ? { secret: true } : {},
      headers,
    }),
  );
  return { ...answer, body: answer.body as unknown as HealthBody };
}

/** What the public may learn, whatever is wrong: this and nothing more. */
function assertPublicShape(answer: Health, status: 200 | 503): void {
  assertEquals(answer.status, status, answer.text);
  assertEquals(answer.headers.get("content-type"), "application/json");
  assertEquals(answer.headers.get("cache-control"), "no-store");
  assertMatch(answer.headers.get("x-request-id") ?? "", UUID);
  const { body } = answer;
  assertEquals(Object.keys(body), ["status", "timestamp", "checks", "metadata"]);
  assertEquals(body.status, status === 200 ? "healthy" : "unhealthy");
  assertMatch(body.timestamp, TIMESTAMP);
  assertEquals(Object.keys(body.checks), ["config", "kms_connectivity", "key_functionality"]);
  for (const check of Object.values(body.checks)) {
    if (check.status === "pass") assertEquals(check, PASS);
    else {
      assertEquals(Object.keys(check), ["status", "error"]);
      assertEquals(check.status, "fail");
      assertMatch(check.error ?? "", /^[a-z_]+$/);
    }
  }
  assertEquals(Object.keys(body.metadata), ["version", "region", "environment", "latency_ms"]);
  assertEquals(body.metadata.version, 2);
  assert(Number.isInteger(body.metadata.latency_ms) && body.metadata.latency_ms >= 0);
  assertNowhere(answer, [
    "arn:",
    "000000000000",
    "mrk-",
    "AKIA",
    "ASIA",
    " at ",
    ".ts:",
    "exception",
  ]);
  if (status === 503) assertMatch(answer.headers.get("retry-after") ?? "", /^[1-9]\d*$/);
}

function assertChecks(answer: Health, checks: readonly (string | null)[]): void {
  const { config, kms_connectivity, key_functionality } = answer.body.checks;
  const found = [config, kms_connectivity, key_functionality].map((check) => check.error ?? null);
  assertEquals(found, checks, answer.text);
}

/** The function with other settings, for as long as `work` runs. */
async function withSettings(
  env: Record<string, string>,
  work: () => Promise<void>,
): Promise<void> {
  const stack = await sharedStack();
  // Deno 2.1.4 notices a connection that was closed unanswered only by the deadline.
  await stack.restartFunction(HEALTH, { KMS_TIMEOUT_MS: "3000", ...env });
  try {
    await work();
  } finally {
    stack.aws.faults.clear();
    await stack.restartFunction(HEALTH, {});
  }
}

const UNCACHED = { ...EVERY_CALL, KMS_HEALTH_CACHE_MS: "0" };

test("healthy: exactly the guide's answer, for everybody", async () => {
  const answer = await health();
  assertPublicShape(answer, 200);
  assertEquals(answer.body.checks, {
    config: PASS,
    kms_connectivity: PASS,
    key_functionality: PASS,
  });
  const { region, environment } = answer.body.metadata;
  assertEquals([region, environment], ["us-east-1", "development"]);
  assertEquals(answer.headers.get("retry-after"), null);
  const user = await newUser();
  const stack = await sharedStack();
  for (
    const other of [
      await health(user),
      await health({}, { authorization: "Bearer nonsense" }),
      await health({}, { apikey: stack.publishableKey }),
      await health({}, { apikey: "sb_secret_wrong" }),
    ]
  ) assertPublicShape(other, 200);
});

test("HEAD answers as GET; a query parameter is refused", async () => {
  const stack = await sharedStack();
  const head = await read(await call(stack, HEALTH, "", { method: "HEAD" }));
  assertEquals([head.status, head.text], [200, ""]);
  const query = await read(await call(stack, HEALTH, "?deep=1"));
  assertProblem(query, 422, "validation_failed", [{ code: "unknown_parameter" }]);
});

test("with a secret key: provider, the key of every class, and a canary that decrypts", async () => {
  const answer = await health(SERVER);
  assertEquals(answer.status, 200, answer.text);
  assertEquals(answer.body.provider, "aws");
  assertEquals(Object.keys(answer.body.classes ?? {}), ["payment", "pii", "general"]);
  const arns = new Set<unknown>();
  for (const { key, canary } of Object.values(answer.body.classes ?? {})) {
    const { key_id: keyId, ...rest } = key;
    assertMatch(String(keyId), /^arn:aws:kms:us-east-1:\d{12}:key\/mrk-[0-9a-f]{32}$/);
    assertEquals(rest, { state: "Enabled", multi_region: true, region: "us-east-1" });
    assertEquals(canary, PASS);
    arns.add(keyId);
  }
  assertEquals(arns.size, 3);
  const rows = await sql<{ data_class: string }>(
    "select data_class from kms.health_canaries order by data_class",
  );
  assertEquals(rows.map((row) => row.data_class), ["general", "payment", "pii"]);
});

test("however often it is called, one round of KMS calls per cache time", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  await withSettings({ KMS_HEALTH_CACHE_MS: "60000" }, async () => {
    aws.resetCalls();
    const first = await Promise.all(Array.from({ length: 10 }, () => health()));
    for (let index = 0; index < 20; index++) first.push(await health(index % 2 ? user : {}));
    assertEquals(new Set(first.map((answer) => answer.text)).size, 1);
    const round = aws.calls().map((record) => record.operation).sort();
    assertEquals(round.filter((operation) => operation === "GenerateDataKey").length, 3);
    // One for each fresh message, and one for the branch key of each stored one.
    assertEquals(round.filter((operation) => operation === "Decrypt").length, 6);
    assertEquals(round.filter((operation) => operation === "AssumeRole").length, 1);
    assert(round.length <= 13, round.join(" "));

    for (let index = 0; index < 3; index++) await health(SERVER);
    const deep = aws.calls().length;
    for (let index = 0; index < 10; index++) await health(SERVER);
    assertEquals(aws.calls().length, deep);

    aws.resetCalls();
    aws.faults.set([{ effect: { kind: "refuse" } }]);
    for (let index = 0; index < 10; index++) await health();
    assertEquals(aws.calls().length, 0);
  });
});

test("failures are cached like successes: a broken KMS is not hammered", async () => {
  const { aws } = await sharedStack();
  await withSettings({ KMS_HEALTH_CACHE_MS: "60000" }, async () => {
    aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
    aws.resetCalls();
    for (let index = 0; index < 15; index++) assertPublicShape(await health(), 503);
    const kms = aws.calls().filter((record) => record.service === "kms").length;
    assert(kms <= 15, `${kms} calls`);
    const before = aws.calls().length;
    for (let index = 0; index < 15; index++) await health();
    assertEquals(aws.calls().length, before);
  });
});

test("with the cache time as delivered, a fault shows within it, and its end too", async () => {
  const { aws } = await sharedStack();
  assertPublicShape(await health(), 200);
  aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
  try {
    // The default is 5 s; the answer before was at most that old.
    await new Promise((resolve) => setTimeout(resolve, 5100));
    const broken = await health();
    assertPublicShape(broken, 503);
    assertChecks(broken, [null, "kms_unavailable", "kms_unavailable"]);
  } finally {
    aws.faults.clear();
  }
  await new Promise((resolve) => setTimeout(resolve, 5100));
  assertPublicShape(await health(), 200);
});

test("KMS that refuses, throttles, hangs or denies is unhealthy, and recovers at once", async () => {
  const { aws } = await sharedStack();
  const faults = [
    [{ kind: "refuse" }, "kms_unavailable"],
    [{ kind: "drop_after" }, "kms_unavailable"],
    [{ kind: "blackhole" }, "kms_unavailable"],
    [{ kind: "error", name: "ThrottlingException" }, "kms_unavailable"],
    [{ kind: "error", name: "KMSInternalException" }, "kms_unavailable"],
    [{ kind: "error", name: "AccessDeniedException" }, "kms_access_denied"],
  ] as const;
  await withSettings({ ...UNCACHED, KMS_TIMEOUT_MS: "1500" }, async () => {
    assertPublicShape(await health(), 200);
    for (const [effect, error] of faults) {
      aws.faults.set([{ service: "kms", effect }]);
      const broken = await health();
      assertPublicShape(broken, 503);
      assertChecks(broken, [null, error, error]);
      aws.faults.clear();
      assertPublicShape(await health(), 200);
    }
  });
});

test("one key out of three that fails is unhealthy", async () => {
  const { aws } = await sharedStack();
  await withSettings(UNCACHED, async () => {
    const deep = await health(SERVER);
    const KeyId = String(deep.body.classes?.pii?.key.key_id);
    await aws.asOperator("us-east-1", "DisableKey", { KeyId });
    try {
      const broken = await health();
      assertPublicShape(broken, 503);
      assertChecks(broken, [null, null, "kms_key_unusable"]);
      const detail = await health(SERVER);
      assertEquals(detail.status, 503);
      assertEquals(detail.body.classes?.pii?.key.state, "Disabled");
      assertEquals(detail.body.classes?.pii?.canary, {
        status: "fail",
        error: "kms_key_unusable",
      });
      assertEquals(detail.body.classes?.payment?.canary, PASS);
    } finally {
      await aws.asOperator("us-east-1", "EnableKey", { KeyId });
    }
    assertPublicShape(await health(), 200);
  });
});

test("KMS that encrypts but does not decrypt is unhealthy", async () => {
  const { aws } = await sharedStack();
  await withSettings(UNCACHED, async () => {
    aws.faults.set([{
      service: "kms",
      operation: "Decrypt",
      effect: { kind: "error", name: "InvalidCiphertextException" },
    }]);
    const broken = await health();
    assertPublicShape(broken, 503);
    assertChecks(broken, [null, null, "decryption_failed"]);
  });
});

test("STS down or denying makes a new worker unhealthy, and it recovers", async () => {
  const { aws } = await sharedStack();
  for (
    const [effect, error] of [
      [{ kind: "refuse" }, "kms_unavailable"],
      [{ kind: "error", name: "AccessDenied" }, "kms_access_denied"],
    ] as const
  ) {
    aws.faults.set([{ service: "sts", effect }]);
    await withSettings(UNCACHED, async () => {
      const broken = await health();
      assertPublicShape(broken, 503);
      assertChecks(broken, [null, error, error]);
      aws.faults.clear();
      assertPublicShape(await health(), 200);
    });
  }
});

test("a wrong external id, secret or alias is unhealthy", async () => {
  const cases: readonly (readonly [Record<string, string>, readonly (string | null)[]])[] = [
    [{ AWS_EXTERNAL_ID: "not-the-one" }, [null, "kms_access_denied", "kms_access_denied"]],
    [{ AWS_SECRET_ACCESS_KEY: "x".repeat(40) }, [null, "kms_access_denied", "kms_access_denied"]],
    [{ AWS_ACCESS_KEY_ID: "AKIAXXXXXXXXXXXXXXXX" }, [
      null,
      "kms_access_denied",
      "kms_access_denied",
    ]],
  ];
  for (const [env, checks] of cases) {
    await withSettings({ ...UNCACHED, ...env }, async () => {
      const broken = await health();
      assertPublicShape(broken, 503);
      assertChecks(broken, checks);
    });
  }
  await withSettings({ ...UNCACHED, KMS_PII_ALIAS: "alias/no-such-alias" }, async () => {
    assertPublicShape(await health(), 503);
  });
});

test("a missing or malformed setting is unhealthy, names it in the log, and tells nobody else", async () => {
  const stack = await sharedStack();
  const cases: readonly Record<string, string>[] = [
    { KMS_PII_ALIAS: "" },
    { AWS_REGION: "moon" },
    { AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "" },
    { KMS_FALLBACK_REGIONS: "[nonsense" },
    { KMS_HEALTH_CACHE_MS: "soon" },
  ];
  for (const env of cases) {
    await withSettings(env, async () => {
      const before = stack.functionLog(HEALTH).length;
      for (const caller of [{}, SERVER]) {
        const broken = await health(caller);
        assertPublicShape(broken, 503);
        const error = "configuration_invalid";
        assertChecks(broken, [error, error, error]);
        assertEquals(broken.body.metadata, {
          version: 2,
          region: null,
          environment: null,
          latency_ms: 0,
        });
        assertNowhere(broken, [...Object.keys(env), "moon", "nonsense", "soon"]);
      }
      const log = stack.functionLog(HEALTH).slice(before);
      for (const [name, value] of Object.entries(env)) {
        assert(log.includes(name), log);
        assert(value === "" || !log.includes(`"${value}"`), log);
      }
    });
  }
  assertPublicShape(await health(), 200);
});

test("stored data that no longer decrypts is unhealthy, however well the key service is", async () => {
  await health(SERVER);
  const canary = (dataClass: string) =>
    sql<{ message: string }>("select message from kms.health_canaries where data_class = $1", [
      dataClass,
    ]);
  const [[pii], [general]] = [await canary("pii"), await canary("general")];
  const put = (message: string | undefined) =>
    sql("update kms.health_canaries set message = $1 where data_class = 'pii'", [message]);
  await withSettings(UNCACHED, async () => {
    await put(general?.message);
    const broken = await health(SERVER);
    assertEquals([broken.status, broken.body.status], [503, "unhealthy"]);
    assertEquals(broken.body.classes?.pii?.canary, { status: "fail", error: "decryption_failed" });
    assertEquals(broken.body.classes?.payment?.canary, PASS);
    const open = await health();
    assertPublicShape(open, 503);
    assertChecks(open, [null, null, "decryption_failed"]);
    await put(pii?.message);
    assertEquals((await health(SERVER)).status, 200);
  });
});
