/**
 * The environment, parsed once into a frozen, typed configuration.
 *
 * All faults are reported together, by variable name and constraint, never by value: the values are
 * credentials. `.env.example` documents every variable read here; a test keeps the two in step.
 */
import { type AuditConfig, readAudit } from "./config-audit.ts";
import { type AwsConfig, readAws } from "./config-aws.ts";
import { type GcpConfig, hasGcp, readGcp } from "./config-gcp.ts";
import { type RateLimitConfig, readRateLimits } from "./config-rate-limits.ts";
import { hasVault, readVault, type VaultConfig } from "./config-vault.ts";
import type { DataClass } from "./data-class.ts";
import { type Environment, EnvironmentReader, perClass } from "./environment.ts";

export type { AwsConfig };

export interface SupabaseConfig {
  readonly url: string;
  readonly publishableKeys: Readonly<Record<string, string>>;
  readonly secretKeys: Readonly<Record<string, string>>;
  /** Inline key set, or where to fetch it. */
  readonly jwks: { readonly keys: readonly Readonly<Record<string, unknown>>[] } | URL;
}

export interface Config {
  /** Bound into every message; changing it makes stored rows unreadable. */
  readonly appName: string;
  /** Bound into every message; changing it makes stored rows unreadable. */
  readonly environment: string;
  readonly isProduction: boolean;
  /** Where the platform runs this worker, when it says so. */
  readonly workerRegion: string | undefined;
  readonly supabase: SupabaseConfig;
  /** Wraps new keys. The others that are configured only read what they wrote before. */
  readonly provider: "aws" | "gcp" | "vault" | "env";
  readonly aws: AwsConfig | undefined;
  readonly gcp: GcpConfig | undefined;
  readonly vault: VaultConfig | undefined;
  /** Input key material of the `env` provider, at least 32 bytes. */
  readonly encryptionKey: Uint8Array | undefined;
  /** What the key management guide's setups left: see docs/import.md. */
  readonly legacy: {
    /** Id of the key that an import means when it names none. */
    readonly keyId: string;
    /** `ENCRYPTION_KEY` as it was set: that guide's program derived its key from the text. */
    readonly encryptionKey: string | undefined;
  };
  /** Which keyring writes a class's messages; both are always read. */
  readonly keyrings: Readonly<Record<DataClass, "hierarchical" | "direct">>;
  /** One branch key a class, or one an owner. */
  readonly branchKeyScopes: Readonly<Record<DataClass, "class" | "owner">>;
  /** Deadline of one request's key work, milliseconds. */
  readonly kmsTimeoutMs: number;
  /** Deadline of one attempt in one region, milliseconds. */
  readonly kmsAttemptTimeoutMs: number;
  /** Attempts of one key call over all regions. */
  readonly kmsRetryAttempts: number;
  /** Consecutive infrastructure failures that open a region's circuit. */
  readonly circuitBreakerThreshold: number;
  /** How long an unwrapped key stays in a worker, milliseconds; 0 = not at all. */
  readonly dataKeyTtlMs: number;
  /** Encryptions under one unwrapped branch key before it is fetched anew. */
  readonly maxEncryptionsPerKey: number;
  /** Unwrapped branch keys a worker keeps. */
  readonly cacheMaxEntries: number;
  /** Status of the deep health view when the suite works, but not in every region. */
  readonly degradedStatus: 200 | 503;
  /** How long a health result is reused, milliseconds. */
  readonly healthCacheMs: number;
  /** How long a worker may go on without asking for stored settings, milliseconds. */
  readonly configCacheMs: number;
  readonly runStartupTest: boolean;
  readonly userReveal: "never" | "aal2";
  /** Whether administrators need a second factor for `kms-admin`. */
  readonly adminRequiresAal2: boolean;
  /** Addresses of Vaults that stored settings may name in production, beside the environment's own. */
  readonly vaultAllowedAddresses: readonly string[];
  /** Card brands accepted, in Stripe's spelling. */
  readonly cardBrands: readonly string[];
  /** `*` or a list of origins for browsers. */
  readonly corsOrigins: readonly string[];
  readonly idempotencyRetentionSeconds: number;
  readonly audit: AuditConfig;
  readonly rateLimits: RateLimitConfig;
  readonly metrics: {
    readonly enabled: boolean;
    /** CloudWatch namespace. */
    readonly namespace: string;
    /** How long metrics are gathered before they are sent, milliseconds. */
    readonly intervalMs: number;
  };
  readonly logLevel: "debug" | "info" | "warn" | "error" | "silent";
}

