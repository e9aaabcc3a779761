/**
 * The composition root: the only place that reads the environment, and, with assembly/, the only one that
 * knows which adapter stands behind which port. Everything is built on first use and lives as long as the
 * worker, or until the stored settings change.
 */
import { Live } from "./admin/live.ts";
import { settle } from "./admin/stored-settings.ts";
import type { Settings } from "./assembly/admin.ts";
import { assembleCore, type Core, type CoreServices } from "./assembly/core.ts";
import { type Config, loadConfig } from "./config.ts";
import type { WorkerNews } from "./database/key-stores.ts";
import { rateLimitStore } from "./database/rate-limits.ts";
import { type Rpc, supabaseRpc } from "./database/rpc.ts";
import { readSettings, type SettingsNews } from "./database/settings.ts";
import { ConfigError, type Environment } from "./environment.ts";
import type { SuiteError } from "./errors.ts";
import type { Serving } from "./http/app.ts";
import type { RateLimitStore } from "./http/rate-limit-store.ts";
import { rememberRefusals } from "./http/refusals.ts";
import { cloudWatchSink } from "./keys/providers/aws/cloudwatch.ts";
import { type AwsKeyProvider, loadAwsSdk } from "./keys/providers/aws/provider.ts";
import { SettingsSeal } from "./keys/settings-seal.ts";
import { Logger } from "./telemetry/log.ts";
import { BufferedMetrics, loggedMetrics, type Metrics } from "./telemetry/metrics.ts";

export interface Services extends CoreServices {
  /** False when stored settings cannot be used, and the environment alone counts. */
  readonly settingsValid: boolean;
}

export interface Runtime<More = unknown> {
  /** Of the environment alone. @throws {ConfigError} the same one every time. */
  config(): Config;
  /**
   * What counts now: the environment, and the stored settings over it. A request that is `keyless` need
   * not wait for the settings, which a cold worker then reads beside it.
   * @throws {ConfigError} @throws {SuiteError} when a cold worker cannot read the settings.
   */
  serving(keyless?: boolean): Promise<Serving<Services & More>>;
  /** @throws {ConfigError} */
  rateLimits(): RateLimitStore;
  /** Sends what was measured, a while later and in the background. */
  afterResponse(): void;
}

export interface RuntimeOptions<More = unknown> {
  /**
   * Every request of the function needs keys: the SDK is loaded and the role is assumed while the first
   * one is still being authenticated. Default false.
   */
  readonly needsKeys?: boolean;
  /** Use cases that only this function has. */
  readonly more?: (core: Core, settings: Settings) => More;
  /** Default: the Data API of the environment. */
  readonly connect?: (config: Config) => Rpc;
  readonly now?: () => number;
}

/** The runtime of this worker. */
export function runtime<More = unknown>(options?: RuntimeOptions<More>): Runtime<More> {
  return createRuntime(() => Deno.env.toObject(), options);
}

/** `environment` is read once, on first use. */
export function createRuntime<More = unknown>(
  environment: () => Environment,
  { needsKeys = false, more, connect, now = Date.now }: RuntimeOptions<More> = {},
): Runtime<More> {
  const env = once(environment);
  const config = once(() => loadConfig(env()));
  const rpc = once(() => connect?.(config()) ?? supabaseRpc(config().supabase));
  const rateLimits = once(() => rememberRefusals(rateLimitStore(rpc())));
  const seal = once(() =>
    new SettingsSeal({ ...config(), secretKeys: Object.values(config().supabase.secretKeys) })
  );
  let started: Live<Worker<More>, SettingsNews> | undefined;
  const live = () => started ??= start();
  /** On the environment alone: all there is when nothing was ever stored. */
  const unsettled = once(() => work(config(), true));
  return {
    config,
    serving: async (keyless = false) => {
      const settled = live().get();
      if (!keyless || started?.peek() !== undefined) return (await settled).serving;
      background(settled);
      return unsettled().serving;
    },
    rateLimits,
    afterResponse: () => started?.peek()?.afterResponse(),
  };

  function work(settled: Config, settingsValid: boolean): Worker<More> {
    return startWorker(settled, rpc(), (core) => ({
      ...core.services,
      settingsValid,
      ...more?.(core, {
        environment: env(),
        own: config(),
        seal: seal(),
        renew: () => live().renew(),
      }) as More,
    }));
  }

  function start(): Live<Worker<More>, SettingsNews> {
    const own = config();
    let startupTested = false;
    const build = (news: SettingsNews): Worker<More> => {
      if (news.revision === 0 && started?.peek() === undefined) return unsettled();
      const { config: settled, fault } = settle(env(), own, seal(), news);
      if (fault !== undefined) logInvalid(own, fault);
      return work(settled, fault === undefined);
    };
    return new Live<Worker<More>, SettingsNews>({
      read: (known) => {
        const asked = readSettings(rpc(), known);
        if (needsKeys && own.provider === "aws" && own.aws) loadAwsSdk(own.aws).catch(() => {});
        return asked;
      },
      build: (news) => {
        const worker = build(news);
        // What it heard of regions comes first: the role is assumed in one that is alive. The request
        // itself will hear of a failure.
        worker.hear(news);
        if (needsKeys) worker.prepare().catch(() => {});
        if (own.runStartupTest && !startupTested) void startupTest(own, worker.serving.services);
        startupTested = true;
        return worker;
      },
      hear: (worker, news) => worker.hear(news),
      retire: (worker) => worker.retire(),
      cacheMs: own.configCacheMs,
      background,
      now,
    });
  }
}

