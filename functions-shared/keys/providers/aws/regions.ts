/** In which region to call: healthy ones first, then the primary, then the faster. */
import { SuiteError } from "../../../errors.ts";
import type { DeadRegion, RegionReport } from "../../key-provider.ts";
import { classifyAwsError } from "./errors.ts";
import { type CircuitOptions, RegionHealth } from "./region-health.ts";

/** Tells others; fire and forget, so it must not throw. */
export type ShareRegionHealth = (region: string, dead: DeadRegion | undefined) => void;

export interface RegionsOptions extends CircuitOptions {
  /** One cheap call in the region, in the background; rejects as AWS and the SDK do. */
  readonly probe: (region: string) => Promise<unknown>;
  readonly share?: ShareRegionHealth;
  readonly now?: () => number;
}

const ALL = (_region: string) => true;

export class Regions {
  readonly names: readonly string[];
  readonly #health: ReadonlyMap<string, RegionHealth>;
  readonly #options: RegionsOptions;
  readonly #now: () => number;
  /** Probes under way; each tells whether the region is back. */
  readonly #probes = new Map<string, Promise<boolean>>();

  /** `names`: the primary, then the fallbacks. */
  constructor(names: readonly string[], options: RegionsOptions) {
    this.names = [...new Set(names)];
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#health = new Map(this.names.map((name) => [name, new RegionHealth(options)]));
  }

  /**
   * The regions worth a call now, best first; empty when all circuits are open. Starts the probes that
   * are due.
   */
  order(): readonly string[] {
    const now = this.#now();
    const candidates: { name: string; health: RegionHealth; index: number }[] = [];
    this.names.forEach((name, index) => {
      const health = this.#of(name);
      if (health.claimProbe(now)) this.#probe(name, health);
      if (health.state === "CLOSED") candidates.push({ name, health, index });
    });
    return candidates
      .sort((a, b) =>
        Number(b.health.healthy) - Number(a.health.healthy) ||
        Number(b.index === 0) - Number(a.index === 0) ||
        (a.health.latencyMs ?? Infinity) - (b.health.latencyMs ?? Infinity) ||
        a.index - b.index
      )
      .map(({ name }) => name);
  }

  /** Waits for the probes under way in regions that `serves`; true as soon as one of them is back. */
  recovered(serves = ALL): Promise<boolean> {
    const probes = [...this.#probes].filter(([name]) => serves(name)).map(([, probe]) => probe);
    return new Promise((resolve) => {
      for (const probe of probes) void probe.then((alive) => alive && resolve(true));
      void Promise.all(probes).then(() => resolve(false));
    });
  }

  succeeded(region: string, latencyMs: number): void {
    const health = this.#of(region);
    this.#reporting(region, health, () => health.succeeded(latencyMs));
  }

  failed(region: string): void {
    const health = this.#of(region);
    this.#reporting(region, health, () => health.failed(this.#now()));
  }

  /** What others learnt; expired entries are theirs to leave out. */
  learn(dead: readonly DeadRegion[]): void {
    const now = this.#now();
    for (const { region, until } of dead) {
      // Their clock is not ours: no news keeps a region out for longer than a probe of our own would.
      const bounded = Math.min(until, now + this.#options.maxProbeAfterMs);
      if (bounded > now) this.#health.get(region)?.avoidUntil(bounded);
    }
  }

  /** Milliseconds since the epoch of the earliest probe; undefined when some region is worth a call. */
  nextProbeAt(serves = ALL): number | undefined {
    let earliest: number | undefined;
    for (const [name, health] of this.#health) {
      if (!serves(name)) continue;
      if (health.state === "CLOSED" || health.probeAt === undefined) return undefined;
      earliest = Math.min(earliest ?? Infinity, health.probeAt);
    }
    return earliest;
  }

  report(): Readonly<Record<string, RegionReport>> {
    return Object.fromEntries(
      [...this.#health].map(([name, health]) => [name, {
        healthy: health.healthy,
        state: health.state,
        consecutive_failures: health.consecutiveFailures,
        next_probe_at: health.probeAt === undefined ? null : new Date(health.probeAt).toISOString(),
        latency_ms: health.latencyMs === undefined ? null : Math.round(health.latencyMs),
      }]),
    );
  }

  /** Shares what `change` changed: that the region is back, or until when to avoid it. */
  #reporting(region: string, health: RegionHealth, change: () => void): void {
    const before = health.probeAt;
    change();
    const until = health.probeAt;
    if (until === before) return;
    this.#options.share?.(region, until === undefined ? undefined : { region, until });
  }

  #probe(region: string, health: RegionHealth): void {
    const probe = this.#probeOnce(region, health).finally(() => this.#probes.delete(region));
    this.#probes.set(region, probe);
  }

  async #probeOnce(region: string, health: RegionHealth): Promise<boolean> {
    const started = this.#now();
    let failure: unknown;
    try {
      await this.#options.probe(region);
    } catch (error) {
      // No credentials: the region was not asked.
      if (error instanceof SuiteError) {
        health.probeAbandoned(this.#now());
        return false;
      }
      failure = error;
    }
    // A refusal is an answer as well: the region is back.
    const alive = failure === undefined || classifyAwsError(failure) !== "infrastructure";
    this.#reporting(region, health, () => {
      if (alive) health.probeSucceeded(this.#now() - started);
      else health.probeFailed(this.#now());
    });
    return alive;
  }

  #of(region: string): RegionHealth {
    const health = this.#health.get(region);
    if (health === undefined) throw new RangeError("not a configured region");
    return health;
  }
}
