/** Measuring that holds on a busy machine: everything interleaved, every figure a median. */

/** Something done once; a promise is awaited. */
export type Operation = () => unknown;

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** The value below which `percent` % of the values lie (nearest rank); NaN of none. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * percent / 100) - 1)] ?? NaN;
}

/** Operations a second over about `ms` milliseconds. */
export async function rate(operation: Operation, ms: number): Promise<number> {
  const start = performance.now();
  let done = 0;
  let elapsed = 0;
  do {
    for (let i = 0; i < 20; i++) {
      const result = operation();
      if (result instanceof Promise) await result;
    }
    done += 20;
    elapsed = performance.now() - start;
  } while (elapsed < ms);
  return done / elapsed * 1000;
}

/** Rates of each operation round by round; a first round warms up and is not counted. */
export async function interleavedRates(
  operations: readonly Operation[],
  { rounds, roundMs }: { readonly rounds: number; readonly roundMs: number },
): Promise<number[][]> {
  const rates = operations.map(() => [] as number[]);
  for (let round = 0; round <= rounds; round++) {
    for (const [index, operation] of operations.entries()) {
      const result = await rate(operation, roundMs);
      if (round > 0) rates[index]!.push(result);
    }
  }
  return rates;
}

/** Median of the rounds' own ratios: a slow moment of the machine slows both sides of a round. */
export function pairedRatio(values: readonly number[], by: readonly number[]): number {
  return median(values.map((value, round) => value / by[round]!));
}
