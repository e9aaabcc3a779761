/** CloudWatch: what it refuses, by name, status and message. */

import { assertEquals } from "@std/assert";
import {
  GetMetricDataCommand,
  GetMetricStatisticsCommand,
  type GetMetricStatisticsCommandInput,
  ListMetricsCommand,
  type MetricDataQuery,
  type MetricDatum,
  PutMetricDataCommand,
} from "@aws-sdk/client-cloudwatch";
import { assumeRole } from "./role.ts";
import { constraint, refused400, type Setting, TestClock, withAws } from "./support.ts";

const NAMESPACE = "ParkerFlight/KMS";
const DAY_MS = 24 * 3_600_000;
const INVALID = "InvalidParameterValueException";
const COMBINATION = "InvalidParameterCombinationException";
const MISSING = "MissingRequiredParameterException";

function put(
  setting: Setting,
  MetricData: MetricDatum[] | undefined,
  Namespace: string | undefined = NAMESPACE,
) {
  return setting.cloudwatch().send(new PutMetricDataCommand({ Namespace, MetricData }));
}

const DATUM = { MetricName: "m", Value: 1 };
const FIRST = "MetricData.member.1";

Deno.test("PutMetricData: namespaces", (t) =>
  withAws(async (setting) => {
    const cases = [
      ["AWS/KMS", INVALID, "The value AWS/ for parameter Namespace is invalid."],
      ["a$b", INVALID, "The value a$b for parameter Namespace is invalid."],
      ["é", INVALID, "The value é for parameter Namespace is invalid."],
      [" ", INVALID, "The value   for parameter Namespace is invalid."],
      [
        ":a",
        "ValidationException",
        constraint(
          "namespace",
          "Value ':a'",
          "Member must satisfy regular expression pattern: [^:].*",
        ),
      ],
      [
        "n".repeat(256),
        "ValidationException",
        constraint(
          "namespace",
          `Value '${"n".repeat(256)}'`,
          "Member must have length less than or equal to 255",
        ),
      ],
    ] as const;
    for (const [namespace, name, message] of cases) {
      await t.step(`'${namespace.slice(0, 8)}' is refused`, () =>
        refused400(put(setting, [DATUM], namespace), name, message));
    }
    await t.step("letters, digits, ._-/#: and spaces are taken", async () => {
      for (const namespace of ["a B.c_d-e/f#g:h", "AWSome/x", "n".repeat(255)]) {
        await put(setting, [DATUM], namespace);
      }
    });
  }));

