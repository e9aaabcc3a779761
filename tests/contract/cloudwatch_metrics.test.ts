/** CloudWatch: what was put is what statistics are made of. */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import {
  type CloudWatchClient,
  type Dimension,
  GetMetricDataCommand,
  GetMetricStatisticsCommand,
  type GetMetricStatisticsCommandInput,
  ListMetricsCommand,
  type ListMetricsCommandInput,
  type MetricDatum,
  paginateGetMetricData,
  paginateListMetrics,
  PutMetricDataCommand,
} from "@aws-sdk/client-cloudwatch";
import { type Setting, TestClock, withAws } from "./support.ts";

const NAMESPACE = "ParkerFlight/KMS";
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const REGION: Dimension[] = [{ Name: "Region", Value: "us-east-1" }];

async function put(client: CloudWatchClient, ...data: MetricDatum[]): Promise<void> {
  await client.send(new PutMetricDataCommand({ Namespace: NAMESPACE, MetricData: data }));
}

/** Start of the minute that lies `minutes` before now. */
function minute(setting: { readonly now: () => number }, minutes: number): Date {
  return new Date((Math.floor(setting.now() / MINUTE_MS) - minutes) * MINUTE_MS);
}

/** A full minute, so that what is put now is not in the minute that a query leaves out. */
function fullMinute(): TestClock {
  const clock = new TestClock();
  clock.advance(MINUTE_MS - clock.now() % MINUTE_MS + 30_000);
  return clock;
}

async function statistics(
  client: CloudWatchClient,
  clock: TestClock,
  more: Partial<GetMetricStatisticsCommandInput>,
) {
  const { Datapoints = [], Label } = await client.send(
    new GetMetricStatisticsCommand({
      Namespace: NAMESPACE,
      MetricName: "Duration",
      StartTime: new Date(clock.now() - HOUR_MS),
      EndTime: new Date(clock.now() + MINUTE_MS),
      Period: 60,
      Statistics: ["SampleCount", "Sum", "Average", "Minimum", "Maximum"],
      ...more,
    }),
  );
  assertEquals(Label, more.MetricName ?? "Duration");
  return Datapoints.toSorted((a, b) => Number(a.Timestamp) - Number(b.Timestamp));
}

async function withMetrics(
  body: (client: CloudWatchClient, clock: TestClock, setting: Setting) => Promise<void>,
): Promise<void> {
  const clock = fullMinute();
  await withAws((setting) => body(setting.cloudwatch(), clock, setting), { clock });
}

Deno.test("values, weighted values and summaries of one minute add up", () =>
  withMetrics(async (client, clock) => {
    await put(client, { MetricName: "Duration", Value: 2, Unit: "Milliseconds" }, {
      MetricName: "Duration",
      Values: [3, 10],
      Counts: [4, 1],
      Unit: "Milliseconds",
    });
    await put(client, {
      MetricName: "Duration",
      StatisticValues: { SampleCount: 2, Sum: 6, Minimum: 1, Maximum: 5 },
      Unit: "Milliseconds",
    });
    assertEquals(await statistics(client, clock, {}), [{
      Timestamp: minute(clock, 0),
      SampleCount: 8,
      Sum: 30,
      Average: 3.75,
      Minimum: 1,
      Maximum: 10,
      Unit: "Milliseconds",
    }]);
  }));

Deno.test("Values without Counts weigh one each; a unit left out is None", () =>
  withMetrics(async (client, clock) => {
    await put(client, { MetricName: "Duration", Values: [1, 1, 4] });
    assertEquals(await statistics(client, clock, { Statistics: ["Sum", "SampleCount"] }), [
      { Timestamp: minute(clock, 0), Sum: 6, SampleCount: 3, Unit: "None" },
    ]);
  }));

