import { assert, assertEquals } from "@std/assert";
import {
  type Candidate,
  credentialsSet,
  merge,
  type ProviderName,
  putSchema,
  readVariables,
  restore,
  shownSettings,
  testSchema,
  type Variables,
  violationsOf,
} from "../../functions-shared/admin/settings-fields.ts";
import { overlay } from "../../functions-shared/admin/stored-settings.ts";
import { loadConfig } from "../../functions-shared/config.ts";
import { ConfigError, type Environment } from "../../functions-shared/environment.ts";
import { parseInput } from "../../functions-shared/validation.ts";
import { ACCESS_KEY, AWS, ENV, GCP, SERVICE_ACCOUNT, VAULT } from "./support/environment.ts";
import { violationsOf as violationsThrown } from "./support/thrown.ts";

const CREDENTIALS = {
  accessKeyId: "AKIAEXAMPLEEXAMPLE01",
  secretAccessKey: "another-secret-access-key-of-nobody",
};
/** Some workers still write under it. */
const STILL_VAULT = { writing: ["vault"] } as const;
const parse = (body: unknown): Candidate => parseInput(testSchema, body);

function faults(environment: Environment, candidate: Candidate) {
  try {
    overlay(environment, merge({}, candidate));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return violationsOf(error, candidate.provider).map(({ pointer, code }) => `${pointer} ${code}`);
  }
  return [];
}

Deno.test("the guide's request, as the guide has it", () => {
  const candidate = parse({
    provider: "aws",
    keyId: "default",
    region: "us-east-1",
    credentials: CREDENTIALS,
  });
  assertEquals(merge({}, candidate), {
    KMS_PROVIDER: "aws",
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    // The environment's belongs to another access key.
    AWS_SESSION_TOKEN: "",
  });
  assertEquals(overlay(AWS, merge({}, candidate)).aws?.aliases, loadConfig(AWS).aws?.aliases);
});

Deno.test("every field of every provider arrives in the configuration", () => {
  const aws = overlay(
    AWS,
    merge(
      {},
      parse({
        provider: "aws",
        region: "eu-west-1",
        fallback_regions: ["eu-central-1"],
        role_arn: "arn:aws:iam::123456789012:role/suite",
        external_id: "an-external-id",
        account_id: "123456789012",
        aliases: { payment: "alias/p", pii: "alias/i", general: "alias/g" },
        keyrings: { payment: "direct" },
        branch_key_scopes: { pii: "owner" },
        credentials: { ...CREDENTIALS, sessionToken: "a-session-token" },
      }),
    ),
  );
  assertEquals([aws.aws?.region, aws.aws?.fallbackRegions], ["eu-west-1", ["eu-central-1"]]);
  assertEquals(aws.aws?.role?.externalId, "an-external-id");
  assertEquals(aws.aws?.sessionToken, "a-session-token");
  assertEquals(aws.aws?.aliases, { payment: "alias/p", pii: "alias/i", general: "alias/g" });
  assertEquals([aws.keyrings.payment, aws.branchKeyScopes.pii], ["direct", "owner"]);
  const shown = shownSettings(aws);
  assertEquals([shown.region, shown.account_id], ["eu-west-1", "123456789012"]);
  assert(!JSON.stringify(shown).includes("external"), "the external id is as good as a secret");

  const gcp = overlay(
    AWS,
    merge(
      {},
      parse({
        provider: "gcp",
        project: "example-project",
        location: "europe-west1",
        key_ring: "ring",
        keys: { payment: "p" },
        credentials: { service_account: SERVICE_ACCOUNT },
      }),
    ),
  );
  assertEquals(gcp.gcp?.credentials.kind, "service_account");
  assertEquals(shownSettings(gcp), {
    project: "example-project",
    location: "europe-west1",
    key_ring: "ring",
    keys: {
      payment: "p",
      pii: "parker-flight-pii-development",
      general: "parker-flight-general-development",
    },
    keyrings: gcp.keyrings,
    branch_key_scopes: gcp.branchKeyScopes,
  });

  const vault = overlay(
    VAULT,
    merge(
      {},
      parse({
        provider: "vault",
        addr: "https://vault.example.com",
        namespace: "team",
        mount: "transit/suite",
        approle_mount: "roles",
        keyId: "one-key",
        keys: { pii: "another" },
        credentials: { role_id: "role", secret_id: "secret" },
      }),
    ),
  );
  assertEquals(vault.vault?.auth, {
    kind: "approle",
    mount: "roles",
    roleId: "role",
    secretId: "secret",
  });
  assertEquals(vault.vault?.keys, { payment: "one-key", pii: "another", general: "one-key" });
  assertEquals(shownSettings(vault).approle_mount, "roles");

  const env = overlay(
    AWS,
    merge({}, parse({ provider: "env", credentials: { encryption_key: "ab".repeat(32) } })),
  );
  assertEquals([env.provider, env.encryptionKey?.length], ["env", 32]);
});

