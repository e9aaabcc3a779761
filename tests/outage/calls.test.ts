/** Calls that are throttled, cut off, refused for a stale session or a wrong clock, or given up. */
import { assert, assertEquals } from "@std/assert";
import { eventually } from "../stack/eventually.ts";
import { codeOf } from "../unit/support/thrown.ts";
import {
  callsIn,
  Clock,
  counts,
  dead,
  PRIMARY,
  SECOND,
  settled,
  test,
  THIRD,
  worker,
} from "./workers.ts";

const HOUR_MS = 3_600_000;

test("a throttling burst in the primary: other regions take it, and none is marked", async ({ aws }) => {
  const { direct, provider } = worker(aws, { attemptTimeoutMs: 2000 });
  await direct.roundTrip();
  aws.faults.set([{
    region: PRIMARY,
    effect: { kind: "error", name: "ThrottlingException" },
    times: 20,
  }]);
  aws.resetCalls();
  const messages = await Promise.all(Array.from({ length: 20 }, () => direct.encrypt()));
  assertEquals(counts(aws), {
    [`${PRIMARY} GenerateDataKey ThrottlingException`]: 20,
    [`${SECOND} GenerateDataKey`]: 20,
  });
  assert(Object.values(provider.regions()).every(({ healthy }) => healthy));
  aws.resetCalls();
  for (const message of messages) assertEquals(await direct.decrypt(message), "4242");
  assertEquals(counts(aws), { [`${PRIMARY} Decrypt`]: 20 });
});

test("throttled everywhere: five calls and no more, then an honest answer", async ({ aws }) => {
  const { direct } = worker(aws);
  const message = await direct.encrypt();
  const throttle = { kind: "error", name: "ThrottlingException" } as const;
  aws.faults.set([{ service: "kms", effect: throttle, times: 4 }]);
  aws.resetCalls();
  assertEquals(await direct.decrypt(message), "4242");
  assertEquals(aws.calls().map(({ region }) => region), [PRIMARY, SECOND, THIRD, PRIMARY, PRIMARY]);
  aws.faults.set([{ service: "kms", effect: throttle }]);
  aws.resetCalls();
  assertEquals(await codeOf(() => direct.decrypt(message)), "kms_unavailable");
  assertEquals(aws.calls().length, 5);
});

test("a session that AWS calls expired in the middle: one renewal for all, nothing lost", async ({ aws }) => {
  const { direct, provider } = worker(aws, { attemptTimeoutMs: 2000 });
  await direct.roundTrip();
  aws.faults.set([{
    service: "kms",
    effect: { kind: "error", name: "ExpiredTokenException" },
    times: 10,
  }]);
  aws.resetCalls();
  await Promise.all(Array.from({ length: 10 }, () => direct.encrypt()));
  assertEquals(counts(aws), {
    [`${PRIMARY} GenerateDataKey ExpiredTokenException`]: 10,
    [`${PRIMARY} AssumeRole`]: 1,
    [`${PRIMARY} GenerateDataKey`]: 10,
  });
  assert(Object.values(provider.regions()).every(({ healthy }) => healthy));
});

test("a session that stays expired is refused after one renewal", async ({ aws }) => {
  const { direct } = worker(aws);
  await direct.roundTrip();
  aws.faults.set([{ service: "kms", effect: { kind: "error", name: "ExpiredTokenException" } }]);
  aws.resetCalls();
  assertEquals(await codeOf(() => direct.encrypt()), "kms_access_denied");
  assertEquals(counts(aws), {
    [`${PRIMARY} GenerateDataKey ExpiredTokenException`]: 2,
    [`${PRIMARY} AssumeRole`]: 1,
  });
});

test("a session that ends by the clock is renewed before it does, beside the work", async ({ aws }) => {
  const clock = new Clock();
  const { direct } = worker(aws, { now: clock.now });
  await direct.roundTrip();
  clock.advance(HOUR_MS - 60_000);
  aws.resetCalls();
  await Promise.all(Array.from({ length: 10 }, () => direct.encrypt()));
  await direct.encrypt();
  assertEquals(counts(aws), { [`${PRIMARY} AssumeRole`]: 1, [`${PRIMARY} GenerateDataKey`]: 11 });
});

for (const [what, offsetMs] of [["slow", HOUR_MS], ["two hours fast", -2 * HOUR_MS]] as const) {
  test(`a machine whose clock is ${what}: set right once, for all services and regions`, async ({ aws }) => {
    const { direct, provider } = worker(aws);
    aws.clock.set(offsetMs);
    aws.resetCalls();
    await direct.roundTrip();
    const calls = aws.calls().map((
      { operation, errorName },
    ) => [operation, errorName !== undefined]);
    assertEquals(calls, [
      ["AssumeRole", true],
      ["AssumeRole", false],
      ["GenerateDataKey", false],
      // The account of the keys, learnt once.
      ["DescribeKey", false],
      ["Decrypt", false],
    ]);
    aws.resetCalls();
    for (let made = 0; made < 10; made++) await direct.roundTrip();
    assertEquals(counts(aws), { [`${PRIMARY} GenerateDataKey`]: 10, [`${PRIMARY} Decrypt`]: 10 });
    aws.faults.set(dead(PRIMARY));
    aws.resetCalls();
    await direct.roundTrip();
    assertEquals([callsIn(aws, PRIMARY), callsIn(aws, SECOND)], [1, 2]);
    assert(provider.regions()[SECOND]?.healthy);
  });
}

