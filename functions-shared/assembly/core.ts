/** What every function is made of: keys, cipher, and the use cases on stored cards and records. */
import { type Config, platformSecret } from "../config.ts";
import type { DataClass } from "../data-class.ts";
import { branchKeyRecords, shareRegionHealth, type WorkerNews } from "../database/key-stores.ts";
import { noticingGoneKeys, type Rpc } from "../database/rpc.ts";
import {
  auditLog,
  canaryStore,
  intakeStore,
  paymentMethodStore,
  recordHealth,
  recordStore,
} from "../database/stores.ts";
import { Health } from "../health/health.ts";
import { BranchKeyCache } from "../keys/branch-key-cache.ts";
import { BranchKeyStore } from "../keys/branch-key-store.ts";
import { FieldCipher } from "../keys/field-cipher.ts";
import { Fingerprints } from "../keys/fingerprints.ts";
import { HierarchicalKeyring } from "../keys/hierarchical-keyring.ts";
import type { KeyProvider } from "../keys/key-provider.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { AwsKeyProvider } from "../keys/providers/aws/provider.ts";
import { Payments } from "../payments/payments.ts";
import { Records } from "../records/records.ts";
import { Intake } from "../storage/intake.ts";
import type { AuditLog } from "../telemetry/audit.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { keyProviders, limitsOf } from "./key-providers.ts";

/** The use cases that every function may serve. */
export interface CoreServices {
  readonly audit: AuditLog;
  readonly health: Health;
  readonly intake: Intake;
  readonly payments: Payments;
  readonly records: Records;
}

/** The parts behind them, for those who build more. */
export interface Core {
  readonly config: Config;
  readonly services: CoreServices;
  readonly rpc: Rpc;
  /** Wraps new keys. */
  readonly provider: KeyProvider;
  /** All that are configured, `provider` among them. */
  readonly providers: readonly KeyProvider[];
  readonly aws: AwsKeyProvider | undefined;
  readonly branchKeys: BranchKeyStore;
  readonly cache: BranchKeyCache;
  readonly fingerprints: Fingerprints;
  readonly cipher: FieldCipher;
  /** Asks the key service itself, whatever the keyring of a class: no cached key hides an outage. */
  readonly direct: FieldCipher;
  readonly log: Logger;
  readonly background: (work: Promise<unknown>) => void;
  hear(news: WorkerNews): void;
  /** Requests may still be under way: their keys are fetched anew, and none is kept. */
  retire(): void;
}

/**
 * `base`: the database. `background`: for work that no answer waits for. What it returns serves until the
 * configuration changes; then `retire` is called.
 */
export function assembleCore(
  config: Config,
  base: Rpc,
  metrics: Metrics,
  log: Logger,
  background: (work: Promise<unknown>) => void,
): Core {
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
  const branchKeyStore = branchKeyRecords(rpc, {
    onRotation: forgetKeys,
    onDeadRegions: (dead) => aws?.learn(dead),
  });
  const branchKeys = new BranchKeyStore({
    ...config,
    records: branchKeyStore,
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
  const records = new Records({ cipher, store: recordStore(rpc), audit });
  const services: CoreServices = {
    audit,
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
    payments,
    records,
  };
  return {
    config,
    services,
    rpc,
    provider,
    providers,
    aws,
    branchKeys,
    cache,
    fingerprints,
    cipher,
    direct,
    log,
    background,
    hear: branchKeyStore.hear,
    retire: () => {
      cache.retire();
      fingerprints.retire();
    },
  };
}