Deno.test("null takes away what the environment has", () => {
  const environment = {
    ...AWS,
    AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/suite",
    AWS_EXTERNAL_ID: "an-external-id",
    KMS_FALLBACK_REGIONS: "us-west-2",
  };
  const candidate = parse({
    provider: "aws",
    role_arn: null,
    external_id: null,
    fallback_regions: null,
  });
  const { aws } = overlay(environment, merge({}, candidate));
  assertEquals([aws?.role, aws?.fallbackRegions], [undefined, []]);
});

Deno.test("fields are replaced, credentials and other providers stay", () => {
  const first = merge(
    {},
    parse({ provider: "aws", region: "us-east-1", credentials: CREDENTIALS }),
  );
  const vault = merge(
    { ...first, KMS_PII_KEYRING: "direct" },
    parse({
      provider: "vault",
      addr: "https://vault.example.com",
      mount: "a",
      credentials: { token: "hvs.one" },
    }),
  );
  assertEquals(vault.KMS_PROVIDER, "vault");
  assertEquals(vault.AWS_ACCESS_KEY_ID, CREDENTIALS.accessKeyId);
  assertEquals(vault.KMS_PII_KEYRING, undefined);
  const again = merge(vault, parse({ provider: "vault", addr: "https://vault.example.com" }));
  assertEquals([again.VAULT_TOKEN, again.VAULT_TRANSIT_MOUNT], ["hvs.one", undefined]);
  const role = merge(
    again,
    parse({ provider: "vault", credentials: { role_id: "r", secret_id: "s" } }),
  );
  assertEquals([role.VAULT_TOKEN, role.VAULT_ROLE_ID], ["", "r"]);
});

Deno.test("a provider that is removed is not configured any more, by the environment neither", () => {
  const environment = { ...AWS, VAULT_ADDR: "https://vault.example.com", VAULT_TOKEN: "hvs.env" };
  const stored = merge({}, parse({ provider: "aws", remove: ["vault"] }));
  const config = overlay(environment, stored);
  assertEquals([config.vault, config.provider], [undefined, "aws"]);
  const back = merge(stored, parse({ provider: "vault", credentials: { token: "hvs.new" } }));
  assertEquals(overlay(environment, back).vault?.address, "https://vault.example.com");
});

