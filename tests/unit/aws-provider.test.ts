import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { IAMClient, PutRolePolicyCommand } from "@aws-sdk/client-iam";
import type { DataClass } from "../../functions-shared/data-class.ts";
import type { Metrics } from "../../functions-shared/telemetry/metrics.ts";
import type { EncryptedDataKey } from "../../functions-shared/message/mod.ts";
import type { LocalAws } from "../../local/aws/mod.ts";
import { awsProvider, callsTo, WITH_AWS, withAws } from "./support/aws.ts";
import { bytes, textOf } from "./support/identity.ts";
import { codeOf } from "./support/thrown.ts";

const CONTEXT = { owner: "0b9bd1a5-1111-4111-8111-111111111111", field: "number" };
const CLASSES: readonly DataClass[] = ["payment", "pii", "general"];

function test(name: string, run: Parameters<typeof withAws>[0]): void {
  Deno.test({ name, ...WITH_AWS, fn: () => withAws(run) });
}

/** One statement as the role's inline policy of this name. */
async function putRolePolicy(aws: LocalAws, name: string, statement: unknown): Promise<void> {
  const iam = new IAMClient({
    region: "us-east-1",
    endpoint: aws.endpoint,
    credentials: { ...aws.identities.operator },
  });
  await iam.send(
    new PutRolePolicyCommand({
      RoleName: "parker-flight-kms",
      PolicyName: name,
      PolicyDocument: JSON.stringify({ Version: "2012-10-17", Statement: [statement] }),
    }),
  );
  iam.destroy();
}

/** As "Revoke active sessions" of the console does it. */
async function revokeSessions(aws: LocalAws): Promise<void> {
  // Times of issue are whole seconds.
  aws.clock.advance(1000);
  const revokedAt = new Date(Math.floor((Date.now() + aws.clock.offsetMs) / 1000) * 1000);
  await putRolePolicy(aws, "AWSRevokeOlderSessions", {
    Effect: "Deny",
    Action: ["*"],
    Resource: ["*"],
    Condition: { DateLessThan: { "aws:TokenIssueTime": revokedAt.toISOString() } },
  });
}

/** As the message carries it, with another key ARN in it. */
function underKey(encrypted: EncryptedDataKey, arn: string): EncryptedDataKey {
  return { ...encrypted, providerInfo: bytes(arn) };
}

test("a data key of each class is made under that class's alias and comes back", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  for (const dataClass of CLASSES) {
    const { plaintext, encrypted, keyId } = await provider.generateDataKey(dataClass, CONTEXT);
    assertEquals(keyId, keys[dataClass]);
    assertEquals(encrypted.providerId, "aws-kms");
    assertEquals(textOf(encrypted.providerInfo), keys[dataClass]);
    assertEquals(plaintext.length, 32);
    assert(provider.recognises(encrypted));
    assertEquals(await provider.decryptDataKey(encrypted, CONTEXT), plaintext);
    const second = await provider.generateDataKey(dataClass, CONTEXT);
    assertNotEquals(second.plaintext, plaintext);
  }
});

test("the role is assumed once for concurrent calls, with its external id", async ({ aws }) => {
  const provider = awsProvider(aws);
  aws.resetCalls();
  await Promise.all(CLASSES.map((dataClass) => provider.describe(dataClass)));
  assertEquals(callsTo(aws).filter((call) => call.startsWith("AssumeRole")), ["AssumeRole"]);
  for (const { accessKeyId } of aws.calls().filter(({ service }) => service === "kms")) {
    assert(accessKeyId.startsWith("ASIA"), "KMS is called by the session, not by the caller's key");
  }
});

test("another external id, and the caller's key alone, are refused", async ({ aws }) => {
  const { caller, role, operator } = aws.identities;
  const stranger = awsProvider(aws, {
    role: { arn: role.arn, externalId: "another", sessionName: "tests", durationSeconds: 3600 },
  });
  assertEquals(await codeOf(() => stranger.generateDataKey("pii", CONTEXT)), "kms_access_denied");
  const callerAlone = awsProvider(aws, { ...caller, role: undefined });
  assertEquals(
    await codeOf(() => callerAlone.generateDataKey("pii", CONTEXT)),
    "kms_access_denied",
  );
  const wrongSecret = awsProvider(aws, { secretAccessKey: operator.secretAccessKey });
  assertEquals(
    await codeOf(() => wrongSecret.generateDataKey("pii", CONTEXT)),
    "kms_access_denied",
  );
});

