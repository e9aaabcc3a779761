/** `kms doctor` where the network, AWS or its answers fail: what it says, and what it asks an operator to do. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { checkAwsKeys } from "../../cli/doctor/aws-keys.ts";
import { checkAwsSession } from "../../cli/doctor/aws-session.ts";
import { probe } from "../../cli/doctor/probe.ts";
import { type Line, Report } from "../../cli/doctor/report.ts";
import { type FaultRule, type LocalAws, seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import { localSecrets } from "../../local/platform-env.ts";
import { configOf } from "./doctor-support.ts";

const PAYMENT = "alias/parker-flight-payment-development";

async function withAws(test: (aws: LocalAws) => Promise<void>): Promise<void> {
  const aws = await startLocalAws();
  try {
    await seedKeys(aws, { application: "parker-flight", environment: "development" });
    await test(aws);
  } finally {
    await aws.close();
  }
}

/** Every line about AWS. */
async function checked(env: Record<string, string>): Promise<Map<string, Line>> {
  const report = new Report();
  const config = configOf(env);
  assert(config.aws !== undefined);
  const session = await checkAwsSession(report, config, config.aws);
  if (session !== undefined) await checkAwsKeys(report, config, config.aws, session);
  return new Map(report.lines.map((line) => [line.check, line]));
}

/** With these faults, the line of one check: its status, message and what to do. */
async function lineUnder(
  aws: LocalAws,
  faults: readonly FaultRule[],
  check: string,
  changes: Record<string, string> = {},
): Promise<readonly [status: string | undefined, message: string, next: string]> {
  aws.faults.set(faults);
  try {
    const line = (await checked({ ...localSecrets(aws), ...changes })).get(check);
    return [line?.status, line?.message ?? "", line?.next ?? ""];
  } finally {
    aws.faults.clear();
  }
}

const error = (name: string, message?: string): FaultRule["effect"] => ({
  ...{ kind: "error", name },
  ...message === undefined ? {} : { message },
});

Deno.test("probe: says why nobody answered, in words without an address", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const closed = `http://127.0.0.1:${listener.addr.port}`;
  listener.close();
  const rude = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const hangingUp = (async () => {
    for await (const connection of rude) connection.close();
  })();
  const over = Promise.withResolvers<Response>();
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    ({ url }) => url.endsWith("/page") ? new Response("<html>") : over.promise,
  );
  const { port } = server.addr;
  try {
    const reasonOf = async (url: string, ms?: number) => {
      const answer = await probe(async (signal) => {
        const response = await fetch(url, { signal });
        return await response.json() as unknown;
      }, ms);
      assert(!answer.ok);
      return answer.reason;
    };
    assertEquals(await reasonOf(closed), "the connection is refused");
    assertEquals(await reasonOf("https://doctor.invalid"), "its name does not resolve");
    assertEquals(await reasonOf(`http://127.0.0.1:${rude.addr.port}`), "the connection broke off");
    assertEquals(await reasonOf(`https://127.0.0.1:${port}`), "no TLS connection with it");
    assertEquals(await reasonOf(`http://127.0.0.1:${port}`, 50), "no answer within 0.05 s");
    assertEquals(
      await reasonOf(`http://127.0.0.1:${port}/page`),
      "somebody else answers in its place",
    );
  } finally {
    rude.close();
    await hangingUp;
    over.resolve(new Response());
    await server.shutdown();
  }
});

Deno.test("aws.credentials: an STS that is silent, in one region or in all of them", () =>
  withAws(async (aws) => {
    const silent = (region?: string): FaultRule => ({
      ...{ service: "sts", effect: { kind: "refuse" } },
      ...region === undefined ? {} : { region },
    });
    const [one, oneMessage, oneNext] = await lineUnder(
      aws,
      [silent("us-east-1")],
      "aws.credentials",
    );
    assertEquals(one, "warn");
    assertMatch(
      oneMessage,
      /^arn:aws:iam:\S+ in us-west-2; STS in us-east-1 does not answer: the connection broke off$/,
    );
    assertMatch(oneNext, /the functions go on with the others/);
    const use = await lineUnder(aws, [silent("us-east-1")], "aws.use.payment");
    assertEquals(use[0], "pass", "the rest is checked all the same");

    const [all, allMessage, allNext] = await lineUnder(aws, [silent()], "aws.credentials");
    assertEquals(all, "fail");
    for (const region of ["us-east-1", "us-west-2", "eu-west-1"]) {
      assertMatch(allMessage, new RegExp(`STS in ${region} does not answer: the connection`));
    }
    assertMatch(allNext, /AWS_ENDPOINT_URL.*reached from here/);
    assertEquals((await lineUnder(aws, [silent()], "aws.role"))[2], "mend aws.credentials first");
  }));

