/** Google Cloud KMS, Vault and the environment's key, through the suite's own providers. */
import type { Config } from "../../functions-shared/config.ts";
import { DATA_CLASSES, type DataClass } from "../../functions-shared/data-class.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { GcpKeyProvider } from "../../functions-shared/keys/providers/gcp/provider.ts";
import { VaultKeyProvider } from "../../functions-shared/keys/providers/vault/provider.ts";
import { checkClock } from "./clock.ts";
import { doctorContext } from "./context.ts";
import { PROBE_TIMEOUT_MS } from "./probe.ts";
import type { Report } from "./report.ts";

const LIMITS = { timeoutMs: PROBE_TIMEOUT_MS, attemptTimeoutMs: PROBE_TIMEOUT_MS, maxAttempts: 1 };

const NEXT: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  gcp: {
    kms_access_denied:
      "give the service account cloudkms.cryptoKeyEncrypterDecrypter and cloudkms.viewer on the key ring",
    kms_key_unusable:
      "look at GOOGLE_KMS_LOCATION, GOOGLE_KMS_KEY_RING and the primary version's state",
    kms_unavailable: "look whether Cloud KMS can be reached from here",
  },
  vault: {
    kms_access_denied:
      "compare token or AppRole, VAULT_NAMESPACE and the policy with docs/key-providers.md",
    kms_key_unusable: "look at VAULT_TRANSIT_MOUNT and the key's name, type and versions",
    kms_unavailable: "look whether Vault can be reached from here, and whether it is sealed",
  },
};

/** Every one that has credentials: those that only read must work as well. `about`: where its lines go. */
export async function checkKeyServices(
  about: (name: string) => Report,
  config: Config,
): Promise<void> {
  const { gcp, vault, encryptionKey } = config;
  if (gcp !== undefined) {
    const report = about("gcp");
    await checkClock(report, "gcp.clock", gcp.endpoint);
    if (gcp.credentials.kind === "access_token") {
      report.warn(
        "gcp.credentials",
        "an access token, which lives for an hour",
        "set GOOGLE_CREDENTIALS_JSON to the JSON key of a service account",
      );
    }
    await checkProvider(report, config, new GcpKeyProvider(gcp, LIMITS));
  }
  if (vault !== undefined) {
    const report = about("vault");
    await checkClock(report, "vault.clock", `${vault.address}/v1/sys/health`);
    if (vault.auth.kind === "token") {
      report.warn(
        "vault.credentials",
        "a token, which ends for good when nobody renews it",
        "set VAULT_ROLE_ID and VAULT_SECRET_ID of an AppRole",
      );
    }
    await checkProvider(report, config, new VaultKeyProvider(vault, LIMITS));
  }
  if (encryptionKey !== undefined) {
    const report = about("env");
    if (config.provider === "env") {
      report.warn(
        "env.key",
        "the keys come from ENCRYPTION_KEY: whoever reads the environment has them",
        "for anything but development choose a key service (docs/key-providers.md)",
      );
    }
    await checkProvider(report, config, new EnvKeyProvider(encryptionKey));
  }
}

async function checkProvider(report: Report, config: Config, provider: KeyProvider): Promise<void> {
  for (const dataClass of DATA_CLASSES) {
    const [state, use] = ["state", "use"].map((what) =>
      `${provider.name}.${what}.${dataClass}`
    ) as [string, string];
    try {
      const { keyId, state: found, version } = await provider.describe(dataClass);
      if (found !== "Enabled") {
        report.fail(state, `${keyId} is ${found}`, nextOf(provider, "kms_key_unusable"));
        report.notChecked(use, state);
        continue;
      }
      report.pass(
        state,
        `${keyId} is enabled${version === undefined ? "" : `, version ${version}`}`,
      );
    } catch (error) {
      report.fail(state, codeOf(error), nextOf(provider, codeOf(error)));
      report.notChecked(use, state);
      continue;
    }
    await checkUse(report, use, config, provider, dataClass);
  }
}

async function checkUse(
  report: Report,
  check: string,
  config: Config,
  provider: KeyProvider,
  dataClass: DataClass,
): Promise<void> {
  const context = doctorContext(config, dataClass);
  try {
    const { plaintext, encrypted } = await provider.generateDataKey(dataClass, context);
    const back = await provider.decryptDataKey(encrypted, context);
    const same = back.every((byte, index) => byte === plaintext[index]);
    plaintext.fill(0);
    back.fill(0);
    if (!same) return report.fail(check, "another plaintext came back", "this service is broken");
    try {
      await provider.decryptDataKey(encrypted, { ...context, record: "another" });
      report.fail(check, "decrypts under the wrong context", "this is no service to trust");
    } catch (error) {
      if (codeOf(error) !== "decryption_failed") throw error;
      report.pass(check, "encrypts, decrypts, and refuses a wrong context");
    }
  } catch (error) {
    report.fail(check, codeOf(error), nextOf(provider, codeOf(error)));
  }
}

function codeOf(error: unknown): string {
  return error instanceof SuiteError ? error.code : "internal_error";
}

function nextOf({ name }: KeyProvider, code: string): string {
  return NEXT[name]?.[code] ?? "look at docs/key-providers.md";
}
