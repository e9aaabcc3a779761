import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CARD_BRANDS, loadConfig } from "../../functions-shared/config.ts";
import { ConfigError, type Environment } from "../../functions-shared/environment.ts";
import { ACCESS_KEY, AWS, ENCRYPTION_KEY, ENV, PLATFORM } from "./support/environment.ts";

function faultsOf(env: Environment): readonly string[] {
  return assertThrows(() => loadConfig(env), ConfigError).faults;
}

/** The deployment guide's `.env.local`, as it stands there. */
const GUIDE_LOCAL = `
# AWS Configuration
AWS_REGION=us-east-1
AWS_ACCESS_KEY_ID=your_dev_access_key_here
AWS_SECRET_ACCESS_KEY=your_dev_secret_access_key_here
KMS_GENERAL_ALIAS=alias/parker-flight-general-production
KMS_PII_ALIAS=alias/parker-flight-pii-production
KMS_PAYMENT_ALIAS=alias/parker-flight-payment-production
KMS_FALLBACK_REGIONS=["us-west-2", "eu-west-1"]
NODE_ENV=development
SUPABASE_ENV=development
KMS_ENABLE_LOGGING=true
KMS_RUN_STARTUP_TEST=true
`;

/** The deployment guide's production block, as it stands there. */
const GUIDE_PRODUCTION = `
AWS_REGION=us-east-1
AWS_ROLE_ARN=arn:aws:iam::123456789012:role/parker-flight-supabase-kms-role-production
AWS_EXTERNAL_ID=parker-flight-production-external-id
KMS_GENERAL_ALIAS=alias/parker-flight-general-production
KMS_PII_ALIAS=alias/parker-flight-pii-production
KMS_PAYMENT_ALIAS=alias/parker-flight-payment-production
KMS_FALLBACK_REGIONS=["us-west-2", "eu-west-1"]
NODE_ENV=production
SUPABASE_ENV=production
KMS_ENABLE_LOGGING=false
KMS_ENABLE_METRICS=true
`;

function parseBlock(block: string): Environment {
  return Object.fromEntries(
    [...block.matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]),
  );
}

Deno.test("the guide's .env.local is read once real keys replace its placeholders", () => {
  const config = loadConfig({ ...PLATFORM, ...parseBlock(GUIDE_LOCAL), ...ACCESS_KEY });
  assertEquals(config.environment, "development");
  assertEquals(config.isProduction, false);
  assertEquals(config.runStartupTest, true);
  assertEquals(config.logLevel, "info");
  assertEquals(config.aws?.region, "us-east-1");
  assertEquals(config.aws?.fallbackRegions, ["us-west-2", "eu-west-1"]);
  assertEquals(config.aws?.role, undefined);
  assertEquals(config.aws?.aliases, {
    payment: "alias/parker-flight-payment-production",
    pii: "alias/parker-flight-pii-production",
    general: "alias/parker-flight-general-production",
  });
});

Deno.test("the guide's placeholders are refused by name", () => {
  assertEquals(faultsOf({ ...PLATFORM, ...parseBlock(GUIDE_LOCAL) }), [
    "AWS_ACCESS_KEY_ID must be an AWS access key id: 16 to 128 upper-case letters and digits",
  ]);
});

Deno.test("the guide's production block is read with the caller's key beside its role", () => {
  const production = { ...PLATFORM, ...parseBlock(GUIDE_PRODUCTION) };
  const config = loadConfig({ ...production, ...ACCESS_KEY });
  assertEquals(config.environment, "production");
  assertEquals(config.isProduction, true);
  assertEquals(config.logLevel, "silent");
  assertEquals(config.aws?.role, {
    arn: "arn:aws:iam::123456789012:role/parker-flight-supabase-kms-role-production",
    externalId: "parker-flight-production-external-id",
    sessionName: "supabase-kms",
    durationSeconds: 3600,
  });
  assertEquals(faultsOf(production), [
    "AWS_ACCESS_KEY_ID is required when KMS_PROVIDER is aws",
    "AWS_SECRET_ACCESS_KEY is required when KMS_PROVIDER is aws",
  ]);
});

