/**
 * The local AWS driven by AWS's own command line. Run by `deno task test:aws-cli`; fails, rather
 * than passes by doing nothing, where `aws` is not installed.
 */

import { assertArrayIncludes, assertEquals, assertMatch } from "@std/assert";
import { cloudWatchSink } from "../../functions-shared/keys/providers/aws/cloudwatch.ts";
import { BufferedMetrics } from "../../functions-shared/telemetry/metrics.ts";
import { type LocalAws, seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import { requireAws } from "../support/aws-command.ts";

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

class CommandLine {
  readonly #aws: LocalAws;
  readonly #folder: string;

  constructor(aws: LocalAws, folder: string) {
    this.#aws = aws;
    this.#folder = folder;
  }

  /** Nothing of the machine's own configuration gets in: home is an empty folder. */
  async run(
    args: readonly string[],
    { credentials = this.#aws.identities.operator, region = "us-east-1" }: {
      credentials?: Credentials;
      region?: string;
    } = {},
  ): Promise<Outcome> {
    const output = await new Deno.Command("aws", {
      args: [...args, "--endpoint-url", this.#aws.endpoint, "--region", region],
      clearEnv: true,
      env: {
        ...toolchain(),
        HOME: this.#folder,
        AWS_ACCESS_KEY_ID: credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
        ...(credentials.sessionToken === undefined
          ? {}
          : { AWS_SESSION_TOKEN: credentials.sessionToken }),
        AWS_MAX_ATTEMPTS: "1",
        AWS_EC2_METADATA_DISABLED: "true",
        AWS_DEFAULT_OUTPUT: "json",
      },
      stdout: "piped",
      stderr: "piped",
    }).output();
    const decoder = new TextDecoder();
    return {
      code: output.code,
      stdout: decoder.decode(output.stdout).trim(),
      stderr: decoder.decode(output.stderr).trim(),
    };
  }

  /** The answer of a command that must succeed. */
  async json<T>(args: readonly string[], options?: Parameters<CommandLine["run"]>[1]): Promise<T> {
    const outcome = await this.run(args, options);
    assertEquals({ ...outcome, stdout: "" }, { code: 0, stdout: "", stderr: "" });
    return outcome.stdout === "" ? {} as T : JSON.parse(outcome.stdout);
  }

  /** Asserts the line that `aws` prints for an error of the service, exactly. */
  async refused(
    args: readonly string[],
    error: string,
    operation: string,
    message: string,
    options?: Parameters<CommandLine["run"]>[1],
  ): Promise<void> {
    const { code, stderr } = await this.run(args, options);
    const line = `An error occurred (${error}) when calling the ${operation} operation: ${message}`;
    // What versions put around it: all are told not to retry, and some say so.
    const told = stderr.replace(/^aws: \[ERROR\]: /, "").replace(" (reached max retries: 0)", "");
    assertEquals(told, line.trim());
    // Version 1 exits with 255, version 2 with 254.
    assertArrayIncludes([254, 255], [code]);
  }

  async file(name: string, bytes: Uint8Array): Promise<string> {
    const path = `${this.#folder}/${name}`;
    await Deno.writeFile(path, bytes);
    return path;
  }
}

/** What the command needs to start, and nothing that configures it. */
function toolchain(): Record<string, string> {
  const names = ["PATH", "PYENV_ROOT", "PYENV_VERSION", "LANG"];
  const home = Deno.env.get("HOME");
  const found = names.map((name) => [name, Deno.env.get(name)]).filter(([, value]) => value);
  // pyenv looks for its versions under the home folder, which is not the one given to the command.
  const pyenv = Deno.env.get("PYENV_ROOT") ?? (home === undefined ? undefined : `${home}/.pyenv`);
  return { ...Object.fromEntries(found), ...(pyenv === undefined ? {} : { PYENV_ROOT: pyenv }) };
}

Deno.test("the aws command line", async (t) => {
  await requireAws();
  const folder = await Deno.makeTempDir({ prefix: "aws-cli-" });
  const aws = await startLocalAws();
  try {
    await contract(t, aws, new CommandLine(aws, folder));
  } finally {
    await aws.close();
    await Deno.remove(folder, { recursive: true });
  }
});

async function contract(t: Deno.TestContext, aws: LocalAws, cli: CommandLine): Promise<void> {
  const account = aws.accountId;
  let keyId = "";

  await t.step("sts get-caller-identity", async () => {
    const identity = await cli.json<Record<string, string>>(["sts", "get-caller-identity"]);
    assertEquals(identity.Account, account);
    assertEquals(identity.Arn, `arn:aws:iam::${account}:user/operator`);
  });

  await t.step("kms create-key, create-alias, list-aliases", async () => {
    const { KeyMetadata } = await cli.json<{ KeyMetadata: Record<string, string> }>([
      "kms",
      "create-key",
      "--description",
      "made by the command line",
      "--tags",
      "TagKey=team,TagValue=payments",
    ]);
    keyId = KeyMetadata.KeyId ?? "";
    assertEquals(KeyMetadata.Arn, `arn:aws:kms:us-east-1:${account}:key/${keyId}`);
    // Version 1 prints times as seconds, version 2 as dates.
    assertMatch(String(KeyMetadata.CreationDate), /^(20\d\d-|\d{10}\.)/);
    await cli.json(["kms", "create-alias", "--alias-name", "alias/cli", "--target-key-id", keyId]);
    const { Aliases } = await cli.json<{ Aliases: { AliasName: string; TargetKeyId: string }[] }>(
      ["kms", "list-aliases"],
    );
    assertEquals(Aliases.map((alias) => [alias.AliasName, alias.TargetKeyId]), [
      ["alias/cli", keyId],
    ]);
  });

  await t.step("kms encrypt and decrypt with a context, whose order is free", async () => {
    const secret = await cli.file("secret", new TextEncoder().encode("attack at dawn"));
    const { CiphertextBlob } = await cli.json<{ CiphertextBlob: string }>([
      "kms",
      "encrypt",
      "--key-id",
      "alias/cli",
      "--plaintext",
      `fileb://${secret}`,
      "--encryption-context",
      "owner=42,table=cards",
    ]);
    const blob = await cli.file(
      "blob",
      Uint8Array.from(atob(CiphertextBlob), (c) => c.charCodeAt(0)),
    );
    const decrypt = ["kms", "decrypt", "--ciphertext-blob", `fileb://${blob}`];
    const context = ["--encryption-context", "table=cards,owner=42"];
    const opened = await cli.json<{ Plaintext: string; KeyId: string }>([...decrypt, ...context]);
    assertEquals(atob(opened.Plaintext), "attack at dawn");
    assertEquals(opened.KeyId, `arn:aws:kms:us-east-1:${account}:key/${keyId}`);
    await cli.refused(decrypt, "InvalidCiphertextException", "Decrypt", "");
  });

  await t.step("kms generate-data-key", async () => {
    const made = await cli.json<{ Plaintext: string }>([
      "kms",
      "generate-data-key",
      "--key-id",
      keyId,
      "--key-spec",
      "AES_256",
    ]);
    assertEquals(atob(made.Plaintext).length, 32);
  });

  await t.step("kms disable-key, schedule-key-deletion: AWS's words", async () => {
    const arn = `arn:aws:kms:us-east-1:${account}:key/${keyId}`;
    const use = ["kms", "generate-data-key", "--key-id", keyId, "--key-spec", "AES_256"];
    await cli.json(["kms", "disable-key", "--key-id", keyId]);
    await cli.refused(use, "DisabledException", "GenerateDataKey", `${arn} is disabled.`);
    const schedule = ["kms", "schedule-key-deletion", "--key-id", keyId];
    const scheduled = await cli.json<{ KeyState: string; PendingWindowInDays: number }>([
      ...schedule,
      "--pending-window-in-days",
      "7",
    ]);
    assertEquals([scheduled.KeyState, scheduled.PendingWindowInDays], ["PendingDeletion", 7]);
    const message = `${arn} is pending deletion.`;
    await cli.refused(use, "KMSInvalidStateException", "GenerateDataKey", message);
    await cli.json(["kms", "cancel-key-deletion", "--key-id", keyId]);
    await cli.json(["kms", "enable-key", "--key-id", keyId]);
    await cli.json(use);
  });

  await t.step("a key that does not exist; a key of another region", async () => {
    const describe = (id: string) => ["kms", "describe-key", "--key-id", id];
    const absent = `arn:aws:kms:us-east-1:${account}:key/11111111-2222-3333-4444-555555555555`;
    const message = `Key '${absent}' does not exist`;
    await cli.refused(describe(absent), "NotFoundException", "DescribeKey", message);
    const own = `arn:aws:kms:us-east-1:${account}:key/${keyId}`;
    const west = { region: "us-west-2" };
    const foreign = "Invalid arn us-east-1";
    await cli.refused(describe(own), "NotFoundException", "DescribeKey", foreign, west);
  });

  await t.step("sts assume-role, and the suite's keys under the role in two regions", async () => {
    const { payment } = await seedKeys(aws, { application: "pf", environment: "test" });
    const { role, caller } = aws.identities;
    const assume = [
      "sts",
      "assume-role",
      "--role-arn",
      role.arn,
      "--role-session-name",
      "command-line",
    ];
    const asCaller = { credentials: caller };
    const { Credentials } = await cli.json<{ Credentials: Record<string, string> }>(
      [...assume, "--external-id", role.externalId],
      asCaller,
    );
    const credentials = {
      accessKeyId: Credentials.AccessKeyId ?? "",
      secretAccessKey: Credentials.SecretAccessKey ?? "",
      sessionToken: Credentials.SessionToken ?? "",
    };
    const identity = await cli.json<{ Arn: string }>(["sts", "get-caller-identity"], {
      credentials,
    });
    const session = `arn:aws:sts::${account}:assumed-role/parker-flight-kms/command-line`;
    assertEquals(identity.Arn, session);

    const secret = await cli.file("secret", Uint8Array.of(1, 2, 3));
    const encrypt = ["kms", "encrypt", "--key-id", payment.alias, "--plaintext"];
    const { CiphertextBlob } = await cli.json<{ CiphertextBlob: string }>(
      [...encrypt, `fileb://${secret}`],
      { credentials },
    );
    const bytes = Uint8Array.from(atob(CiphertextBlob), (c) => c.charCodeAt(0));
    const blob = await cli.file("blob", bytes);
    const opened = await cli.json<{ Plaintext: string; KeyId: string }>(
      ["kms", "decrypt", "--ciphertext-blob", `fileb://${blob}`],
      { credentials, region: "eu-west-1" },
    );
    assertEquals([atob(opened.Plaintext), opened.KeyId], [
      "\u0001\u0002\u0003",
      payment.arns["eu-west-1"],
    ]);

    const user = `arn:aws:iam::${account}:user/parker-flight-caller`;
    await cli.refused(
      assume,
      "AccessDenied",
      "AssumeRole",
      `User: ${user} is not authorized to perform: sts:AssumeRole on resource: ${role.arn}`,
      asCaller,
    );
    await cli.refused(
      ["kms", "list-keys"],
      "AccessDeniedException",
      "ListKeys",
      `User: ${session} is not authorized to perform: kms:ListKeys on resource: * because no ` +
        "identity-based policy allows the kms:ListKeys action",
      { credentials },
    );
  });

  await t.step(
    "cloudwatch list-metrics, get-metric-statistics, get-metric-data: what the suite sent",
    async () => {
      const namespace = "ParkerFlight/KMS";
      const metrics = new BufferedMetrics(
        cloudWatchSink({ endpoint: aws.endpoint, region: "us-east-1" }, {
          namespace,
          credentials: () => Promise.resolve(aws.identities.operator),
          timeoutMs: 5_000,
        }),
      );
      const dimensions = { Region: "us-east-1", Operation: "Decrypt", Success: "true" };
      for (const ms of [10, 10, 40]) {
        metrics.record("KMSOperationDuration", ms, "Milliseconds", dimensions);
      }
      metrics.record("CircuitBreakerState", 0, "None");
      await metrics.flush();

      const { Metrics } = await cli.json<
        { Metrics: { MetricName: string; Dimensions: { Name: string; Value: string }[] }[] }
      >(["cloudwatch", "list-metrics", "--namespace", namespace]);
      assertEquals(
        Metrics.map(({ MetricName, Dimensions }) => [
          MetricName,
          ...Dimensions.map(({ Name, Value }) => `${Name}=${Value}`),
        ]),
        [
          ["CircuitBreakerState"],
          ["KMSOperationDuration", "Operation=Decrypt", "Region=us-east-1", "Success=true"],
        ],
      );

      const hour = 3_600_000;
      const range = [
        "--start-time",
        new Date(Date.now() - hour).toISOString(),
        "--end-time",
        new Date(Date.now() + hour).toISOString(),
      ];
      const metric = ["--namespace", namespace, "--metric-name", "KMSOperationDuration"];
      const statistics = ["cloudwatch", "get-metric-statistics", ...metric, ...range];
      const named = Object.entries(dimensions).map(([name, value]) =>
        `Name=${name},Value=${value}`
      );
      const { Label, Datapoints } = await cli.json<
        { Label: string; Datapoints: Record<string, number | string>[] }
      >([
        ...statistics,
        "--period",
        "7200",
        "--statistics",
        "SampleCount",
        "Average",
        "Maximum",
        "--dimensions",
        ...named,
      ]);
      assertEquals(Label, "KMSOperationDuration");
      assertEquals(Datapoints.map(({ Timestamp: _, ...point }) => point), [
        { SampleCount: 3, Average: 20, Maximum: 40, Unit: "Milliseconds" },
      ]);

      const queries = JSON.stringify([{
        Id: "p50",
        MetricStat: {
          Metric: {
            Namespace: namespace,
            MetricName: "KMSOperationDuration",
            Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
          },
          Period: 60,
          Stat: "p50",
        },
      }]);
      const { MetricDataResults } = await cli.json<
        { MetricDataResults: { Id: string; Values: number[]; StatusCode: string }[] }
      >(["cloudwatch", "get-metric-data", "--metric-data-queries", queries, ...range]);
      assertEquals(
        MetricDataResults.map(({ Id, Values, StatusCode }) => [Id, Values, StatusCode]),
        [["p50", [10], "Complete"]],
      );

      await cli.refused(
        [...statistics, "--period", "61", "--statistics", "Sum"],
        "InvalidParameterValue",
        "GetMetricStatistics",
        "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.",
      );
      await cli.json([
        "cloudwatch",
        "put-metric-data",
        "--namespace",
        "Cli",
        "--metric-name",
        "m",
        "--value",
        "1",
      ]);
      await cli.refused(
        [
          "cloudwatch",
          "put-metric-data",
          "--namespace",
          "AWS/KMS",
          "--metric-name",
          "m",
          "--value",
          "1",
        ],
        "InvalidParameterValue",
        "PutMetricData",
        "The value AWS/ for parameter Namespace is invalid.",
      );
      await cli.refused(
        ["cloudwatch", "list-metrics"],
        "AccessDenied",
        "ListMetrics",
        `User: arn:aws:iam::${account}:user/parker-flight-caller is not authorized to perform: ` +
          "cloudwatch:ListMetrics because no identity-based policy allows the " +
          "cloudwatch:ListMetrics action",
        { credentials: aws.identities.caller },
      );
    },
  );

  await t.step("ssm: the key of an older setup, as the key management guide has it", async () => {
    const name = "/boosterbeacon/encryption-keys/default";
    const arn = `arn:aws:ssm:us-east-1:${account}:parameter${name}`;
    const value = "00112233445566778899aabbccddeeff".repeat(2);
    const { KeyMetadata } = await cli.json<{ KeyMetadata: { KeyId: string } }>(
      ["kms", "create-key", "--description", "BoosterBeacon encryption key"],
    );
    const secure = ["--type", "SecureString", "--key-id", KeyMetadata.KeyId];
    const put = ["ssm", "put-parameter", "--name", name, "--value", value, ...secure];
    assertEquals(await cli.json(put), { Version: 1, Tier: "Standard" });
    await cli.refused(
      put,
      "ParameterAlreadyExists",
      "PutParameter",
      "The parameter already exists. To overwrite this value, set the overwrite option in the " +
        "request to true.",
    );
    assertEquals(await cli.json([...put, "--overwrite"]), { Version: 2, Tier: "Standard" });
    const get = ["ssm", "get-parameter", "--name", name];
    const { Parameter } = await cli.json<{ Parameter: Record<string, unknown> }>(
      [...get, "--with-decryption"],
    );
    const { LastModifiedDate: _, ...parameter } = Parameter;
    assertEquals(parameter, {
      Name: name,
      Type: "SecureString",
      Value: value,
      Version: 2,
      ARN: arn,
      DataType: "text",
    });
    await cli.refused(
      ["ssm", "get-parameter", "--name", `${name}:9`],
      "ParameterVersionNotFound",
      "GetParameter",
      `Systems Manager could not find version 9 of ${name}. Verify the version and try again.`,
    );
    await cli.refused(
      get,
      "AccessDeniedException",
      "GetParameter",
      `User: arn:aws:iam::${account}:user/parker-flight-caller is not authorized to perform: ` +
        `ssm:GetParameter on resource: ${arn} because no identity-based policy allows the ` +
        "ssm:GetParameter action",
      { credentials: aws.identities.caller },
    );
    assertEquals(await cli.json(["ssm", "delete-parameter", "--name", name]), {});
    await cli.refused(get, "ParameterNotFound", "GetParameter", "");
  });

  await t.step("iam: a leaked key is replaced, and CloudTrail tells what it did", async () => {
    const { caller } = aws.identities;
    const user = ["--user-name", "parker-flight-caller"];
    const { AccessKey } = await cli.json<{ AccessKey: Record<string, string> }>(
      ["iam", "create-access-key", ...user],
    );
    const credentials = {
      accessKeyId: AccessKey.AccessKeyId ?? "",
      secretAccessKey: AccessKey.SecretAccessKey ?? "",
    };
    const whoami = ["sts", "get-caller-identity"];
    await cli.json(whoami, { credentials });
    await cli.refused(
      ["iam", "create-access-key", ...user],
      "LimitExceeded",
      "CreateAccessKey",
      "Cannot exceed quota for AccessKeysPerUser: 2",
    );
    const old = ["--access-key-id", caller.accessKeyId];
    await cli.json(["iam", "update-access-key", ...user, ...old, "--status", "Inactive"]);
    const invalid = "The security token included in the request is invalid.";
    await cli.refused(whoami, "InvalidClientTokenId", "GetCallerIdentity", invalid, {
      credentials: caller,
    });
    const { AccessKeyMetadata } = await cli.json<
      { AccessKeyMetadata: Record<string, string>[] }
    >(["iam", "list-access-keys", ...user]);
    assertEquals(AccessKeyMetadata.map((key) => [key.AccessKeyId, key.Status]), [
      [caller.accessKeyId, "Inactive"],
      [credentials.accessKeyId, "Active"],
    ]);
    const used = await cli.json<{ UserName: string; AccessKeyLastUsed: Record<string, string> }>(
      ["iam", "get-access-key-last-used", ...old],
    );
    assertEquals([used.UserName, used.AccessKeyLastUsed.ServiceName], [
      "parker-flight-caller",
      "ssm",
    ]);
    const { Events } = await cli.json<{ Events: Record<string, unknown>[] }>([
      "cloudtrail",
      "lookup-events",
      "--lookup-attributes",
      `AttributeKey=AccessKeyId,AttributeValue=${caller.accessKeyId}`,
    ]);
    assertArrayIncludes(Events.map((event) => event.EventName), ["AssumeRole", "GetParameter"]);
  });

  await t.step("iam: policies of the role, read back as they are", async () => {
    const role = ["--role-name", "parker-flight-kms"];
    const { Role } = await cli.json<{ Role: { AssumeRolePolicyDocument: unknown } }>(
      ["iam", "get-role", ...role],
    );
    const trust = await cli.file(
      "trust",
      new TextEncoder().encode(JSON.stringify(Role.AssumeRolePolicyDocument)),
    );
    const update = ["iam", "update-assume-role-policy", ...role, "--policy-document"];
    await cli.json([...update, `file://${trust}`]);
    await cli.refused(
      [...update, "{}"],
      "MalformedPolicyDocument",
      "UpdateAssumeRolePolicy",
      "Syntax errors in policy.",
    );
    const document = {
      Version: "2012-10-17",
      Statement: [{
        Effect: "Deny",
        Action: "*",
        Resource: "*",
        Condition: { DateLessThan: { "aws:TokenIssueTime": "2026-11-25T00:00:00Z" } },
      }],
    };
    const policy = [...role, "--policy-name", "AWSRevokeOlderSessions"];
    const put = ["iam", "put-role-policy", ...policy, "--policy-document"];
    await cli.json([...put, JSON.stringify(document)]);
    const got = await cli.json<{ PolicyDocument: unknown }>(["iam", "get-role-policy", ...policy]);
    assertEquals(got.PolicyDocument, document);
    const { PolicyNames } = await cli.json<{ PolicyNames: string[] }>(
      ["iam", "list-role-policies", ...role],
    );
    assertEquals(PolicyNames, ["KmsAccess", "AWSRevokeOlderSessions"]);
    await cli.json(["iam", "delete-role-policy", ...policy]);
    await cli.refused(
      ["iam", "get-role-policy", ...policy],
      "NoSuchEntity",
      "GetRolePolicy",
      "The role policy with name AWSRevokeOlderSessions cannot be found.",
    );
  });

  await t.step("credentials that are wrong", async () => {
    const wrong = {
      credentials: { ...aws.identities.operator, secretAccessKey: "not-the-secret" },
    };
    const message = "The request signature we calculated does not match the signature you " +
      "provided. Check your AWS Secret Access Key and signing method. Consult the service " +
      "documentation for details.";
    const list = ["kms", "list-keys"];
    await cli.refused(list, "InvalidSignatureException", "ListKeys", message, wrong);
    const whoami = ["sts", "get-caller-identity"];
    await cli.refused(whoami, "SignatureDoesNotMatch", "GetCallerIdentity", message, wrong);
    const unknown = { credentials: { ...wrong.credentials, accessKeyId: "AKIAAAAAAAAAAAAAAAAA" } };
    const invalid = "The security token included in the request is invalid.";
    await cli.refused(list, "UnrecognizedClientException", "ListKeys", invalid, unknown);
    await cli.refused(whoami, "InvalidClientTokenId", "GetCallerIdentity", invalid, unknown);
  });
}
