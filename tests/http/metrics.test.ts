/** Metrics and logs of a suite that runs: what CloudWatch and the log get, and what a caller feels of it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  CloudWatchClient,
  GetMetricDataCommand,
  ListMetricsCommand,
} from "@aws-sdk/client-cloudwatch";
import type { FaultEffect } from "../../local/aws/mod.ts";
import { sharedStack } from "../support/stack.ts";
import {
  AMEX,
  card,
  ENCRYPT,
  encrypt,
  MANAGE,
  manage,
  newUser,
  SERVER,
  store,
  test,
  VISA,
} from "./suite.ts";

const METRICS = { KMS_ENABLE_METRICS: "true", KMS_METRICS_INTERVAL_MS: "20" };
const NAMESPACE = "ParkerFlight/KMS";
const PATIENCE_MS = 10_000;

/** Functions with other settings, in new workers, for as long as `work` runs. */
async function withSettings(
  env: Record<string, string>,
  work: () => Promise<void>,
): Promise<void> {
  const stack = await sharedStack();
  const all = (settings?: Record<string, string>) =>
    Promise.all([ENCRYPT, MANAGE].map((name) => stack.restartFunction(name, settings)));
  await all(env);
  stack.aws.resetCalls();
  try {
    await work();
  } finally {
    stack.aws.faults.clear();
    await all();
  }
}

async function withCloudWatch<T>(work: (client: CloudWatchClient) => Promise<T>): Promise<T> {
  const { aws } = await sharedStack();
  const client = new CloudWatchClient({
    region: "us-east-1",
    endpoint: aws.endpoint,
    credentials: { ...aws.identities.operator },
  });
  try {
    return await work(client);
  } finally {
    client.destroy();
  }
}

/** Name and dimensions of each metric in a namespace, such as `KMSFailovers Region=us-west-2`. */
function listed(namespace: string): Promise<string[]> {
  return withCloudWatch(async (client) => {
    const { Metrics = [] } = await client.send(new ListMetricsCommand({ Namespace: namespace }));
    return Metrics.map(({ MetricName, Dimensions = [] }) =>
      [MetricName, ...Dimensions.map(({ Name, Value }) => `${Name}=${Value}`)].join(" ")
    );
  });
}

/** A statistic over the last hour of a metric that `listed` names so; undefined without data. */
function statistic(namespace: string, metric: string, Stat: string): Promise<number | undefined> {
  const [MetricName, ...dimensions] = metric.split(" ");
  const Dimensions = dimensions.map((one) => one.split("=")).map(([Name, Value]) => ({
    Name,
    Value,
  }));
  const hour = 3_600_000;
  return withCloudWatch(async (client) => {
    const { MetricDataResults } = await client.send(
      new GetMetricDataCommand({
        StartTime: new Date(Date.now() - hour),
        EndTime: new Date(Date.now() + hour),
        MetricDataQueries: [{
          Id: "q",
          MetricStat: {
            Metric: { Namespace: namespace, MetricName, Dimensions },
            Period: 4 * 3600,
            Stat,
          },
        }],
      }),
    );
    const values = MetricDataResults?.[0]?.Values ?? [];
    if (values.length === 0) return undefined;
    return Stat === "Maximum" ? Math.max(...values) : values.reduce((a, b) => a + b);
  });
}

async function eventually<T>(look: () => Promise<T>, isThere: (value: T) => boolean): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await look();
    if (isThere(value) || Date.now() > deadline) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function puts() {
  return (await sharedStack()).aws.calls().filter((call) => call.service === "cloudwatch");
}

