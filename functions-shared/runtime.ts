/**
 * The composition root: the only place that reads the environment, and the only one that knows which
 * adapter stands behind which port. Everything is built on first use and lives as long as the worker.
 */
import { KeyAdministration } from "./admin/keys.ts";
import { ProviderMigration } from "./admin/provider-migration.ts";
import { type Config, loadConfig } from "./config.ts";
import type { DataClass } from "./data-class.ts";
import { keyAdminStore } from "./database/key-admin.ts";
import { migrationStore } from "./database/migration.ts";
import { type Rpc, supabaseRpc } from "./database/rpc.ts";
import { branchKeyRecords, shareRegionHealth } from "./database/key-stores.ts";
import {
  auditLog,
  canaryStore,
  intakeStore,
  paymentMethodStore,
  recordHealth,
  recordStore,
} from "./database/stores.ts";
import { ConfigError, type Environment } from "./environment.ts";
import { SuiteError } from "./errors.ts";
import { Health } from "./health/health.ts";
import { BranchKeyCache } from "./keys/branch-key-cache.ts";
import { BranchKeyStore } from "./keys/branch-key-store.ts";
import { FieldCipher } from "./keys/field-cipher.ts";
import { Fingerprints } from "./keys/fingerprints.ts";
import { HierarchicalKeyring } from "./keys/hierarchical-keyring.ts";
import type { KeyProvider } from "./keys/key-provider.ts";
import type { Keyring } from "./keys/keyring.ts";
import { cloudWatchSink } from "./keys/providers/aws/cloudwatch.ts";
import { AwsKeyProvider } from "./keys/providers/aws/provider.ts";
import { EnvKeyProvider } from "./keys/providers/env.ts";
import { GCP_KEYS } from "./keys/providers/gcp/names.ts";
import { LazyKeyProvider } from "./keys/providers/rest/lazy-provider.ts";
import { VAULT_KEYS } from "./keys/providers/vault/names.ts";
import { Payments } from "./payments/payments.ts";
import { Records } from "./records/records.ts";
import { Intake } from "./storage/intake.ts";
import type { AuditLog } from "./telemetry/audit.ts";
import { Logger } from "./telemetry/log.ts";
import { BufferedMetrics, loggedMetrics, type Metrics } from "./telemetry/metrics.ts";

export interface Services {
  readonly audit: AuditLog;
  readonly health: Health;
  readonly intake: Intake;
  readonly keys: KeyAdministration;
  readonly migration: ProviderMigration;
  readonly payments: Payments;
  readonly records: Records;
}

export interface Runtime {
  /** @throws {ConfigError} the same one every time: the environment of a worker does not change. */
  config(): Config;
  /** @throws {ConfigError} */
  services(): Services;
  /** Sends what was measured, a while later and in the background. */
  afterResponse(): void;
}

export interface RuntimeOptions {
  /**
   * Every request of the function needs keys: the SDK is loaded, news of dead regions are read and the
   * role is assumed while the first one is still being authenticated. Default false.
   */
  readonly needsKeys?: boolean;
}

/** The runtime of this worker. */
export function runtime(options?: RuntimeOptions): Runtime {
  return createRuntime(() => Deno.env.toObject(), options);
}

