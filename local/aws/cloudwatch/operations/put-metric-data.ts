/** PutMetricData. Source: CloudWatch API reference; messages as AWS answers them where known. */

import { type Infer, integer, list, number, structure, timestamp } from "../../shapes.ts";
import * as members from "../members.ts";
import { type Metric, metricId, type Sample, type Summary } from "../model.ts";
import { operation, requireAllowed } from "../operation.ts";

const MAX_DATA = 1000;
const MAX_VALUES = 150;
const OLDEST_MS = 14 * 24 * 3_600_000;
const NEWEST_MS = 2 * 3_600_000;
/** CloudWatch refuses what is nearer to nothing, and farther from it. */
const SMALLEST = 2 ** -360;
const LARGEST = 2 ** 360;

const datumShape = structure({
  MetricName: members.metricName,
  Dimensions: members.dimensions,
  Timestamp: timestamp(),
  Value: number(),
  Values: members.numbers,
  Counts: members.numbers,
  StatisticValues: structure({
    SampleCount: number(),
    Sum: number(),
    Minimum: number(),
    Maximum: number(),
  }),
  Unit: members.unit,
  StorageResolution: integer({ min: 1 }),
});
type Datum = Infer<typeof datumShape>;

/** All or nothing: one datum that is refused refuses the request. */
export const putMetricData = operation(
  structure({ Namespace: members.namespace, MetricData: list(datumShape) }),
  (input, call) => {
    const namespace = members.present(input.Namespace, "Namespace");
    requireAllowed(call, namespace);
    if (namespace.startsWith("AWS/")) throw members.invalidValue("AWS/", "Namespace");
    if (!/^[\w.\-/#: ]*[\w.\-/#:][\w.\-/#: ]*$/.test(namespace)) {
      throw members.invalidValue(namespace, "Namespace");
    }
    const data = members.present(input.MetricData, "MetricData");
    if (data.length === 0) members.present(undefined, "MetricData");
    if (data.length > MAX_DATA) {
      throw members.invalid(
        `The collection MetricData must not have a size greater than ${MAX_DATA}.`,
      );
    }
    const late = data.flatMap(({ Timestamp }, index) =>
      timeProblems(Timestamp ?? call.now, call.now, `MetricData.member.${index + 1}`)
    );
    if (late.length > 0) throw members.invalid(...late);
    const samples = data.map((datum, index) =>
      readDatum(namespace, datum, call.now, `MetricData.member.${index + 1}`)
    );
    call.store.add(call.region, samples);
    return null;
  },
);

function timeProblems(at: number, now: number, path: string): string[] {
  if (at < now - OLDEST_MS) {
    return [`The parameter ${path}.Timestamp must specify a time within the past two weeks.`];
  }
  if (at > now + NEWEST_MS) {
    return [
      `The parameter ${path}.Timestamp must specify a time no more than two hours in the future.`,
    ];
  }
  return [];
}

function readDatum(namespace: string, datum: Datum, now: number, path: string): Sample {
  const name = members.present(datum.MetricName, `${path}.MetricName`);
  if (!members.isText(name)) throw members.invalidValue(name, `${path}.MetricName`);
  const dimensions = members.readDimensions(datum.Dimensions, `${path}.Dimensions`);
  const metric: Metric = { namespace, name, dimensions };
  const resolution = datum.StorageResolution ?? 60;
  if (resolution !== 1 && resolution !== 60) {
    throw members.invalidValue(resolution, `${path}.StorageResolution`);
  }
  const stepMs = resolution * 1000;
  return {
    metric,
    id: metricId(metric),
    at: Math.floor((datum.Timestamp ?? now) / stepMs) * stepMs,
    unit: datum.Unit ?? "None",
    ...readMeasurements(datum, path),
  };
}

function readMeasurements(
  datum: Datum,
  path: string,
): Pick<Sample, "values" | "counts" | "summary"> {
  const { Value, Values, Counts, StatisticValues } = datum;
  const given = [
    Value === undefined ? [] : "Value",
    Values === undefined ? [] : "Values",
    StatisticValues === undefined ? [] : "StatisticValues",
  ].flat().map((name) => `${path}.${name}`);
  if (given.length > 1) {
    throw members.combination(`The parameters ${given.join(" and ")} are mutually exclusive.`);
  }
  if (Counts !== undefined && Values === undefined) {
    throw members.combination(`The parameter ${path}.Counts requires ${path}.Values.`);
  }
  if (StatisticValues !== undefined) {
    return { values: [], counts: [], summary: readSummary(StatisticValues, path) };
  }
  if (Value !== undefined) {
    return { values: [inRange(Value, `${path}.Value`)], counts: [1], summary: null };
  }
  if (Values === undefined || Values.length === 0) {
    throw members.combination(
      `At least one of the parameters ${path}.Value, ${path}.Values and ` +
        `${path}.StatisticValues must be specified.`,
    );
  }
  if (Values.length > MAX_VALUES) {
    throw members.invalid(
      `The collection ${path}.Values must not have a size greater than ${MAX_VALUES}.`,
    );
  }
  const counts = Counts ?? Values.map(() => 1);
  if (counts.length !== Values.length) {
    throw members.combination(
      `The collections ${path}.Values and ${path}.Counts must have the same size.`,
    );
  }
  counts.forEach((count, index) => {
    const at = `${path}.Counts.member.${index + 1}`;
    if (!(inRange(count, at) > 0)) throw members.invalidValue(count, at);
  });
  Values.forEach((value, index) => inRange(value, `${path}.Values.member.${index + 1}`));
  return { values: Values, counts, summary: null };
}

function readSummary(given: NonNullable<Datum["StatisticValues"]>, path: string): Summary {
  const read = (name: keyof typeof given) => {
    const at = `${path}.StatisticValues.${name}`;
    return inRange(members.present(given[name], at), at);
  };
  const [sampleCount, sum] = [read("SampleCount"), read("Sum")];
  const [minimum, maximum] = [read("Minimum"), read("Maximum")];
  if (!(sampleCount > 0)) {
    throw members.invalidValue(sampleCount, `${path}.StatisticValues.SampleCount`);
  }
  if (minimum > maximum) {
    throw members.combination(
      `The parameter ${path}.StatisticValues.Minimum must not be greater than ` +
        `${path}.StatisticValues.Maximum.`,
    );
  }
  return { sampleCount, sum, minimum, maximum };
}

function inRange(value: number, path: string): number {
  const size = Math.abs(value);
  if (value !== 0 && !(size >= SMALLEST && size <= LARGEST)) {
    throw members.invalidValue(value, path);
  }
  return value;
}
