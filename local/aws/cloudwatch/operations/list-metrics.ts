/** ListMetrics: the metrics with data in the last two weeks, 500 a page. */

import { list, oneOf, string, structure } from "../../shapes.ts";
import * as members from "../members.ts";
import type { Metric } from "../model.ts";
import { operation, requireAllowed } from "../operation.ts";
import { readToken, writeToken } from "../pages.ts";
import { LISTED_MS } from "../store.ts";

const PAGE = 500;
const RECENT_MS = 3 * 3_600_000;

export const listMetrics = operation(
  structure({
    Namespace: members.namespace,
    MetricName: members.metricName,
    Dimensions: list(
      structure({
        Name: string({ min: 1, max: 255 }),
        Value: string({ min: 1, max: 1024 }),
      }),
      { max: 10 },
    ),
    NextToken: string(),
    RecentlyActive: oneOf(["PT3H"]),
  }),
  (input, call) => {
    requireAllowed(call);
    const filters = (input.Dimensions ?? []).map(({ Name, Value }, index) => ({
      name: members.present(Name, `Dimensions.member.${index + 1}.Name`),
      value: Value,
    }));
    const from = input.NextToken === undefined ? 0 : readToken(call, input.NextToken);
    if (from === null) throw members.invalidValue(input.NextToken ?? "", "NextToken");
    const since = call.now - (input.RecentlyActive === undefined ? LISTED_MS : RECENT_MS);
    const wanted = (metric: Metric) =>
      (input.Namespace ?? metric.namespace) === metric.namespace &&
      (input.MetricName ?? metric.name) === metric.name &&
      filters.every(({ name, value }) =>
        metric.dimensions.some((one) => one.name === name && (value ?? one.value) === one.value)
      );
    const metrics = call.store.metrics(call.region, since).filter(wanted);
    return {
      Metrics: metrics.slice(from, from + PAGE).map(({ namespace, name, dimensions }) => ({
        Namespace: namespace,
        MetricName: name,
        Dimensions: dimensions.map((one) => ({ Name: one.name, Value: one.value })),
      })),
      NextToken: from + PAGE < metrics.length ? writeToken(call, from + PAGE) : undefined,
    };
  },
);
