/** How far a job is: a bar on a terminal, plain lines elsewhere. */
import { type Job, workedOf } from "./api.ts";
import type { Io } from "./io.ts";

const BAR_CELLS = 24;
/** A line for every so many percent, where there is no terminal. */
const LINE_EVERY_PERCENT = 10;

export class JobProgress {
  readonly #io: Io;
  readonly #startedAt: number;
  readonly #doneBefore: number;
  #lineAt = 0;
  #drawn = false;

  constructor(job: Job, io: Io) {
    this.#io = io;
    this.#startedAt = io.now();
    // What others did before says nothing about how fast it goes now.
    this.#doneBefore = workedOf(job);
  }

  show(job: Job): void {
    if (this.#io.isTerminal) {
      this.#drawn = true;
      const width = this.#io.columns() - 1;
      const whole = this.#line(job, true);
      // A narrow terminal has numbers rather than a bar.
      const line = whole.length > width ? this.#line(job, false) : whole;
      this.#io.draw(`\r${line.slice(0, Math.max(0, width))}\x1b[K`);
      return;
    }
    const percent = percentOf(job);
    if (percent < this.#lineAt && job.status === "running") return;
    this.#lineAt = Math.floor(percent / LINE_EVERY_PERCENT + 1) * LINE_EVERY_PERCENT;
    this.#io.err(this.#line(job, false));
  }

  /** Leaves the last bar standing. */
  end(): void {
    if (this.#drawn) this.#io.draw("\n");
    this.#drawn = false;
  }

  #line(job: Job, bar: boolean): string {
    const percent = percentOf(job);
    const full = Math.round(percent * BAR_CELLS / 100);
    const seconds = (this.#io.now() - this.#startedAt) / 1000;
    const rate = seconds > 0 ? (workedOf(job) - this.#doneBefore) / seconds : 0;
    const left = job.status !== "running"
      ? job.status
      : rate > 0
      ? `${duration((job.total - workedOf(job)) / rate)} left`
      : "";
    return [
      ...bar ? [`[${"#".repeat(full)}${"-".repeat(BAR_CELLS - full)}]`] : [],
      `${percent.toFixed(1)} %`,
      `${workedOf(job)}/${job.total} rows`,
      `${rate.toFixed(rate < 10 ? 1 : 0)}/s`,
      ...left === "" ? [] : [left],
      ...job.failed > 0 ? [`${job.failed} FAILED`] : [],
    ].join("  ");
  }
}

function percentOf(job: Job): number {
  return job.total === 0 ? 100 : Math.min(100, 100 * workedOf(job) / job.total);
}

function duration(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
}
