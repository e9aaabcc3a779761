/**
 * Statistics over samples. Source: CloudWatch User Guide, "CloudWatch statistics definitions".
 * A percentile here is the nearest rank; CloudWatch's own is an estimate that lies close to it.
 */

import type { Sample } from "./model.ts";

export const STATISTICS = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"] as const;

/** Null where the samples cannot tell: a percentile of what came as a summary. */
export type Statistic = (samples: readonly Sample[]) => number | null;

/** Null for a name that is no statistic, or one that is not supported here. */
export function statistic(name: string): Statistic | null {
  return Object.hasOwn(SIMPLE, name) ? SIMPLE[name] ?? null : percentile(name);
}

/** `p0` to `p100`, up to ten decimals; null for anything else. */
export function percentile(name: string): Statistic | null {
  const digits = /^p(\d{1,2}(?:\.\d{1,10})?|100(?:\.0{1,10})?)$/.exec(name)?.[1];
  return digits === undefined ? null : (samples) => nearestRank(samples, Number(digits));
}

const SIMPLE: Readonly<Record<string, Statistic>> = {
  SampleCount: count,
  Sum: sum,
  Average: (samples) => sum(samples) / count(samples),
  Minimum: (samples) => fold(samples, Math.min, (sample) => sample.summary?.minimum),
  Maximum: (samples) => fold(samples, Math.max, (sample) => sample.summary?.maximum),
};

function count(samples: readonly Sample[]): number {
  return total(
    samples,
    ({ summary, counts }) => summary?.sampleCount ?? counts.reduce((all, one) => all + one, 0),
  );
}

function sum(samples: readonly Sample[]): number {
  return total(
    samples,
    ({ summary, values, counts }) =>
      summary?.sum ?? values.reduce((all, value, at) => all + value * (counts[at] ?? 0), 0),
  );
}

function total(samples: readonly Sample[], of: (sample: Sample) => number): number {
  return samples.reduce((all, sample) => all + of(sample), 0);
}

function fold(
  samples: readonly Sample[],
  better: (a: number, b: number) => number,
  ofSummary: (sample: Sample) => number | undefined,
): number {
  return samples.flatMap((sample) => ofSummary(sample) ?? sample.values).reduce((a, b) =>
    better(a, b)
  );
}

function nearestRank(samples: readonly Sample[], percent: number): number | null {
  const weighted: (readonly [value: number, weight: number])[] = [];
  for (const { summary, values, counts } of samples) {
    if (summary === null) {
      values.forEach((value, at) => weighted.push([value, counts[at] ?? 0]));
    } else if (summary.minimum === summary.maximum || summary.sampleCount === 1) {
      weighted.push([summary.maximum, summary.sampleCount]);
    } else {
      return null;
    }
  }
  weighted.sort(([a], [b]) => a - b);
  const rank = percent / 100 * count(samples);
  let below = 0;
  for (const [value, weight] of weighted) {
    below += weight;
    if (weight > 0 && below >= rank) return value;
  }
  return weighted.at(-1)?.[0] ?? null;
}

/** Samples by the start of their period, oldest first; `from` is the start of the first one. */
export function byPeriod(
  samples: readonly Sample[],
  from: number,
  periodMs: number,
): readonly (readonly [at: number, samples: readonly Sample[]])[] {
  const periods = Map.groupBy(
    samples,
    ({ at }) => from + Math.floor((at - from) / periodMs) * periodMs,
  );
  return [...periods].sort(([a], [b]) => a - b);
}
