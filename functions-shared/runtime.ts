/**
 * The composition root: the only place that reads the environment, and the only one that knows which
 * adapter stands behind which port. Everything is built on first use and lives as long as the worker.
 */
import { AuditTrail } from "./admin/audit/audit-trail.ts";
import { AnchorSignatures } from "./admin/audit/signatures.ts";
import type { CandidateKeys } from "./admin/candidate.ts";
import { Configuration } from "./admin/configuration.ts";
import { Erasures } from "./admin/erasures.ts";
import { Jobs } from "./admin/jobs.ts";
import { KeyAdministration } from "./admin/keys.ts";
import { LegacyKeys } from "./admin/legacy/keys.ts";
import { LegacyRows } from "./admin/legacy/rows.ts";
import { Live } from "./admin/live.ts";
import { ProviderMigration } from "./admin/provider-migration.ts";
import { Reencryption } from "./admin/reencryption.ts";
import { settle } from "./admin/stored-settings.ts";
import { type Config, loadConfig, platformSecret } from "./config.ts";
import type { DataClass } from "./data-class.ts";
import { auditTrailStore } from "./database/audit-trail.ts";
import { noticingGoneKeys, type Rpc, supabaseRpc } from "./database/rpc.ts";
import { rateLimitStore } from "./database/rate-limits.ts";
import { branchKeyRecords, shareRegionHealth, type WorkerNews } from "./database/key-stores.ts";
import { erasureStore } from "./database/erasures.ts";
import { jobStore, reencryptionStore } from "./database/jobs.ts";
import { keyAdminStore } from "./database/key-admin.ts";
import { legacyStore } from "./database/legacy.ts";
import { migrationStore } from "./database/migration.ts";
import { readSettings, type SettingsNews, settingsStore } from "./database/settings.ts";
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
import type { RateLimitStore } from "./http/rate-limit-store.ts";
import { rememberRefusals } from "./http/refusals.ts";
import { Health } from "./health/health.ts";
import type { Serving } from "./http/app.ts";
import { BranchKeyCache } from "./keys/branch-key-cache.ts";
import { BranchKeyStore } from "./keys/branch-key-store.ts";
import { FieldCipher } from "./keys/field-cipher.ts";
import { Fingerprints } from "./keys/fingerprints.ts";
import { HierarchicalKeyring } from "./keys/hierarchical-keyring.ts";
import type { KeyProvider } from "./keys/key-provider.ts";
import type { Keyring } from "./keys/keyring.ts";
import { Proofs } from "./keys/proofs.ts";
import { cloudWatchSink } from "./keys/providers/aws/cloudwatch.ts";
import { AwsKeyProvider, loadAwsSdk } from "./keys/providers/aws/provider.ts";
import { EnvKeyProvider } from "./keys/providers/env.ts";
import type { ShareRegionHealth } from "./keys/providers/aws/regions.ts";
import { GCP_KEYS } from "./keys/providers/gcp/names.ts";
import { LazyKeyProvider } from "./keys/providers/rest/lazy-provider.ts";
import { VAULT_KEYS } from "./keys/providers/vault/names.ts";
import { SettingsSeal } from "./keys/settings-seal.ts";
import { legacyKeySources } from "./legacy-key-sources.ts";
import { Payments } from "./payments/payments.ts";
import { Records } from "./records/records.ts";
import { Intake } from "./storage/intake.ts";
import type { AuditLog } from "./telemetry/audit.ts";
import { Logger } from "./telemetry/log.ts";
import { BufferedMetrics, loggedMetrics, type Metrics, NO_METRICS } from "./telemetry/metrics.ts";

export interface Services {
  readonly audit: AuditLog;
  readonly auditTrail: AuditTrail;
  readonly configuration: Configuration;
  readonly erasures: Erasures;
  readonly health: Health;
  readonly intake: Intake;
  readonly jobs: Jobs;
  readonly legacyKeys: LegacyKeys;
  readonly legacyRows: LegacyRows;
  readonly keys: KeyAdministration;
  readonly migration: ProviderMigration;
  readonly payments: Payments;
  readonly records: Records;
  readonly reencryption: Reencryption;
  /** False when stored settings cannot be used, and the environment alone counts. */
  readonly settingsValid: boolean;
}