Deno.test("PutMetricData: data", (t) =>
  withAws(async (setting) => {
    const many = (length: number) => Array.from({ length }, (_, n) => n + 1);
    const dimensions = (length: number) => many(length).map((n) => ({ Name: `d${n}`, Value: "v" }));
    const cases: readonly (readonly [string, MetricDatum[], string, string])[] = [
      ["no data", [], MISSING, "The parameter MetricData is required."],
      [
        "1001 data",
        many(1001).map(() => DATUM),
        INVALID,
        "The collection MetricData must not have a size greater than 1000.",
      ],
      [
        "no name",
        [{ MetricName: undefined, Value: 1 }],
        MISSING,
        `The parameter ${FIRST}.MetricName is required.`,
      ],
      [
        "31 dimensions",
        [{ ...DATUM, Dimensions: dimensions(31) }],
        INVALID,
        `The collection ${FIRST}.Dimensions must not have a size greater than 30.`,
      ],
      [
        "a dimension without a value",
        [{ ...DATUM, Dimensions: [{ Name: "a", Value: undefined }] }],
        MISSING,
        `The parameter ${FIRST}.Dimensions.member.1.Value is required.`,
      ],
      [
        "an empty dimension",
        [{ ...DATUM, Dimensions: [{ Name: "a", Value: "" }] }],
        "ValidationException",
        constraint(
          "metricData.1.member.dimensions.1.member.value",
          "Value ''",
          "Member must have length greater than or equal to 1",
        ),
      ],
      [
        "a dimension that is not ASCII",
        [{ ...DATUM, Dimensions: [{ Name: "a", Value: "ü" }] }],
        INVALID,
        `The value ü for parameter ${FIRST}.Dimensions.member.1.Value is invalid.`,
      ],
      [
        "a dimension's name with a colon in front",
        [{ ...DATUM, Dimensions: [{ Name: ":a", Value: "v" }] }],
        INVALID,
        `The value :a for parameter ${FIRST}.Dimensions.member.1.Name is invalid.`,
      ],
      [
        "a dimension twice",
        [{ ...DATUM, Dimensions: [...dimensions(1), ...dimensions(1)] }],
        INVALID,
        `The collection ${FIRST}.Dimensions must not name a dimension twice.`,
      ],
      [
        "an unknown unit",
        [{ ...DATUM, Unit: "Hours" as "Seconds" }],
        "ValidationException",
        constraint(
          "metricData.1.member.unit",
          "Value 'Hours'",
          "Member must satisfy enum value set: [Seconds, Microseconds, Milliseconds, Bytes, " +
            "Kilobytes, Megabytes, Gigabytes, Terabytes, Bits, Kilobits, Megabits, Gigabits, " +
            "Terabits, Percent, Count, Bytes/Second, Kilobytes/Second, Megabytes/Second, " +
            "Gigabytes/Second, Terabytes/Second, Bits/Second, Kilobits/Second, Megabits/Second, " +
            "Gigabits/Second, Terabits/Second, Count/Second, None]",
        ),
      ],
      [
        "a storage resolution of 30 seconds",
        [{ ...DATUM, StorageResolution: 30 }],
        INVALID,
        `The value 30 for parameter ${FIRST}.StorageResolution is invalid.`,
      ],
      [
        "no number",
        [{ MetricName: "m", Value: NaN }],
        INVALID,
        `The value NaN for parameter ${FIRST}.Value is invalid.`,
      ],
      [
        "infinity",
        [{ MetricName: "m", Values: [1, Infinity] }],
        INVALID,
        `The value Infinity for parameter ${FIRST}.Values.member.2 is invalid.`,
      ],
      [
        "more than 2^360",
        [{ MetricName: "m", Value: 1e109 }],
        INVALID,
        `The value 1e+109 for parameter ${FIRST}.Value is invalid.`,
      ],
      [
        "no measurement",
        [{ MetricName: "m" }],
        COMBINATION,
        `At least one of the parameters ${FIRST}.Value, ${FIRST}.Values and ` +
        `${FIRST}.StatisticValues must be specified.`,
      ],
      [
        "a value and values",
        [{ ...DATUM, Values: [1] }],
        COMBINATION,
        `The parameters ${FIRST}.Value and ${FIRST}.Values are mutually exclusive.`,
      ],
      [
        "counts without values",
        [{ ...DATUM, Counts: [1] }],
        COMBINATION,
        `The parameter ${FIRST}.Counts requires ${FIRST}.Values.`,
      ],
      [
        "151 values",
        [{ MetricName: "m", Values: many(151) }],
        INVALID,
        `The collection ${FIRST}.Values must not have a size greater than 150.`,
      ],
      [
        "fewer counts than values",
        [{ MetricName: "m", Values: [1, 2], Counts: [1] }],
        COMBINATION,
        `The collections ${FIRST}.Values and ${FIRST}.Counts must have the same size.`,
      ],
      [
        "a count of nothing",
        [{ MetricName: "m", Values: [1], Counts: [0] }],
        INVALID,
        `The value 0 for parameter ${FIRST}.Counts.member.1 is invalid.`,
      ],
      [
        "a summary that lacks a member",
        [{
          MetricName: "m",
          StatisticValues: { SampleCount: 1, Sum: 1, Minimum: 1, Maximum: undefined },
        }],
        MISSING,
        `The parameter ${FIRST}.StatisticValues.Maximum is required.`,
      ],
      [
        "a summary upside down",
        [{
          MetricName: "m",
          StatisticValues: { SampleCount: 2, Sum: 3, Minimum: 2, Maximum: 1 },
        }],
        COMBINATION,
        `The parameter ${FIRST}.StatisticValues.Minimum must not be greater than ` +
        `${FIRST}.StatisticValues.Maximum.`,
      ],
    ];
    for (const [what, data, name, message] of cases) {
      await t.step(`${what}: ${name}`, () => refused400(put(setting, data), name, message));
    }
    await t.step("the limits themselves are taken", async () => {
      await put(setting, many(1000).map(() => DATUM), "limits");
      await put(setting, [{ ...DATUM, Dimensions: dimensions(30) }], "limits");
      await put(setting, [{ MetricName: "m", Values: many(150), Counts: many(150) }], "limits");
      await put(setting, [{ MetricName: "m", Value: -(2 ** 360) }], "limits");
    });
    await t.step("one wrong datum refuses its whole request", async () => {
      const wrong = { MetricName: "m", Value: NaN };
      await refused400(
        put(setting, [DATUM, wrong], "whole"),
        INVALID,
        "The value NaN for parameter MetricData.member.2.Value is invalid.",
      );
      const { Metrics } = await setting.cloudwatch().send(
        new ListMetricsCommand({ Namespace: "whole" }),
      );
      assertEquals(Metrics, []);
    });
  }));