Deno.test("minutes lie apart at period 60 and together at 300, from the rounded start on", () =>
  withMetrics(async (client, clock) => {
    for (const minutes of [10, 9, 2]) {
      await put(client, {
        MetricName: "Duration",
        Timestamp: new Date(minute(clock, minutes).getTime() + 59_999),
        Value: minutes,
      });
    }
    const sums = async (Period: number, StartTime: Date, EndTime: Date) =>
      (await statistics(client, clock, { Period, StartTime, EndTime, Statistics: ["Sum"] }))
        .map((
          { Timestamp, Sum },
        ) => [(Number(minute(clock, 0)) - Number(Timestamp)) / 60_000, Sum]);
    assertEquals(await sums(60, minute(clock, 10), minute(clock, 0)), [[10, 10], [9, 9], [2, 2]]);
    const late = new Date(minute(clock, 10).getTime() + 59_000);
    assertEquals(await sums(300, late, minute(clock, 0)), [[10, 19], [5, 2]]);
    assertEquals(await sums(60, minute(clock, 9), minute(clock, 2)), [[9, 9]], "end excluded");
  }));

Deno.test("seconds are kept apart where StorageResolution 1 asks for it", () =>
  withMetrics(async (client, clock) => {
    const at = (seconds: number) => new Date(minute(clock, 1).getTime() + seconds * 1000);
    for (const seconds of [1, 2, 12]) {
      await put(client, {
        MetricName: "Duration",
        Timestamp: at(seconds),
        Value: 1,
        StorageResolution: 1,
      });
    }
    const points = await statistics(client, clock, {
      Period: 10,
      StartTime: at(0),
      EndTime: at(60),
      Statistics: ["Sum"],
    });
    assertEquals(points.map(({ Timestamp, Sum }) => [Timestamp, Sum]), [[at(0), 2], [at(10), 1]]);
  }));

Deno.test("units are not added up, and one can be asked for", () =>
  withMetrics(async (client, clock) => {
    await put(
      client,
      { MetricName: "Duration", Value: 1, Unit: "Seconds" },
      { MetricName: "Duration", Value: 1000, Unit: "Milliseconds" },
    );
    const sums = async (Unit?: "Seconds") =>
      (await statistics(client, clock, { Statistics: ["Sum"], ...Unit ? { Unit } : {} }))
        .map((point) => [point.Unit, point.Sum]).sort();
    assertEquals(await sums(), [["Milliseconds", 1000], ["Seconds", 1]]);
    assertEquals(await sums("Seconds"), [["Seconds", 1]]);
  }));

Deno.test("dimensions tell metrics apart, their order does not, and nothing is added up over them", () =>
  withMetrics(async (client, clock) => {
    const operation = { Name: "Operation", Value: "Decrypt" };
    await put(
      client,
      { MetricName: "Duration", Value: 1, Dimensions: [...REGION, operation] },
      { MetricName: "Duration", Value: 2, Dimensions: [operation, ...REGION] },
      { MetricName: "Duration", Value: 4, Dimensions: REGION },
    );
    const sum = async (Dimensions: Dimension[]) =>
      (await statistics(client, clock, { Dimensions, Statistics: ["Sum"] })).map((one) => one.Sum);
    assertEquals(await sum([operation, ...REGION]), [3]);
    assertEquals(await sum(REGION), [4]);
    assertEquals(await sum([]), []);
    assertEquals(await sum([{ Name: "Region", Value: "eu-west-1" }]), []);
  }));

Deno.test("regions and namespaces are apart", () =>
  withMetrics(async (client, clock, setting) => {
    await put(client, { MetricName: "Duration", Value: 1 });
    assertEquals(await statistics(setting.cloudwatch("eu-west-1"), clock, {}), []);
    assertEquals(await statistics(client, clock, { Namespace: "Other" }), []);
  }));