Deno.test("an empty environment reports all that is missing, together", () => {
  const error = assertThrows(() => loadConfig({}), ConfigError);
  assertEquals(error.faults, [
    "APP_ENVIRONMENT is required always (SUPABASE_ENV or NODE_ENV serve as well)",
    "SUPABASE_URL is required always (set by the platform)",
    "SUPABASE_SECRET_KEYS is required always (set by the platform)",
    "AWS_REGION is required when KMS_PROVIDER is aws",
    "AWS_ACCESS_KEY_ID is required when KMS_PROVIDER is aws",
    "AWS_SECRET_ACCESS_KEY is required when KMS_PROVIDER is aws",
    "KMS_PAYMENT_ALIAS is required when KMS_PROVIDER is aws",
    "KMS_PII_ALIAS is required when KMS_PROVIDER is aws",
    "KMS_GENERAL_ALIAS is required when KMS_PROVIDER is aws",
  ]);
  assertEquals(
    error.message,
    `The configuration has 9 fault(s):\n- ${error.faults.join("\n- ")}`,
  );
});

Deno.test("faults name variables and constraints, and never a value", () => {
  const names = Object.keys(AWS).concat(
    "KMS_PROVIDER",
    "ENCRYPTION_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_EXTERNAL_ID",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ROLE_DURATION_SECONDS",
    "AWS_ACCOUNT_ID",
    "AWS_ENDPOINT_URL",
    "KMS_FALLBACK_REGIONS",
    "KMS_TIMEOUT_MS",
    "KMS_DATA_KEY_TTL_MS",
    "KMS_HEALTH_CACHE_MS",
    "KMS_CONFIG_CACHE_MS",
    "KMS_RUN_STARTUP_TEST",
    "KMS_USER_REVEAL",
    "KMS_CARD_BRANDS",
    "CORS_ALLOWED_ORIGINS",
    "IDEMPOTENCY_RETENTION_HOURS",
    "KMS_ENABLE_LOGGING",
    "LOG_LEVEL",
    "KMS_DEBUG",
    "APP_NAME",
  );
  // A value no constraint and no name has in it, with prefixes that reach the different parsers.
  const value = fc.tuple(
    fc.constantFrom("", "{", "[", '["', '{"k":"', "https://", "http://", "alias/", "arn:aws:iam::"),
    fc.stringMatching(/^[~^!]QZ[0-9a-f]{12}[~^!]$/),
  ).map(([prefix, secret]) => ({ text: prefix + secret, secret }));
  let faulty = 0;
  fc.assert(fc.property(
    fc.dictionary(fc.constantFrom(...names), value, { minKeys: 1, maxKeys: 8 }),
    (given) => {
      const env: Record<string, string | undefined> = { ...AWS };
      for (const [name, { text }] of Object.entries(given)) env[name] = text;
      try {
        loadConfig(env);
      } catch (error) {
        assert(error instanceof ConfigError);
        assertStrictEquals(error.cause, undefined);
        const shown = error.message + error.faults.join() + JSON.stringify(error);
        for (const { secret } of Object.values(given)) assert(!shown.includes(secret), shown);
        for (const fault of error.faults) {
          assert(names.includes(fault.split(" ")[0] ?? ""), fault);
        }
        faulty++;
      }
    },
  ));
  assert(faulty > 50, "the property must meet faults");
});

Deno.test("the configuration is frozen to the bottom", () => {
  const config = loadConfig(AWS);
  for (
    const part of [config, config.aws, config.aws?.aliases, config.supabase, config.cardBrands]
  ) {
    assert(Object.isFrozen(part));
  }
});

Deno.test("APP_ENVIRONMENT, SUPABASE_ENV and NODE_ENV serve in this order", () => {
  const { APP_ENVIRONMENT: _, ...rest } = AWS;
  assertEquals(loadConfig({ ...rest, NODE_ENV: "staging" }).environment, "staging");
  assertEquals(
    loadConfig({ ...rest, NODE_ENV: "production", SUPABASE_ENV: "staging" }).environment,
    "staging",
  );
  assertEquals(
    loadConfig({ ...rest, NODE_ENV: "production", APP_ENVIRONMENT: "staging" }).environment,
    "staging",
  );
  assertEquals(faultsOf({ ...rest, NODE_ENV: "Production" }), [
    "NODE_ENV must be 1 to 32 lower-case letters, digits or hyphens, such as production",
  ]);
});

