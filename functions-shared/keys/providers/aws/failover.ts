/**
 * The one layer of retries over KMS: attempts, full jitter, deadline, and the choice of region.
 *
 * The SDK makes one attempt a call; nothing above this tries again. A refusal (access, context, key state)
 * is an answer and ends the call at once; only infrastructure failures and throttling go on.
 */
import { SuiteError } from "../../../errors.ts";
import { abortable } from "../../abortable.ts";
import {
  classifyAwsError,
  fromAwsError,
  isClockSkew,
  isExpiredCredentials,
  RefusedSession,
  renewsCredentials,
} from "./errors.ts";
import type { Regions } from "./regions.ts";

export interface FailoverOptions {
  /** Attempts of one call over all regions, 1 or more. */
  readonly maxAttempts: number;
  /** Deadline of one call with all its attempts, milliseconds. */
  readonly timeoutMs: number;
  /** Deadline of one attempt, milliseconds; at most half of `timeoutMs`. */
  readonly attemptTimeoutMs: number;
  /** Upper bound of the first pause, milliseconds; doubles with each further one. */
  readonly backoffBaseMs?: number;
  readonly backoffCapMs?: number;
  readonly now?: () => number;
  /** 0 to 1. */
  readonly random?: () => number;
  readonly sleep?: (ms: number) => Promise<void>;
  readonly onAttempt?: (attempt: AttemptReport) => void;
}

/** How one attempt ended, for metrics. */
export interface AttemptReport {
  readonly operation: string;
  readonly region: string;
  /** 0 for the first. */
  readonly attempt: number;
  /** Whether an earlier attempt of this call was made in another region. */
  readonly failedOver: boolean;
  /** Whether the call did what was asked: a refusal is an answer, and no success. */
  readonly success: boolean;
  readonly durationMs: number;
}

export interface CallOptions {
  /** Its name in metrics, as AWS calls it. */
  readonly operation?: string;
  /** Whether a region holds the key; all do unless given. */
  readonly serves?: (region: string) => boolean;
  /** The client's: when it hangs up, the work ends. */
  readonly signal?: AbortSignal;
  /** What an attempt needs before it goes out, credentials above all: not on the region's time. */
  readonly prepare?: () => Promise<unknown>;
}

export class Failover {
  readonly #regions: Regions;
  readonly #options: Required<FailoverOptions>;