test("plain keys that may use KMS work without a role", async ({ aws, keys }) => {
  const provider = awsProvider(aws, { ...aws.identities.operator, role: undefined });
  aws.resetCalls();
  const { keyId } = await provider.generateDataKey("general", CONTEXT);
  assertEquals(keyId, keys.general);
  assert(!callsTo(aws).includes("AssumeRole"));
});

test("another context does not decrypt", async ({ aws }) => {
  const provider = awsProvider(aws);
  const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
  for (const context of [{}, { ...CONTEXT, owner: "x" }, { ...CONTEXT, more: "x" }]) {
    assertEquals(
      await codeOf(() => provider.decryptDataKey(encrypted, context)),
      "decryption_failed",
    );
  }
});

test("a key of another account, or of a region that is not ours, is refused without asking KMS", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
  const known = awsProvider(aws, { accountId: "000000000000" });
  aws.resetCalls();
  for (
    const arn of [
      keys.pii.replace("000000000000", "999999999999"),
      keys.pii.replace("us-east-1", "ap-southeast-2").replace("mrk-", ""),
      keys.pii.replace(":key/", ":alias/"),
      "alias/parker-flight-pii-development",
      "",
    ]
  ) {
    for (const candidate of [provider, known]) {
      assertEquals(
        await codeOf(() => candidate.decryptDataKey(underKey(encrypted, arn), CONTEXT)),
        "decryption_failed",
        arn,
      );
    }
  }
  assertEquals(callsTo(aws), []);
});

test("an empty or overlong wrapped key is refused without asking KMS", async ({ aws }) => {
  const provider = awsProvider(aws);
  const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
  aws.resetCalls();
  for (const length of [0, 6145, 65_535]) {
    const ciphertext = new Uint8Array(length);
    assertEquals(
      await codeOf(() => provider.decryptDataKey({ ...encrypted, ciphertext }, CONTEXT)),
      "decryption_failed",
    );
  }
  assertEquals(callsTo(aws), []);
});

test("another key of our own account does not decrypt", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
  assertEquals(
    await codeOf(() => provider.decryptDataKey(underKey(encrypted, keys.payment), CONTEXT)),
    "decryption_failed",
  );
  const ciphertext = encrypted.ciphertext.map((byte, at) => at === 40 ? byte ^ 1 : byte);
  assertEquals(
    await codeOf(() => provider.decryptDataKey({ ...encrypted, ciphertext }, CONTEXT)),
    "decryption_failed",
  );
});

test("a multi-region key named in another region is asked for here", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  const { encrypted, plaintext } = await provider.generateDataKey("pii", CONTEXT);
  aws.resetCalls();
  const elsewhere = underKey(encrypted, keys.pii.replace("us-east-1", "eu-west-1"));
  assertEquals(await provider.decryptDataKey(elsewhere, CONTEXT), plaintext);
  const regions = aws.calls().filter(({ operation }) => operation === "Decrypt").map((call) =>
    call.region
  );
  assertEquals(regions, ["us-east-1"]);
});

test("keys of an account that is not the configured one are not written with", async ({ aws }) => {
  const provider = awsProvider(aws, { accountId: "999999999999" });
  assertEquals(await codeOf(() => provider.generateDataKey("pii", CONTEXT)), "kms_key_unusable");
});

test("a disabled key, a key to be deleted and an alias of nothing are unusable", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  const generate = (dataClass: DataClass) =>
    codeOf(() => provider.generateDataKey(dataClass, CONTEXT));
  await aws.asOperator("us-east-1", "DisableKey", { KeyId: keys.pii });
  assertEquals(await generate("pii"), "kms_key_unusable");
  assertEquals((await provider.describe("pii")).state, "Disabled");
  await aws.asOperator("us-east-1", "EnableKey", { KeyId: keys.pii });
  await provider.generateDataKey("pii", CONTEXT);
  await aws.asOperator("us-east-1", "ScheduleKeyDeletion", { KeyId: keys.general });
  assertEquals(await generate("general"), "kms_key_unusable");
  const nothing = awsProvider(aws, {
    aliases: { payment: "alias/nothing", pii: "alias/nothing", general: "alias/nothing" },
  });
  assertEquals(await codeOf(() => nothing.generateDataKey("pii", CONTEXT)), "kms_key_unusable");
});