Deno.test("aws.credentials: a page in the place of STS is nobody's identity", async () => {
  for (const status of [200, 502]) {
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      () =>
        new Response("<html>log in</html>", { status, headers: { "content-type": "text/html" } }),
    );
    try {
      const lines = await checked({
        AWS_REGION: "us-east-1",
        AWS_ENDPOINT_URL: `http://127.0.0.1:${server.addr.port}`,
        AWS_ACCESS_KEY_ID: "AKIA" + "EXAMPLE7".repeat(2),
        AWS_SECRET_ACCESS_KEY: "a-secret-of-tests-only",
        KMS_PAYMENT_ALIAS: "alias/a",
        KMS_PII_ALIAS: "alias/b",
        KMS_GENERAL_ALIAS: "alias/c",
      });
      const { status: found, message } = lines.get("aws.credentials") ?? {};
      assertEquals(found, "fail", message);
      assertMatch(message ?? "", /^STS in us-east-1 .*: somebody else answers in its place$/);
    } finally {
      await server.shutdown();
    }
  }
});

Deno.test("aws.credentials: what is wrong with the access key", () =>
  withAws(async (aws) => {
    const operation = { service: "sts", operation: "GetCallerIdentity" } as const;
    const cases: [effect: FaultRule["effect"], message: RegExp, next: RegExp][] = [
      [error("InvalidClientTokenId"), /does not know the access key/, /make a new access key/],
      [error("SignatureDoesNotMatch"), /secret is not that/, /AWS_SECRET_ACCESS_KEY/],
      [error("ExpiredTokenException"), /session token has expired/, /without AWS_SESSION_TOKEN/],
      [error("Throttling"), /asked too often/, /wait a minute/],
      [error("OptInRequired"), /refused in us-east-1: OptInRequired/, /make a new access key/],
    ];
    for (const [effect, message, next] of cases) {
      const [status, ...found] = await lineUnder(
        aws,
        [{ ...operation, effect }],
        "aws.credentials",
      );
      assertEquals(status, "fail");
      assertMatch(found[0], message);
      assertMatch(found[1], next);
    }
    const [, wrong] = await lineUnder(aws, [], "aws.credentials", {
      AWS_SECRET_ACCESS_KEY: "another-secret-of-tests-only",
    });
    assertEquals(wrong, "the secret is not that of the access key");
  }));

Deno.test("aws.role: told apart as far as AWS tells, and what AWS says is not repeated", () =>
  withAws(async (aws) => {
    const caller = /user\/parker-flight-caller/;
    const said = "User: arn:aws:iam::1:user/x is not authorized to perform: sts:AssumeRole ";
    const cases: [effect: FaultRule["effect"], message: RegExp, next: RegExp][] = [
      [
        error("AccessDenied", said),
        /does not say whether/,
        /get-role --role-name parker-flight-kms/,
      ],
      [
        error("AccessDenied", `${said}because no identity-based policy allows it`),
        /the caller's own policy does not allow it$/,
        caller,
      ],
      [
        error("AccessDenied", `${said}because no role trust policy allows it`),
        /does not let this caller in with this external id$/,
        /AWS_EXTERNAL_ID with its condition sts:ExternalId.*parker-flight-caller/,
      ],
      [
        error("AccessDenied", `${said}with an explicit deny in a service control policy`),
        /a policy denies it explicitly$/,
        caller,
      ],
      [error("ServiceUnavailable"), /STS in us-east-1: ServiceUnavailable$/, /ask again/],
      [error("ValidationError", "x is invalid"), /: ValidationError$/, /AWS_ROLE_ARN/],
    ];
    for (const [effect, message, next] of cases) {
      const faults: FaultRule[] = [{ service: "sts", operation: "AssumeRole", effect }];
      const found = await lineUnder(aws, faults, "aws.role");
      assertEquals(found[0], "fail");
      assertMatch(found[1], message);
      assertMatch(found[2], next);
      assert(!`${found}`.includes("is not authorized"), `${found}`);
    }
  }));

