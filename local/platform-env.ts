import type { LocalAws } from "./aws/mod.ts";
import type { LocalGcp } from "./gcp/mod.ts";
import type { Identity } from "./identity.ts";
import { trustedJwks } from "./signing-keys.ts";
import { legacyKey } from "./tokens.ts";

/** An environment: names to values. */
export type Env = Readonly<Record<string, string>>;

/** The variables the platform itself gives to every function. */
export async function platformEnv(
  { apiUrl, dbUrl, identity }: { apiUrl: string; dbUrl: string; identity: Identity },
): Promise<Env> {
  const { jwtSecret, createdAt, secretKeys } = identity;
  const legacy: Env = identity.legacyKeysEnabled
    ? {
      SUPABASE_ANON_KEY: await legacyKey(jwtSecret, "anon", createdAt),
      SUPABASE_SERVICE_ROLE_KEY: await legacyKey(jwtSecret, "service_role", createdAt),
    }
    : {};
  return {
    SUPABASE_URL: apiUrl,
    SUPABASE_DB_URL: dbUrl,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: identity.publishableKey }),
    SUPABASE_SECRET_KEYS: JSON.stringify(
      Object.fromEntries(secretKeys.map(({ name, key }) => [name, key])),
    ),
    SUPABASE_JWKS: JSON.stringify(trustedJwks(identity.signingKeys)),
    ...legacy,
  };
}

/** The suite's own secrets for the local AWS, as `supabase secrets set` would hold them. */
export function localSecrets(aws: Pick<LocalAws, "endpoint" | "identities">): Env {
  const { caller, role } = aws.identities;
  return {
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: caller.accessKeyId,
    AWS_SECRET_ACCESS_KEY: caller.secretAccessKey,
    AWS_ROLE_ARN: role.arn,
    AWS_EXTERNAL_ID: role.externalId,
    AWS_ENDPOINT_URL: aws.endpoint,
    KMS_PAYMENT_ALIAS: "alias/parker-flight-payment-development",
    KMS_PII_ALIAS: "alias/parker-flight-pii-development",
    KMS_GENERAL_ALIAS: "alias/parker-flight-general-development",
    KMS_FALLBACK_REGIONS: '["us-west-2","eu-west-1"]',
    APP_NAME: "parker-flight",
    APP_ENVIRONMENT: "development",
    KMS_ENABLE_LOGGING: "true",
  };
}

/** Where Google is found, once there are credentials for it. */
export function googleEndpoints({ endpoint }: Pick<LocalGcp, "endpoint">): Env {
  return { GOOGLE_KMS_ENDPOINT: endpoint, GOOGLE_SECRET_MANAGER_ENDPOINT: endpoint };
}

/**
 * What a function gets: the platform's variables, the local AWS, the env file, then `overrides`.
 * An empty value removes a variable. An env file that brings an `AWS_ACCESS_KEY_ID` means another
 * AWS, so none of the local `AWS_*` values are mixed with it, unless `isLocalKey` knows the key: then
 * it has taken the place of the one that was handed out. Google's credentials always mean Google.
 */
export function functionEnvironment(
  platform: Env,
  local: Env,
  file: Env,
  overrides: Env,
  isLocalKey: (accessKeyId: string) => boolean = () => false,
): Env {
  const own = [
    ...meansAnotherAws(file, isLocalKey) ? ["AWS_"] : [],
    ...file.GOOGLE_CREDENTIALS_JSON || file.GOOGLE_ACCESS_TOKEN ? ["GOOGLE_"] : [],
  ];
  const base = Object.fromEntries(
    Object.entries(local).filter(([name]) => !own.some((prefix) => name.startsWith(prefix))),
  );
  return withoutEmpty({ ...platform, ...base, ...file, ...overrides });
}

/** Whether an env file brings the credentials of an AWS that is not the local one. */
export function meansAnotherAws(
  { AWS_ACCESS_KEY_ID: accessKeyId }: Env,
  isLocalKey: (accessKeyId: string) => boolean,
): boolean {
  return Boolean(accessKeyId) && !isLocalKey(accessKeyId ?? "");
}

/** Without the variables whose value is empty. */
export function withoutEmpty(env: Env): Env {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
}
