/**
 * GetMetricData: up to 500 metrics in one request. Source: CloudWatch API reference.
 * Metric math and search expressions are not supported.
 */

import { AwsError } from "../../errors.ts";
import {
  boolean,
  type Infer,
  integer,
  list,
  oneOf,
  string,
  structure,
  timestamp,
} from "../../shapes.ts";
import * as members from "../members.ts";
import { metricId } from "../model.ts";
import { type CloudWatchCall, operation, requireAllowed } from "../operation.ts";
import { readToken, writeToken } from "../pages.ts";
import { checkPeriod } from "../periods.ts";
import { byPeriod, statistic } from "../statistics.ts";

const MAX_QUERIES = 500;
const MAX_DATAPOINTS = 100_800;

const queryShape = structure({
  Id: string({ min: 1, max: 255 }),
  MetricStat: structure({
    Metric: structure({
      Namespace: members.namespace,
      MetricName: members.metricName,
      Dimensions: members.dimensions,
    }),
    Period: integer({ min: 1 }),
    Stat: string(),
    Unit: members.unit,
  }),
  Expression: string({ min: 1, max: 2048 }),
  Label: string(),
  ReturnData: boolean(),
  Period: integer({ min: 1 }),
});
type Query = Infer<typeof queryShape>;

export const getMetricData = operation(
  structure({
    MetricDataQueries: list(queryShape),
    StartTime: timestamp(),
    EndTime: timestamp(),
    NextToken: string(),
    ScanBy: oneOf(["TimestampDescending", "TimestampAscending"]),
    MaxDatapoints: integer(),
  }),
  (input, call) => {
    requireAllowed(call);
    const queries = members.present(input.MetricDataQueries, "MetricDataQueries");
    const startTime = members.present(input.StartTime, "StartTime");
    const endTime = members.present(input.EndTime, "EndTime");
    const limit = input.MaxDatapoints ?? MAX_DATAPOINTS;
    checkQueries(queries);
    if (startTime >= endTime) {
      throw refused("The parameter StartTime must be less than the parameter EndTime.");
    }
    if (limit < 1 || limit > MAX_DATAPOINTS) {
      throw refused(`The parameter MaxDatapoints must be from 1 to ${MAX_DATAPOINTS}.`);
    }
    const from = input.NextToken === undefined ? 0 : readToken(call, input.NextToken);
    if (from === null) throw new AwsError("InvalidNextToken", "The next token is invalid.");

    const series = queries.map((query, index) => {
      const { label, points } = readSeries(query, call, { startTime, endTime, index });
      if (input.ScanBy !== "TimestampAscending") points.reverse();
      return { query, label, points };
    }).filter(({ query }) => query.ReturnData !== false);
    // A page is a window over the points of all series in turn.
    let before = 0;
    const results = series.map(({ query, label, points }) => {
      const first = Math.max(0, from - before);
      const last = Math.max(0, from + limit - before);
      before += points.length;
      const shown = points.slice(first, last);
      return {
        Id: query.Id,
        Label: query.Label ?? label,
        Timestamps: shown.map(([at]) => new Date(at)),
        Values: shown.map(([, value]) => value),
        StatusCode: last < points.length ? "PartialData" : "Complete",
      };
    });
    return {
      MetricDataResults: results,
      NextToken: from + limit < before ? writeToken(call, from + limit) : undefined,
      Messages: [],
    };
  },
);

function checkQueries(queries: readonly Query[]): void {
  if (queries.length === 0) throw refused("The parameter MetricDataQueries is required.");
  if (queries.length > MAX_QUERIES) {
    throw refused(
      `The collection MetricDataQueries must not have a size greater than ${MAX_QUERIES}.`,
    );
  }
  queries.forEach((query, index) => {
    const path = `MetricDataQueries.member.${index + 1}`;
    const id = members.present(query.Id, `${path}.Id`);
    if (!/^[a-z][a-zA-Z0-9_]*$/.test(id)) {
      throw refused(
        `The value ${id} for parameter ${path}.Id is not matching the expected pattern ` +
          "^[a-z][a-zA-Z0-9_]*$.",
      );
    }
    if ((query.Expression === undefined) === (query.MetricStat === undefined)) {
      throw refused(`Exactly one of ${path}.MetricStat and ${path}.Expression must be specified.`);
    }
    if (query.Expression !== undefined) {
      throw refused(`${path}.Expression is not supported by the local AWS.`);
    }
  });
  if (new Set(queries.map((query) => query.Id)).size !== queries.length) {
    throw refused("The values for parameter id in MetricDataQueries are not unique.");
  }
}

/** Oldest first. */
function readSeries(
  { MetricStat }: Query,
  call: CloudWatchCall,
  { startTime, endTime, index }: {
    readonly startTime: number;
    readonly endTime: number;
    readonly index: number;
  },
): { readonly label: string; readonly points: (readonly [at: number, value: number])[] } {
  const path = `MetricDataQueries.member.${index + 1}.MetricStat`;
  const stat = members.present(MetricStat, path);
  const metric = members.present(stat.Metric, `${path}.Metric`);
  const period = members.present(stat.Period, `${path}.Period`);
  const problem = checkPeriod(period, call.now - startTime);
  if (problem !== null) throw refused(problem);
  const name = members.present(stat.Stat, `${path}.Stat`);
  const compute = statistic(name);
  if (compute === null) throw refused(`The value ${name} for parameter ${path}.Stat is invalid.`);
  const label = members.present(metric.MetricName, `${path}.Metric.MetricName`);
  const id = metricId({
    namespace: members.present(metric.Namespace, `${path}.Metric.Namespace`),
    name: label,
    dimensions: members.readDimensions(metric.Dimensions, `${path}.Metric.Dimensions`),
  });
  // Periods lie on multiples of their length, whatever the start.
  const periodMs = period * 1000;
  const from = Math.floor(startTime / periodMs) * periodMs;
  const samples = call.store.samples(call.region, id, from, endTime)
    .filter((sample) => stat.Unit === undefined || sample.unit === stat.Unit);
  const points = byPeriod(samples, from, periodMs).flatMap(([at, within]) => {
    const value = compute(within);
    return value === null ? [] : [[at, value] as const];
  });
  return { label, points };
}

function refused(message: string): AwsError {
  return new AwsError("ValidationException", message);
}
