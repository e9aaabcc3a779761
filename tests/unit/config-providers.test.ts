import { assert, assertEquals, assertThrows } from "@std/assert";
import { withCredentialsFile } from "../../functions-shared/config-gcp.ts";
import { loadConfig } from "../../functions-shared/config.ts";
import { ConfigError, type Environment } from "../../functions-shared/environment.ts";
import { ACCESS_KEY, AWS, ENV, GCP, SERVICE_ACCOUNT, VAULT } from "./support/environment.ts";

function faultsOf(env: Environment): readonly string[] {
  return assertThrows(() => loadConfig(env), ConfigError).faults;
}

const without = (env: Environment, ...names: string[]): Environment =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));

const DEFAULT_KEYS = {
  payment: "parker-flight-payment-development",
  pii: "parker-flight-pii-development",
  general: "parker-flight-general-development",
};

Deno.test("gcp: project and credentials suffice; names come from application, class and environment", () => {
  assertEquals(loadConfig(GCP).gcp, {
    project: "example-project",
    location: "global",
    keyRing: "parker-flight",
    keys: DEFAULT_KEYS,
    endpoint: "https://cloudkms.googleapis.com",
    secretManagerEndpoint: "https://secretmanager.googleapis.com",
    credentials: {
      kind: "service_account",
      clientEmail: SERVICE_ACCOUNT.client_email,
      privateKey: SERVICE_ACCOUNT.private_key,
      privateKeyId: "0123",
      tokenUri: "https://oauth2.googleapis.com/token",
    },
  });
  const named = loadConfig({ ...GCP, GOOGLE_KMS_PII_KEY: "other", GOOGLE_KMS_KEY_RING: "ring" });
  assertEquals([named.gcp?.keys.pii, named.gcp?.keyRing], ["other", "ring"]);
});

Deno.test("gcp: what is missing is reported together", () => {
  assertEquals(faultsOf(without(GCP, "GOOGLE_CLOUD_PROJECT", "GOOGLE_CREDENTIALS_JSON")), [
    "GOOGLE_CLOUD_PROJECT is required when KMS_PROVIDER is gcp",
    "GOOGLE_CREDENTIALS_JSON or GOOGLE_ACCESS_TOKEN is required when KMS_PROVIDER is gcp",
  ]);
});

Deno.test("gcp: a credentials file is refused with what to do instead, unless it is not needed", () => {
  const path = { GOOGLE_APPLICATION_CREDENTIALS: "/path/to/service-account-key.json" };
  assertEquals(faultsOf({ ...without(GCP, "GOOGLE_CREDENTIALS_JSON"), ...path }), [
    "GOOGLE_APPLICATION_CREDENTIALS cannot be used: an edge function has no files. " +
    "Put the file's content into GOOGLE_CREDENTIALS_JSON",
  ]);
  assertEquals(loadConfig({ ...GCP, ...path }).provider, "gcp");
});

Deno.test("gcp: a command line reads the credentials file in", () => {
  const path = "/path/to/service-account-key.json";
  const env = { ...without(GCP, "GOOGLE_CREDENTIALS_JSON"), GOOGLE_APPLICATION_CREDENTIALS: path };
  const read: string[] = [];
  const readTextFile = (name: string) => {
    read.push(name);
    return JSON.stringify(SERVICE_ACCOUNT);
  };
  const { credentials } = loadConfig(withCredentialsFile(env, readTextFile)).gcp ?? {};
  assertEquals([credentials?.kind, read], ["service_account", [path]]);
  // Not when there are others, nor without a path.
  const others = { ...GCP, GOOGLE_APPLICATION_CREDENTIALS: path };
  assertEquals(withCredentialsFile(others, readTextFile), others);
  const token = { ...env, GOOGLE_ACCESS_TOKEN: "ya29.of-nobody-at-all" };
  assertEquals(withCredentialsFile(token, readTextFile), token);
  assertEquals(withCredentialsFile(AWS, readTextFile), AWS);
  assertEquals(read, [path]);
});