export const CARD_BRANDS = [
  "visa",
  "mastercard",
  "amex",
  "discover",
  "diners",
  "jcb",
  "unionpay",
] as const;

/** A name in Parameter Store, Secret Manager and Vault alike, and safe in a URL. */
export const LEGACY_KEY_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
export const LEGACY_KEY_ID_CONSTRAINT =
  "must be 1 to 64 letters, digits, dots, underscores or hyphens, the first a letter or digit";

const MIN_PRODUCTION_HEALTH_CACHE_MS = 1_000;
const MAX_PRODUCTION_CONFIG_CACHE_MS = 300_000;

/** The platform's own secret key: in every worker, and nowhere in the database. */
export function platformSecret({ secretKeys }: SupabaseConfig): string {
  return secretKeys.default ?? Object.values(secretKeys)[0] ?? "";
}

/** @throws {ConfigError} listing every fault (environment.ts). */
export function loadConfig(env: Environment): Config {
  const read = new EnvironmentReader(env);

  const environment = read.text("APP_ENVIRONMENT", {
    also: ["SUPABASE_ENV", "NODE_ENV"],
    pattern: /^[a-z][a-z0-9-]{0,31}$/,
    constraint: "must be 1 to 32 lower-case letters, digits or hyphens, such as production",
    required: "always (SUPABASE_ENV or NODE_ENV serve as well)",
  });
  const older = read.text("SUPABASE_ENV", {});
  if (older !== "" && environment !== "" && older !== environment) {
    read.fault("APP_ENVIRONMENT", "must equal SUPABASE_ENV when both are set");
  }
  const isProduction = environment === "production";
  const provider = read.oneOf("KMS_PROVIDER", ["aws", "gcp", "vault", "env"], "aws");
  const appName = read.text("APP_NAME", {
    pattern: /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/,
    constraint: "must be 1 to 64 letters, digits, dots, underscores or hyphens",
    fallback: "parker-flight",
  });
  const names = { appName, environment };

  const config: Config = {
    appName,
    environment,
    isProduction,
    workerRegion: read.text("SB_REGION", {}) || undefined,
    supabase: readSupabase(read),
    provider,
    aws: provider === "aws"
      ? readAws(read, "when KMS_PROVIDER is aws")
      : read.isSet("AWS_ACCESS_KEY_ID")
      ? readAws(read, "when AWS_ACCESS_KEY_ID is set")
      : undefined,
    gcp: provider === "gcp"
      ? readGcp(read, names, "when KMS_PROVIDER is gcp")
      : hasGcp(read)
      ? readGcp(read, names, "when there are Google credentials")
      : undefined,
    vault: provider === "vault"
      ? readVault(read, names, "when KMS_PROVIDER is vault")
      : hasVault(read)
      ? readVault(read, names, "when there are Vault credentials")
      : undefined,
    encryptionKey: readEncryptionKey(read, provider === "env"),
    legacy: {
      keyId: read.text("KMS_KEY_ID", {
        pattern: LEGACY_KEY_ID,
        constraint: LEGACY_KEY_ID_CONSTRAINT,
        fallback: "default",
      }),
      encryptionKey: read.text("ENCRYPTION_KEY", {}) || undefined,
    },
    keyrings: perClass((name) =>
      read.oneOf(`KMS_${name}_KEYRING`, ["hierarchical", "direct"], "hierarchical")
    ),
    branchKeyScopes: perClass((name) =>
      read.oneOf(`KMS_${name}_BRANCH_KEY_SCOPE`, ["class", "owner"], "class")
    ),
    kmsTimeoutMs: read.integer("KMS_TIMEOUT_MS", {
      older: "KMS_TIMEOUT",
      min: 100,
      max: 120_000,
      fallback: 10_000,
    }),
    kmsAttemptTimeoutMs: read.integer("KMS_ATTEMPT_TIMEOUT_MS", {
      min: 50,
      max: 60_000,
      fallback: 2_000,
    }),
    kmsRetryAttempts: read.integer("KMS_RETRY_ATTEMPTS", { min: 1, max: 20, fallback: 5 }),
    circuitBreakerThreshold: read.integer("KMS_CIRCUIT_BREAKER_THRESHOLD", {
      min: 1,
      max: 100,
      fallback: 3,
    }),
    dataKeyTtlMs: read.integer("KMS_DATA_KEY_TTL_MS", {
      older: "KMS_CACHE_TTL",
      min: 0,
      max: 3_600_000,
      fallback: 300_000,
    }),
    maxEncryptionsPerKey: read.integer("KMS_MAX_ENCRYPTIONS_PER_KEY", {
      min: 1,
      max: 1_000_000,
      fallback: 1_000,
    }),
    cacheMaxEntries: read.integer("KMS_CACHE_MAX_ENTRIES", {
      min: 1,
      max: 100_000,
      fallback: 1_000,
    }),
    degradedStatus: read.oneOf("KMS_HEALTH_DEGRADED_STATUS", ["200", "503"], "200") === "503"
      ? 503
      : 200,
    healthCacheMs: read.integer("KMS_HEALTH_CACHE_MS", { min: 0, max: 60_000, fallback: 5_000 }),
    configCacheMs: read.integer("KMS_CONFIG_CACHE_MS", {
      min: 0,
      max: 3_600_000,
      fallback: 60_000,
    }),
    runStartupTest: read.flag("KMS_RUN_STARTUP_TEST", false),
    userReveal: read.oneOf("KMS_USER_REVEAL", ["never", "aal2"], "never"),
    adminRequiresAal2: read.flag("KMS_ADMIN_REQUIRE_AAL2", isProduction),
    vaultAllowedAddresses: readAllowedAddresses(read),
    cardBrands: readBrands(read),
    corsOrigins: readOrigins(read),
    idempotencyRetentionSeconds: 3600 *
      read.integer("IDEMPOTENCY_RETENTION_HOURS", { min: 1, max: 720, fallback: 24 }),
    audit: readAudit(read),
    rateLimits: readRateLimits(read),
    metrics: {
      enabled: read.flag("KMS_ENABLE_METRICS", false),
      namespace: read.text("KMS_METRICS_NAMESPACE", {
        pattern: /^(?!AWS\/|:)[\w.\/#:-]{1,255}$/,
        constraint:
          "must be 1 to 255 letters, digits or any of ._/#:-, and not begin with AWS/ or a colon",
        fallback: "ParkerFlight/KMS",
      }),
      intervalMs: read.integer("KMS_METRICS_INTERVAL_MS", { min: 0, max: 60_000, fallback: 5_000 }),
    },
    logLevel: read.flag("KMS_ENABLE_LOGGING", true)
      ? read.oneOf(
        "LOG_LEVEL",
        ["debug", "info", "warn", "error"],
        read.flag("KMS_DEBUG", false) ? "debug" : "info",
      )
      : "silent",
  };

  if (provider === "env" && isProduction) {
    read.fault(
      "KMS_PROVIDER",
      "must not be env in production: the payment class needs a key service",
    );
  }
  if (isProduction && config.healthCacheMs < MIN_PRODUCTION_HEALTH_CACHE_MS) {
    read.fault(
      "KMS_HEALTH_CACHE_MS",
      `must be ${MIN_PRODUCTION_HEALTH_CACHE_MS} or more in production: anybody may ask for the health`,
    );
  }
  if (isProduction && config.configCacheMs > MAX_PRODUCTION_CONFIG_CACHE_MS) {
    read.fault(
      "KMS_CONFIG_CACHE_MS",
      `must be ${MAX_PRODUCTION_CONFIG_CACHE_MS} or less in production: settings may be stored because a credential leaked`,
    );
  }
  read.throwIfFaulty();
  return deepFreeze(config);
}

function readSupabase(read: EnvironmentReader): SupabaseConfig {
  const url = read.url("SUPABASE_URL", { required: "always (set by the platform)" });
  const secretKeys = read.keySet(
    "SUPABASE_SECRET_KEYS",
    "SUPABASE_SERVICE_ROLE_KEY",
    "always (set by the platform)",
  );
  const publishableKeys = read.keySet("SUPABASE_PUBLISHABLE_KEYS", "SUPABASE_ANON_KEY");
  const inline = read.json("SUPABASE_JWKS");
  let jwks: SupabaseConfig["jwks"] = { keys: [] };
  if (inline !== undefined) {
    const keys = Array.isArray(inline) ? inline : (inline as { keys?: unknown } | null)?.keys;
    if (Array.isArray(keys)) jwks = { keys };
    else read.fault("SUPABASE_JWKS", "must be a JSON Web Key Set");
  } else if (url !== "") {
    // Where hosted projects publish their signing keys; without it no user token can be verified.
    jwks = new URL("/auth/v1/.well-known/jwks.json", url);
  }
  return { url, secretKeys, publishableKeys, jwks };
}

function readEncryptionKey(read: EnvironmentReader, required: boolean): Uint8Array | undefined {
  const value = read.text("ENCRYPTION_KEY", {
    required: required ? "when KMS_PROVIDER is env" : undefined,
  });
  if (value === "") return undefined;
  if (/^[0-9a-fA-F]+$/.test(value)) {
    if (value.length === 64) {
      return Uint8Array.from(value.match(/../g) ?? [], (byte) => parseInt(byte, 16));
    }
    read.fault("ENCRYPTION_KEY", "Invalid key length: expected 32 bytes (64 hexadecimal digits)");
    return undefined;
  }
  const bytes = new TextEncoder().encode(value);
  if (bytes.length < 32) {
    read.fault("ENCRYPTION_KEY", "Invalid key length: expected 32 bytes or more");
    return undefined;
  }
  return bytes;
}

function readBrands(read: EnvironmentReader): readonly string[] {
  const brands = read.list("KMS_CARD_BRANDS");
  if (brands.length === 0) return CARD_BRANDS;
  if (brands.some((brand) => !(CARD_BRANDS as readonly string[]).includes(brand))) {
    read.fault("KMS_CARD_BRANDS", `must be some of ${CARD_BRANDS.join(", ")}`);
  }
  return brands;
}

function readOrigins(read: EnvironmentReader): readonly string[] {
  const origins = read.list("CORS_ALLOWED_ORIGINS");
  if (origins.length === 0) return ["*"];
  for (const origin of origins) {
    if (origin === "*") continue;
    if (!URL.canParse(origin) || new URL(origin).origin !== origin) {
      read.fault("CORS_ALLOWED_ORIGINS", "must be * or origins such as https://shop.example");
      break;
    }
  }
  return origins;
}

function readAllowedAddresses(read: EnvironmentReader): readonly string[] {
  const addresses = read.list("VAULT_ALLOWED_ADDRS").map((one) => one.replace(/\/+$/, ""));
  if (addresses.some((one) => !/^https:\/\/[^\s/?#]+$/.test(one) || !URL.canParse(one))) {
    read.fault("VAULT_ALLOWED_ADDRS", "must be https addresses such as https://vault.example:8200");
    return [];
  }
  return addresses;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value)) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