/** Everything that is made anew when the stored settings change. */
interface Worker<More> {
  readonly serving: Serving<Services & More>;
  hear(news: WorkerNews): void;
  prepare(): Promise<void>;
  afterResponse(): void;
  retire(): void;
}

function startWorker<More>(
  config: Config,
  rpc: Rpc,
  servicesOf: (core: Core) => Services & More,
): Worker<More> {
  const logger = new Logger(config.logLevel);
  const recorders: Metrics[] = config.logLevel === "debug" ? [loggedMetrics(logger)] : [];
  const core = assembleCore(
    config,
    rpc,
    {
      record: (...measurement) => recorders.forEach((one) => one.record(...measurement)),
    },
    logger,
    background,
  );
  const metrics = bufferedMetrics(config, core.aws, logger);
  if (metrics !== undefined) recorders.push(metrics);
  const afterResponse = () => {
    const sent = metrics?.flushLater(config.metrics.intervalMs);
    if (sent !== undefined) background(sent);
  };
  return {
    serving: { config, services: servicesOf(core) },
    hear: core.hear,
    prepare: async () => await core.aws?.prepare(),
    afterResponse,
    retire: () => {
      afterResponse();
      core.retire();
    },
  };
}

/** Names of variables and codes only. */
function logInvalid(config: Config, fault: ConfigError | SuiteError): void {
  new Logger(config.logLevel).log("error", "settings_invalid", {
    ...fault instanceof ConfigError ? { faults: fault.faults } : { code: fault.code },
  });
}

/** Undefined when metrics are off, or there is no AWS to send them to. */
function bufferedMetrics(
  config: Config,
  aws: AwsKeyProvider | undefined,
  logger: Logger,
): BufferedMetrics | undefined {
  if (!config.metrics.enabled || config.aws === undefined || aws === undefined) return undefined;
  return new BufferedMetrics(
    cloudWatchSink(config.aws, {
      namespace: config.metrics.namespace,
      credentials: () => aws.credentials(),
      timeoutMs: config.kmsTimeoutMs,
    }),
    { onDrop: (count) => logger.log("warn", "metrics_dropped", { count }) },
  );
}

/** The platform's; absent where functions run on plain Deno. */
declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void } | undefined;

/** Work that no answer waits for, and whose failure nobody need hear of, or has heard of by now. */
function background(work: Promise<unknown>): void {
  const quiet = work.catch(() => {});
  if (typeof EdgeRuntime !== "undefined") EdgeRuntime.waitUntil(quiet);
}

/** `KMS_RUN_STARTUP_TEST`: one health round when the worker starts, its outcome in the log. */
async function startupTest(config: Config, services: Services): Promise<void> {
  const report = await services.health.report();
  new Logger(config.logLevel).log(report.healthy ? "info" : "error", "startup_test", {
    code: report.functionality.error ?? report.connectivity.error ?? "pass",
    duration_ms: report.latencyMs,
  });
}

/** Calls `make` once; what it throws is thrown again at every later call. */
function once<T>(make: () => T): () => T {
  let result: { value: T } | { error: unknown } | undefined;
  return () => {
    if (result === undefined) {
      try {
        result = { value: make() };
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        result = { error };
      }
    }
    if ("error" in result) throw result.error;
    return result.value;
  };
}