test("an outage is an outage: refused, dropped, throttled, silent", async ({ aws }) => {
  for (
    const effect of [
      { kind: "refuse" },
      { kind: "drop_after" },
      { kind: "blackhole" },
      { kind: "error", name: "ThrottlingException" },
      { kind: "error", name: "KMSInternalException" },
    ] as const
  ) {
    const provider = awsProvider(aws, {}, { timeoutMs: 300 });
    await provider.describe("pii");
    aws.faults.set([{ service: "kms", effect }]);
    assertEquals(
      await codeOf(() => provider.generateDataKey("pii", CONTEXT)),
      "kms_unavailable",
      effect.kind,
    );
    aws.faults.clear();
  }
});

test("the SDK makes each attempt once: retries belong to the layer above it", async ({ aws }) => {
  const provider = awsProvider(aws, {}, { maxAttempts: 1 });
  await provider.describe("pii");
  aws.faults.set([{ service: "kms", effect: { kind: "error", name: "ThrottlingException" } }]);
  aws.resetCalls();
  await codeOf(() => provider.generateDataKey("pii", CONTEXT));
  assertEquals(callsTo(aws), ["GenerateDataKey ThrottlingException"]);
});

test("a session that expires in use is renewed once for all callers", async ({ aws }) => {
  const provider = awsProvider(aws);
  await provider.describe("pii");
  // AWS's clock runs on while ours does not: the session looks good here and is not there.
  aws.faults.set([{
    service: "kms",
    effect: { kind: "error", name: "ExpiredTokenException" },
    times: 8,
  }]);
  aws.resetCalls();
  await Promise.all(Array.from({ length: 8 }, () => provider.generateDataKey("pii", CONTEXT)));
  const calls = callsTo(aws);
  assertEquals(calls.filter((call) => call === "AssumeRole").length, 1, calls.join());
  assertEquals(calls.filter((call) => call === "GenerateDataKey").length, 8);
});

test("sessions that a policy ended are exchanged once for all callers, who notice nothing", async ({ aws }) => {
  const provider = awsProvider(aws);
  await provider.describe("pii");
  await revokeSessions(aws);
  aws.resetCalls();
  await Promise.all(Array.from({ length: 8 }, () => provider.generateDataKey("pii", CONTEXT)));
  const calls = callsTo(aws);
  assertEquals(calls.filter((call) => call === "AssumeRole").length, 1, calls.join());
  assertEquals(calls.filter((call) => call === "GenerateDataKey").length, 8);
});

test("the exchange of an ended session is no time that KMS took", async ({ aws }) => {
  const durations: [operation: string | undefined, ms: number][] = [];
  const metrics: Metrics = {
    record: (name, ms, _unit, { Region, Operation } = {}) => {
      if (name !== "KMSOperationDuration" || Region === undefined) return;
      if (Operation !== "DescribeKey") durations.push([Operation, ms]);
    },
  };
  // Only exchanges take time on this clock: 900 ms each.
  const exchanges = () => callsTo(aws).filter((call) => call === "AssumeRole").length;
  const provider = awsProvider(aws, {}, { metrics, now: () => 900 * exchanges() });
  await provider.describe("pii");
  await revokeSessions(aws);
  durations.length = 0;
  await provider.generateDataKey("pii", CONTEXT);
  assertEquals(durations, [["GenerateDataKey", 0], ["AssumeRole", 900], ["GenerateDataKey", 0]]);
  assertEquals(provider.regions()["us-east-1"]?.latency_ms, 0);
});

test("a role that may not is asked about twice, and then believed", async ({ aws }) => {
  const provider = awsProvider(aws);
  await provider.describe("pii");
  aws.faults.set([{ service: "kms", effect: { kind: "error", name: "AccessDeniedException" } }]);
  aws.resetCalls();
  for (let request = 0; request < 3; request++) {
    assertEquals(
      await codeOf(() => provider.generateDataKey("pii", CONTEXT)),
      "kms_access_denied",
    );
  }
  const refused = "GenerateDataKey AccessDeniedException";
  assertEquals(callsTo(aws), [refused, "AssumeRole", refused, refused, refused]);
});