Deno.test("a rollback restores a revision, and keeps what it did not know", () => {
  const older = merge(
    {},
    parse({ provider: "aws", region: "us-east-1", credentials: CREDENTIALS }),
  );
  const newer = merge(
    merge(older, parse({ provider: "aws", region: "eu-west-1", account_id: "123456789012" })),
    parse({ provider: "vault", addr: "https://v.example", credentials: { token: "hvs.one" } }),
  );
  const back = (to: Variables, chosen: ProviderName, removed?: readonly ProviderName[]) =>
    restore(newer, to, chosen, { writing: ["vault"], removed });
  const restored = back(older, "aws");
  assertEquals([restored.KMS_PROVIDER, restored.AWS_REGION], ["aws", "us-east-1"]);
  assertEquals([restored.VAULT_TOKEN, restored.AWS_ACCOUNT_ID], ["hvs.one", undefined]);
  assertEquals(back({}, "aws").KMS_PROVIDER, undefined);
  assertEquals(back({}, "aws").VAULT_TOKEN, "hvs.one");
  assertEquals(back({}, "aws", ["vault"]).VAULT_TOKEN, "");
  assertEquals(back({}, "aws", ["vault"]).VAULT_ADDR, undefined);
  // The environment has values of its own for the provider it chooses, and for no other.
  assertEquals(back({}, "aws").AWS_REGION, undefined);
  assertEquals(back({}, "aws").AWS_ACCESS_KEY_ID, undefined);
  assertEquals(back({}, "vault").AWS_REGION, "eu-west-1");
});

Deno.test("a rollback to before a removal undoes it", () => {
  const vault = parse({
    provider: "vault",
    addr: "https://v.example",
    credentials: { token: "hvs.one" },
  });
  const before = merge({}, vault);
  const after = merge(before, { ...vault, remove: ["aws"] });
  assertEquals(overlay(AWS, after).aws, undefined);
  assertEquals(
    overlay(AWS, restore(after, before, "vault", STILL_VAULT)).aws?.region,
    AWS.AWS_REGION,
  );
  const { provider, vault: reader } = overlay(AWS, restore(after, {}, "aws", STILL_VAULT));
  assertEquals([provider, reader?.address], ["aws", "https://v.example"]);
  assertEquals(
    overlay(AWS, restore(before, after, "vault", STILL_VAULT)).aws,
    undefined,
    "and to after it repeats it",
  );
});

Deno.test("a rollback to where the present provider was removed keeps it as a reader, as it is", () => {
  const [one, other] = ["one", "other"].map((token) =>
    parse({ provider: "vault", addr: "https://v.example", mount: token, credentials: { token } })
  ) as [Candidate, Candidate];
  const aws = parse({ provider: "aws", region: "eu-west-1", credentials: CREDENTIALS });
  const withoutVault = merge({}, { ...aws, remove: ["vault"] });
  // Stored credentials, whether the older revision unsets them or has others.
  for (const older of [withoutVault, merge(merge({}, other), aws)]) {
    const restored = restore(merge(older, one), older, "aws", STILL_VAULT);
    const { provider, vault } = overlay(AWS, restored);
    assertEquals([provider, vault?.mount, restored.VAULT_TOKEN], ["aws", "one", "one"]);
  }
  // The environment's.
  const environment = { ...VAULT, ...AWS };
  const fromEnvironment = merge(withoutVault, parse({ provider: "vault" }));
  const cleared = Object.entries(fromEnvironment).filter(([name]) => !name.startsWith("VAULT_"));
  const restored = restore(Object.fromEntries(cleared), withoutVault, "aws", STILL_VAULT);
  assertEquals(overlay(environment, restored).vault?.address, VAULT.VAULT_ADDR);
  assertEquals(restored.VAULT_TOKEN, undefined);
  // One that wrapped new keys a moment ago, and is a reader now.
  const moments = restore(merge(merge(withoutVault, one), aws), withoutVault, "aws", {
    writing: ["aws", "vault"],
  });
  assertEquals(overlay(AWS, moments).vault?.mount, "one");
  // As its own provider the older revision knows it better.
  const own = restore(merge({}, one), merge({}, other), "vault", STILL_VAULT);
  assertEquals(own.VAULT_TOKEN, "other");
  // Later it goes, as it went then.
  const later = restore(merge(merge(withoutVault, one), aws), withoutVault, "aws", {
    writing: ["aws"],
  });
  assertEquals(overlay(environment, later).vault, undefined);
});

