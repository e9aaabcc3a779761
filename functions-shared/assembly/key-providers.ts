/** The key providers that a configuration names, and those of one that is only tried. */
import type { CandidateKeys } from "../admin/candidate.ts";
import type { Config } from "../config.ts";
import { SuiteError } from "../errors.ts";
import type { KeyProvider } from "../keys/key-provider.ts";
import { AwsKeyProvider } from "../keys/providers/aws/provider.ts";
import type { ShareRegionHealth } from "../keys/providers/aws/regions.ts";
import { EnvKeyProvider } from "../keys/providers/env.ts";
import { GCP_KEYS } from "../keys/providers/gcp/names.ts";
import { LazyKeyProvider } from "../keys/providers/rest/lazy-provider.ts";
import { VAULT_KEYS } from "../keys/providers/vault/names.ts";
import { type Metrics, NO_METRICS } from "../telemetry/metrics.ts";

export interface KeyProviders {
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

export function limitsOf(config: Config) {
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
export function candidateKeys(config: Config): CandidateKeys {
  const limits = limitsOf(config);
  const { provider, providers } = keyProviders(config, {
    ...limits,
    timeoutMs: Math.min(limits.timeoutMs, CANDIDATE_TIMEOUT_MS),
    maxAttempts: Math.min(limits.maxAttempts, CANDIDATE_ATTEMPTS),
    metrics: NO_METRICS,
  });
  return { appName: config.appName, environment: config.environment, provider, providers };
}

export function keyProviders(config: Config, limits: ProviderOptions): KeyProviders {
  const aws = config.aws === undefined ? undefined : new AwsKeyProvider(config.aws, {
    ...limits,
    circuitThreshold: config.circuitBreakerThreshold,
  });
  const { gcp, vault, encryptionKey } = config;
  const providers = [
    aws,
    gcp && new LazyKeyProvider(GCP_KEYS, async () => {
      const { GcpKeyProvider } = await import("../keys/providers/gcp/provider.ts");
      return new GcpKeyProvider(gcp, limits);
    }),
    vault && new LazyKeyProvider(VAULT_KEYS, async () => {
      const { VaultKeyProvider } = await import("../keys/providers/vault/provider.ts");
      return new VaultKeyProvider(vault, limits);
    }),
    encryptionKey && new EnvKeyProvider(encryptionKey),
  ].filter((one) => one !== undefined);
  const provider = providers.find(({ name }) => name === config.provider);
  // Configuration guarantees what the chosen provider needs.
  if (provider === undefined) throw new SuiteError("configuration_invalid");
  return { provider, providers, aws };
}