Deno.test("percentiles of weighted values", () =>
  withMetrics(async (client, clock) => {
    await put(client, { MetricName: "Duration", Values: [10, 20, 1000], Counts: [50, 49, 1] });
    const [point] = await statistics(client, clock, {
      Statistics: undefined,
      ExtendedStatistics: ["p50", "p99", "p99.5", "p100", "p0"],
    });
    assertEquals(point?.ExtendedStatistics, {
      p50: 10,
      p99: 20,
      "p99.5": 1000,
      p100: 1000,
      p0: 10,
    });
  }));

Deno.test("a summary has no percentile, unless all its values are one", () =>
  withMetrics(async (client, clock) => {
    const percentiles = async (MetricName: string) => {
      const more = { MetricName, Statistics: undefined, ExtendedStatistics: ["p50"] };
      return (await statistics(client, clock, more)).map((point) => point.ExtendedStatistics);
    };
    const summary = { SampleCount: 2, Sum: 4, Minimum: 2, Maximum: 2 };
    await put(client, { MetricName: "even", StatisticValues: summary }, {
      MetricName: "uneven",
      StatisticValues: { ...summary, Sum: 5, Maximum: 3 },
    });
    assertEquals(await percentiles("even"), [{ p50: 2 }]);
    assertEquals(await percentiles("uneven"), [{}]);
  }));

Deno.test("GetMetricData: several metrics, newest first unless asked otherwise", () =>
  withMetrics(async (client, clock) => {
    await put(
      client,
      { MetricName: "Duration", Timestamp: minute(clock, 2), Values: [1, 3], Dimensions: REGION },
      { MetricName: "Duration", Timestamp: minute(clock, 1), Value: 7, Dimensions: REGION },
      { MetricName: "Retries", Timestamp: minute(clock, 1), Value: 1 },
    );
    const metric = (MetricName: string, Stat: string, Dimensions: Dimension[]) => ({
      Metric: { Namespace: NAMESPACE, MetricName, Dimensions },
      Period: 60,
      Stat,
    });
    const input = {
      StartTime: minute(clock, 5),
      EndTime: minute(clock, 0),
      MetricDataQueries: [
        { Id: "mean", MetricStat: metric("Duration", "Average", REGION) },
        { Id: "p99", Label: "tail", MetricStat: metric("Duration", "p99", REGION) },
        { Id: "retries", MetricStat: metric("Retries", "Sum", []) },
        { Id: "hidden", MetricStat: metric("Retries", "Sum", []), ReturnData: false },
        { Id: "nothing", MetricStat: metric("Absent", "Sum", []) },
      ],
    };
    const [one, two] = [minute(clock, 1), minute(clock, 2)];
    const { MetricDataResults, NextToken } = await client.send(new GetMetricDataCommand(input));
    const StatusCode = "Complete" as const;
    assertEquals(MetricDataResults, [
      { Id: "mean", Label: "Duration", Timestamps: [one, two], Values: [7, 2], StatusCode },
      { Id: "p99", Label: "tail", Timestamps: [one, two], Values: [7, 3], StatusCode },
      { Id: "retries", Label: "Retries", Timestamps: [one], Values: [1], StatusCode },
      { Id: "nothing", Label: "Absent", Timestamps: [], Values: [], StatusCode },
    ]);
    assertEquals(NextToken, undefined);
    const ascending = await client.send(
      new GetMetricDataCommand({ ...input, ScanBy: "TimestampAscending" }),
    );
    assertEquals(ascending.MetricDataResults?.[0]?.Values, [2, 7]);
  }));

Deno.test("GetMetricData: pages of MaxDatapoints together hold every point once", () =>
  withMetrics(async (client, clock) => {
    for (const MetricName of ["a", "b"]) {
      for (const minutes of [1, 2, 3]) {
        await put(client, { MetricName, Timestamp: minute(clock, minutes), Value: minutes });
      }
    }
    const pages = [];
    for await (
      const page of paginateGetMetricData({ client }, {
        StartTime: minute(clock, 5),
        EndTime: minute(clock, 0),
        MaxDatapoints: 4,
        MetricDataQueries: ["a", "b"].map((Id) => ({
          Id,
          MetricStat: {
            Metric: { Namespace: NAMESPACE, MetricName: Id },
            Period: 60,
            Stat: "Sum",
          },
        })),
      })
    ) {
      pages.push((page.MetricDataResults ?? []).map((one) => [one.StatusCode, one.Values]));
    }
    assertEquals(pages, [
      [["Complete", [1, 2, 3]], ["PartialData", [1]]],
      [["Complete", []], ["Complete", [2, 3]]],
    ]);
  }));

