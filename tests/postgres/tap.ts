/** Reads the Test Anything Protocol strictly: what pgTAP prints must be a whole, clean run. */

export interface TapReport {
  readonly passed: number;
  /** What is wrong, in the order of the output; empty for a clean run. */
  readonly faults: readonly string[];
}

/** Lines that are not TAP, such as rows of setup queries, are ignored. */
export function readTap(text: string): TapReport {
  const faults: string[] = [];
  let planned: number | undefined;
  let seen = 0;
  let passed = 0;

  for (const line of text.split("\n")) {
    const plan = line.match(/^1\.\.(\d+)(.*)$/);
    if (plan) {
      if (planned !== undefined) faults.push("a second plan");
      planned = Number(plan[1]);
      if (planned === 0 || plan[2]?.trim()) faults.push(`a plan that skips: ${line}`);
      continue;
    }
    if (line.startsWith("Bail out!")) faults.push(line);
    const test = line.match(/^(not )?ok\b *(\d*)(.*)$/);
    if (!test) continue;
    seen++;
    if (Number(test[2]) !== seen) faults.push(`out of order, ${seen} expected: ${line}`);
    if (/#\s*(skip|todo)/i.test(test[3] ?? "")) faults.push(`not run: ${line}`);
    else if (test[1]) faults.push(line);
    else passed++;
  }
  if (planned === undefined) faults.push("no plan");
  else if (planned !== seen) faults.push(`planned ${planned} tests, ran ${seen}`);
  return { passed, faults };
}