Deno.test("two names of the environment that disagree are a fault, so that neither guard is passed by", () => {
  assertEquals(faultsOf({ ...ENV, APP_ENVIRONMENT: "development", SUPABASE_ENV: "production" }), [
    "APP_ENVIRONMENT must equal SUPABASE_ENV when both are set",
  ]);
});

Deno.test("a role needs an external id, and an external id a role", () => {
  const role = "arn:aws:iam::123456789012:role/kms";
  assertEquals(faultsOf({ ...AWS, AWS_ROLE_ARN: role }), [
    "AWS_EXTERNAL_ID is required when AWS_ROLE_ARN is set",
  ]);
  assertEquals(faultsOf({ ...AWS, AWS_EXTERNAL_ID: "an-external-id" }), [
    "AWS_ROLE_ARN is required when AWS_EXTERNAL_ID is set",
  ]);
  assertEquals(
    faultsOf({ ...AWS, AWS_ROLE_ARN: "arn:aws:iam::1:user/x", AWS_EXTERNAL_ID: "ab" })[0],
    "AWS_ROLE_ARN must be the ARN of an IAM role",
  );
});

Deno.test("an endpoint is https, but for a loopback address", () => {
  const fault = ["AWS_ENDPOINT_URL must be https, except on a loopback address"];
  for (
    const endpoint of [
      "http://kms.example.com",
      "HTTP://kms.example.com",
      "http://127.0.0.1.example.com",
      "http://localhost.example.com:4566",
      "http://169.254.169.254",
      "http://127.0.0.1@example.com",
    ]
  ) {
    assertEquals(faultsOf({ ...AWS, AWS_ENDPOINT_URL: endpoint }), fault, endpoint);
  }
  for (
    const endpoint of [
      "http://127.0.0.1:4566",
      "http://localhost:4566",
      "http://[::1]:4566",
      "https://kms.example.com",
    ]
  ) {
    assertEquals(loadConfig({ ...AWS, AWS_ENDPOINT_URL: endpoint }).aws?.endpoint, endpoint);
  }
  assertEquals(faultsOf({ ...AWS, AWS_ENDPOINT_URL: "file:///etc/passwd" }), [
    "AWS_ENDPOINT_URL must be an http or https URL",
  ]);
});

Deno.test("fallback regions are regions, each once, without the first", () => {
  const read = (value: string) =>
    loadConfig({ ...AWS, KMS_FALLBACK_REGIONS: value }).aws?.fallbackRegions;
  assertEquals(read("us-west-2, eu-west-1"), ["us-west-2", "eu-west-1"]);
  assertEquals(read("[]"), []);
  const repeated = ["KMS_FALLBACK_REGIONS must not repeat a region or name AWS_REGION"];
  assertEquals(faultsOf({ ...AWS, KMS_FALLBACK_REGIONS: "us-east-1" }), repeated);
  assertEquals(faultsOf({ ...AWS, KMS_FALLBACK_REGIONS: '["us-west-2","us-west-2"]' }), repeated);
  assertEquals(faultsOf({ ...AWS, KMS_FALLBACK_REGIONS: "mars-1x" }), [
    'KMS_FALLBACK_REGIONS must be AWS regions, such as ["us-west-2","eu-west-1"]',
  ]);
  assertEquals(faultsOf({ ...AWS, KMS_FALLBACK_REGIONS: "[1]" }), [
    "KMS_FALLBACK_REGIONS must be a JSON array of strings",
  ]);
});

Deno.test("ENCRYPTION_KEY is 64 hexadecimal digits or a text of 32 bytes and more", () => {
  const key = (value: string) => loadConfig({ ...ENV, ENCRYPTION_KEY: value }).encryptionKey;
  assertEquals(key(ENCRYPTION_KEY)?.length, 32);
  assertEquals(key(ENCRYPTION_KEY)?.[1], 0x11);
  assertEquals(key("z".repeat(32)), new TextEncoder().encode("z".repeat(32)));
  assertEquals(key("é".repeat(16))?.length, 32);
  const hex = ["ENCRYPTION_KEY Invalid key length: expected 32 bytes (64 hexadecimal digits)"];
  for (const length of [1, 32, 62, 63, 65, 128]) {
    assertEquals(faultsOf({ ...ENV, ENCRYPTION_KEY: "a".repeat(length) }), hex, `${length}`);
  }
  assertEquals(faultsOf({ ...ENV, ENCRYPTION_KEY: "z".repeat(31) }), [
    "ENCRYPTION_KEY Invalid key length: expected 32 bytes or more",
  ]);
  const { ENCRYPTION_KEY: _, ...without } = ENV;
  assertEquals(faultsOf(without), ["ENCRYPTION_KEY is required when KMS_PROVIDER is env"]);
});