test("a clock that jumps while the session lasts: one refusal, then right again", async ({ aws }) => {
  const { direct } = worker(aws);
  await direct.roundTrip();
  aws.clock.set(20 * 60_000);
  aws.resetCalls();
  await direct.roundTrip();
  const refused = aws.calls().filter(({ errorName }) => errorName !== undefined);
  assertEquals([refused.length, aws.calls().length], [1, 3]);
});

test("a clock that jumps beyond the session: one refusal renews both", async ({ aws }) => {
  const { direct } = worker(aws);
  await direct.roundTrip();
  aws.clock.set(2 * HOUR_MS);
  aws.resetCalls();
  const message = await direct.encrypt();
  const calls = aws.calls().map(({ operation, errorName }) => `${operation} ${errorName ?? "ok"}`);
  assertEquals(calls, [
    "GenerateDataKey ExpiredTokenException",
    "AssumeRole ok",
    "GenerateDataKey ok",
  ]);
  assertEquals(await direct.decrypt(message), "4242");
});

test("work that was done though its answer was lost is done again, and leaves one branch key", async ({ aws }) => {
  const { encrypt, decrypt, records, provider } = worker(aws, { attemptTimeoutMs: 2000 });
  await provider.wrappingKeyId("payment");
  aws.faults.set(
    ["GenerateDataKeyWithoutPlaintext", "ReEncrypt", "Decrypt"].map((operation) => ({
      operation,
      effect: { kind: "drop_after" },
      times: 1,
    })),
  );
  aws.resetCalls();
  const message = await encrypt();
  const made = (operation: string, status?: number) =>
    aws.calls().filter((call) =>
      call.operation === operation && (status === undefined || call.status === status)
    ).length;
  for (
    const [operation, needed] of [["GenerateDataKeyWithoutPlaintext", 2], ["ReEncrypt", 1], [
      "Decrypt",
      1,
    ]] as const
  ) {
    assertEquals([made(operation, 0), made(operation)], [1, needed + 1], operation);
  }
  assertEquals(records.types("payment"), ["beacon:ACTIVE", "branch:ACTIVE", "branch:version"]);
  assertEquals(await decrypt(message), "4242");
  assertEquals(await worker(aws, { records }).decrypt(message), "4242");
});

test("STS dead in the primary only: KMS there is used again as soon as it has shown that it lives", async ({ aws }) => {
  const clock = new Clock();
  const { direct, provider } = worker(aws, { now: clock.now });
  aws.faults.set([{ service: "sts", region: PRIMARY, effect: { kind: "blackhole" } }]);
  aws.resetCalls();
  await direct.roundTrip();
  const sts = aws.calls().filter(({ service }) => service === "sts").map(({ region }) => region);
  assertEquals([sts, callsIn(aws, PRIMARY)], [[PRIMARY, SECOND], 1]);
  clock.advance(1000);
  await direct.roundTrip();
  await eventually(() => provider.regions()[PRIMARY]?.healthy, Boolean);
  aws.resetCalls();
  for (let made = 0; made < 5; made++) await direct.roundTrip();
  assertEquals(counts(aws), { [`${PRIMARY} GenerateDataKey`]: 5, [`${PRIMARY} Decrypt`]: 5 });
});

test("STS dead everywhere: a worker with a session goes on, a cold one says so, and KMS is not blamed", async ({ aws }) => {
  const warm = worker(aws);
  const message = await warm.direct.encrypt();
  aws.faults.set([{ service: "sts", effect: { kind: "refuse" } }]);
  assertEquals(await warm.direct.decrypt(message), "4242");
  const cold = worker(aws, { records: warm.records });
  aws.resetCalls();
  assertEquals(await codeOf(() => cold.direct.decrypt(message)), "kms_unavailable");
  assertEquals(aws.calls().filter(({ service }) => service === "kms").length, 0);
  assertEquals(aws.calls().length, 5);
  assertEquals(cold.provider.regions()[PRIMARY]?.consecutive_failures, 0);
  aws.faults.clear();
  assertEquals(await cold.direct.decrypt(message), "4242");
});

