/** What became of the requests: latencies in a histogram, errors by class. */

/** Upper bounds of the histogram's buckets, milliseconds; each about half as much again. */
const BOUNDS_MS = [
  ...[1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700],
  ...[1000, 1500, 2000, 3000, 5000, 7000, 10_000, 15_000, 30_000, Infinity],
];
const BAR = 40;

export class Histogram {
  readonly #counts = BOUNDS_MS.map(() => 0);
  #total = 0;

  add(ms: number): void {
    this.#counts[BOUNDS_MS.findIndex((bound) => ms <= bound)]!++;
    this.#total++;
  }

  get total(): number {
    return this.#total;
  }

  /** Upper bound of the bucket in which `percent` % of the values have been seen, milliseconds. */
  percentile(percent: number): number {
    let seen = 0;
    for (const [index, count] of this.#counts.entries()) {
      seen += count;
      if (seen > 0 && seen >= this.#total * percent / 100) return BOUNDS_MS[index]!;
    }
    return NaN;
  }

  /** One line a bucket that is not empty. */
  lines(): string[] {
    const most = Math.max(...this.#counts);
    return this.#counts.flatMap((count, index) => {
      if (count === 0) return [];
      const bar = "#".repeat(Math.max(1, Math.round(count / most * BAR)));
      return [
        `  <= ${String(BOUNDS_MS[index]).padStart(8)} ms  ${String(count).padStart(6)}  ${bar}`,
      ];
    });
  }
}

export class Statistics {
  readonly #operations = new Map<string, Histogram>();
  readonly #errors = new Map<string, number>();
  sent = 0;
  answered = 0;

  /** `error`: its class, when it was one. */
  add(operation: string, ms: number, error?: string): void {
    this.answered++;
    const histogram = this.#operations.get(operation) ?? new Histogram();
    this.#operations.set(operation, histogram);
    histogram.add(ms);
    if (error !== undefined) this.addError(error);
  }

  addError(name: string): void {
    this.#errors.set(name, (this.#errors.get(name) ?? 0) + 1);
  }

  get errorCount(): number {
    return [...this.#errors.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Those that are not expected. */
  unexpected(expected: readonly string[]): number {
    return [...this.#errors].reduce(
      (sum, [name, count]) => expected.includes(name) ? sum : sum + count,
      0,
    );
  }

  report(): string {
    const lines: string[] = [];
    for (const [operation, histogram] of [...this.#operations].sort()) {
      const at = (percent: number) => `p${percent} <= ${histogram.percentile(percent)} ms`;
      lines.push(`\n${operation}: ${histogram.total} answers, ${at(50)}, ${at(95)}, ${at(99)}`);
      lines.push(...histogram.lines());
    }
    lines.push("\nerrors by class:");
    if (this.#errors.size === 0) lines.push("  none");
    for (const [name, count] of [...this.#errors].sort((a, b) => b[1] - a[1])) {
      lines.push(`  ${String(count).padStart(6)}  ${name}`);
    }
    return lines.join("\n");
  }
}
