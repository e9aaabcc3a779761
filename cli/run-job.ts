/** Keeps a job going: a few calls at a time, each doing a portion, until it is over. */
import { type AdminApi, type Job, workedOf } from "./api.ts";
import { sleep } from "./patience.ts";
import { CliError, EXIT } from "./errors.ts";

export interface RunOptions {
  readonly workers: number;
  /** Ends the calls; the job stays as it is. */
  readonly signal: AbortSignal;
  readonly onProgress: (job: Job) => void;
  /** Replaced in tests. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Calls in a row that may find nobody before a worker gives up, and the first pause between them. */
const MAX_OUTAGES = 6;
const FIRST_PAUSE_MS = 500;
/** When others hold all that is left. */
const IDLE_PAUSE_MS = 250;

/** @returns the job when it no longer runs. @throws {CliError} */
export async function runJob(api: AdminApi, job: Job, options: RunOptions): Promise<Job> {
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal]);
  const pause = options.pause ?? sleep;
  let latest = job;
  const see = (seen: Job) => {
    // Answers overtake each other, and every worker hears of the end.
    if (latest.status !== "running") return;
    if (seen.status === "running" && workedOf(seen) < workedOf(latest)) return;
    latest = seen;
    options.onProgress(seen);
  };

  async function work(): Promise<void> {
    for (let outages = 0; latest.status === "running" && !signal.aborted;) {
      const before = workedOf(latest);
      try {
        see(await api.run(job.id, signal));
        outages = 0;
      } catch (error) {
        if (over.signal.aborted) return;
        const passing = error instanceof CliError && error.exit === EXIT.unavailable;
        if (!passing || ++outages === MAX_OUTAGES) throw error;
        const { retryAfterSeconds } = error as { retryAfterSeconds?: number };
        await pause((retryAfterSeconds ?? 0) * 1000 || FIRST_PAUSE_MS * 2 ** (outages - 1), signal);
        continue;
      }
      if (latest.status === "running" && workedOf(latest) === before) {
        await pause(IDLE_PAUSE_MS, signal);
      }
    }
  }

  try {
    const workers = Array.from({ length: options.workers }, () => work());
    // The first that ends has seen the end of the job, or a failure that the others would see as well.
    await Promise.race(workers);
    over.abort();
    await Promise.allSettled(workers);
  } catch (error) {
    over.abort();
    throw error;
  }
  if (latest.status === "running") {
    throw new CliError(EXIT.interrupted, "interrupted", "interrupted");
  }
  return latest;
}