test("a key disabled while it is cached works until its time is over, and at once with a time of nothing", async ({ aws, keys }) => {
  const clock = new Clock();
  const cached = worker(aws, { now: clock.now });
  const message = await cached.encrypt();
  await cached.decrypt(message);
  const careful = worker(aws, { records: cached.records, ttlMs: 0 });
  assertEquals(await careful.decrypt(message), "4242");
  await aws.asOperator(PRIMARY, "DisableKey", { KeyId: keys.payment });
  aws.resetCalls();
  for (let made = 0; made < 50; made++) await cached.roundTrip();
  assertEquals(counts(aws), {});
  assertEquals(await codeOf(() => careful.decrypt(message)), "kms_key_unusable");
  assertEquals(await codeOf(() => careful.encrypt()), "kms_key_unusable");
  assertEquals(counts(aws), { [`${PRIMARY} Decrypt DisabledException`]: 2 });
  clock.advance(60_000);
  aws.resetCalls();
  assertEquals(await codeOf(() => cached.decrypt(message)), "kms_key_unusable");
  assertEquals(await codeOf(() => cached.encrypt()), "kms_key_unusable");
  assertEquals(counts(aws), { [`${PRIMARY} Decrypt DisabledException`]: 2 });
  await aws.asOperator(PRIMARY, "EnableKey", { KeyId: keys.payment });
  await cached.roundTrip();
  assertEquals(await careful.decrypt(message), "4242");
});

test("KMS gone while branch keys are cached: nobody notices, and no call is made", async ({ aws }) => {
  const { encrypt, decrypt, roundTrip } = worker(aws);
  await decrypt(await encrypt());
  aws.faults.set([{ effect: { kind: "refuse" } }]);
  aws.resetCalls();
  for (let made = 0; made < 100; made++) await roundTrip();
  assertEquals(counts(aws), {});
});

test("two KMS calls serve a thousand messages", async ({ aws }) => {
  const first = worker(aws);
  await first.encrypt();
  const { encrypt, decrypt, provider } = worker(aws, { records: first.records });
  await provider.wrappingKeyId("payment");
  aws.resetCalls();
  const messages = await Promise.all(Array.from({ length: 1000 }, (_, n) => encrypt(`${n}`)));
  for (const [n, message] of messages.entries()) assertEquals(await decrypt(message), `${n}`);
  assertEquals(counts(aws), { [`${PRIMARY} Decrypt`]: 2 });
});

test("a client that hangs up: no further call for it, and no region is blamed", async ({ aws }) => {
  const { direct, provider } = worker(aws, { attemptTimeoutMs: 5000, timeoutMs: 10_000 });
  const message = await direct.encrypt();
  aws.faults.set([{ service: "kms", effect: { kind: "blackhole" } }]);
  aws.resetCalls();
  const client = new AbortController();
  const failed = codeOf(() => direct.decrypt(message, client.signal));
  await eventually(() => aws.calls().length, (made) => made > 0);
  client.abort();
  assertEquals(await failed, "kms_unavailable");
  await settled(provider);
  assertEquals(counts(aws), { [`${PRIMARY} Decrypt blackhole`]: 1 });
  assert(Object.values(provider.regions()).every(({ healthy }) => healthy));
});

test("nobody waits for a branch key any more: no further call for it either", async ({ aws }) => {
  const first = worker(aws);
  const message = await first.encrypt();
  for (const ttlMs of [60_000, 0]) {
    const { decrypt, provider } = worker(aws, {
      records: first.records,
      attemptTimeoutMs: 400,
      ttlMs,
    });
    await provider.wrappingKeyId("payment");
    aws.faults.set([{ operation: "Decrypt", effect: { kind: "blackhole" } }]);
    aws.resetCalls();
    const clients = [new AbortController(), new AbortController()];
    const failed = clients.map(({ signal }) => codeOf(() => decrypt(message, signal)));
    await eventually(() => aws.calls().length, (made) => made > 0);
    const made = aws.calls().length;
    for (const client of clients) client.abort();
    assertEquals(await Promise.all(failed), ["kms_unavailable", "kms_unavailable"]);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assertEquals(aws.calls().length, made, `time ${ttlMs}`);
    assert(Object.values(provider.regions()).every(({ healthy }) => healthy));
    aws.faults.clear();
    assertEquals(await decrypt(message), "4242");
  }
});

test("one of many who wait for a branch key hangs up: the others get it", async ({ aws }) => {
  const first = worker(aws);
  const message = await first.encrypt();
  const { decrypt, provider } = worker(aws, { records: first.records, attemptTimeoutMs: 2000 });
  await provider.wrappingKeyId("payment");
  aws.faults.set([{ operation: "Decrypt", effect: { kind: "latency", ms: 200 } }]);
  aws.resetCalls();
  const client = new AbortController();
  const impatient = codeOf(() => decrypt(message, client.signal));
  const patient = [decrypt(message), decrypt(message)];
  await Promise.resolve();
  client.abort();
  assertEquals(await impatient, "kms_unavailable");
  assertEquals(await Promise.all(patient), ["4242", "4242"]);
  assertEquals(counts(aws), { [`${PRIMARY} Decrypt`]: 1 });
});