Deno.test("faults of the one validator come back at the fields they are about", () => {
  assertEquals(
    faults(AWS, parse({ provider: "aws", region: "nowhere", aliases: { pii: "x" } })),
    ["/region invalid_value", "/aliases/pii invalid_value"],
  );
  assertEquals(
    faults(AWS, parse({ provider: "vault", credentials: { role_id: "x" } })),
    ["/addr missing_field", "/credentials/secret_id missing_field"],
  );
  assertEquals(faults(AWS, parse({ provider: "gcp" })), [
    "/project missing_field",
    "/credentials/service_account missing_field",
  ]);
  assertEquals(
    faults({ ...ENV, APP_ENVIRONMENT: "production" }, parse({ provider: "env" })),
    ["/provider invalid_value"],
  );
  assertEquals(
    faults(AWS, parse({ provider: "aws", role_arn: "arn:aws:iam::123456789012:role/x" })),
    ["/external_id missing_field"],
  );
});

Deno.test("a fault says the constraint and never the value", () => {
  const canary = "canary-value-of-nobody";
  const environment = {
    ...AWS,
    GOOGLE_CLOUD_PROJECT: "example-project",
    VAULT_ADDR: "https://v.example",
  };
  for (
    const body of [
      { provider: "aws", region: canary, credentials: { accessKeyId: canary } },
      { provider: "gcp", credentials: { service_account: { type: canary, private_key: canary } } },
      { provider: "vault", credentials: { token: `${canary} ` + " x" } },
      { provider: "env", credentials: { encryption_key: canary } },
    ]
  ) {
    const candidate = parse(body);
    try {
      overlay(environment, merge({}, candidate));
      throw new Error("it has no fault");
    } catch (error) {
      assert(error instanceof ConfigError, String(error));
      const shown = JSON.stringify(violationsOf(error, candidate.provider));
      assert(shown.length > 10 && !shown.includes(canary), shown);
    }
  }
});

Deno.test("what may not be set is refused by name", async () => {
  const refused = (body: unknown) => violationsThrown(() => parseInput(putSchema, body));
  assertEquals(await refused({}), ["/provider missing_field"]);
  assertEquals(await refused({ provider: "azure" }), ["/provider unknown_value"]);
  for (const name of ["app_name", "environment", "APP_NAME", "endpoint", "addr", "timeout_ms"]) {
    assertEquals(await refused({ provider: "aws", [name]: "x" }), [`/${name} unknown_field`]);
  }
  assertEquals(await refused({ provider: "aws", credentials: { token: "x" } }), [
    "/credentials/token unknown_field",
  ]);
  assertEquals(await refused({ provider: "aws", region: 1 }), ["/region wrong_type"]);
  assertEquals(await refused({ provider: "aws", region: "x".repeat(5000) }), [
    "/region invalid_length",
  ]);
  assertEquals(await refused({ provider: "aws", revision: 1.5 }), ["/revision out_of_range"]);
  assertEquals(await refused({ provider: "aws", reason: "4242 4242 4242 4242" }), [
    "/reason card_number_in_text",
  ]);
});

Deno.test("sealed settings that are not what was ever sealed are refused without a word of them", () => {
  assertEquals(readVariables('{"AWS_REGION":"x"}'), { AWS_REGION: "x" });
  for (
    const bad of ["", "[]x", '{"APP_NAME":"x"}', '{"AWS_REGION":1}', "null", '"AWS_REGION"', "{"]
  ) {
    try {
      readVariables(bad);
      throw new Error(`it accepts ${bad}`);
    } catch (error) {
      assert(error instanceof ConfigError, String(error));
      assertEquals(error.faults, ["The stored settings hold what this version does not know"]);
    }
  }
});

Deno.test("credentials are shown by name alone", () => {
  assertEquals(credentialsSet("aws", { ...ACCESS_KEY, AWS_EXTERNAL_ID: "x" }), [
    "accessKeyId",
    "secretAccessKey",
    "external_id",
  ]);
  assertEquals(credentialsSet("gcp", GCP), ["service_account"]);
  assertEquals(credentialsSet("vault", { ...VAULT, VAULT_TOKEN: " " }), []);
});
