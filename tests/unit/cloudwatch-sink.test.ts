import { assert, assertEquals, assertRejects } from "@std/assert";
import { CloudWatchClient, GetMetricStatisticsCommand } from "@aws-sdk/client-cloudwatch";
import { type LocalAws, startLocalAws } from "../../local/aws/mod.ts";
import { cloudWatchSink } from "../../functions-shared/keys/providers/aws/cloudwatch.ts";
import type { AwsCredentials } from "../../functions-shared/keys/providers/aws/credentials.ts";
import { BufferedMetrics } from "../../functions-shared/telemetry/metrics.ts";

const NAMESPACE = "ParkerFlight/KMS";

async function withAws(body: (aws: LocalAws) => Promise<void>): Promise<void> {
  const aws = await startLocalAws();
  try {
    await body(aws);
  } finally {
    await aws.close();
  }
}

function sink(aws: LocalAws, credentials?: () => Promise<AwsCredentials>, timeoutMs = 5_000) {
  return cloudWatchSink({ endpoint: aws.endpoint, region: "us-east-1" }, {
    namespace: NAMESPACE,
    credentials: credentials ?? (() => Promise.resolve(aws.identities.operator)),
    timeoutMs,
  });
}

async function statistics(aws: LocalAws, MetricName: string, Region: string) {
  const client = new CloudWatchClient({
    region: "us-east-1",
    endpoint: aws.endpoint,
    credentials: { ...aws.identities.operator },
  });
  try {
    const hour = 3_600_000;
    const { Datapoints } = await client.send(
      new GetMetricStatisticsCommand({
        Namespace: NAMESPACE,
        MetricName,
        Dimensions: [{ Name: "Region", Value: Region }],
        StartTime: new Date(Date.now() - hour),
        EndTime: new Date(Date.now() + hour),
        Period: 7200,
        Statistics: ["SampleCount", "Sum", "Minimum", "Maximum"],
      }),
    );
    return Datapoints?.map(({ Timestamp: _, ...point }) => point);
  } finally {
    client.destroy();
  }
}

function puts(aws: LocalAws) {
  return aws.calls().filter((call) => call.operation === "PutMetricData");
}

Deno.test("what is recorded is what CloudWatch answers", () =>
  withAws(async (aws) => {
    const metrics = new BufferedMetrics(sink(aws));
    for (const value of [12, 12, 30]) {
      metrics.record("KMSOperationDuration", value, "Milliseconds", { Region: "us-east-1" });
    }
    metrics.record("KMSOperationDuration", 99, "Milliseconds", { Region: "us-west-2" });
    await metrics.flush();
    assertEquals(await statistics(aws, "KMSOperationDuration", "us-east-1"), [
      { SampleCount: 3, Sum: 54, Minimum: 12, Maximum: 30, Unit: "Milliseconds" },
    ]);
    assertEquals(await statistics(aws, "KMSOperationDuration", "us-west-2"), [
      { SampleCount: 1, Sum: 99, Minimum: 99, Maximum: 99, Unit: "Milliseconds" },
    ]);
    assertEquals(puts(aws).map((call) => call.status), [200]);
  }));

Deno.test("as much as a buffer holds is taken, none of it lost", () =>
  withAws(async (aws) => {
    const drops: number[] = [];
    const metrics = new BufferedMetrics(sink(aws), { onDrop: (count) => drops.push(count) });
    for (let region = 0; region < 500; region++) {
      for (let n = 0; n < 20; n++) {
        metrics.record("KMSOperationDuration", 1000 * n + region, "Milliseconds", {
          Region: `r${region}`,
        });
      }
    }
    await metrics.flush();
    assertEquals([drops, puts(aws).map((call) => call.status)], [[], Array(10).fill(200)]);
    assertEquals((await statistics(aws, "KMSOperationDuration", "r499"))?.[0]?.SampleCount, 20);
  }));

Deno.test("a refusal rejects after one attempt", () =>
  withAws(async (aws) => {
    const caller = sink(aws, () => Promise.resolve(aws.identities.caller));
    const datum = {
      name: "m",
      unit: "Count" as const,
      dimensions: {},
      at: Date.now(),
      values: [1],
      counts: [1],
    };
    const error = await assertRejects(() => caller([datum]), Error);
    assertEquals(error.name, "AccessDenied");
    aws.faults.set([{ service: "cloudwatch", effect: { kind: "error", name: "Throttling" } }]);
    assertEquals((await assertRejects(() => sink(aws)([datum]), Error)).name, "Throttling");
    assertEquals(puts(aws).length, 2);
  }));

Deno.test("a black hole ends with the deadline, and credentials that fail end it before", () =>
  withAws(async (aws) => {
    const drops: number[] = [];
    const onDrop = (count: number) => drops.push(count);
    aws.faults.set([{ service: "cloudwatch", effect: { kind: "blackhole" } }]);
    const silent = new BufferedMetrics(sink(aws, undefined, 50), { onDrop });
    silent.record("m", 1, "Count");
    await silent.flush();
    const broke = new BufferedMetrics(
      sink(aws, () => Promise.reject(new Error("no session"))),
      { onDrop },
    );
    broke.record("m", 1, "Count");
    broke.record("m", 1, "Count");
    await broke.flush();
    assertEquals(drops, [1, 2]);
    assertEquals(puts(aws).length, 1);
  }));

Deno.test("network and environment suffice, and a full batch stays below what CloudWatch takes", () =>
  withAws(async (aws) => {
    const module = new URL(
      "../../functions-shared/keys/providers/aws/cloudwatch.ts",
      import.meta.url,
    );
    const code = `
      const { cloudWatchSink } = await import(${JSON.stringify(module.href)});
      const sink = cloudWatchSink(${
      JSON.stringify({ endpoint: aws.endpoint, region: "us-east-1" })
    }, {
        namespace: "Alone",
        credentials: () => Promise.resolve(${JSON.stringify(aws.identities.operator)}),
        timeoutMs: 10_000,
      });
      await sink(Array.from({ length: 100 }, (_, n) => ({
        name: "m" + n, unit: "Count", dimensions: {}, at: Date.now(),
        values: Array.from({ length: 150 }, (_, n) => n), counts: Array(150).fill(1),
      })));`;
    const file = await Deno.makeTempFile({ suffix: ".ts" });
    try {
      await Deno.writeTextFile(file, code);
      const config = new URL("../../import_map.json", import.meta.url).pathname;
      const { code: status, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--no-config",
          "--no-lock",
          "--no-check",
          "--no-prompt",
          "--cached-only",
          `--import-map=${config}`,
          "--allow-net",
          "--allow-env",
          file,
        ],
        clearEnv: true,
        env: { DENO_DIR: await denoDir(), NO_COLOR: "1" },
      }).output();
      assertEquals(status, 0, new TextDecoder().decode(stderr));
    } finally {
      await Deno.remove(file);
    }
    assert(puts(aws).some((call) => call.status === 200));
  }));

async function denoDir(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  return JSON.parse(new TextDecoder().decode(stdout)).denoDir;
}
