/** What the doctor found, line by line. */
import { printable } from "../text.ts";

export type Status = "pass" | "warn" | "fail";

export interface Line {
  /** Stable name of the check, for scripts. */
  readonly check: string;
  readonly status: Status;
  readonly message: string;
  /** What to do about it; every line that is no pass has one. */
  readonly next?: string;
}

export class Report {
  readonly #lines: Line[] = [];
  readonly #onLine: (line: Line) => void;

  constructor(onLine: (line: Line) => void = () => {}) {
    this.#onLine = onLine;
  }

  get lines(): readonly Line[] {
    return this.#lines;
  }

  pass(check: string, message: string): void {
    this.add({ check, status: "pass", message });
  }

  warn(check: string, message: string, next: string): void {
    this.add({ check, status: "warn", message, next });
  }

  fail(check: string, message: string, next: string): void {
    this.add({ check, status: "fail", message, next });
  }

  /** A check that another one's failure makes meaningless. */
  notChecked(check: string, because: string): void {
    this.warn(check, "not checked", `mend ${because} first`);
  }

  /** Whether this check has failed; without a name, whether any has. */
  failed(name?: string): boolean {
    return this.#lines.some(({ check, status }) =>
      status === "fail" && (name === undefined || check === name)
    );
  }

  count(status: Status): number {
    return this.#lines.filter((line) => line.status === status).length;
  }

  add(line: Line): void {
    this.#lines.push(line);
    this.#onLine(line);
  }
}

const MARKS: Readonly<Record<Status, string>> = { pass: "pass", warn: "WARN", fail: "FAIL" };

export function lineText({ check, status, message, next }: Line): string {
  const first = printable(`${MARKS[status]}  ${check.padEnd(36)}  ${message}`);
  return next === undefined ? first : `${first}\n      -> ${printable(next)}`;
}

/** "a, b and c" */
export function listed(names: readonly string[]): string {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
