import { assert, assertEquals, assertLess, assertRejects, assertThrows } from "@std/assert";
import { CreateKeyCommand, GenerateDataKeyCommand, ListKeysCommand } from "@aws-sdk/client-kms";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import type { CallRecord, FaultRule } from "../../local/aws/mod.ts";
import { assertRefused, rawKms, withAws } from "./support.ts";

const GONE = /socket hang up|ECONNRESET|connection (closed|reset|error)|terminated/i;

async function assertUnanswered(work: Promise<unknown>): Promise<void> {
  const error = await assertRejects(() => work, Error);
  const text = `${error.message} ${(error as { code?: string }).code ?? ""}`;
  assert(GONE.test(text), `unexpected error: ${text}`);
}

function summary(calls: readonly CallRecord[]) {
  return calls.map(({ accessKeyId: _, at: __, ...rest }) => rest);
}

Deno.test("the fault switch", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const kms = setting.kms();
    const west = setting.kms("us-west-2");
    const list = (client = kms) => client.send(new ListKeysCommand({}));
    const step = (name: string, rules: readonly FaultRule[], body: () => Promise<void>) =>
      t.step(name, async () => {
        aws.faults.set(rules);
        aws.resetCalls();
        try {
          await body();
        } finally {
          aws.faults.clear();
        }
      });

    await step("refuse: the connection is closed, nothing done", [
      { effect: { kind: "refuse" }, operation: "CreateKey" },
    ], async () => {
      await assertUnanswered(kms.send(new CreateKeyCommand({})));
      assertEquals((await list()).Keys, []);
      assertEquals(summary(aws.calls()), [
        { service: "kms", operation: "CreateKey", region: "us-east-1", status: 0, fault: "refuse" },
        { service: "kms", operation: "ListKeys", region: "us-east-1", status: 200 },
      ]);
    });

    await step("drop_after: the work is done, the answer lost", [
      { effect: { kind: "drop_after" }, operation: "CreateKey" },
    ], async () => {
      await assertUnanswered(kms.send(new CreateKeyCommand({})));
      assertEquals((await list()).Keys?.length, 1);
      const [call] = aws.calls();
      assertEquals([call?.status, call?.fault], [0, "drop_after"]);
    });

    await step("blackhole: no answer until the client gives up", [
      { effect: { kind: "blackhole" }, region: "us-east-1" },
    ], async () => {
      const abort = new AbortController();
      const work = kms.send(new ListKeysCommand({}), { abortSignal: abort.signal });
      const ended = work.then(() => "answered", (error) => error.name);
      await until(() => aws.calls().length === 1);
      assertEquals(await Promise.race([ended, Promise.resolve("waiting")]), "waiting");
      abort.abort();
      assertEquals(await ended, "AbortError");
      assertEquals((await list(west)).Truncated, false);
    });

    await step("latency: the answer comes later, and right", [
      { effect: { kind: "latency", ms: 60 } },
    ], async () => {
      const start = performance.now();
      assertEquals((await list()).Truncated, false);
      assertLess(59, performance.now() - start);
      assertEquals(aws.calls()[0]?.fault, "latency");
    });

    await step("latency and what follows it add up", [
      { effect: { kind: "latency", ms: 30 } },
      { effect: { kind: "error", name: "ThrottlingException" } },
    ], async () => {
      const start = performance.now();
      await assertRefused(list(), {
        name: "ThrottlingException",
        status: 400,
        message:
          "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
      });
      assertLess(29, performance.now() - start);
    });

    for (
      const [name, status] of [
        ["ThrottlingException", 400],
        ["DependencyTimeoutException", 503],
        ["KMSInternalException", 500],
        ["KeyUnavailableException", 500],
        ["KMSInvalidStateException", 400],
        ["AccessDeniedException", 400],
        ["LimitExceededException", 400],
      ] as const
    ) {
      const effect = { kind: "error", name, message: "as told" } as const;
      await step(`error: ${name} is answered with ${status}`, [{ effect }], async () => {
        await assertRefused(list(), { name, status, message: "as told" });
        assertEquals(aws.calls()[0]?.errorName, name);
      });
    }

    await step("error: the status can be chosen, and STS answers XML", [
      {
        service: "sts",
        effect: { kind: "error", name: "Throttling", status: 429, message: "<slow>" },
      },
    ], async () => {
      const work = setting.sts().send(new GetCallerIdentityCommand({}));
      await assertRefused(work, { name: "Throttling", status: 429, message: "<slow>" });
      assertEquals((await list()).Truncated, false);
    });

    await step("a rule is for its service, region and operation", [
      {
        service: "kms",
        region: "us-east-1",
        operation: "GenerateDataKey",
        effect: { kind: "error", name: "KMSInternalException" },
      },
    ], async () => {
      await list();
      await list(west);
      await setting.sts().send(new GetCallerIdentityCommand({}));
      const { Keys } = await list();
      const KeyId = Keys?.[0]?.KeyId;
      const generate = kms.send(new GenerateDataKeyCommand({ KeyId, KeySpec: "AES_256" }));
      const message = "UnknownError";
      await assertRefused(generate, { name: "KMSInternalException", status: 500, message });
    });

    await step("times: so many requests and no more", [
      { times: 2, effect: { kind: "error", name: "ThrottlingException", message: "" } },
    ], async () => {
      const outcomes: string[] = [];
      for (let i = 0; i < 4; i++) {
        outcomes.push(await list().then(() => "ok", (error) => error.name));
      }
      assertEquals(outcomes, ["ThrottlingException", "ThrottlingException", "ok", "ok"]);
      assertEquals(aws.faults.rules().map((rule) => rule.times), [0]);
    });

    await step("probability: 0 never, 1 always", [
      { probability: 0, effect: { kind: "error", name: "NeverException" } },
      { probability: 1, effect: { kind: "error", name: "AlwaysException", message: "m" } },
    ], async () => {
      for (let i = 0; i < 5; i++) {
        await assertRefused(list(), { name: "AlwaysException", status: 400, message: "m" });
      }
    });

    await t.step("malformed rules are refused, and the old ones stay", () => {
      aws.faults.set([{ effect: { kind: "refuse" } }]);
      const malformed: readonly (readonly [unknown, string])[] = [
        [{ effect: { kind: "explode" } }, "effect.kind must be refuse, blackhole, latency, error"],
        [{ effect: { kind: "latency" } }, "effect.ms must be a number from 0 to 600000"],
        [{ effect: { kind: "error" } }, "effect.name must be an exception's name"],
        [
          { effect: { kind: "refuse" }, probability: 2 },
          "probability must be a number from 0 to 1",
        ],
        [{ effect: { kind: "refuse" }, times: -1 }, "times must be a whole number, 0 or more"],
        [{ effect: { kind: "refuse" }, regoin: "x" }, "a rule has no member 'regoin'"],
        [{}, "effect must be an object"],
      ];
      for (const [rule, message] of malformed) {
        assertThrows(() => aws.faults.set([rule as FaultRule]), TypeError, message);
      }
      assertEquals(aws.faults.rules(), [{ effect: { kind: "refuse" } }]);
      aws.faults.clear();
    });

    await t.step("call records say who, where, what and when", async () => {
      aws.resetCalls();
      const before = Date.now();
      await rawKms(aws, "DescribeKey", '{"KeyId":"alias/none"}', { region: "eu-west-1" });
      const [call, ...more] = aws.calls();
      assertEquals(more, []);
      const { at = 0, ...rest } = call ?? {};
      assert(at >= before && at <= Date.now());
      assertEquals(rest, {
        service: "kms",
        operation: "DescribeKey",
        region: "eu-west-1",
        accessKeyId: aws.identities.operator.accessKeyId,
        status: 400,
        errorName: "NotFoundException",
      });
    });
  }));

Deno.test("closing answers nobody and waits for nobody", () =>
  withAws(async (setting) => {
    const { aws } = setting;
    aws.faults.set([
      { region: "us-east-1", effect: { kind: "blackhole" } },
      { region: "us-west-2", effect: { kind: "latency", ms: 600_000 } },
    ]);
    const hanging = ["us-east-1", "us-west-2"].map((region) =>
      assertRejects(() => setting.kms(region).send(new ListKeysCommand({})))
    );
    await until(() => aws.calls().length === 1);
    await aws.close();
    await Promise.all(hanging);
  }));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
