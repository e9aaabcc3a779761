/**
 * Where the key management guide's setups keep their key, reached with the suite's own credentials. Part of
 * the composition root: `kms-admin` and the command line read keys through it.
 */
import type { KeySource, KeySources } from "../admin/legacy/key-source.ts";
import type { Config } from "../config.ts";
import { SuiteError } from "../errors.ts";
import { AwsKeyProvider } from "../keys/providers/aws/provider.ts";
import { keyNotFound } from "../keys/providers/rest/failure.ts";

type SourceConfig = Pick<
  Config,
  | "aws"
  | "gcp"
  | "vault"
  | "legacy"
  | "kmsTimeoutMs"
  | "kmsAttemptTimeoutMs"
  | "kmsRetryAttempts"
  | "circuitBreakerThreshold"
>;

/** The field of the Vault secret. */
const FIELD = "key";

/** `provider`: the AWS provider of this process, whose session is used then. */
export function legacyKeySources(config: SourceConfig, provider?: AwsKeyProvider): KeySources {
  const limits = {
    timeoutMs: config.kmsTimeoutMs,
    attemptTimeoutMs: config.kmsAttemptTimeoutMs,
    maxAttempts: config.kmsRetryAttempts,
  };
  const { aws, gcp, vault } = config;
  return {
    aws: aws && once(async () => {
      const { parameterStore } = await import("../keys/providers/aws/parameter-store.ts");
      const session = provider ?? new AwsKeyProvider(aws, {
        ...limits,
        circuitThreshold: config.circuitBreakerThreshold,
      });
      const read = parameterStore(aws, () => session.credentials(), limits);
      return ({ name, ...at }, signal) =>
        read({ ...at, name: name ?? `/boosterbeacon/encryption-keys/${at.keyId}` }, signal);
    }),
    gcp: gcp && once(async () => {
      const { secretManager } = await import("../keys/providers/gcp/stored-value.ts");
      const read = secretManager(gcp, limits);
      return ({ name, ...at }, signal) =>
        read({ ...at, name: name ?? `boosterbeacon-encryption-key-${at.keyId}` }, signal);
    }),
    vault: vault && once(async () => {
      const { keyValueStore } = await import("../keys/providers/vault/key-value.ts");
      const read = keyValueStore(vault, limits);
      return ({ name, ...at }, signal) => {
        const path = name ?? `secret/boosterbeacon/encryption-keys/${at.keyId}`;
        return read({ ...at, field: FIELD, name: path }, signal);
      };
    }),
    env: ({ keyId }) => {
      const { encryptionKey } = config.legacy;
      return encryptionKey === undefined
        ? Promise.reject(new SuiteError("kms_key_unusable", { cause: keyNotFound(keyId) }))
        : Promise.resolve(encryptionKey);
    },
  };
}

/** A source whose code is loaded with the first key that is read from it. */
function once(load: () => Promise<KeySource>): KeySource {
  let loaded: Promise<KeySource> | undefined;
  return async (at, signal) => await (await (loaded ??= load()))(at, signal);
}
