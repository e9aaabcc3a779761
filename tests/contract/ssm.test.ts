/** Parameter Store as the suite needs it, over the wire; AWS's own command line has its turn in tests/aws-cli. */
import { assert, assertEquals } from "@std/assert";
import { parameterStore } from "../../functions-shared/keys/providers/aws/parameter-store.ts";
import type { AwsCredentials } from "../../functions-shared/keys/providers/aws/credentials.ts";
import { codeOf, suiteError } from "../unit/support/thrown.ts";
import { LIMITS } from "./key-provider.ts";
import { assumeRole } from "./role.ts";
import { type RawReply, rawRequest, type Setting, withAws } from "./support.ts";

const NAME = "/boosterbeacon/encryption-keys/default";
const HEX = "00112233445566778899aabbccddeeff".repeat(2);

async function ssm(
  { aws }: Setting,
  operation: string,
  input: unknown,
  credentials: AwsCredentials = aws.identities.operator,
  region = "us-east-1",
): Promise<RawReply & { readonly json: Record<string, unknown> }> {
  const reply = await rawRequest(aws, {
    service: "ssm",
    region,
    credentials,
    headers: {
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": `AmazonSSM.${operation}`,
    },
    body: JSON.stringify(input),
  });
  return { ...reply, json: JSON.parse(reply.text) };
}

async function newKey({ aws }: Setting): Promise<string> {
  const { KeyMetadata } = await aws.asOperator("us-east-1", "CreateKey", {});
  return (KeyMetadata as { KeyId: string }).KeyId;
}

const secure = (keyId: string, more = {}) => ({
  Name: NAME,
  Value: HEX,
  Type: "SecureString",
  KeyId: keyId,
  ...more,
});

function source({ aws }: Setting, credentials: () => Promise<AwsCredentials>) {
  return parameterStore({ endpoint: aws.endpoint, region: "us-east-1" }, credentials, LIMITS);
}

Deno.test("a SecureString is kept encrypted, and read back with its metadata", () =>
  withAws(async (setting) => {
    const keyId = await newKey(setting);
    const put = await ssm(setting, "PutParameter", secure(keyId));
    assertEquals([put.status, put.json], [200, { Version: 1, Tier: "Standard" }]);
    const got = await ssm(setting, "GetParameter", { Name: NAME, WithDecryption: true });
    const { LastModifiedDate, ...parameter } = got.json.Parameter as Record<string, unknown>;
    assert(typeof LastModifiedDate === "number");
    assertEquals(parameter, {
      Name: NAME,
      Type: "SecureString",
      Value: HEX,
      Version: 1,
      ARN: `arn:aws:ssm:us-east-1:${setting.aws.accountId}:parameter${NAME}`,
      DataType: "text",
    });
    const sealed = await ssm(setting, "GetParameter", { Name: NAME });
    assert((sealed.json.Parameter as { Value: string }).Value !== HEX);
    const elsewhere = await ssm(
      setting,
      "GetParameter",
      { Name: NAME },
      undefined,
      "eu-west-1",
    );
    assertEquals([elsewhere.status, elsewhere.json], [400, { __type: "ParameterNotFound" }]);
  }));

Deno.test("parameters are not overwritten by accident, and their versions stay", () =>
  withAws(async (setting) => {
    const keyId = await newKey(setting);
    await ssm(setting, "PutParameter", secure(keyId));
    const again = await ssm(setting, "PutParameter", secure(keyId, { Value: "other" }));
    assertEquals([again.status, again.json.__type], [400, "ParameterAlreadyExists"]);
    const more = secure(keyId, { Value: "other", Overwrite: true });
    assertEquals((await ssm(setting, "PutParameter", more)).json.Version, 2);
    const read = source(setting, () => Promise.resolve(setting.aws.identities.operator));
    assertEquals(await read({ keyId: "default", name: NAME }), "other");
    assertEquals(await read({ keyId: "default", name: NAME, version: 1 }), HEX);
    const error = await suiteError(() => read({ keyId: "default", name: NAME, version: 3 }));
    assertEquals((error.cause as Error).message, "Encryption key not found: default");
    await ssm(setting, "DeleteParameter", { Name: NAME });
    assertEquals(await codeOf(() => read({ keyId: "default", name: NAME })), "kms_key_unusable");
  }));

