/**
 * KMS wherever it answers: the role's session, both services' regions, the failover over them, and what of
 * it is measured.
 */
import type { AwsConfig } from "../../../config.ts";
import type { EncryptionContext } from "../../../message/mod.ts";
import { type Metrics, NO_METRICS } from "../../../telemetry/metrics.ts";
import type { DeadRegion, RegionReport } from "../../key-provider.ts";
import { keyIdIn } from "./arn.ts";
import type { AwsClock } from "./client-options.ts";
import { type AwsCredentials, CredentialSource, stsAssumeRole } from "./credentials.ts";
import { type AttemptReport, Failover } from "./failover.ts";
import { Kms } from "./kms.ts";
import { Regions, type ShareRegionHealth } from "./regions.ts";

/** First pause before a background probe of a region that failed, and the longest one. */
const PROBE_AFTER_MS = 1_000;
const MAX_PROBE_AFTER_MS = 30_000;

/** The context of a probe's key, which nobody ever uses. */
const PROBE: EncryptionContext = { purpose: "probe" };

export interface RegionalKmsOptions {
  /** Deadline of one operation with all its attempts, milliseconds. */
  readonly timeoutMs: number;
  /** Deadline of one attempt, milliseconds. */
  readonly attemptTimeoutMs: number;
  /** Attempts of one operation over all regions. */
  readonly maxAttempts: number;
  /** Consecutive infrastructure failures that open a region's circuit. */
  readonly circuitThreshold: number;
  readonly share?: ShareRegionHealth;
  readonly metrics?: Metrics;
  readonly now?: () => number;
}

export class RegionalKms {
  /** One call in one region, for attempts of `call` and for what must not be tried again. */
  readonly kms: Kms;
  readonly #config: AwsConfig;
  readonly #credentials: CredentialSource;
  readonly #regions: Regions;
  readonly #stsRegions: Regions;
  readonly #failover: Failover;

  constructor(config: AwsConfig, options: RegionalKmsOptions) {
    const now = options.now ?? Date.now;
    const clock: AwsClock = { offsetMs: 0 };
    const assumeRole = stsAssumeRole(config, clock, now);
    const names = [config.region, ...config.fallbackRegions];
    const circuit = {
      threshold: options.circuitThreshold,
      probeAfterMs: PROBE_AFTER_MS,
      maxProbeAfterMs: MAX_PROBE_AFTER_MS,
      now,
    };
    const attemptSignal = () => AbortSignal.timeout(options.attemptTimeoutMs);
    this.#config = config;
    this.#regions = new Regions(names, {
      ...circuit,
      probe: (region) => this.#probe(region, attemptSignal),
      share: (region, dead) => {
        // A region in trouble seldom is so for one service only: the other one goes elsewhere as well
        // until it has found out for itself, so that a dead region costs one timeout and not two.
        if (dead !== undefined) this.#stsRegions.learn([dead]);
        options.share?.(region, dead);
      },
    });
    this.#stsRegions = new Regions(names, {
      ...circuit,
      probe: (region) => assumeRole(region, attemptSignal()),
      share: (region, dead) => {
        if (dead === undefined) return;
        this.#regions.learn([dead]);
        options.share?.(region, dead);
      },
    });
    const { metrics = NO_METRICS } = options;
    const failoverOptions = {
      ...options,
      now,
      onAttempt: (attempt: AttemptReport) => this.#measure(metrics, attempt),
    };
    this.#failover = new Failover(this.#regions, failoverOptions);
    const stsFailover = new Failover(this.#stsRegions, failoverOptions);
    this.#credentials = new CredentialSource(config, {
      assumeRole: (signal) => stsFailover.call(assumeRole, { operation: "AssumeRole", signal }),
      timeoutMs: options.timeoutMs,
      now,
    });
    this.kms = new Kms(config, this.#credentials, clock);
  }

  get names(): readonly string[] {
    return this.#regions.names;
  }

  /** What other workers found out about regions. */
  learn(dead: readonly DeadRegion[]): void {
    this.#regions.learn(dead);
    this.#stsRegions.learn(dead);
  }

  /** Of the present session. */
  credentials(): Promise<AwsCredentials> {
    return this.#credentials.get();
  }

  report(): Readonly<Record<string, RegionReport>> {
    return this.#regions.report();
  }

  /**
   * In the best region that holds the key, under its name there.
   *
   * @throws {SuiteError} as `Failover.call`
   */
  call<T>(
    operation: string,
    keyId: string,
    attempt: (region: string, keyId: string, signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return this.#failover.call(
      (region, signal) => attempt(region, keyIdIn(region, keyId) ?? "", signal),
      {
        operation,
        serves: (region) => keyIdIn(region, keyId) !== undefined,
        prepare: () => this.kms.prepare(),
        ...signal === undefined ? {} : { signal },
      },
    );
  }

  #measure(metrics: Metrics, attempt: AttemptReport): void {
    const { operation, region, success, durationMs } = attempt;
    const outcome = { Success: String(success) };
    const duration = Math.round(durationMs);
    metrics.record("KMSOperationDuration", duration, "Milliseconds", {
      Region: region,
      Operation: operation,
      ...outcome,
    });
    // CloudWatch adds up no dimensions: alarms on all regions need a series of their own.
    metrics.record("KMSOperationDuration", duration, "Milliseconds", outcome);
    if (attempt.failedOver) metrics.record("KMSFailovers", 1, "Count", { Region: region });
    else if (attempt.attempt > 0) metrics.record("KMSRetries", 1, "Count", { Region: region });
    // Every region's, because an open circuit sees no attempts of its own.
    const circuits = Object.entries(this.#regions.report())
      .map(([name, { state }]) => [name, state === "CLOSED" ? 0 : 1] as const);
    for (const [name, open] of circuits) {
      metrics.record("CircuitBreakerState", open, "None", { Region: name });
    }
    metrics.record("CircuitBreakerState", Math.max(...circuits.map(([, open]) => open)), "None");
  }

  /** With the cryptography that calls need: describing a key can still work when using one does not. */
  async #probe(region: string, attemptSignal: () => AbortSignal): Promise<void> {
    await this.kms.prepare();
    const keyId = keyIdIn(region, this.#config.aliases.payment);
    if (keyId === undefined) return;
    await this.kms.generateDataKeyWithoutPlaintext(region, keyId, PROBE, attemptSignal());
  }
}
