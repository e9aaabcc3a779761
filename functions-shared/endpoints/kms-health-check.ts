/** `kms-health-check`: the deployment guide's answer for everybody, more for holders of a secret key. */
import type { Hono } from "hono";
import type { Config } from "../config.ts";
import { DATA_CLASSES } from "../data-class.ts";
import { type ErrorCode, SuiteError } from "../errors.ts";
import {
  type Check,
  type Health,
  HEALTH_VERSION,
  type HealthReport,
  type KeyReport,
} from "../health/health.ts";
import type { Upkeep } from "../health/upkeep.ts";
import { type AppOptions, createApp, type Exchange, json } from "../http/app.ts";
import { authenticate } from "../http/auth.ts";
import { readQuery } from "../http/query.ts";

export const NAME = "kms-health-check";

export interface HealthServices {
  readonly health: Health;
  /** False when stored settings cannot be used, and the environment alone counts. */
  readonly settingsValid: boolean;
  readonly upkeep: Upkeep;
}

export function healthCheckApp(
  options: Pick<AppOptions<HealthServices>, "config" | "serving" | "rateLimits" | "afterResponse">,
): Pick<Hono, "fetch"> {
  return createApp({
    name: NAME,
    ...options,
    routes: [{ method: "GET", path: "/", handle: { public: check } }],
    unconfigured: (error, config) => unconfigured(error, config?.environment ?? null),
  });
}

function unconfigured(error: ErrorCode, environment: string | null): Response {
  const failed: Check = { status: "fail", error };
  return json(
    body(false, { config: failed, connectivity: failed, functionality: failed }, {
      timestamp: Date.now(),
      region: null,
      environment,
      latency_ms: 0,
    }),
    503,
    { "retry-after": error === "configuration_invalid" ? "60" : "5" },
  );
}

async function check(exchange: Exchange<HealthServices>): Promise<Response> {
  readQuery(exchange.url, []);
  const { config, services } = exchange;
  const report = await services.health.report();
  const healthy = report.healthy && services.settingsValid;
  if (healthy) services.upkeep.due();
  const answer = body(healthy, {
    config: services.settingsValid
      ? { status: "pass" }
      : { status: "fail", error: "configuration_invalid" },
    connectivity: report.connectivity,
    functionality: report.functionality,
  }, {
    timestamp: report.checkedAt,
    region: regionOf(config),
    environment: config.environment,
    latency_ms: report.latencyMs,
  });
  const deep = await holdsSecretKey(exchange.request, config)
    ? await deepView(services.health, report, config)
    : undefined;
  const status = !healthy ? "unhealthy" : deep?.degraded ? "degraded" : "healthy";
  const code = { healthy: 200, degraded: config.degradedStatus, unhealthy: 503 }[status];
  return json(
    { ...answer, status, ...deep?.view },
    code,
    code === 200
      ? {}
      : { "retry-after": String(Math.max(1, Math.ceil(config.healthCacheMs / 1000))) },
  );
}

/** Where the key service that wraps new keys is asked first; null when it has no such place. */
function regionOf({ provider, aws, gcp }: Config): string | null {
  if (provider === "aws") return aws?.region ?? null;
  return provider === "gcp" ? gcp?.location ?? null : null;
}

/** What holders of a secret key see besides: keys, canaries, and how each region fares. */
async function deepView(health: Health, report: HealthReport, config: Config) {
  const keys = await health.keys();
  const regions = Object.entries(health.regions());
  return {
    degraded: regions.some(([, { healthy }]) => !healthy),
    view: {
      provider: config.provider,
      classes: Object.fromEntries(
        DATA_CLASSES.map((dataClass) => [dataClass, {
          key: keyView(keys[dataClass]),
          canary: report.canaries[dataClass],
        }]),
      ),
      regions: Object.fromEntries(regions.map(([name, { healthy }]) => [name, healthy])),
      circuit_breakers: Object.fromEntries(
        regions.map(([name, { healthy: _, ...breaker }]) => [name, breaker]),
      ),
    },
  };
}

function keyView(key: KeyReport) {
  if ("error" in key) return key;
  const { keyId, multiRegion, ...rest } = key;
  return { key_id: keyId, multi_region: multiRegion, ...rest };
}

/** The public answer names no error beyond its code, no key and no account. */
function body(
  healthy: boolean,
  checks: { config: Check; connectivity: Check; functionality: Check },
  metadata: {
    timestamp: number;
    region: string | null;
    environment: string | null;
    latency_ms: number;
  },
) {
  const { timestamp, ...rest } = metadata;
  return {
    status: healthy ? "healthy" : "unhealthy",
    timestamp: new Date(timestamp).toISOString(),
    checks: {
      config: checks.config,
      kms_connectivity: checks.connectivity,
      key_functionality: checks.functionality,
    },
    metadata: { version: HEALTH_VERSION, ...rest },
  };
}

async function holdsSecretKey(request: Request, config: Config): Promise<boolean> {
  try {
    return (await authenticate(request, config.supabase)).kind === "secret_key";
  } catch (error) {
    // Any other credential, good or bad, gets the public answer: probes often carry one.
    if (error instanceof SuiteError) return false;
    throw error;
  }
}
