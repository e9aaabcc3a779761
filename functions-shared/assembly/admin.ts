/** What `kms-admin` is made of besides: the use cases of operators. No other function loads them. */
import { AuditTrail } from "../admin/audit/audit-trail.ts";
import { AnchorSignatures } from "../admin/audit/signatures.ts";
import { Configuration } from "../admin/configuration.ts";
import { Erasures } from "../admin/erasures.ts";
import { Jobs } from "../admin/jobs.ts";
import { KeyAdministration } from "../admin/keys.ts";
import { LegacyKeys } from "../admin/legacy/keys.ts";
import { LegacyRows } from "../admin/legacy/rows.ts";
import { ProviderMigration } from "../admin/provider-migration.ts";
import { Reencryption } from "../admin/reencryption.ts";
import type { Config } from "../config.ts";
import { auditTrailStore } from "../database/audit-trail.ts";
import { erasureStore } from "../database/erasures.ts";
import { jobStore, reencryptionStore } from "../database/jobs.ts";
import { keyAdminStore } from "../database/key-admin.ts";
import { legacyStore } from "../database/legacy.ts";
import { migrationStore } from "../database/migration.ts";
import { settingsStore } from "../database/settings.ts";
import type { Environment } from "../environment.ts";
import { Proofs } from "../keys/proofs.ts";
import { toSuiteError } from "../http/problem.ts";
import type { SettingsSeal } from "../keys/settings-seal.ts";
import type { Core } from "./core.ts";
import { candidateKeys } from "./key-providers.ts";
import { legacyKeySources } from "./legacy-key-sources.ts";

/** Where the configuration of a worker comes from. */
export interface Settings {
  readonly environment: Environment;
  /** Of the environment alone. */
  readonly own: Config;
  readonly seal: SettingsSeal;
  /** Makes this worker ask for the stored settings now. */
  readonly renew: () => Promise<unknown>;
}

export type AdminUseCases = ReturnType<typeof adminUseCases>;

export function adminUseCases(core: Core, settings: Settings) {
  const { config, rpc, cipher, fingerprints, branchKeys, provider, providers } = core;
  const { audit, payments, records } = core.services;
  const legacy = legacyStore(rpc);
  const sources = legacyKeySources(config, core.aws);
  const legacyKeys = new LegacyKeys({ store: legacy, sources, cipher, fingerprints, audit });
  const jobs = new Jobs(jobStore(rpc));
  return {
    auditTrail: new AuditTrail({
      audit,
      store: auditTrailStore(rpc),
      signatures: new AnchorSignatures({ ...config, sign: (parts) => fingerprints.anchor(parts) }),
      retentionDays: config.audit.retentionDays,
    }),
    configuration: new Configuration({
      environment: settings.environment,
      config: settings.own,
      seal: settings.seal,
      store: settingsStore(rpc),
      audit,
      keysOf: candidateKeys,
      renew: settings.renew,
    }),
    erasures: new Erasures({
      ...config,
      store: erasureStore(rpc),
      proofs: new Proofs(branchKeys),
    }),
    jobs,
    keys: new KeyAdministration({ provider, branchKeys, store: keyAdminStore(rpc) }),
    legacyKeys,
    legacyRows: new LegacyRows({ ...config, store: legacy, keys: legacyKeys, payments, records }),
    migration: new ProviderMigration({
      ...config,
      providers,
      branchKeys,
      store: migrationStore(rpc),
    }),
    reencryption: new Reencryption({
      ...config,
      cipher,
      direct: core.direct,
      provider,
      jobs,
      store: reencryptionStore(rpc, () => core.cache.clear()),
      background: core.background,
      failed: (actor, job, error) =>
        core.log.log("error", "job_run_failed", {
          function: actor.function,
          request_id: actor.request_id,
          job_id: job.id,
          code: toSuiteError(error).code,
          error,
        }),
    }),
  };
}
