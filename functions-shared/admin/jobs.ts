/** Jobs as administrators see them: started, watched, cancelled. What they do is elsewhere. */
import type { DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";
import type { Page } from "../storage/store.ts";
import type { Actor } from "../telemetry/audit.ts";

export interface Job {
  readonly id: string;
  readonly kind: string;
  readonly status: "running" | "completed" | "cancelled";
  /** Everything is tried and nothing changed. */
  readonly dry_run: boolean;
  /** Null for all classes. */
  readonly data_class: DataClass | null;
  /** Rows to look at; the next three are what came of them, and add up to it at the end. */
  readonly total: number;
  readonly done: number;
  readonly unchanged: number;
  readonly failed: number;
  /** User id, or name of the secret key. */
  readonly created_by: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly finished_at: string | null;
}

/** A row that a job could not do. */
export interface JobFailure {
  readonly table: string;
  readonly record_id: string;
  readonly field: string;
  readonly data_class: DataClass;
  readonly error_code: string;
  readonly created_at: string;
}

export interface JobOptions {
  /** All classes unless given. */
  readonly data_class?: DataClass | undefined;
  /** Default false. */
  readonly dry_run?: boolean | undefined;
}

/** All methods throw `SuiteError` database_unavailable or internal_error; starts and ends are audited. */
export interface JobStore {
  /** Unless one runs that would overlap; then `started` is false and `job` that one. */
  start(
    actor: Actor,
    kind: string,
    options: JobOptions,
  ): Promise<{ readonly started: boolean; readonly job: Job }>;
  get(id: string): Promise<Job | undefined>;
  /** The running job that was longest without a worker. */
  next(kind: string): Promise<Job | undefined>;
  list(limit: number, after: string | undefined): Promise<Page<Job>>;
  /** Undefined when there is no such job. */
  failures(
    id: string,
    limit: number,
    after: string | undefined,
  ): Promise<Page<JobFailure> | undefined>;
  /** The job as it then is; one that has ended stays as it ended. */
  cancel(actor: Actor, id: string): Promise<Job | undefined>;
}

export class Jobs {
  readonly #store: JobStore;

  constructor(store: JobStore) {
    this.#store = store;
  }

  /** @throws {SuiteError} job_running, with the id of the running one. */
  async start(actor: Actor, kind: string, options: JobOptions): Promise<Job> {
    const { started, job } = await this.#store.start(actor, kind, options);
    if (started) return job;
    throw new SuiteError("job_running", {
      retryAfterSeconds: 10,
      headers: { location: jobLocation(actor, job) },
      violations: [{
        pointer: "/data_class",
        code: "job_running",
        detail: `job ${job.id} is running and would overlap`,
      }],
    });
  }

  /** @throws {SuiteError} not_found. */
  async get(id: string): Promise<Job> {
    return found(await this.#store.get(id));
  }

  next(kind: string): Promise<Job | undefined> {
    return this.#store.next(kind);
  }

  list(limit: number, after: string | undefined): Promise<Page<Job>> {
    return this.#store.list(limit, after);
  }

  /** @throws {SuiteError} not_found. */
  async failures(id: string, limit: number, after: string | undefined): Promise<Page<JobFailure>> {
    return found(await this.#store.failures(id, limit, after));
  }

  /** The job says whether it was cancelled or had ended before. @throws {SuiteError} not_found. */
  async cancel(actor: Actor, id: string): Promise<Job> {
    return found(await this.#store.cancel(actor, id));
  }
}

/** Where a job is watched. */
export function jobLocation(actor: Actor, job: Job): string {
  return `/functions/v1/${actor.function}/jobs/${job.id}`;
}

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new SuiteError("not_found");
  return value;
}