Deno.test("the env provider is refused in production", () => {
  assertEquals(faultsOf({ ...ENV, APP_ENVIRONMENT: "production" }), [
    "KMS_PROVIDER must not be env in production: the payment class needs a key service",
  ]);
});

Deno.test("numbers stay within their range, flags within true and false", () => {
  for (const value of ["-1", "1.5", "1e3", "0x10", "99", "120001", "9".repeat(16), "NaN"]) {
    assertEquals(faultsOf({ ...AWS, KMS_TIMEOUT_MS: value }), [
      "KMS_TIMEOUT_MS must be a whole number from 100 to 120000",
    ], value);
  }
  assertEquals(loadConfig({ ...AWS, KMS_TIMEOUT_MS: " 100 " }).kmsTimeoutMs, 100);
  assertEquals(faultsOf({ ...AWS, KMS_DEBUG: "1" }), ["KMS_DEBUG must be one of true, false"]);
  assertEquals(loadConfig({ ...AWS, KMS_DEBUG: "true" }).logLevel, "debug");
  assertEquals(loadConfig({ ...AWS, KMS_DEBUG: "true", LOG_LEVEL: "warn" }).logLevel, "warn");
});

Deno.test("key sets are named keys; the legacy single key serves under the name default", () => {
  const { SUPABASE_SECRET_KEYS: _, ...rest } = AWS;
  assertEquals(
    loadConfig({ ...rest, SUPABASE_SERVICE_ROLE_KEY: "legacy" }).supabase.secretKeys,
    { default: "legacy" },
  );
  assertEquals(
    loadConfig({ ...AWS, SUPABASE_SERVICE_ROLE_KEY: "legacy" }).supabase.secretKeys,
    { default: "sb_secret_of-the-tests" },
  );
  for (const value of ["[]", "{}", '"key"', "null", '{"default":""}', '{"default":1}']) {
    assertEquals(faultsOf({ ...AWS, SUPABASE_SECRET_KEYS: value }), [
      "SUPABASE_SECRET_KEYS must be a JSON object of named keys",
    ], value);
  }
  assertEquals(faultsOf({ ...AWS, SUPABASE_SECRET_KEYS: "{" }), [
    "SUPABASE_SECRET_KEYS must be valid JSON",
  ]);
});

Deno.test("user tokens are verified with the inline key set, or with the project's published one", () => {
  assertEquals(loadConfig({ ...AWS, SUPABASE_JWKS: '[{"kty":"oct"}]' }).supabase.jwks, {
    keys: [{ kty: "oct" }],
  });
  const { SUPABASE_JWKS: _, ...rest } = AWS;
  assertEquals(
    String(loadConfig(rest).supabase.jwks),
    "https://project.supabase.example/auth/v1/.well-known/jwks.json",
  );
  assertEquals(faultsOf({ ...AWS, SUPABASE_JWKS: '{"keys":1}' }), [
    "SUPABASE_JWKS must be a JSON Web Key Set",
  ]);
});

Deno.test("card brands and origins are lists of known form", () => {
  assertEquals(loadConfig(AWS).cardBrands, CARD_BRANDS);
  assertEquals(loadConfig(AWS).corsOrigins, ["*"]);
  assertEquals(loadConfig({ ...AWS, KMS_CARD_BRANDS: "visa,amex" }).cardBrands, ["visa", "amex"]);
  assertEquals(faultsOf({ ...AWS, KMS_CARD_BRANDS: "visa,maestro" }), [
    "KMS_CARD_BRANDS must be some of visa, mastercard, amex, discover, diners, jcb, unionpay",
  ]);
  for (
    const origin of ["https://shop.example/", "shop.example", "https://shop.example/path", "null"]
  ) {
    assertEquals(faultsOf({ ...AWS, CORS_ALLOWED_ORIGINS: origin }), [
      "CORS_ALLOWED_ORIGINS must be * or origins such as https://shop.example",
    ], origin);
  }
});

