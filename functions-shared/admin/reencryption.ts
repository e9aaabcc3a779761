/**
 * The re-encryption job: brings every row to the keyring, branch key and version that its class is written
 * under now. Any number of workers help; each takes a chunk by lease, and what it brings back counts only
 * while it holds it.
 */
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";
import type { BranchKeyScope } from "../keys/branch-key-id.ts";
import type { KeyProvider } from "../keys/key-provider.ts";
import { inTurns } from "../storage/in-turns.ts";
import type { Actor } from "../telemetry/audit.ts";
import type { Job, JobOptions, Jobs } from "./jobs.ts";
import { reencryptRow, type RowCiphers } from "./reencrypt-row.ts";
import type {
  Chunk,
  ChunkLimits,
  ReencryptionStore,
  RowResult,
  Target,
  Targets,
} from "./reencryption-store.ts";

export const REENCRYPT = "reencrypt";

const LIMITS: ChunkLimits = { rows: 200, bytes: 2 * 1024 * 1024, lease_seconds: 60 };

/** Longest that one chunk is worked on, milliseconds: well before its lease ends. */
const CHUNK_TIMEOUT_MS = 30_000;

/** Milliseconds between two looks at what others are doing. */
const BUSY_PAUSE_MS = 200;

export const DEFAULT_BUDGET_MS = 20_000;

/**
 * A request has 2 s of CPU. A row of 600 characters takes 0.2 ms of it, twice that on the platform's Deno,
 * and less than as much again for each 4 Ki characters.
 */
const MAX_WORK = 2_000;
const WORK_PER_CHARACTER = 1 / 4096;

export interface ReencryptionOptions extends RowCiphers {
  readonly jobs: Jobs;
  readonly store: ReencryptionStore;
  readonly provider: Pick<KeyProvider, "wrappingKeyId">;
  readonly keyrings: Readonly<Record<DataClass, "hierarchical" | "direct">>;
  readonly branchKeyScopes: Readonly<Record<DataClass, BranchKeyScope>>;
  /** Takes work that no answer waits for. */
  readonly background: (work: Promise<unknown>) => void;
  /** Told when such work fails, since no answer tells of it; must not throw. The job runs on. */
  readonly failed: (actor: Actor, job: Job, error: unknown) => void;
  /** Default: 200 rows, 2 Mi characters, 60 s. */
  readonly limits?: ChunkLimits;
  /** Rows of one run, long messages counting for more. Default 2000, for the platform's CPU limit. */
  readonly maxWork?: number;
}

export class Reencryption {
  readonly #options: ReencryptionOptions;

  constructor(options: ReencryptionOptions) {
    this.#options = options;
  }

  /** A first run begins in the background. @throws {SuiteError} job_running. */
  async start(actor: Actor, options: JobOptions): Promise<Job> {
    const job = await this.#options.jobs.start(actor, REENCRYPT, options);
    if (job.status === "running") {
      const { background, failed } = this.#options;
      const work = this.#run(actor, job, this.#budget(DEFAULT_BUDGET_MS));
      background(work.catch((error) => failed(actor, job, error)));
    }
    return job;
  }

  /**
   * Works on a job until it ends or the budget is used up, one chunk at least. When the key service or the
   * database fails, the chunk goes back and the job runs on.
   *
   * @throws {SuiteError} not_found, kms_*, database_unavailable.
   */
  async run(actor: Actor, id: string, budgetMs: number): Promise<Job> {
    return await this.#run(actor, await this.#options.jobs.get(id), this.#budget(budgetMs));
  }

  /** As `run`, on whichever jobs there are, one after the other; null when there is none. */
  async runNext(actor: Actor, budgetMs: number): Promise<Job | null> {
    const budget = this.#budget(budgetMs);
    let last: Job | null = null;
    do {
      const job = await this.#options.jobs.next(REENCRYPT);
      if (job === undefined) break;
      last = await this.#run(actor, job, budget);
    } while (budget.left());
    return last;
  }

  async #run(actor: Actor, job: Job, budget: Budget): Promise<Job> {
    if (job.status !== "running") return job;
    const { store, limits = LIMITS } = this.#options;
    const targets = await this.#targets(job.data_class);
    do {
      const claim = await store.claim(actor, job.id, targets, limits);
      if (claim === undefined) throw new SuiteError("not_found");
      job = claim.job;
      if (claim.state === "ended") break;
      if (claim.state === "busy") await budget.pause();
      if (claim.state === "chunk") {
        job = await this.#work(actor, job, claim.chunk) ?? job;
        for (const { message } of claim.chunk.rows) budget.spend(message);
      }
    } while (budget.left());
    return job;
  }

  /** Undefined when another took the chunk over. */
  async #work(actor: Actor, job: Job, chunk: Chunk): Promise<Job | undefined> {
    const { store } = this.#options;
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), CHUNK_TIMEOUT_MS);
    try {
      const results = await inTurns(
        chunk.rows.map((row) => async (): Promise<RowResult> => {
          const { table_name, record_id, field, hash } = row;
          const result = await reencryptRow(this.#options, row, stop.signal);
          const kept = "ciphertext" in result && job.dry_run ? {} : result;
          return { table_name, record_id, field, hash, ...kept };
        }),
      );
      return await store.commit(actor, chunk, results);
    } catch (error) {
      // Rows that are still worked on are for nothing now.
      stop.abort();
      await store.release(chunk).catch(() => {});
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #targets(only: DataClass | null): Promise<Targets> {
    const { provider, keyrings, branchKeyScopes } = this.#options;
    const classes = only === null ? DATA_CLASSES : [only];
    return Object.fromEntries(
      await Promise.all(classes.map(async (dataClass): Promise<[DataClass, Target]> => [
        dataClass,
        keyrings[dataClass] === "direct"
          ? { keyring: "direct", key_id: await provider.wrappingKeyId(dataClass) }
          : { keyring: "hierarchical", scope: branchKeyScopes[dataClass] },
      ])),
    );
  }

  #budget(ms: number): Budget {
    return new Budget(ms, this.#options.maxWork ?? MAX_WORK);
  }
}

/** What one run may use of time and, by the amount of its work, of the CPU. */
class Budget {
  readonly #until: number;
  #work: number;

  constructor(ms: number, work: number) {
    this.#until = performance.now() + ms;
    this.#work = work;
  }

  spend(message: string): void {
    this.#work -= 1 + message.length * WORK_PER_CHARACTER;
  }

  left(): boolean {
    return this.#work > 0 && performance.now() < this.#until;
  }

  async pause(): Promise<void> {
    const ms = Math.min(BUSY_PAUSE_MS, this.#until - performance.now());
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
  }
}