test("what a role may not administer leaves the exchange to sessions that a policy ended", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  await putRolePolicy(aws, "KmsAccess", {
    Effect: "Allow",
    Action: ["kms:DescribeKey", "kms:GenerateDataKey"],
    Resource: "*",
  });
  const { rotation } = await provider.metadata("pii");
  assertEquals(rotation.automatic, null, "it may not ask");
  assertEquals(await codeOf(() => provider.rotateNow(keys.pii)), "kms_access_denied");
  await revokeSessions(aws);
  aws.resetCalls();
  await provider.generateDataKey("pii", CONTEXT);
  const refused = "GenerateDataKey AccessDeniedException";
  assertEquals(callsTo(aws), [refused, "AssumeRole", "GenerateDataKey"]);
});

test("a session that ended during a rotation of the key is exchanged, and one rotation is made", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  await provider.describe("pii");
  await revokeSessions(aws);
  await provider.rotateNow(keys.pii);
  const rotations = aws.calls().filter(({ operation }) => operation === "RotateKeyOnDemand");
  assertEquals(rotations.map(({ status }) => status), [200]);
});

test("a re-pointed alias is followed at once, and old data keys still decrypt", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  const old = await provider.generateDataKey("pii", CONTEXT);
  await aws.asOperator("us-east-1", "UpdateAlias", {
    AliasName: "alias/parker-flight-pii-development",
    TargetKeyId: keys.general,
  });
  assertEquals((await provider.generateDataKey("pii", CONTEXT)).keyId, keys.general);
  assertEquals(await provider.decryptDataKey(old.encrypted, CONTEXT), old.plaintext);
});

test("branch key records are wrapped under the key's ARN, and unwrapped under the same context only", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  const keyId = await provider.wrappingKeyId("payment");
  assertEquals(keyId, keys.payment);
  assert(provider.holds(keyId));
  const wrapped = await provider.generateWrappedKey(keyId, CONTEXT);
  assertEquals((await provider.unwrapKey(keyId, wrapped, CONTEXT)).plaintext.length, 32);
  assertEquals(await codeOf(() => provider.unwrapKey(keyId, wrapped, {})), "decryption_failed");
  assertEquals(
    await codeOf(() => provider.unwrapKey(keys.pii, wrapped, CONTEXT)),
    "decryption_failed",
  );
  assertEquals(
    await codeOf(() => provider.unwrapKey("env:x", wrapped, CONTEXT)),
    "decryption_failed",
  );
});

test("the account is learnt once: a payment alias that goes away stops no reading of other classes", async ({ aws }) => {
  let now = 0;
  const provider = awsProvider(aws, {}, { now: () => now });
  const { encrypted, plaintext } = await provider.generateDataKey("pii", CONTEXT);
  await aws.asOperator("us-east-1", "DeleteAlias", {
    AliasName: "alias/parker-flight-payment-development",
  });
  now += 10 * 60_000;
  assertEquals(await provider.decryptDataKey(encrypted, CONTEXT), plaintext);
});

test("a wrong alias of one class, the payment class's too, stops no other class", async ({ aws, keys }) => {
  const aliases = {
    payment: "alias/parker-flight-payment-development",
    pii: "alias/parker-flight-pii-development",
    general: "alias/parker-flight-general-development",
  };
  const nothing = "alias/nothing";
  for (
    const wrong of [
      { payment: nothing },
      { payment: nothing, pii: nothing },
      // Of a class that need not be asked.
      { general: nothing },
    ]
  ) {
    for (const dataClass of CLASSES) {
      const provider = awsProvider(aws, { aliases: { ...aliases, ...wrong } });
      const generated = provider.generateDataKey(dataClass, CONTEXT);
      if (dataClass in wrong) {
        assertEquals(await codeOf(() => generated), "kms_key_unusable", dataClass);
        continue;
      }
      const { encrypted, plaintext, keyId } = await generated;
      assertEquals(keyId, keys[dataClass]);
      assertEquals(await provider.decryptDataKey(encrypted, CONTEXT), plaintext);
      // Foreign keys are as foreign as ever.
      aws.resetCalls();
      const foreign = keyId.replace("000000000000", "999999999999");
      for (
        const use of [
          () => provider.decryptDataKey(underKey(encrypted, foreign), CONTEXT),
          () => provider.unwrapKey(foreign, encrypted.ciphertext, CONTEXT),
          () => provider.wrapKey(foreign, plaintext, CONTEXT),
        ]
      ) {
        assertEquals(await codeOf(use), "decryption_failed");
      }
      assertEquals(callsTo(aws), []);
    }
  }
  const none = awsProvider(aws, {
    aliases: { payment: nothing, pii: nothing, general: nothing },
  });
  const unwrap = () => none.unwrapKey(keys.pii, new Uint8Array(64), CONTEXT);
  assertEquals(await codeOf(unwrap), "kms_key_unusable");
});