Deno.test("aws.role: another role, another account, another id and sessions that are too long", () =>
  withAws(async (aws) => {
    const denied = /^arn:\S+ cannot be assumed: AWS does not say whether it is the external id/;
    const wrong: Record<string, string>[] = [
      { AWS_ROLE_ARN: `arn:aws:iam::${aws.accountId}:role/nobody` },
      { AWS_ROLE_ARN: "arn:aws:iam::999999999999:role/parker-flight-kms" },
      { AWS_EXTERNAL_ID: "another-external-id" },
    ];
    for (const changes of wrong) {
      const [status, message, next] = await lineUnder(aws, [], "aws.role", changes);
      assertEquals(status, "fail");
      assertMatch(message, denied);
      assert(!`${message}${next}`.includes("another-external-id"));
    }
    const [status, message, next] = await lineUnder(aws, [], "aws.role", {
      AWS_ROLE_DURATION_SECONDS: "43200",
    });
    assertEquals(status, "fail");
    assertMatch(message, /it allows no sessions of 43200 s$/);
    assertMatch(next, /AWS_ROLE_DURATION_SECONDS/);
  }));

Deno.test("aws.alias, aws.state, aws.use: keys that are elsewhere, pending deletion, single, or throttled", () =>
  withAws(async (aws) => {
    const [account, accountMessage, accountNext] = await lineUnder(
      aws,
      [],
      "aws.alias.pii",
      { AWS_ACCOUNT_ID: "999999999999" },
    );
    assertEquals(account, "fail");
    assertMatch(accountMessage, /a key of account 0{12}, .* of 9{12} only$/);
    assertMatch(accountNext, /AWS_ACCOUNT_ID/);

    const busy: FaultRule[] = [{
      ...{ service: "kms", region: "us-west-2", operation: "GenerateDataKey" },
      effect: error("ThrottlingException"),
    }];
    const [use, useMessage, useNext] = await lineUnder(aws, busy, "aws.use.general");
    assertEquals([use, useMessage], [
      "fail",
      "us-west-2: GenerateDataKey failed: ThrottlingException",
    ]);
    assertMatch(useNext, /asked too often/);
    const denied = [{ ...busy[0]!, effect: error("AccessDeniedException") }];
    assertMatch((await lineUnder(aws, denied, "aws.use.general"))[2], /kms:GenerateDataKey/);
    const broken = [{
      ...busy[0]!,
      operation: "DescribeKey",
      effect: error("KMSInternalException"),
    }];
    const [alias, aliasMessage, aliasNext] = await lineUnder(aws, broken, "aws.alias.general");
    assertEquals(alias, "fail");
    assertMatch(aliasMessage, /cannot be described in us-west-2: KMSInternalException$/);
    assertMatch(aliasNext, /status page/);

    const { KeyMetadata } = await aws.asOperator("us-east-1", "DescribeKey", { KeyId: PAYMENT });
    const { KeyId } = KeyMetadata as { KeyId: string };
    await aws.asOperator("eu-west-1", "ScheduleKeyDeletion", { KeyId, PendingWindowInDays: 7 });
    const [state, stateMessage, stateNext] = await lineUnder(aws, [], "aws.state.payment");
    assertEquals([state, stateMessage], ["fail", "PendingDeletion in eu-west-1"]);
    assertMatch(stateNext, /^aws kms cancel-key-deletion --region eu-west-1 --key-id mrk-/);
    const [rest, restMessage] = await lineUnder(aws, [], "aws.use.payment");
    assertEquals([rest, restMessage], [
      "warn",
      "works in us-east-1 and us-west-2; not checked in eu-west-1",
    ]);

    const single = await aws.asOperator("us-east-1", "CreateKey", {});
    const { KeyId: TargetKeyId } = single.KeyMetadata as { KeyId: string };
    await aws.asOperator("us-east-1", "UpdateAlias", { AliasName: PAYMENT, TargetKeyId });
    await aws.asOperator("us-west-2", "DeleteAlias", { AliasName: PAYMENT });
    const [one, oneMessage, oneNext] = await lineUnder(aws, [], "aws.alias.payment");
    assertEquals(one, "fail");
    assertMatch(oneMessage, /names a single-region key in us-east-1$/);
    assertMatch(oneNext, /multi-region/);
  }));
