/** Environments for tests: what the platform gives, and a complete set of own secrets. */
import type { Environment } from "../../../functions-shared/environment.ts";

export const PLATFORM: Environment = {
  SUPABASE_URL: "https://project.supabase.example",
  SUPABASE_SECRET_KEYS: '{"default":"sb_secret_of-the-tests"}',
  SUPABASE_PUBLISHABLE_KEYS: '{"default":"sb_publishable_of-the-tests"}',
  SUPABASE_JWKS: '{"keys":[]}',
};

/** Access keys of nobody. */
export const ACCESS_KEY: Environment = {
  AWS_ACCESS_KEY_ID: "AKIAEXAMPLEEXAMPLE00",
  AWS_SECRET_ACCESS_KEY: "example-secret-access-key-of-nobody",
};

export const AWS: Environment = {
  ...PLATFORM,
  ...ACCESS_KEY,
  APP_ENVIRONMENT: "development",
  AWS_REGION: "us-east-1",
  KMS_PAYMENT_ALIAS: "alias/parker-flight-payment-development",
  KMS_PII_ALIAS: "alias/parker-flight-pii-development",
  KMS_GENERAL_ALIAS: "alias/parker-flight-general-development",
};

/** 64 hexadecimal digits. */
export const ENCRYPTION_KEY = "00112233445566778899aabbccddeeff".repeat(2);

export const ENV: Environment = {
  ...PLATFORM,
  APP_ENVIRONMENT: "development",
  KMS_PROVIDER: "env",
  ENCRYPTION_KEY,
};

/** A PEM in form; no key is in it. */
const fence = (word: string) => `-----${word} PRIVATE KEY-----`;
export const PEM = `${fence("BEGIN")}\nAAAA\n${fence("END")}\n`;

export const SERVICE_ACCOUNT = {
  type: "service_account",
  client_email: "suite@example-project.iam.gserviceaccount.com",
  private_key_id: "0123",
  private_key: PEM,
  token_uri: "https://oauth2.googleapis.com/token",
};

export const GCP: Environment = {
  ...PLATFORM,
  APP_ENVIRONMENT: "development",
  KMS_PROVIDER: "gcp",
  GOOGLE_CLOUD_PROJECT: "example-project",
  GOOGLE_CREDENTIALS_JSON: JSON.stringify(SERVICE_ACCOUNT),
};

export const VAULT: Environment = {
  ...PLATFORM,
  APP_ENVIRONMENT: "development",
  KMS_PROVIDER: "vault",
  VAULT_ADDR: "https://vault.example.com:8200",
  VAULT_TOKEN: "hvs.of-nobody",
};