Deno.test("gcp: credentials that are no service account's key are refused without being shown", () => {
  const cases: readonly [unknown, string][] = [
    [{}, "must be the JSON key of a service account"],
    [[], "must be the JSON key of a service account"],
    [{ ...SERVICE_ACCOUNT, type: "authorized_user" }, "must be the JSON key of a service account"],
    [
      { ...SERVICE_ACCOUNT, private_key: "SECRET" },
      "must hold the private_key of the service account in PEM (PKCS #8)",
    ],
    [
      { ...SERVICE_ACCOUNT, token_uri: "http://metadata.google.internal/token" },
      "must have a token_uri that is https, except on a loopback address",
    ],
  ];
  for (const [json, fault] of cases) {
    const env = { ...GCP, GOOGLE_CREDENTIALS_JSON: JSON.stringify(json) };
    assertEquals(faultsOf(env), [`GOOGLE_CREDENTIALS_JSON ${fault}`]);
  }
  assertEquals(faultsOf({ ...GCP, GOOGLE_CREDENTIALS_JSON: "{SECRET" }), [
    "GOOGLE_CREDENTIALS_JSON must be valid JSON",
  ]);
});

Deno.test("gcp: an application's name that cannot be a key's asks for names", () => {
  assertEquals(
    faultsOf({ ...GCP, APP_NAME: "parker.flight" }).map((fault) => fault.split(" ")[0]),
    [
      "GOOGLE_KMS_KEY_RING",
      "GOOGLE_KMS_PAYMENT_KEY",
      "GOOGLE_KMS_PII_KEY",
      "GOOGLE_KMS_GENERAL_KEY",
    ],
  );
});

Deno.test("vault: address and token suffice, or an AppRole; slashes around paths do not matter", () => {
  assertEquals(loadConfig(VAULT).vault, {
    address: "https://vault.example.com:8200",
    namespace: undefined,
    mount: "transit",
    keys: DEFAULT_KEYS,
    auth: { kind: "token", token: "hvs.of-nobody" },
  });
  const role = { VAULT_ROLE_ID: "role", VAULT_SECRET_ID: "secret" };
  const paths = { VAULT_NAMESPACE: "team/eu/", VAULT_TRANSIT_MOUNT: "/keys/transit/" };
  const config = loadConfig({ ...without(VAULT, "VAULT_TOKEN"), ...role, ...paths }).vault;
  assertEquals([config?.namespace, config?.mount], ["team/eu", "keys/transit"]);
  const auth = { kind: "approle", mount: "approle", roleId: "role", secretId: "secret" } as const;
  assertEquals(config?.auth, auth);
});

Deno.test("vault: what is missing or contradicts itself", () => {
  assertEquals(faultsOf(without(VAULT, "VAULT_ADDR", "VAULT_TOKEN")), [
    "VAULT_ADDR is required when KMS_PROVIDER is vault",
    "VAULT_TOKEN or VAULT_ROLE_ID with VAULT_SECRET_ID is required when KMS_PROVIDER is vault",
  ]);
  assertEquals(faultsOf({ ...VAULT, VAULT_ROLE_ID: "role" }), [
    "VAULT_SECRET_ID is required when VAULT_ROLE_ID is set",
    "VAULT_TOKEN must not be set beside VAULT_ROLE_ID: it would not be used",
  ]);
  assertEquals(faultsOf({ ...VAULT, VAULT_ADDR: "http://vault.example.com" }), [
    "VAULT_ADDR must be https, except on a loopback address",
  ]);
  for (const path of ["../sys", "a b", "a?b", "a%2e"]) {
    assertEquals(faultsOf({ ...VAULT, VAULT_TRANSIT_MOUNT: path }), [
      "VAULT_TRANSIT_MOUNT must be names of letters, digits, underscores or hyphens between slashes",
    ]);
  }
});

Deno.test("an unknown provider is refused", () => {
  assertEquals(faultsOf({ ...AWS, KMS_PROVIDER: "azure" }), [
    "KMS_PROVIDER must be one of aws, gcp, vault, env",
  ]);
});

Deno.test("providers beside the chosen one are read when their credentials are there, and then whole", () => {
  const all = { ...AWS, ...GCP, ...VAULT, ...ENV };
  for (const provider of ["aws", "gcp", "vault", "env"]) {
    const config = loadConfig({ ...all, KMS_PROVIDER: provider });
    assertEquals(config.provider, provider);
    assert(config.aws && config.gcp && config.vault && config.encryptionKey);
  }
  const alone = loadConfig(VAULT);
  assertEquals([alone.aws, alone.gcp, alone.encryptionKey], [undefined, undefined, undefined]);
  const { AWS_ACCESS_KEY_ID } = ACCESS_KEY;
  assertEquals(
    faultsOf({ ...VAULT, AWS_ACCESS_KEY_ID })[0],
    "AWS_REGION is required when AWS_ACCESS_KEY_ID is set",
  );
});
