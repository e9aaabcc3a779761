/** Samples by region, in memory. The oldest make room: this is for looking at, not for keeping. */

import type { Metric, Sample } from "./model.ts";

/** Numbers kept in one region; about 20 MB. */
const MAX_NUMBERS = 1_000_000;

/** Two weeks without data hide a metric from lists. */
export const LISTED_MS = 14 * 24 * 3_600_000;

export class MetricStore {
  readonly #regions = new Map<string, RegionSamples>();

  add(region: string, samples: readonly Sample[]): void {
    const known = this.#regions.get(region) ?? new RegionSamples();
    this.#regions.set(region, known);
    for (const sample of samples) known.add(sample);
  }

  /** Samples of one metric with `from <= at < to`, in any order. */
  samples(region: string, id: string, from: number, to: number): readonly Sample[] {
    return this.#regions.get(region)?.all
      .filter((sample) => sample.id === id && sample.at >= from && sample.at < to) ?? [];
  }

  /** Metrics with a sample at `since` or later, ordered by id. */
  metrics(region: string, since: number): readonly Metric[] {
    const found = new Map<string, Metric>();
    for (const sample of this.#regions.get(region)?.all ?? []) {
      if (sample.at >= since) found.set(sample.id, sample.metric);
    }
    return [...found].sort(([a], [b]) => a < b ? -1 : 1).map(([, metric]) => metric);
  }
}

class RegionSamples {
  all: Sample[] = [];
  #numbers = 0;

  add(sample: Sample): void {
    this.all.push(sample);
    this.#numbers += weight(sample);
    if (this.#numbers <= MAX_NUMBERS) return;
    // Half at once, so that making room is rare.
    let dropped = 0;
    while (this.#numbers > MAX_NUMBERS / 2) {
      const oldest = this.all[dropped++];
      if (oldest === undefined) break;
      this.#numbers -= weight(oldest);
    }
    this.all = this.all.slice(dropped);
  }
}

function weight(sample: Sample): number {
  return 8 + 2 * sample.values.length;
}