Deno.test("PutMetricData: times from two weeks ago to two hours ahead", async (t) => {
  const clock = new TestClock();
  await withAws(async (setting) => {
    const at = (ms: number) => ({ ...DATUM, Timestamp: new Date(clock.now() + ms) });
    const late = (n: number) =>
      `The parameter MetricData.member.${n}.Timestamp must specify a time within the past two weeks.`;
    await t.step("both ends are taken", async () => {
      await put(setting, [at(-14 * DAY_MS), at(2 * 3_600_000)]);
    });
    await t.step("a millisecond beyond is not, and every one is named", () =>
      refused400(
        put(setting, [at(-14 * DAY_MS - 1), at(0), at(-15 * DAY_MS)]),
        INVALID,
        `${late(1)}\n${late(3)}`,
      ));
    await t.step("a millisecond too far ahead is not", () =>
      refused400(
        put(setting, [at(2 * 3_600_000 + 1)]),
        INVALID,
        `The parameter ${FIRST}.Timestamp must specify a time no more than two hours in the future.`,
      ));
  }, { clock });
});

Deno.test("GetMetricStatistics: periods, ranges and statistics", (t) =>
  withAws(async (setting) => {
    const now = Date.now();
    const ask = (more: Partial<GetMetricStatisticsCommandInput>) =>
      setting.cloudwatch().send(
        new GetMetricStatisticsCommand({
          Namespace: NAMESPACE,
          MetricName: "m",
          StartTime: new Date(now - 3_600_000),
          EndTime: new Date(now),
          Period: 60,
          Statistics: ["Sum"],
          ...more,
        }),
      );
    const daysAgo = (days: number) => ({ StartTime: new Date(now - days * DAY_MS) });
    const periods = "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.";
    const coarser = (finest: number) =>
      `The parameter Period must be a multiple of ${finest} for a StartTime this far in the past.`;
    const cases: readonly (readonly [
      string,
      Partial<GetMetricStatisticsCommandInput>,
      string,
      string,
    ])[] = [
      ["period 61", { Period: 61 }, INVALID, periods],
      ["period 2", { Period: 2 }, INVALID, periods],
      ["period 10, a day ago", { ...daysAgo(1), Period: 10 }, INVALID, coarser(60)],
      ["period 60, 20 days ago", { ...daysAgo(20), Period: 60 }, INVALID, coarser(300)],
      ["period 300, 70 days ago", { ...daysAgo(70), Period: 300 }, INVALID, coarser(3600)],
      [
        "1,441 points",
        {
          StartTime: new Date(Math.floor(now / 60_000) * 60_000 - 1441 * 60_000),
          EndTime: new Date(Math.floor(now / 60_000) * 60_000),
        },
        COMBINATION,
        "You have requested up to 1,441 datapoints, which exceeds the limit of 1,440. You may " +
        "reduce the datapoints requested by increasing Period, or decreasing the time range.",
      ],
      [
        "no time between start and end",
        { EndTime: new Date(now - 3_600_000) },
        INVALID,
        "The parameter StartTime must be less than the parameter EndTime.",
      ],
      [
        "no statistic",
        { Statistics: undefined },
        COMBINATION,
        "At least one of the parameters Statistics and ExtendedStatistics must be specified.",
      ],
      [
        "both kinds of statistics",
        { ExtendedStatistics: ["p99"] },
        COMBINATION,
        "The parameters Statistics and ExtendedStatistics are mutually exclusive.",
      ],
      [
        "p101",
        { Statistics: undefined, ExtendedStatistics: ["p50", "p101"] },
        INVALID,
        "The value p101 for parameter ExtendedStatistics.member.2 is invalid.",
      ],
      ["no period", { Period: undefined }, MISSING, "The parameter Period is required."],
      ["no name", { MetricName: undefined }, MISSING, "The parameter MetricName is required."],
    ];
    for (const [what, more, name, message] of cases) {
      await t.step(`${what}: ${name}`, () => refused400(ask(more), name, message));
    }
    await t.step("1,440 points are answered", async () => {
      await ask({
        StartTime: new Date(Math.floor(now / 60_000) * 60_000 - 1440 * 60_000),
        EndTime: new Date(Math.floor(now / 60_000) * 60_000),
      });
    });
  }));

