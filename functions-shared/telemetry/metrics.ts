/**
 * Metrics: gathered in memory, summed up, and handed to a sink after the answer is out. Recording costs a
 * map look-up; a full buffer or a failing sink loses metrics, never a request.
 */
import type { Logger } from "./log.ts";

export type Unit = "Milliseconds" | "Count" | "None";

export type Dimensions = Readonly<Record<string, string>>;

/** One metric with one set of dimensions: distinct values of it and how often each came. */
export interface MetricDatum {
  readonly name: string;
  readonly unit: Unit;
  readonly dimensions: Dimensions;
  /** Milliseconds since the epoch, of the first value. */
  readonly at: number;
  /** 1 to 150 distinct values. */
  readonly values: readonly number[];
  /** As many as values. */
  readonly counts: readonly number[];
}

/** Sends a batch of 1 to 100 data; may reject. */
export type MetricsSink = (batch: readonly MetricDatum[]) => Promise<void>;

/** What the rest of the suite records. */
export interface Metrics {
  record(name: string, value: number, unit: Unit, dimensions?: Dimensions): void;
}

/** For when metrics are switched off. */
export const NO_METRICS: Metrics = { record() {} };

/** Each measurement as a line of the debug log. */
export function loggedMetrics(logger: Logger): Metrics {
  return {
    record: (metric, value, _unit, dimensions = {}) => {
      const { Region, Operation, Success } = dimensions;
      logger.log("debug", "metric", {
        metric,
        value,
        ...Region === undefined ? {} : { region: Region },
        ...Operation === undefined ? {} : { operation: Operation },
        ...Success === undefined ? {} : { success: Success === "true" },
      });
    },
  };
}

/** CloudWatch takes so many distinct values in one datum. */
const MAX_VALUES_PER_DATUM = 150;
/** Data in one batch: a request of less than a megabyte. */
const MAX_DATA_PER_BATCH = 100;
/** Series that are kept until they are sent; measurements of more are dropped. */
const MAX_SERIES = 500;
/** Distinct values that are kept, over all series; more are dropped. */
const MAX_VALUES = 10_000;

interface Series {
  readonly name: string;
  readonly unit: Unit;
  readonly dimensions: Dimensions;
  readonly at: number;
  /** How often each value came. */
  readonly counts: Map<number, number>;
}

export class BufferedMetrics implements Metrics {
  readonly #sink: MetricsSink;
  readonly #now: () => number;
  readonly #onDrop: (count: number) => void;
  #series = new Map<string, Series>();
  #values = 0;
  #dropped = 0;
  #flushing = false;
  #again = false;

  /** `onDrop` hears how many measurements were lost since it was last called; it must not throw. */
  constructor(
    sink: MetricsSink,
    options: { readonly now?: () => number; readonly onDrop?: (count: number) => void } = {},
  ) {
    this.#sink = sink;
    this.#now = options.now ?? Date.now;
    this.#onDrop = options.onDrop ?? (() => {});
  }

  get isEmpty(): boolean {
    return this.#series.size === 0 && this.#dropped === 0;
  }

  record(name: string, value: number, unit: Unit, dimensions: Dimensions = {}): void {
    const id = JSON.stringify([name, unit, Object.entries(dimensions).sort()]);
    const series = this.#series.get(id);
    const count = series?.counts.get(value);
    // One value that is no number would have CloudWatch refuse a whole batch.
    const fits = Number.isFinite(value) &&
      (count !== undefined || this.#values < MAX_VALUES) &&
      (series !== undefined || this.#series.size < MAX_SERIES);
    if (!fits) {
      this.#dropped++;
      return;
    }
    if (count === undefined) this.#values++;
    if (series === undefined) {
      const at = this.#now();
      this.#series.set(id, { name, unit, dimensions, at, counts: new Map([[value, 1]]) });
    } else {
      series.counts.set(value, (count ?? 0) + 1);
    }
  }

  /**
   * Flushes `delayMs` milliseconds from now; never rejects. One flush at a time, however slow the sink:
   * a call while one is under way adds another after it. Undefined when there is nothing to wait for.
   */
  flushLater(delayMs: number): Promise<void> | undefined {
    if (this.#flushing) {
      this.#again = true;
      return undefined;
    }
    return this.isEmpty ? undefined : this.#flushInTurn(delayMs);
  }

  async #flushInTurn(delayMs: number): Promise<void> {
    this.#flushing = true;
    try {
      do {
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        this.#again = false;
        await this.flush();
      } while (this.#again && !this.isEmpty);
    } finally {
      this.#flushing = false;
    }
  }

  /**
   * Sends what there is; never rejects. What could not be sent is gone: after a batch that failed, the
   * others are not tried.
   */
  async flush(): Promise<void> {
    const data = [...this.#series.values()].flatMap(toData);
    let dropped = this.#dropped;
    this.#series = new Map();
    this.#values = 0;
    this.#dropped = 0;
    for (let at = 0; at < data.length; at += MAX_DATA_PER_BATCH) {
      try {
        await this.#sink(data.slice(at, at + MAX_DATA_PER_BATCH));
      } catch {
        dropped += measurements(data.slice(at));
        break;
      }
    }
    if (dropped > 0) this.#onDrop(dropped);
  }
}

function toData({ counts, ...series }: Series): MetricDatum[] {
  const values = [...counts];
  const data: MetricDatum[] = [];
  for (let at = 0; at < values.length; at += MAX_VALUES_PER_DATUM) {
    const some = values.slice(at, at + MAX_VALUES_PER_DATUM);
    data.push({
      ...series,
      values: some.map(([value]) => value),
      counts: some.map(([, count]) => count),
    });
  }
  return data;
}

function measurements(data: readonly MetricDatum[]): number {
  return data.flatMap((datum) => datum.counts).reduce((all, count) => all + count, 0);
}