Deno.test("ListMetrics filters by namespace, name and dimensions, and forgets after two weeks", () =>
  withMetrics(async (client, clock, setting) => {
    await put(
      client,
      { MetricName: "Duration", Value: 1, Dimensions: REGION },
      { MetricName: "Duration", Value: 1, Dimensions: [{ Name: "Region", Value: "eu-west-1" }] },
      { MetricName: "Retries", Value: 1, Timestamp: new Date(clock.now() - 4 * HOUR_MS) },
    );
    const list = async (filter: ListMetricsCommandInput) =>
      ((await client.send(new ListMetricsCommand(filter))).Metrics ?? [])
        .map((one) =>
          [one.MetricName, ...one.Dimensions ?? []].map((part) =>
            typeof part === "string" ? part : part?.Value
          )
        );
    const all = [["Duration", "eu-west-1"], ["Duration", "us-east-1"], ["Retries"]];
    assertEquals(await list({}), all);
    assertEquals(await list({ Namespace: NAMESPACE }), all);
    assertEquals(await list({ Namespace: "Other" }), []);
    assertEquals(await list({ MetricName: "Retries" }), [["Retries"]]);
    assertEquals(await list({ Dimensions: [{ Name: "Region" }] }), all.slice(0, 2));
    assertEquals(await list({ Dimensions: REGION }), [["Duration", "us-east-1"]]);
    assertEquals(await list({ RecentlyActive: "PT3H" }), all.slice(0, 2));
    clock.advance(14 * 24 * HOUR_MS - HOUR_MS);
    const later = setting.cloudwatch();
    const { Metrics = [] } = await later.send(new ListMetricsCommand({}));
    assertEquals(Metrics.map((metric) => metric.MetricName), ["Duration", "Duration"]);
  }));

Deno.test("ListMetrics gives 500 a page", () =>
  withMetrics(async (client) => {
    const data = Array.from({ length: 1000 }, (_, n) => ({ MetricName: `m${n}`, Value: n }));
    await put(client, ...data);
    await put(client, { MetricName: "last", Value: 1 });
    const pages = [];
    for await (const page of paginateListMetrics({ client }, { Namespace: NAMESPACE })) {
      pages.push((page.Metrics ?? []).map((metric) => metric.MetricName));
    }
    assertEquals(pages.map((page) => page.length), [500, 500, 1]);
    assertEquals(new Set(pages.flat()).size, 1001);
  }));

Deno.test("a body that the SDK compressed is read: 100 metrics of 150 values", () =>
  withMetrics(async (client, clock) => {
    let encoding: unknown;
    client.middlewareStack.add(
      (next) => (args) => {
        encoding =
          (args.request as { headers: Record<string, string> }).headers["content-encoding"];
        return next(args);
      },
      { step: "finalizeRequest", priority: "low" },
    );
    const Values = Array.from({ length: 150 }, (_, n) => n + 0.1);
    await put(
      client,
      ...Array.from({ length: 100 }, (_, n) => ({
        MetricName: "Duration",
        Dimensions: [{ Name: "n", Value: String(n) }],
        Values,
        Counts: Values.map(() => 3),
      })),
    );
    assertEquals(encoding, "gzip");
    const [point] = await statistics(client, clock, { Dimensions: [{ Name: "n", Value: "99" }] });
    assertEquals(point?.SampleCount, 450);
    assertAlmostEquals(point?.Sum ?? NaN, 3 * (150 * 149 / 2 + 15), 1e-6);
  }));