Deno.test("what AWS refuses is refused by name", () =>
  withAws(async (setting) => {
    const keyId = await newKey(setting);
    const cases: [string, unknown, string][] = [
      ["PutParameter", secure(keyId, { Name: "a/b" }), "ValidationException"],
      ["PutParameter", secure(keyId, { Name: "/a b" }), "ValidationException"],
      ["PutParameter", secure(keyId, { Value: "" }), "ValidationException"],
      ["PutParameter", secure(keyId, { Typo: 1 }), "ValidationException"],
      ["PutParameter", { Name: NAME, Value: HEX }, "ValidationException"],
      ["PutParameter", secure(crypto.randomUUID()), "InvalidKeyId"],
      ["PutParameter", secure("alias/none"), "InvalidKeyId"],
      ["GetParameter", { Name: NAME }, "ParameterNotFound"],
      ["GetParameter", { Name: 1 }, "SerializationException"],
      ["DeleteParameter", { Name: NAME }, "ParameterNotFound"],
      ["DescribeNothing", {}, "UnknownOperationException"],
    ];
    for (const [operation, input, name] of cases) {
      const { status, json } = await ssm(setting, operation, input);
      assertEquals([status, json.__type], [400, name], JSON.stringify(input));
    }
  }));

Deno.test("the role reads the older setup's keys, and with KMS's leave only", () =>
  withAws(async (setting) => {
    const { aws } = setting;
    const keyId = await newKey(setting);
    await ssm(setting, "PutParameter", secure(keyId));
    await ssm(setting, "PutParameter", secure(keyId, { Name: "/elsewhere/default" }));
    const session = await assumeRole(setting);
    const read = source(setting, () => Promise.resolve(session));
    assertEquals(await read({ keyId: "default", name: NAME }), HEX);

    const denied = await suiteError(() => read({ keyId: "default", name: "/elsewhere/default" }));
    assertEquals(denied.code, "kms_access_denied");
    assertEquals((denied.cause as Error).message, "Access denied to encryption key");
    const { json } = await ssm(setting, "GetParameter", { Name: "/elsewhere/default" }, session);
    assertEquals(
      json.message,
      `User: arn:aws:sts::${aws.accountId}:assumed-role/parker-flight-kms/contract is not ` +
        "authorized to perform: ssm:GetParameter on resource: " +
        `arn:aws:ssm:us-east-1:${aws.accountId}:parameter/elsewhere/default because no ` +
        "identity-based policy allows the ssm:GetParameter action",
    );
    const put = await ssm(setting, "PutParameter", secure(keyId, { Overwrite: true }), session);
    assertEquals(put.json.__type, "AccessDeniedException");
    const caller = source(setting, () => Promise.resolve(aws.identities.caller));
    assertEquals(await codeOf(() => caller({ keyId: "default", name: NAME })), "kms_access_denied");

    await aws.asOperator("us-east-1", "DisableKey", { KeyId: keyId });
    const disabled = await suiteError(() => read({ keyId: "default", name: NAME }));
    assertEquals(disabled.code, "kms_key_unusable");
    assertEquals((disabled.cause as Error).message, "Encryption key not usable: default");
    await aws.asOperator("us-east-1", "EnableKey", { KeyId: keyId });
    // A key policy that leaves the role out: Systems Manager asks KMS in the caller's name.
    await aws.asOperator("us-east-1", "PutKeyPolicy", {
      KeyId: keyId,
      PolicyName: "default",
      Policy: JSON.stringify({
        Version: "2012-10-17",
        Statement: [{
          Effect: "Allow",
          Principal: { AWS: `arn:aws:iam::${aws.accountId}:user/operator` },
          Action: "kms:*",
          Resource: "*",
        }],
      }),
    });
    const unreadable = await suiteError(() => read({ keyId: "default", name: NAME }));
    assertEquals(unreadable.code, "kms_access_denied");
  }));

Deno.test("wrong credentials are refused, and what may pass is tried again", () =>
  withAws(async (setting) => {
    const { aws } = setting;
    await ssm(setting, "PutParameter", secure(await newKey(setting)));
    const wrong = { ...aws.identities.operator, secretAccessKey: "not-the-secret-of-anybody" };
    const refused = source(setting, () => Promise.resolve(wrong));
    const at = { keyId: "default", name: NAME };
    assertEquals(await codeOf(() => refused(at)), "kms_access_denied");

    const read = source(setting, () => Promise.resolve(aws.identities.operator));
    for (const name of ["ThrottlingException", "InternalServerError"]) {
      aws.faults.set([{ service: "ssm", effect: { kind: "error", name }, times: 1 }]);
      assertEquals(await read(at), HEX, name);
    }
    aws.faults.set([{ service: "ssm", effect: { kind: "refuse" } }]);
    assertEquals(await codeOf(() => read(at)), "kms_unavailable");
  }));

Deno.test("parameters survive in the state file", async () => {
  const folder = await Deno.makeTempDir({ prefix: "ssm-" });
  const stateFile = `${folder}/aws.json`;
  try {
    await withAws(async (setting) => {
      await ssm(setting, "PutParameter", secure(await newKey(setting)));
    }, { stateFile });
    assert(!(await Deno.readTextFile(stateFile)).includes(HEX));
    await withAws(async (setting) => {
      const read = source(setting, () => Promise.resolve(setting.aws.identities.operator));
      assertEquals(await read({ keyId: "default", name: NAME }), HEX);
    }, { stateFile });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