/** The lines that `work` adds to the log of `encrypt-payment-data`. */
async function logged(work: () => Promise<unknown>): Promise<Record<string, unknown>[]> {
  const stack = await sharedStack();
  const before = stack.functionLog(ENCRYPT).length;
  await work();
  return stack.functionLog(ENCRYPT).slice(before).split("\n")
    .filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

async function dropsLogged(): Promise<number> {
  return (await sharedStack()).functionLog(ENCRYPT).split('"metrics_dropped"').length - 1;
}

test("operations, circuits, cache and their dimensions reach ParkerFlight/KMS", async () => {
  const user = await newUser();
  await withSettings(METRICS, async () => {
    const { id } = await store(user, VISA);
    await store(user, AMEX);
    const revealed = await manage(SERVER, "POST", `/${id}/reveal`, {
      user_id: user.userId,
      purpose: "charge",
    });
    assertEquals(revealed.status, 200, revealed.text);
    const regions = ["us-east-1", "us-west-2", "eu-west-1"];
    const wanted = [
      "KMSOperationDuration Operation=DescribeKey Region=us-east-1 Success=true",
      "KMSOperationDuration Operation=Decrypt Region=us-east-1 Success=true",
      "KMSOperationDuration Success=true",
      "CircuitBreakerState",
      ...regions.map((region) => `CircuitBreakerState Region=${region}`),
      "DataKeyCacheHits",
      "DataKeyCacheMisses",
    ];
    const there = await eventually(
      () => listed(NAMESPACE),
      (names) => wanted.every((name) => names.includes(name)),
    );
    assertEquals(wanted.filter((name) => !there.includes(name)), []);
    const decrypts = "KMSOperationDuration Operation=Decrypt Region=us-east-1 Success=true";
    const counted = (await sharedStack()).aws.calls()
      .filter((call) => call.operation === "Decrypt" && call.status === 200).length;
    assert(counted > 0);
    assertEquals(
      await eventually(
        () => statistic(NAMESPACE, decrypts, "SampleCount"),
        (count) => count === counted,
      ),
      counted,
      "as many as KMS saw",
    );
    assertEquals(await statistic(NAMESPACE, "CircuitBreakerState", "Maximum"), 0);
    assertEquals([...new Set((await puts()).map((call) => call.status))], [200]);
  });
});

test("KMS_METRICS_NAMESPACE chooses the namespace; retries, failovers and an open circuit show", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const namespace = "Tests/outage";
  const settings = {
    ...METRICS,
    KMS_METRICS_NAMESPACE: namespace,
    KMS_DATA_KEY_TTL_MS: "0",
    KMS_CIRCUIT_BREAKER_THRESHOLD: "1",
  };
  await withSettings(settings, async () => {
    await store(user, VISA);
    // Every call is throttled once in each region before one succeeds: retries. Then a region dies.
    aws.faults.set([{
      service: "kms",
      effect: { kind: "error", name: "ThrottlingException" },
      times: 3,
    }]);
    assertEquals((await encrypt(user, card(AMEX))).status, 201);
    aws.faults.set([{ service: "kms", region: "us-east-1", effect: { kind: "refuse" } }]);
    for (let n = 0; n < 4; n++) {
      const stored = await encrypt(user, { data_class: "general", data: { n } });
      assertEquals(stored.status, 201, stored.text);
    }
    const west = "KMSFailovers Region=us-west-2";
    const names = await eventually(
      () => listed(namespace),
      (found) => found.includes(west) && found.some((name) => name.startsWith("KMSRetries ")),
    );
    assert(names.includes(west), names.join("\n"));
    assert(names.some((name) => /^KMSRetries Region=/.test(name)), names.join("\n"));
    for (const metric of ["CircuitBreakerState", "CircuitBreakerState Region=us-east-1"]) {
      const state = await eventually(
        () => statistic(namespace, metric, "Maximum"),
        (value) => value === 1,
      );
      assertEquals(state, 1, metric);
    }
    assertEquals(
      await statistic(namespace, "CircuitBreakerState Region=us-west-2", "Maximum"),
      0,
    );
    const failed = "KMSOperationDuration Success=false";
    assert((await statistic(namespace, failed, "SampleCount") ?? 0) >= 1);
  });
});

test("metrics are off unless switched on", async () => {
  const user = await newUser();
  await withSettings({ KMS_METRICS_INTERVAL_MS: "0" }, async () => {
    await store(user, VISA);
    await store(user, AMEX);
    assertEquals(await puts(), []);
  });
});

const TROUBLES: readonly FaultEffect[] = [
  { kind: "refuse" },
  { kind: "blackhole" },
  { kind: "error", name: "AccessDeniedException" },
  { kind: "error", name: "InternalServiceFault" },
];