export interface Runtime {
  /** Of the environment alone. @throws {ConfigError} the same one every time. */
  config(): Config;
  /**
   * What counts now: the environment, and the stored settings over it. A request that is `keyless` need
   * not wait for the settings, which a cold worker then reads beside it.
   * @throws {ConfigError} @throws {SuiteError} when a cold worker cannot read the settings.
   */
  serving(keyless?: boolean): Promise<Serving<Services>>;
  /** @throws {ConfigError} */
  rateLimits(): RateLimitStore;
  /** Sends what was measured, a while later and in the background. */
  afterResponse(): void;
}

export interface RuntimeOptions {
  /**
   * Every request of the function needs keys: the SDK is loaded and the role is assumed while the first
   * one is still being authenticated. Default false.
   */
  readonly needsKeys?: boolean;
  /** Default: the Data API of the environment. */
  readonly connect?: (config: Config) => Rpc;
  readonly now?: () => number;
}

/** The runtime of this worker. */
export function runtime(options?: RuntimeOptions): Runtime {
  return createRuntime(() => Deno.env.toObject(), options);
}

/** `environment` is read once, on first use. */
export function createRuntime(
  environment: () => Environment,
  { needsKeys = false, connect, now = Date.now }: RuntimeOptions = {},
): Runtime {
  const env = once(environment);
  const config = once(() => loadConfig(env()));
  const rpc = once(() => connect?.(config()) ?? supabaseRpc(config().supabase));
  const rateLimits = once(() => rememberRefusals(rateLimitStore(rpc())));
  const seal = once(() =>
    new SettingsSeal({ ...config(), secretKeys: Object.values(config().supabase.secretKeys) })
  );
  let started: Live<Worker, SettingsNews> | undefined;
  const live = () => started ??= start();
  const configuration = once(configurationOf);
  /** On the environment alone: all there is when nothing was ever stored. */
  const unsettled = once(() =>
    startWorker(config(), rpc(), { configuration: configuration(), settingsValid: true })
  );
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

  function configurationOf(): Configuration {
    return new Configuration({
      environment: env(),
      config: config(),
      seal: seal(),
      store: settingsStore(rpc()),
      audit: auditLog(rpc()),
      keysOf: candidateKeys,
      renew: () => live().renew(),
    });
  }

  function start(): Live<Worker, SettingsNews> {
    const own = config();
    let startupTested = false;
    const build = (news: SettingsNews): Worker => {
      if (news.revision === 0 && started?.peek() === undefined) return unsettled();
      const { config: settled, fault } = settle(env(), own, seal(), news);
      if (fault !== undefined) logInvalid(own, fault);
      return startWorker(settled, rpc(), {
        configuration: configuration(),
        settingsValid: fault === undefined,
      });
    };
    return new Live<Worker, SettingsNews>({
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
interface Worker {
  readonly serving: Serving<Services>;
  hear(news: WorkerNews): void;
  prepare(): Promise<void>;
  afterResponse(): void;
  /** Requests may still be under way: their keys are fetched anew, and none is kept. */
  retire(): void;
}

function startWorker(
  config: Config,
  rpc: Rpc,
  shared: Pick<Services, "configuration" | "settingsValid">,
): Worker {
  const logger = new Logger(config.logLevel);
  const recorders: Metrics[] = config.logLevel === "debug" ? [loggedMetrics(logger)] : [];
  const { aws, hear, retire, services } = buildServices(config, rpc, {
    record: (...measurement) => recorders.forEach((one) => one.record(...measurement)),
  });
  const metrics = bufferedMetrics(config, aws, logger);
  if (metrics !== undefined) recorders.push(metrics);
  const afterResponse = () => {
    const sent = metrics?.flushLater(config.metrics.intervalMs);
    if (sent !== undefined) background(sent);
  };
  return {
    serving: { config, services: { ...services, ...shared } },
    hear,
    prepare: async () => await aws?.prepare(),
    afterResponse,
    retire: () => {
      afterResponse();
      retire();
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

function buildServices(config: Config, base: Rpc, metrics: Metrics) {
  const forgetKeys = () => {
    cache.clear();
    fingerprints.clear();
  };
  const rpc = noticingGoneKeys(base, forgetKeys);
  const audit = auditLog(rpc);
  const { provider, providers, aws } = keyProviders(config, {
    ...limitsOf(config),
    metrics,
    share: (region, dead) => background(shareRegionHealth(rpc, region, dead)),
  });
  const cache = new BranchKeyCache({
    ttlMs: config.dataKeyTtlMs,
    maxEncryptions: config.maxEncryptionsPerKey,
    maxEntries: config.cacheMaxEntries,
    onHit: () => metrics.record("DataKeyCacheHits", 1, "Count"),
    onMiss: () => metrics.record("DataKeyCacheMisses", 1, "Count"),
  });
  const records = branchKeyRecords(rpc, {
    onRotation: forgetKeys,
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
  // A cached branch key would hide an outage: this one asks the key service itself.
  const direct = new FieldCipher({
    ...config,
    writers: { payment: provider, pii: provider, general: provider },
    readers: providers,
  });
  const fingerprints = new Fingerprints(branchKeys, {
    ttlMs: config.dataKeyTtlMs,
    workerSecret: platformSecret(config.supabase),
  });
  const payments = new Payments({ cipher, fingerprints, store: paymentMethodStore(rpc), audit });
  const encryptedRecords = new Records({ cipher, store: recordStore(rpc), audit });
  const legacy = legacyStore(rpc);
  const sources = legacyKeySources(config, aws);
  const legacyKeys = new LegacyKeys({ store: legacy, sources, cipher, fingerprints, audit });
  const jobs = new Jobs(jobStore(rpc));
  const services = {
    audit,
    auditTrail: new AuditTrail({
      audit,
      store: auditTrailStore(rpc),
      signatures: new AnchorSignatures({
        ...config,
        sign: (parts) => fingerprints.anchor(parts),
      }),
      retentionDays: config.audit.retentionDays,
    }),
    erasures: new Erasures({
      ...config,
      store: erasureStore(rpc),
      proofs: new Proofs(branchKeys),
    }),
    health: new Health({
      provider,
      cipher,
      direct,
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
    jobs,
    legacyKeys,
    legacyRows: new LegacyRows({
      ...config,
      store: legacy,
      keys: legacyKeys,
      payments,
      records: encryptedRecords,
    }),
    payments,
    records: encryptedRecords,
    reencryption: new Reencryption({
      ...config,
      cipher,
      direct,
      provider,
      jobs,
      store: reencryptionStore(rpc, () => cache.clear()),
      background,
    }),
  };
  const retire = () => {
    cache.retire();
    fingerprints.retire();
  };
  return { aws, services, hear: records.hear, retire };
}

interface KeyProviders {
  /** New data goes to this one. */
  readonly provider: KeyProvider;
  /** Old data is read by whichever it names. */
  readonly providers: readonly KeyProvider[];
  readonly aws: AwsKeyProvider | undefined;
}

interface ProviderOptions {
  readonly timeoutMs: number;
  readonly attemptTimeoutMs: number;
  readonly maxAttempts: number;
  readonly metrics: Metrics;
  readonly share?: ShareRegionHealth;
}

function limitsOf(config: Config) {
  return {
    timeoutMs: config.kmsTimeoutMs,
    attemptTimeoutMs: config.kmsAttemptTimeoutMs,
    maxAttempts: config.kmsRetryAttempts,
  };
}

/** A candidate's deadline of one key call, milliseconds, and its attempts. */
const CANDIDATE_TIMEOUT_MS = 5_000;
const CANDIDATE_ATTEMPTS = 2;

/** Of a configuration that is tried: nobody else hears of it, and it has little time. */
function candidateKeys(config: Config): CandidateKeys {
  const limits = limitsOf(config);
  const { provider, providers } = keyProviders(config, {
    ...limits,
    timeoutMs: Math.min(limits.timeoutMs, CANDIDATE_TIMEOUT_MS),
    maxAttempts: Math.min(limits.maxAttempts, CANDIDATE_ATTEMPTS),
    metrics: NO_METRICS,
  });
  return { appName: config.appName, environment: config.environment, provider, providers };
}

function keyProviders(config: Config, limits: ProviderOptions): KeyProviders {
  const aws = config.aws === undefined ? undefined : new AwsKeyProvider(config.aws, {
    ...limits,
    circuitThreshold: config.circuitBreakerThreshold,
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