Deno.test("GetMetricData and ListMetrics: queries and tokens", (t) =>
  withAws(async (setting) => {
    const now = Date.now();
    const MetricStat = {
      Metric: { Namespace: NAMESPACE, MetricName: "m" },
      Period: 60,
      Stat: "Sum",
    };
    const ask = (queries: MetricDataQuery[], more: Record<string, unknown> = {}) =>
      setting.cloudwatch().send(
        new GetMetricDataCommand({
          StartTime: new Date(now - 60_000),
          EndTime: new Date(now),
          MetricDataQueries: queries,
          ...more,
        }),
      );
    const query = { Id: "q", MetricStat };
    const first = "MetricDataQueries.member.1";
    const cases: readonly (readonly [string, () => Promise<unknown>, string])[] = [
      [
        "an id with a capital in front",
        () => ask([{ Id: "Q", MetricStat }]),
        `The value Q for parameter ${first}.Id is not matching the expected pattern ` +
        "^[a-z][a-zA-Z0-9_]*$.",
      ],
      [
        "an id twice",
        () => ask([query, query]),
        "The values for parameter id in MetricDataQueries are not unique.",
      ],
      [
        "501 queries",
        () => ask(Array.from({ length: 501 }, (_, n) => ({ Id: `q${n}`, MetricStat }))),
        "The collection MetricDataQueries must not have a size greater than 500.",
      ],
      [
        "neither metric nor expression",
        () => ask([{ Id: "q" }]),
        `Exactly one of ${first}.MetricStat and ${first}.Expression must be specified.`,
      ],
      [
        "metric math",
        () => ask([{ Id: "q", Expression: "SUM(METRICS())" }]),
        `${first}.Expression is not supported by the local AWS.`,
      ],
      [
        "an unknown statistic",
        () => ask([{ Id: "q", MetricStat: { ...MetricStat, Stat: "Median" } }]),
        `The value Median for parameter ${first}.MetricStat.Stat is invalid.`,
      ],
      [
        "period 90",
        () => ask([{ Id: "q", MetricStat: { ...MetricStat, Period: 90 } }]),
        "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.",
      ],
      [
        "too many points wanted",
        () => ask([query], { MaxDatapoints: 100_801 }),
        "The parameter MaxDatapoints must be from 1 to 100800.",
      ],
    ];
    for (const [what, work, message] of cases) {
      await t.step(
        `${what}: ValidationException`,
        () => refused400(work(), "ValidationException", message),
      );
    }
    await t.step("a token of nobody's: InvalidNextToken", () =>
      refused400(
        ask([query], { NextToken: "bm9uc2Vuc2U" }),
        "InvalidNextToken",
        "The next token is invalid.",
      ));
    await t.step("a token of nobody's for ListMetrics", () =>
      refused400(
        setting.cloudwatch().send(new ListMetricsCommand({ NextToken: "x" })),
        INVALID,
        "The value x for parameter NextToken is invalid.",
      ));
  }));

Deno.test("IAM: the suite's role may put metrics and nothing else, its caller not even that", (t) =>
  withAws(async (setting) => {
    const account = setting.aws.accountId;
    const asRole = setting.cloudwatch("us-east-1", await assumeRole(setting));
    const asCaller = setting.cloudwatch("us-east-1", setting.aws.identities.caller);
    const input = { Namespace: NAMESPACE, MetricData: [DATUM] };
    const session = `arn:aws:sts::${account}:assumed-role/parker-flight-kms/contract`;
    const denied = (arn: string, action: string) =>
      `User: ${arn} is not authorized to perform: cloudwatch:${action} because no identity-based ` +
      `policy allows the cloudwatch:${action} action`;

    await t.step("PutMetricData as the role", async () => {
      await asRole.send(new PutMetricDataCommand(input));
    });
    await t.step("ListMetrics as the role: AccessDenied", () =>
      refused400(
        asRole.send(new ListMetricsCommand({})),
        "AccessDenied",
        denied(session, "ListMetrics"),
      ));
    await t.step("PutMetricData as the caller: AccessDenied", () =>
      refused400(
        asCaller.send(new PutMetricDataCommand(input)),
        "AccessDenied",
        denied(`arn:aws:iam::${account}:user/parker-flight-caller`, "PutMetricData"),
      ));
    await t.step("a session policy can hold the role to one namespace", async () => {
      const Policy = JSON.stringify({
        Version: "2012-10-17",
        Statement: [{
          Effect: "Allow",
          Action: "cloudwatch:PutMetricData",
          Resource: "*",
          Condition: { StringEquals: { "cloudwatch:namespace": NAMESPACE } },
        }],
      });
      const held = setting.cloudwatch("us-east-1", await assumeRole(setting, { Policy }));
      await held.send(new PutMetricDataCommand(input));
      await refused400(
        held.send(new PutMetricDataCommand({ ...input, Namespace: "Other" })),
        "AccessDenied",
        `User: ${session} is not authorized to perform: cloudwatch:PutMetricData because no ` +
          "session policy allows the cloudwatch:PutMetricData action",
      );
    });
  }));
