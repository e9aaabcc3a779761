/** What CloudWatch keeps: metrics, named by namespace, name and dimensions, and their samples. */

export interface Metric {
  readonly namespace: string;
  readonly name: string;
  /** Sorted by name: their order does not tell metrics apart. */
  readonly dimensions: readonly Dimension[];
}

export interface Dimension {
  readonly name: string;
  readonly value: string;
}

/** What one datum of PutMetricData brought. */
export interface Sample {
  readonly metric: Metric;
  /** `metricId(metric)`. */
  readonly id: string;
  /** Milliseconds since the epoch, rounded down to the storage resolution. */
  readonly at: number;
  readonly unit: string;
  /** Distinct or not, 1 to 150; empty when only a summary was sent. */
  readonly values: readonly number[];
  /** Weights, as many as values. */
  readonly counts: readonly number[];
  readonly summary: Summary | null;
}

export interface Summary {
  readonly sampleCount: number;
  readonly sum: number;
  readonly minimum: number;
  readonly maximum: number;
}

export function sortDimensions(dimensions: readonly Dimension[]): Dimension[] {
  return [...dimensions].sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/** The same text for the same metric only. */
export function metricId({ namespace, name, dimensions }: Metric): string {
  return JSON.stringify([namespace, name, ...dimensions.map((one) => [one.name, one.value])]);
}