for (const effect of TROUBLES) {
  const name = effect.kind === "error" ? effect.name : effect.kind;
  test(`CloudWatch in trouble (${name}): every request is answered, and before the metrics`, async () => {
    const { aws } = await sharedStack();
    const user = await newUser();
    // The deadline of a batch is far beyond what the requests take: waiting for it would show.
    await withSettings({ ...METRICS, KMS_TIMEOUT_MS: "60000" }, async () => {
      aws.faults.set([{ service: "cloudwatch", effect }]);
      const drops = await dropsLogged();
      const lines = await logged(async () => {
        const { id } = await store(user, VISA);
        for (let n = 0; n < 5; n++) {
          const stored = await encrypt(user, { data_class: "general", data: { n } });
          assertEquals(stored.status, 201, stored.text);
          const tried = await eventually(puts, (calls) => calls.length > 0);
          assert(tried.length > 0, "metrics were sent");
        }
        const named = { user_id: user.userId, purpose: "charge" };
        assertEquals((await manage(SERVER, "POST", `/${id}/reveal`, named)).status, 200);
        if (effect.kind === "blackhole") return;
        await eventually(dropsLogged, (count) => count > drops);
      });
      const statuses = lines.filter((line) => line.event === "request").map((line) => line.status);
      assertEquals(statuses, [201, 201, 201, 201, 201, 201]);
      const dropped = lines.filter((line) => line.event === "metrics_dropped");
      if (effect.kind === "blackhole") {
        // The hole swallows the first batch of each function, and no second one is sent into it.
        assertEquals(dropped, []);
        assert((await puts()).length <= 2, String((await puts()).length));
      } else {
        assert(dropped.length > 0);
        assert(dropped.every((line) => line.level === "warn" && Number(line.count) > 0));
      }
    });
  });
}

test("server-timing is for servers: on success and on failure, and for nobody else", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const named = { user_id: user.userId, purpose: "charge" };
  const entry = String.raw`\w+;dur=\d+\.\d`;
  const form = new RegExp(`^${entry}(, ${entry})*$`);
  const reveal = await manage(SERVER, "POST", `/${id}/reveal`, named);
  const timing = reveal.headers.get("server-timing") ?? "";
  assertMatch(timing, form);
  for (const part of ["db", "keys", "total"]) assertMatch(timing, new RegExp(`\\b${part};dur=`));
  const missing = await manage(SERVER, "POST", `/${crypto.randomUUID()}/reveal`, named);
  assertEquals(missing.status, 404);
  assertMatch(missing.headers.get("server-timing") ?? "", form);
  const others = [
    await manage(user, "GET", ""),
    await manage(user, "GET", `/${crypto.randomUUID()}`),
    await manage({}, "GET", ""),
    await encrypt(user, card(VISA)),
  ];
  assertEquals(others.map((answer) => answer.headers.get("server-timing")), [
    null,
    null,
    null,
    null,
  ]);
});

test("LOG_LEVEL, KMS_DEBUG and KMS_ENABLE_LOGGING choose what is logged", async () => {
  const user = await newUser();
  const work = async () => {
    const data = { data_class: "general", data: { a: VISA } };
    assertEquals((await encrypt(user, data)).status, 201);
    assertEquals((await encrypt({}, data)).status, 401);
  };
  const cases: readonly (readonly [Record<string, string>, readonly string[]])[] = [
    [{}, ["info"]],
    [{ LOG_LEVEL: "warn" }, []],
    [{ KMS_DEBUG: "true" }, ["debug", "info"]],
    [{ LOG_LEVEL: "debug" }, ["debug", "info"]],
    [{ KMS_DEBUG: "true", LOG_LEVEL: "error" }, []],
    [{ KMS_DEBUG: "true", KMS_ENABLE_LOGGING: "false" }, []],
  ];
  for (const [settings, levels] of cases) {
    await withSettings(settings, async () => {
      const lines = await logged(work);
      const found = [...new Set(lines.map((line) => String(line.level)))].sort();
      assertEquals(found, levels, JSON.stringify(settings));
      const calls = lines.filter((line) => line.metric === "KMSOperationDuration");
      assertEquals(
        calls.some((line) => line.region === "us-east-1" && line.success === true),
        levels.includes("debug"),
      );
      assert(!JSON.stringify(lines).includes(VISA));
    });
  }
});
