/** Prints the demo step by step and keeps count of what did not hold. */
export class DemoReport {
  #failures = 0;
  #steps = 0;

  /** Whether everything held so far. */
  get ok(): boolean {
    return this.#failures === 0;
  }

  step(title: string): void {
    this.#steps += 1;
    console.log(`\n${this.#steps}. ${title}`);
  }

  line(text: string): void {
    console.log(`   ${text}`);
  }

  /** Lines up the values of `rows` under the names of the first one. */
  table(rows: ReadonlyArray<Readonly<Record<string, unknown>>>): void {
    const names = Object.keys(rows[0] ?? {});
    const cells = [names, ...rows.map((row) => names.map((name) => String(row[name] ?? "-")))];
    const widths = names.map((_, i) => Math.max(...cells.map((row) => (row[i] ?? "").length)));
    for (const row of cells) {
      this.line(row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd());
    }
  }

  check(claim: string, holds: boolean, seen: unknown = undefined): void {
    if (!holds) this.#failures += 1;
    console.log(`   ${holds ? "ok    " : "FAILED"} ${claim}`);
    if (!holds && seen !== undefined) console.log(`          ${JSON.stringify(seen)}`);
  }

  end(): boolean {
    console.log(this.ok ? "\nAll of it holds." : `\n${this.#failures} did not hold.`);
    return this.ok;
  }
}
