/** `kms doctor` about key services that the embedded stack has not: other roles, other services, other faults. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { checkAwsSession } from "../../cli/doctor/aws-session.ts";
import { checkKeyServices } from "../../cli/doctor/key-services.ts";
import { checkAwsKeys } from "../../cli/doctor/aws-keys.ts";
import { Report } from "../../cli/doctor/report.ts";
import { type LocalAws, seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import { localSecrets } from "../../local/platform-env.ts";
import { startLocalVault } from "../../local/vault/mod.ts";
import { byStatus, configOf } from "./doctor-support.ts";

async function withAws(test: (aws: LocalAws) => Promise<void>): Promise<void> {
  const aws = await startLocalAws({
    roles: [{
      name: "careless",
      trustPolicy: {
        Version: "2012-10-17",
        Statement: [{ Effect: "Allow", Principal: { AWS: "*" }, Action: "sts:AssumeRole" }],
      },
      policies: [{
        Version: "2012-10-17",
        Statement: [{ Effect: "Allow", Action: "kms:DescribeKey", Resource: "*" }],
      }],
    }],
  });
  try {
    await seedKeys(aws, { application: "parker-flight", environment: "development" });
    await test(aws);
  } finally {
    await aws.close();
  }
}

Deno.test("aws: a role that needs no external id, a caller that may do everything", () =>
  withAws(async (aws) => {
    const { operator } = aws.identities;
    const config = configOf({
      ...localSecrets(aws),
      AWS_ACCESS_KEY_ID: operator.accessKeyId,
      AWS_SECRET_ACCESS_KEY: operator.secretAccessKey,
      AWS_ROLE_ARN: `arn:aws:iam::${aws.accountId}:role/careless`,
    });
    const report = new Report();
    assert(config.aws !== undefined);
    const session = await checkAwsSession(report, config, config.aws);
    assert(session !== undefined);
    assertEquals(byStatus(report), {
      pass: ["aws.clock", "aws.credentials", "aws.role"],
      warn: ["aws.external_id", "aws.caller"],
      fail: [],
    });
  }));

/** The line `aws.caller`, with further statements in the policy of the key `pii` in eu-west-1. */
async function callerLine(aws: LocalAws, statements: readonly unknown[] = [], changes = {}) {
  const KeyId = "alias/parker-flight-pii-development";
  const { KeyMetadata } = await aws.asOperator("eu-west-1", "DescribeKey", { KeyId });
  const AWS = `arn:aws:iam::${aws.accountId}:root`;
  await aws.asOperator("eu-west-1", "PutKeyPolicy", {
    KeyId: (KeyMetadata as { KeyId: string }).KeyId,
    Policy: JSON.stringify({
      Version: "2012-10-17",
      Statement: [
        { Effect: "Allow", Principal: { AWS }, Action: "kms:*", Resource: "*" },
        ...statements,
      ],
    }),
  });
  const report = new Report();
  const config = configOf({ ...localSecrets(aws), ...changes });
  assert(config.aws !== undefined);
  await checkAwsSession(report, config, config.aws);
  const line = report.lines.find(({ check }) => check === "aws.caller");
  return [line?.status, line?.message, line?.next] as const;
}

Deno.test("aws: one permission of the access key, on one key, in one region, is found", () =>
  withAws(async (aws) => {
    const allow = (Action: string) => ({
      ...{ Effect: "Allow", Action, Resource: "*" },
      Principal: { AWS: `arn:aws:iam::${aws.accountId}:user/parker-flight-caller` },
      // As a policy for the functions would have it.
      Condition: Action === "kms:DescribeKey" ? {} : {
        StringEquals: { "kms:EncryptionContext:environment": "development" },
      },
    });
    for (
      const operation of [
        "DescribeKey",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "Encrypt",
        "Decrypt",
      ]
    ) {
      const [status, message] = await callerLine(aws, [allow(`kms:${operation}`)]);
      assertEquals(
        [status, message],
        [
          "warn",
          `the access key may call KMS without the role: ${operation} with the key of pii in eu-west-1`,
        ],
      );
    }
    aws.resetCalls();
    const [status, message] = await callerLine(aws, [allow("kms:PutKeyPolicy")]);
    assertEquals([status, message], ["pass", "the access key alone may not call KMS"]);
    const mine = aws.calls().filter(({ accessKeyId, service }) =>
      service === "kms" && accessKeyId === aws.identities.caller.accessKeyId
    );
    assertEquals([mine.length, mine.filter((call) => call.status === 200)], [5 * 3 * 3, []]);
  }));

Deno.test("aws: what of the access key cannot be tried is said", () =>
  withAws(async (aws) => {
    const untried = "the access key alone is refused, but for Decrypt, which could not be tried";
    const stranger = await callerLine(aws, [], { AWS_EXTERNAL_ID: "another-external-id" });
    assertEquals(stranger, ["warn", untried, "mend aws.role first"]);
    const deny = {
      ...{ Effect: "Deny", Action: "kms:GenerateDataKeyWithoutPlaintext", Resource: "*" },
      Principal: { AWS: aws.identities.role.arn },
    };
    assertEquals(await callerLine(aws, [deny]), ["warn", untried, "mend aws.use.pii first"]);
    aws.faults.set([{ service: "kms", region: "eu-west-1", effect: { kind: "refuse" } }]);
    const report = new Report();
    const config = configOf(localSecrets(aws));
    assert(config.aws !== undefined);
    await checkAwsSession(report, config, config.aws);
    const silent = report.lines.find(({ check }) => check === "aws.caller");
    assertMatch(silent?.message ?? "", /^KMS in eu-west-1 did not say whether the access key may/);
  }));