/** `environment` is read once, on first use. */
export function createRuntime(
  environment: () => Environment,
  { needsKeys = false }: RuntimeOptions = {},
): Runtime {
  const config = once(() => loadConfig(environment()));
  let metrics: BufferedMetrics | undefined;
  const services = once(() => {
    const { aws, regionNews, ...built } = buildServices(config(), {
      record: (...measurement) => recorders.forEach((one) => one.record(...measurement)),
    });
    const logger = new Logger(config().logLevel);
    metrics = bufferedMetrics(config(), aws, logger);
    const recorders = [
      ...metrics === undefined ? [] : [metrics],
      ...config().logLevel === "debug" ? [loggedMetrics(logger)] : [],
    ];
    // The request itself will hear of a failure.
    if (needsKeys) aws?.prepare(regionNews()).catch(() => {});
    if (config().runStartupTest) void startupTest(config(), built);
    return built;
  });
  const afterResponse = () => {
    const sent = metrics?.flushLater(config().metrics.intervalMs);
    if (sent !== undefined) background(sent);
  };
  return { config, services, afterResponse };
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

function buildServices(
  config: Config,
  metrics: Metrics,
): Services & {
  readonly aws: AwsKeyProvider | undefined;
  /** Resolves once this worker knows what others found out about regions. */
  readonly regionNews: () => Promise<unknown>;
} {
  const rpc = supabaseRpc(config.supabase, () => cache.clear());
  const audit = auditLog(rpc);
  const { provider, providers, aws } = keyProviders(config, rpc, metrics);
  const cache = new BranchKeyCache({
    ttlMs: config.dataKeyTtlMs,
    maxEncryptions: config.maxEncryptionsPerKey,
    maxEntries: config.cacheMaxEntries,
    onHit: () => metrics.record("DataKeyCacheHits", 1, "Count"),
    onMiss: () => metrics.record("DataKeyCacheMisses", 1, "Count"),
  });
  const records = branchKeyRecords(rpc, {
    onRotation: () => {
      cache.clear();
      fingerprints.clear();
    },
    onDeadRegions: (dead) => aws?.learn(dead),
  });
  const branchKeys = new BranchKeyStore({
    ...config,
    records,
    provider,
    readers: providers,
    // Of a request's time, so that the other provider has as much.
    failoverMs: Math.ceil(config.kmsTimeoutMs / 2),
  });
  const hierarchical = new HierarchicalKeyring({
    store: branchKeys,
    cache,
    scopes: config.branchKeyScopes,
  });
  const writer = (dataClass: DataClass): Keyring =>
    config.keyrings[dataClass] === "direct" ? provider : hierarchical;
  const cipher = new FieldCipher({
    ...config,
    writers: { payment: writer("payment"), pii: writer("pii"), general: writer("general") },
    readers: [hierarchical, ...providers],
  });
  const fingerprints = new Fingerprints(branchKeys, {
    ttlMs: config.dataKeyTtlMs,
    workerSecret: workerSecret(config),
  });
  return {
    aws,
    // Every read of a branch key brings the news; this one's own answer is of no use here.
    regionNews: () => records.get("payment", "branch:ACTIVE"),
    audit,
    health: new Health({
      provider,
      cipher,
      // A cached branch key would hide an outage: the health check asks the key service itself.
      direct: new FieldCipher({
        ...config,
        writers: { payment: provider, pii: provider, general: provider },
        readers: providers,
      }),
      canaries: canaryStore(rpc),
      history: (report, regions) =>
        background(recordHealth(rpc, report, regions, config.workerRegion)),
      cacheMs: config.healthCacheMs,
    }),
    intake: new Intake({
      store: intakeStore(rpc),
      fingerprints,
      retentionSeconds: config.idempotencyRetentionSeconds,
    }),
    keys: new KeyAdministration({ provider, branchKeys, store: keyAdminStore(rpc) }),
    migration: new ProviderMigration({
      ...config,
      providers,
      branchKeys,
      store: migrationStore(rpc),
    }),
    payments: new Payments({ cipher, fingerprints, store: paymentMethodStore(rpc), audit }),
    records: new Records({ cipher, store: recordStore(rpc), audit }),
  };
}

/** The platform's own secret key: in every worker, and nowhere in the database. */
function workerSecret({ supabase: { secretKeys } }: Config): string {
  return secretKeys.default ?? Object.values(secretKeys)[0] ?? "";
}

interface KeyProviders {
  /** New data goes to this one. */
  readonly provider: KeyProvider;
  /** Old data is read by whichever it names. */
  readonly providers: readonly KeyProvider[];
  readonly aws: AwsKeyProvider | undefined;
}

function keyProviders(config: Config, rpc: Rpc, metrics: Metrics): KeyProviders {
  const limits = {
    timeoutMs: config.kmsTimeoutMs,
    attemptTimeoutMs: config.kmsAttemptTimeoutMs,
    maxAttempts: config.kmsRetryAttempts,
    metrics,
  };
  const aws = config.aws === undefined ? undefined : new AwsKeyProvider(config.aws, {
    ...limits,
    circuitThreshold: config.circuitBreakerThreshold,
    share: (region, dead) => background(shareRegionHealth(rpc, region, dead)),
  });
  const { gcp, vault, encryptionKey } = config;
  const providers = [
    aws,
    gcp && new LazyKeyProvider(GCP_KEYS, async () => {
      const { GcpKeyProvider } = await import("./keys/providers/gcp/provider.ts");
      return new GcpKeyProvider(gcp, limits);
    }),
    vault && new LazyKeyProvider(VAULT_KEYS, async () => {
      const { VaultKeyProvider } = await import("./keys/providers/vault/provider.ts");
      return new VaultKeyProvider(vault, limits);
    }),
    encryptionKey && new EnvKeyProvider(encryptionKey),
  ].filter((one) => one !== undefined);
  const provider = providers.find(({ name }) => name === config.provider);
  // Configuration guarantees what the chosen provider needs.
  if (provider === undefined) throw new SuiteError("configuration_invalid");
  return { provider, providers, aws };
}

/** The platform's; absent where functions run on plain Deno. */
declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void } | undefined;

/** Work that no answer waits for, and whose failure nobody need hear of. */
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