/** The key management guide's variables, each provider's block with real credentials in it. */
const GUIDE_KMS = {
  KMS_KEY_ID: "default",
  KMS_TIMEOUT: "10000",
  KMS_RETRY_ATTEMPTS: "3",
  KMS_CACHE_TTL: "300000",
};

Deno.test("the key management guide's spellings mean what ours mean", () => {
  const config = loadConfig({ ...AWS, ...GUIDE_KMS, KMS_TIMEOUT: "7000", KMS_CACHE_TTL: "1000" });
  assertEquals(
    [config.kmsTimeoutMs, config.dataKeyTtlMs, config.kmsRetryAttempts, config.legacy.keyId],
    [7000, 1000, 3, "default"],
  );
  const both = { ...AWS, ...GUIDE_KMS, KMS_TIMEOUT_MS: "10000", KMS_DATA_KEY_TTL_MS: "300000" };
  assertEquals(loadConfig(both).kmsTimeoutMs, 10_000);
  assertEquals(loadConfig({ ...AWS, KMS_KEY_ID: "fields-v2" }).legacy.keyId, "fields-v2");
  assertEquals(loadConfig(AWS).legacy, { keyId: "default", encryptionKey: undefined });
});

Deno.test("two spellings that disagree are a fault, and so is a bad value under either", () => {
  assertEquals(faultsOf({ ...AWS, KMS_TIMEOUT: "1000", KMS_TIMEOUT_MS: "2000" }), [
    "KMS_TIMEOUT_MS must equal KMS_TIMEOUT when both are set",
  ]);
  assertEquals(faultsOf({ ...AWS, KMS_CACHE_TTL: "0", KMS_DATA_KEY_TTL_MS: "300000" }), [
    "KMS_DATA_KEY_TTL_MS must equal KMS_CACHE_TTL when both are set",
  ]);
  assertEquals(faultsOf({ ...AWS, KMS_TIMEOUT: "10s" }), [
    "KMS_TIMEOUT must be a whole number from 100 to 120000",
  ]);
  assertEquals(faultsOf({ ...AWS, KMS_CACHE_TTL: "3600001" }), [
    "KMS_CACHE_TTL must be a whole number from 0 to 3600000",
  ]);
  for (const id of ["../x", "a b", "", "-a", "x".repeat(65)].filter((id) => id !== "")) {
    assertEquals(faultsOf({ ...AWS, KMS_KEY_ID: id }).length, 1, id);
  }
});

Deno.test("ENCRYPTION_KEY is kept as it was set, for the key that was derived from its text", () => {
  assertEquals(loadConfig(ENV).legacy.encryptionKey, ENCRYPTION_KEY);
});

Deno.test("Vaults that stored settings may name are https addresses", () => {
  const allowed = (text: string) =>
    loadConfig({ ...AWS, VAULT_ALLOWED_ADDRS: text }).vaultAllowedAddresses;
  assertEquals(allowed('["https://v.example:8200/", "https://w.example"]'), [
    "https://v.example:8200",
    "https://w.example",
  ]);
  for (const text of ["http://v.example", "https://", "https://v.example/path", "v.example"]) {
    assertEquals(faultsOf({ ...AWS, VAULT_ALLOWED_ADDRS: text }), [
      "VAULT_ALLOWED_ADDRS must be https addresses such as https://vault.example:8200",
    ], text);
  }
});

Deno.test("stored settings are asked for at least once in five minutes in production", () => {
  assertEquals(loadConfig(AWS).configCacheMs, 60_000);
  const rare = { ...AWS, KMS_CONFIG_CACHE_MS: "300001" };
  assertEquals(loadConfig(rare).configCacheMs, 300_001);
  const error = assertThrows(
    () => loadConfig({ ...rare, APP_ENVIRONMENT: "production" }),
    ConfigError,
  );
  assertEquals(error.faults.map((fault) => fault.split(" ")[0]), ["KMS_CONFIG_CACHE_MS"]);
  loadConfig({ ...AWS, APP_ENVIRONMENT: "production", KMS_CONFIG_CACHE_MS: "300000" });
});
