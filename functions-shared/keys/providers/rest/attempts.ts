/**
 * Retries and deadlines of one key service at one address. Only what may pass with time is tried again;
 * a refusal is an answer.
 */
import { SuiteError } from "../../../errors.ts";
import { type Metrics, NO_METRICS } from "../../../telemetry/metrics.ts";
import { abortable } from "../../abortable.ts";
import { ServiceFailure, unavailable } from "./failure.ts";

export interface AttemptsOptions {
  /** Attempts of one call, 1 or more. */
  readonly maxAttempts: number;
  /** Deadline of one call with all its attempts, milliseconds. */
  readonly timeoutMs: number;
  /** Deadline of one attempt, milliseconds; at most half of `timeoutMs`. */
  readonly attemptTimeoutMs: number;
  readonly metrics?: Metrics;
  readonly now?: () => number;
  /** 0 to 1. */
  readonly random?: () => number;
  readonly sleep?: (ms: number) => Promise<void>;
}

const BACKOFF_BASE_MS = 50;
const BACKOFF_CAP_MS = 2_000;

export interface AttemptedCall<T> {
  /** Its name in metrics, as the service calls it. */
  readonly operation: string;
  /** One attempt; what it throws but a refusal counts as transient. */
  readonly attempt: (signal: AbortSignal) => Promise<T>;
  /** What an attempt needs before it goes out, credentials above all: not on the attempt's time. */
  readonly prepare?: () => Promise<unknown>;
  /** The client's: when it hangs up, the work ends. */
  readonly signal?: AbortSignal | undefined;
  /** Whether what was done may be done again by another attempt. Default true. */
  readonly repeatable?: boolean;
}

export class Attempts {
  readonly #options: Required<AttemptsOptions>;

  constructor(options: AttemptsOptions) {
    this.#options = {
      metrics: NO_METRICS,
      now: Date.now,
      random: Math.random,
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      ...options,
      attemptTimeoutMs: Math.min(options.attemptTimeoutMs, Math.ceil(options.timeoutMs / 2)),
    };
  }

  /**
   * @throws {SuiteError} kms_unavailable when no attempt was answered in time; otherwise what the service
   *   refused with, and what `prepare` throws.
   */
  async call<T>(
    { operation, attempt, prepare, signal, repeatable = true }: AttemptedCall<T>,
  ): Promise<T> {
    const { timeoutMs, attemptTimeoutMs, now } = this.#options;
    const maxAttempts = repeatable ? this.#options.maxAttempts : 1;
    const deadline = now() + timeoutMs;
    let failure: unknown;
    let renewed = false;
    for (let made = 0; made < maxAttempts; made++) {
      if (made > 0 && !await this.#pause(made, deadline, signal)) break;
      const left = AbortSignal.timeout(Math.max(0, deadline - now()));
      await abortable(Promise.resolve(prepare?.()), either(left, signal));
      const timeLeft = deadline - now();
      if (timeLeft <= 0 || signal?.aborted) break;
      const timeout = AbortSignal.timeout(Math.min(attemptTimeoutMs, timeLeft));
      const started = now();
      try {
        const answer = await attempt(either(timeout, signal));
        this.#measure(operation, made, true, now() - started);
        return answer;
      } catch (error) {
        if (error instanceof SuiteError) throw error;
        failure = error;
      }
      if (signal?.aborted) break;
      const kind = failure instanceof ServiceFailure ? failure.kind : "transient";
      this.#measure(operation, made, kind !== "transient", now() - started);
      if (kind === "credentials" && !renewed) {
        // At once, and not counted: nothing is wrong with the service.
        renewed = true;
        made--;
      } else if (kind !== "transient") break;
    }
    if (failure instanceof ServiceFailure) throw new SuiteError(failure.code, { cause: failure });
    const cause = signal?.aborted ? signal.reason : unavailable("no answer", failure);
    throw new SuiteError("kms_unavailable", { cause });
  }

  /** Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"). Answers whether time is left. */
  async #pause(made: number, deadline: number, signal?: AbortSignal): Promise<boolean> {
    const { random, now, sleep } = this.#options;
    const ms = random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (made - 1));
    if (now() + ms >= deadline) return false;
    await abortable(sleep(ms), signal);
    return true;
  }

  #measure(operation: string, made: number, success: boolean, durationMs: number): void {
    const { metrics } = this.#options;
    const outcome = { Success: String(success) };
    const duration = Math.round(durationMs);
    const dimensions = { Operation: operation, ...outcome };
    metrics.record("KMSOperationDuration", duration, "Milliseconds", dimensions);
    metrics.record("KMSOperationDuration", duration, "Milliseconds", outcome);
    if (made > 0) metrics.record("KMSRetries", 1, "Count");
  }
}

function either(timeout: AbortSignal, signal: AbortSignal | undefined): AbortSignal {
  return signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
}
