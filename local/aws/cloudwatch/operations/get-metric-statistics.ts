/** GetMetricStatistics: one metric, up to 1,440 periods. Source: CloudWatch API reference. */

import { integer, list, oneOf, string, structure, timestamp } from "../../shapes.ts";
import * as members from "../members.ts";
import { metricId, type Sample } from "../model.ts";
import { operation, requireAllowed } from "../operation.ts";
import { checkPeriod, roundStart } from "../periods.ts";
import { byPeriod, percentile, statistic, STATISTICS } from "../statistics.ts";

const MAX_DATAPOINTS = 1440;

export const getMetricStatistics = operation(
  structure({
    Namespace: members.namespace,
    MetricName: members.metricName,
    Dimensions: members.dimensions,
    StartTime: timestamp(),
    EndTime: timestamp(),
    Period: integer({ min: 1 }),
    Statistics: list(oneOf(STATISTICS), { min: 1, max: 5 }),
    ExtendedStatistics: list(string(), { min: 1, max: 10 }),
    Unit: members.unit,
  }),
  (input, call) => {
    requireAllowed(call);
    const namespace = members.present(input.Namespace, "Namespace");
    const name = members.present(input.MetricName, "MetricName");
    const startTime = members.present(input.StartTime, "StartTime");
    const endTime = members.present(input.EndTime, "EndTime");
    const period = members.present(input.Period, "Period");
    const dimensions = members.readDimensions(input.Dimensions, "Dimensions");
    const { Statistics: simple = [], ExtendedStatistics: extended = [] } = input;
    if (simple.length === 0 && extended.length === 0) {
      throw members.combination(
        "At least one of the parameters Statistics and ExtendedStatistics must be specified.",
      );
    }
    if (simple.length > 0 && extended.length > 0) {
      throw members.combination(
        "The parameters Statistics and ExtendedStatistics are mutually exclusive.",
      );
    }
    extended.forEach((one, index) => {
      const at = `ExtendedStatistics.member.${index + 1}`;
      if (percentile(one) === null) throw members.invalidValue(one, at);
    });
    if (startTime >= endTime) {
      throw members.invalid("The parameter StartTime must be less than the parameter EndTime.");
    }
    const problem = checkPeriod(period, call.now - startTime);
    if (problem !== null) throw members.invalid(problem);
    const from = roundStart(startTime, period, call.now);
    const points = Math.ceil((endTime - from) / (period * 1000));
    if (points > MAX_DATAPOINTS) {
      throw members.combination(
        `You have requested up to ${
          points.toLocaleString("en-US")
        } datapoints, which exceeds the ` +
          "limit of 1,440. You may reduce the datapoints requested by increasing Period, or " +
          "decreasing the time range.",
      );
    }
    const id = metricId({ namespace, name, dimensions });
    const samples = call.store.samples(call.region, id, from, endTime)
      .filter((sample) => input.Unit === undefined || sample.unit === input.Unit);
    return {
      Label: name,
      // Units are not added up: each has points of its own.
      Datapoints: [...Map.groupBy(samples, (sample) => sample.unit)].flatMap(([unit, alike]) =>
        byPeriod(alike, from, period * 1000).map(([at, within]) => ({
          Timestamp: new Date(at),
          ...valuesOf(simple, within),
          Unit: unit,
          ...extended.length > 0 ? { ExtendedStatistics: valuesOf(extended, within) } : {},
        }))
      ),
    };
  },
);

function valuesOf(names: readonly string[], samples: readonly Sample[]): Record<string, number> {
  return Object.fromEntries(names.flatMap((name) => {
    const value = statistic(name)?.(samples) ?? null;
    return value === null ? [] : [[name, value]];
  }));
}
