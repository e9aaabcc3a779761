/**
 * What this worker knows of one region: a circuit breaker whose probes never ride on a user's request.
 *
 * The first infrastructure failure makes the region one to avoid: others are asked first, and a background
 * probe finds out more. After `threshold` failures in a row the circuit is open: nobody asks the region
 * until a probe succeeds. So a dead region costs one timeout. What other workers say only makes a region
 * one to avoid: one worker that lost its own network must not stop all. A pure state machine; the clock
 * comes in with every question.
 */
export type CircuitState = "CLOSED" | "OPEN" | "HALF_OPEN";

export interface CircuitOptions {
  /** Consecutive failures that open the circuit, 1 or more. */
  readonly threshold: number;
  /** Pause before the first probe, milliseconds; it doubles with every probe that fails. */
  readonly probeAfterMs: number;
  /** The longest pause between probes, milliseconds. */
  readonly maxProbeAfterMs: number;
}

/** Weight of the newest call in the moving average of the latency. */
const LATENCY_WEIGHT = 0.2;

export class RegionHealth {
  readonly #options: CircuitOptions;
  #failures = 0;
  #failedProbes = 0;
  /** A probe found the region well, and no call has yet. */
  #onProbation = false;
  /** Failures right after such a probe, in a row. */
  #relapses = 0;
  #saidToBeDead = false;
  #probeAt = 0;
  #probing = false;
  #latencyMs: number | undefined;

  constructor(options: CircuitOptions) {
    this.#options = options;
  }

  get state(): CircuitState {
    if (this.#failures < this.#options.threshold) return "CLOSED";
    return this.#probing ? "HALF_OPEN" : "OPEN";
  }

  get healthy(): boolean {
    return this.#failures === 0 && !this.#saidToBeDead;
  }

  get consecutiveFailures(): number {
    return this.#failures;
  }

  /** When the next probe may go, milliseconds since the epoch; undefined while healthy. */
  get probeAt(): number | undefined {
    return this.healthy ? undefined : this.#probeAt;
  }

  /** Moving average of successful calls, milliseconds; undefined before the first. */
  get latencyMs(): number | undefined {
    return this.#latencyMs;
  }

  succeeded(latencyMs: number): void {
    this.#onProbation = false;
    this.#relapses = 0;
    this.#recovered(latencyMs);
  }

  #recovered(latencyMs: number): void {
    this.#failures = 0;
    this.#failedProbes = 0;
    this.#saidToBeDead = false;
    this.#latencyMs = this.#latencyMs === undefined
      ? latencyMs
      : this.#latencyMs + LATENCY_WEIGHT * (latencyMs - this.#latencyMs);
  }

  /**
   * A call failed. Only the first failure sets the time of the probe: the calls that were under way when a
   * region died fail together, and say the same thing once. It is later each time that calls fail where
   * probes do not: such a region must not cost a timeout a second.
   */
  failed(now: number): void {
    if (this.healthy) {
      this.#relapses = this.#onProbation ? this.#relapses + 1 : 0;
      this.#onProbation = false;
      this.#probeAt = now + this.#pause(this.#relapses);
    }
    this.#failures++;
  }

  #pause(doublings: number): number {
    const { probeAfterMs, maxProbeAfterMs } = this.#options;
    return Math.min(probeAfterMs * 2 ** doublings, maxProbeAfterMs);
  }

  /** Whether the caller is to probe now; only one at a time is told so. It reports the outcome. */
  claimProbe(now: number): boolean {
    if (this.healthy || this.#probing || now < this.#probeAt) return false;
    this.#probing = true;
    return true;
  }

  probeSucceeded(latencyMs: number): void {
    this.#probing = false;
    this.#onProbation = true;
    this.#recovered(latencyMs);
  }

  probeFailed(now: number): void {
    this.#probing = false;
    this.#failures++;
    this.#failedProbes++;
    this.#probeAt = now + this.#pause(this.#failedProbes);
  }

  /** The probe never reached the region, for reasons of our own. */
  probeAbandoned(now: number): void {
    this.#probing = false;
    this.#probeAt = now + this.#options.probeAfterMs;
  }

  /** Others found the region dead, until they would probe again. What was found out here stands. */
  avoidUntil(until: number): void {
    if (this.#failures > 0 || this.#probing) return;
    this.#probeAt = this.#saidToBeDead ? Math.max(this.#probeAt, until) : until;
    this.#saidToBeDead = true;
  }
}