Deno.test("aws: no role at all is a warning", () =>
  withAws(async (aws) => {
    const config = configOf({ ...localSecrets(aws), AWS_ROLE_ARN: "", AWS_EXTERNAL_ID: "" });
    const report = new Report();
    assert(config.aws !== undefined);
    assert(await checkAwsSession(report, config, config.aws) !== undefined);
    assertEquals(byStatus(report).warn, ["aws.role"]);
  }));

Deno.test("aws: a role that may look at keys but not use them; rotation off; a dead region", () =>
  withAws(async (aws) => {
    const config = configOf({
      ...localSecrets(aws),
      AWS_ROLE_ARN: `arn:aws:iam::${aws.accountId}:role/careless`,
    });
    assert(config.aws !== undefined);
    const session = await checkAwsSession(new Report(), config, config.aws);
    assert(session !== undefined);
    const looking = new Report();
    await checkAwsKeys(looking, config, config.aws, session);
    const perClass = (what: string) => ["payment", "pii", "general"].map((c) => `aws.${what}.${c}`);
    assertEquals(byStatus(looking).fail, perClass("use"));
    assertEquals(byStatus(looking).warn, perClass("rotation"), "it may not read the status");
    assertMatch(looking.lines.at(-1)?.next ?? "", /the role needs kms:GenerateDataKey/);

    const well = configOf(localSecrets(aws));
    assert(well.aws !== undefined);
    const entitled = await checkAwsSession(new Report(), well, well.aws);
    assert(entitled !== undefined);
    const alias = "alias/parker-flight-pii-development";
    const { KeyMetadata } = await aws.asOperator("us-east-1", "DescribeKey", { KeyId: alias });
    const { KeyId } = KeyMetadata as { KeyId: string };
    await aws.asOperator("us-east-1", "DisableKeyRotation", { KeyId });
    aws.faults.set([{ service: "kms", region: "eu-west-1", effect: { kind: "refuse" } }]);
    const report = new Report();
    await checkAwsKeys(report, well, well.aws, entitled);
    assertEquals(byStatus(report).fail, perClass("alias"));
    assertEquals(
      byStatus(report).warn?.toSorted(),
      [...perClass("use"), "aws.rotation.pii"].toSorted(),
    );
    for (const line of report.lines.filter(({ status }) => status === "fail")) {
      assertMatch(line.message, /cannot be described in eu-west-1/);
      assertMatch(line.next ?? "", /reached/);
    }
  }));

Deno.test("gcp: credentials, states and use; a disabled version and missing permissions", async () => {
  const gcp = await startLocalGcp();
  try {
    for (const name of ["payment", "pii", "general"]) {
      gcp.createKey(`parker-flight-${name}-development`);
    }
    const env = {
      KMS_PROVIDER: "gcp",
      GOOGLE_CLOUD_PROJECT: gcp.project,
      GOOGLE_KMS_LOCATION: gcp.location,
      GOOGLE_KMS_KEY_RING: gcp.keyRing,
      GOOGLE_KMS_ENDPOINT: gcp.endpoint,
      GOOGLE_CREDENTIALS_JSON: gcp.credentialsJson,
    };
    const checked = async (variables: Record<string, string>) => {
      const report = new Report();
      await checkKeyServices(() => report, configOf(variables));
      return report;
    };
    const well = byStatus(await checked(env));
    assertEquals([well.warn, well.fail, well.pass?.length], [[], [], 7]);

    gcp.setState("parker-flight-pii-development", 1, "DISABLED");
    const disabled = await checked(env);
    assertEquals(byStatus(disabled).fail, ["gcp.state.pii"]);
    assertEquals(byStatus(disabled).warn, ["gcp.use.pii"]);
    gcp.setState("parker-flight-pii-development", 1, "ENABLED");

    gcp.setPermissions(["cloudkms.cryptoKeys.get"]);
    const denied = await checked(env);
    assertEquals(byStatus(denied).fail, ["payment", "pii", "general"].map((c) => `gcp.use.${c}`));
    assertMatch(denied.lines.at(-1)?.next ?? "", /cryptoKeyEncrypterDecrypter/);
  } finally {
    await gcp.close();
  }
});

Deno.test("vault: states and use; a missing key, a sealed Vault; env beside it", async () => {
  const vault = await startLocalVault();
  try {
    for (const name of ["payment", "general"]) {
      vault.createKey(`parker-flight-${name}-development`);
    }
    const env = {
      KMS_PROVIDER: "vault",
      VAULT_ADDR: vault.endpoint,
      VAULT_ROLE_ID: vault.roleId,
      VAULT_SECRET_ID: vault.secretId,
      ENCRYPTION_KEY: "0011223344556677".repeat(4),
    };
    const report = new Report();
    await checkKeyServices(() => report, configOf(env));
    assertEquals(byStatus(report).fail, ["vault.state.pii"]);
    assertEquals(byStatus(report).warn, ["vault.use.pii"]);
    assert(!vault.keyExists("parker-flight-pii-development"), "looking makes no key");
    assertEquals(
      byStatus(report).pass?.filter((check) => check.startsWith("env.")).length,
      6,
      "those that only read are checked as well",
    );

    vault.setSealed(true);
    const sealed = new Report();
    await checkKeyServices(() => sealed, configOf(env));
    assertEquals(
      byStatus(sealed).fail,
      ["payment", "pii", "general"].map((c) => `vault.state.${c}`),
    );
    assertMatch(sealed.lines.at(-1)?.check ?? "", /^env\.use/);
    assert(!JSON.stringify([...report.lines, ...sealed.lines]).includes(vault.secretId));
  } finally {
    await vault.close();
  }
});