test("an alias that names another account speaks for no other class", async ({ aws, keys }) => {
  const foreign = "arn:aws:kms:us-east-1:999999999999:alias/theirs";
  const own = "alias/parker-flight-general-development";
  // The payment class's says whom to trust: nothing else is then used.
  const theirs = awsProvider(aws, { aliases: { payment: foreign, pii: own, general: own } });
  assertEquals(await codeOf(() => theirs.generateDataKey("pii", CONTEXT)), "kms_key_unusable");
  // Another class's is not asked in the place of a wrong one.
  const aliases = { payment: "alias/nothing", pii: foreign, general: own };
  const ours = awsProvider(aws, { aliases });
  const { keyId } = await ours.generateDataKey("general", CONTEXT);
  assertEquals(keyId, keys.general);
  const unwrapTheirs = () =>
    ours.unwrapKey(keys.pii.replace("000000000000", "999999999999"), new Uint8Array(64), CONTEXT);
  assertEquals(await codeOf(unwrapTheirs), "decryption_failed");
  const unknown = awsProvider(aws, { aliases: { ...aliases, general: foreign } });
  assertEquals(
    await codeOf(() => unknown.unwrapKey(keys.pii, new Uint8Array(64), CONTEXT)),
    "kms_key_unusable",
  );
});

test("in an outage no other alias is asked for the account", async ({ aws, keys }) => {
  const provider = awsProvider(aws, {}, { maxAttempts: 1 });
  await provider.describe("pii");
  aws.faults.set([{ service: "kms", effect: { kind: "error", name: "KMSInternalException" } }]);
  aws.resetCalls();
  const unwrap = () => provider.unwrapKey(keys.pii, new Uint8Array(64), CONTEXT);
  assertEquals(await codeOf(unwrap), "kms_unavailable");
  const described = callsTo(aws).filter((call) => call.startsWith("DescribeKey"));
  assertEquals(described, ["DescribeKey KMSInternalException"]);
});

test("a worker that warms up asks a region that it learnt is dead for nothing", async ({ aws }) => {
  for (const dead of [true, false]) {
    const provider = awsProvider(aws);
    if (dead) provider.learn([{ region: "us-east-1", until: Date.now() + 30_000 }]);
    aws.resetCalls();
    await provider.prepare();
    assertEquals(
      aws.calls().map(({ region, operation }) => `${region} ${operation}`),
      [dead ? "us-west-2 AssumeRole" : "us-east-1 AssumeRole"],
    );
  }
});

test("the region that answered is told, whichever the key's name says", async ({ aws, keys }) => {
  const provider = awsProvider(aws);
  const { encrypted, region, plaintext } = await provider.generateDataKey("pii", CONTEXT);
  const wrapped = await provider.generateWrappedKey(keys.pii, CONTEXT);
  assertEquals(region, "us-east-1");
  assertEquals((await provider.unwrapKey(keys.pii, wrapped, CONTEXT)).region, "us-east-1");
  aws.faults.set([{ region: "us-east-1", effect: { kind: "refuse" } }]);
  const opened = await provider.openDataKey(encrypted, CONTEXT);
  assertEquals(opened.plaintext, plaintext);
  assertEquals([opened.keyId, opened.region === "us-east-1"], [keys.pii, false]);
  assertNotEquals((await provider.unwrapKey(keys.pii, wrapped, CONTEXT)).region, "us-east-1");
  const elsewhere = await provider.generateDataKey("pii", CONTEXT);
  assertEquals(elsewhere.keyId, keys.pii.replace("us-east-1", elsewhere.region ?? "none"));
  assertNotEquals(elsewhere.region, "us-east-1");
});