  constructor(regions: Regions, options: FailoverOptions) {
    this.#regions = regions;
    this.#options = {
      backoffBaseMs: 50,
      backoffCapMs: 2_000,
      now: Date.now,
      random: Math.random,
      sleep,
      onAttempt: () => {},
      ...options,
      // Another region must get its chance before the deadline.
      attemptTimeoutMs: Math.min(options.attemptTimeoutMs, Math.ceil(options.timeoutMs / 2)),
    };
  }

  /**
   * Runs `attempt` in the best region that `serves` the key, and in others until one answers.
   *
   * @throws {SuiteError} kms_unavailable when no region answered in time; whatever a region refused with,
   *   and what `prepare` throws.
   */
  async call<T>(
    attempt: (region: string, signal: AbortSignal) => Promise<T>,
    options: CallOptions = {},
  ): Promise<T> {
    const { maxAttempts, timeoutMs, attemptTimeoutMs, now } = this.#options;
    const deadline = now() + timeoutMs;
    const tried = new Set<string>();
    const { signal } = options;
    let failure: unknown;
    const remedies = new Set<Remedy>();
    for (let made = 0; made < maxAttempts && !signal?.aborted; made++) {
      await abortable(Promise.resolve(options.prepare?.()), signal);
      let region = await this.#pick(tried, options, deadline);
      // Another region is asked at once; one that was asked already gets time to recover.
      if (region !== undefined && tried.has(region)) {
        if (!await this.#pause(made, deadline, signal)) break;
        region = await this.#pick(tried, options, deadline);
      }
      if (region === undefined) throw this.#nowhere(failure, options.serves);
      const timeLeft = deadline - now();
      if (timeLeft <= 0) break;
      const timeout = AbortSignal.timeout(Math.min(attemptTimeoutMs, timeLeft));
      const report = this.#reporter(region, made, tried, options);
      tried.add(region);
      try {
        return report(await attempt(region, signal ? AbortSignal.any([timeout, signal]) : timeout));
      } catch (error) {
        // The client's end, or our own failure, says nothing about the region.
        if (signal?.aborted) break;
        if (error instanceof SuiteError) throw error;
        failure = error;
      }
      const kind = classifyAwsError(failure);
      report(undefined, kind);
      if (kind === "answer") {
        // The region is well, and says no: for good, or to what can be renewed.
        const remedy = remedyOf(failure);
        if (
          remedy === undefined || remedies.has(remedy) ||
          remedy === "credentials" && !await this.#renewed(failure, deadline, signal)
        ) {
          throw fromAwsError(failure);
        }
        remedies.add(remedy);
        tried.delete(region);
        made--;
      } else if (kind === "infrastructure") {
        // Not when our deadline left it less time than others get.
        if (!timeout.aborted || timeLeft >= attemptTimeoutMs) this.#regions.failed(region);
      }
    }
    throw new SuiteError("kms_unavailable", { cause: failure });
  }

  /** For the end of an attempt that begins now: passes an answer on, and tells how it went. */
  #reporter(
    region: string,
    attempt: number,
    tried: ReadonlySet<string>,
    { operation = "" }: CallOptions,
  ) {
    const { now, onAttempt } = this.#options;
    const failedOver = tried.size > 0 && !tried.has(region);
    const started = now();
    return <T>(answer: T, failure?: ReturnType<typeof classifyAwsError>): T => {
      const durationMs = now() - started;
      const success = failure === undefined;
      if (success || failure === "answer") this.#regions.succeeded(region, durationMs);
      onAttempt({ operation, region, attempt, failedOver, success, durationMs });
      return answer;
    };
  }

  /** The best region not tried yet, or else the best; waits for a probe when all circuits are open. */
  async #pick(
    tried: ReadonlySet<string>,
    { serves = () => true, signal }: CallOptions,
    deadline: number,
  ): Promise<string | undefined> {
    const candidates = () => this.#regions.order().filter(serves);
    let regions = candidates();
    if (regions.length === 0) {
      if (await abortable(this.#regions.recovered(serves), this.#until(deadline, signal))) {
        regions = candidates();
      }
    }
    return regions.find((region) => !tried.has(region)) ?? regions[0];
  }

  #renewed(failure: unknown, deadline: number, signal?: AbortSignal): Promise<boolean> {
    return renewsCredentials(failure, this.#until(deadline, signal));
  }

  /** Aborts at the deadline, or with the client. */
  #until(deadline: number, signal?: AbortSignal): AbortSignal {
    const timeout = AbortSignal.timeout(Math.max(0, deadline - this.#options.now()));
    return signal ? AbortSignal.any([timeout, signal]) : timeout;
  }

  /** Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). Answers whether time is left. */
  async #pause(made: number, deadline: number, signal?: AbortSignal): Promise<boolean> {
    const { backoffBaseMs, backoffCapMs, random, now, sleep } = this.#options;
    const ms = random() * Math.min(backoffCapMs, backoffBaseMs * 2 ** (made - 1));
    if (now() + ms >= deadline) return false;
    await abortable(sleep(ms), signal);
    return true;
  }

  #nowhere(cause: unknown, serves?: (region: string) => boolean): SuiteError {
    const probeAt = this.#regions.nextProbeAt(serves);
    const seconds = probeAt === undefined
      ? undefined
      : Math.max(1, Math.ceil((probeAt - this.#options.now()) / 1000));
    return new SuiteError("kms_unavailable", {
      cause,
      ...seconds === undefined ? {} : { retryAfterSeconds: seconds },
    });
  }
}

type Remedy = "credentials" | "clock";

/** What was wrong with the attempt, and may be right for the next one. */
function remedyOf(error: unknown): Remedy | undefined {
  if (isExpiredCredentials(error) || error instanceof RefusedSession) return "credentials";
  return isClockSkew(error) ? "clock" : undefined;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
