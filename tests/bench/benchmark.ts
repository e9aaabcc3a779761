/** What a benchmark is, and what it hands back. */

export interface BenchmarkOptions {
  /** Fewer rounds and smaller sizes: shows that everything runs, not what it costs. */
  readonly quick: boolean;
  /** Told what is being done, one line at a time. */
  readonly progress: (line: string) => void;
}

export interface Table {
  readonly title: string;
  /** Row name to column name to value, already rounded for people. */
  readonly rows: Readonly<Record<string, Readonly<Record<string, string | number>>>>;
}

export interface BenchmarkResult {
  readonly tables: readonly Table[];
  /** By name, unrounded. */
  readonly ratios: Readonly<Record<string, number>>;
  /** The measured values, in the benchmark's own shape. */
  readonly data: unknown;
  readonly notes?: readonly string[];
}

export type Benchmark = (options: BenchmarkOptions) => Promise<BenchmarkResult>;
