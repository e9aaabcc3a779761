/** Regions that die, and what each death costs: calls are counted, never timed. */
import { assert, assertEquals } from "@std/assert";
import type { FaultEffect } from "../../local/aws/mod.ts";
import { eventually } from "../stack/eventually.ts";
import { codeOf, suiteError } from "../unit/support/thrown.ts";
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

/** What a background probe calls. */
const PROBE = "GenerateDataKeyWithoutPlaintext";

const DEATHS: Readonly<Record<string, FaultEffect>> = {
  "refused": { kind: "refuse" },
  "black hole": { kind: "blackhole" },
  "too slow": { kind: "latency", ms: 400 },
  "broken inside": { kind: "error", name: "KMSInternalException" },
};

for (const [how, effect] of Object.entries(DEATHS)) {
  test(`primary ${how}, cold worker: one call there, and then nothing`, async ({ aws }) => {
    const clock = new Clock();
    const { direct, provider } = worker(aws, { now: clock.now });
    aws.faults.set(dead(PRIMARY, effect));
    aws.resetCalls();
    for (let made = 0; made < 30; made++) await direct.roundTrip();
    await quiet(effect);
    // STS found out, and KMS took its word for it.
    assertEquals(callsIn(aws, PRIMARY), 1);
    const { [`${SECOND} GenerateDataKey`]: made, [`${SECOND} Decrypt`]: opened } = counts(aws);
    assertEquals([made, opened, callsIn(aws, THIRD)], [30, 30, 0]);
    assertEquals(provider.regions()[PRIMARY]?.healthy, false);
  });

  test(`primary ${how}, warm worker: one call there, a probe a time, and all is back with it`, async ({ aws }) => {
    const clock = new Clock();
    const { direct, provider } = worker(aws, { now: clock.now });
    await direct.roundTrip();
    assertEquals(callsIn(aws, SECOND), 0);
    aws.faults.set([{ service: "kms", region: PRIMARY, effect }]);
    aws.resetCalls();
    for (let made = 0; made < 30; made++) await direct.roundTrip();
    await quiet(effect);
    assertEquals(callsIn(aws, PRIMARY), 1);
    // After 1, 3, 7 and 15 seconds a probe, however many ask.
    const started = clock.now();
    for (
      const [second, probes] of [[0.9, 0], [1, 1], [2.9, 0], [3, 1], [6.9, 0], [7, 1]] as const
    ) {
      clock.advance(started + second * 1000 - clock.now());
      aws.resetCalls();
      await Promise.all([direct.roundTrip(), direct.roundTrip(), direct.roundTrip()]);
      await quiet(effect);
      assertEquals(callsIn(aws, PRIMARY), probes, `after ${second} s`);
    }
    await settled(provider);
    aws.faults.clear();
    clock.advance(30_000);
    await direct.roundTrip();
    await eventually(() => provider.regions()[PRIMARY]?.healthy, Boolean);
    aws.resetCalls();
    await direct.roundTrip();
    assertEquals(counts(aws), { [`${PRIMARY} GenerateDataKey`]: 1, [`${PRIMARY} Decrypt`]: 1 });
  });
}

/** Until what is under way has ended, and the local AWS, which counts late what it answers late, knows. */
async function quiet({ kind }: FaultEffect): Promise<void> {
  const slow = kind === "blackhole" || kind === "latency";
  await new Promise((resolve) => setTimeout(resolve, slow ? 500 : 50));
}

test("calls under way when the primary dies: each goes elsewhere, and nothing is lost", async ({ aws }) => {
  const clock = new Clock();
  const { direct } = worker(aws, { now: clock.now, attemptTimeoutMs: 2000 });
  await direct.roundTrip();
  aws.faults.set(dead(PRIMARY));
  aws.resetCalls();
  const messages = await Promise.all(Array.from({ length: 40 }, (_, n) => direct.encrypt(`${n}`)));
  const paid = callsIn(aws, PRIMARY);
  assert(paid >= 1 && paid <= 40, `${paid} calls`);
  for (const [n, message] of messages.entries()) {
    assertEquals(await direct.decrypt(message), `${n}`);
  }
  assertEquals(callsIn(aws, PRIMARY), paid);
});

test("two regions dead: one call each, and the third does the work", async ({ aws }) => {
  const { direct } = worker(aws, { now: new Clock().now });
  await direct.roundTrip();
  aws.faults.set([...dead(PRIMARY), ...dead(SECOND)]);
  aws.resetCalls();
  for (let made = 0; made < 10; made++) await direct.roundTrip();
  assertEquals([callsIn(aws, PRIMARY), callsIn(aws, SECOND), callsIn(aws, THIRD)], [1, 1, 20]);
});

test("all regions dead and back: a bounded number of calls, then none, then all is well", async ({ aws }) => {
  const clock = new Clock();
  const { direct, provider } = worker(aws, { now: clock.now });
  const message = await direct.encrypt();
  aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
  aws.resetCalls();
  assertEquals(await codeOf(() => direct.decrypt(message)), "kms_unavailable");
  assertEquals(aws.calls().length, 5);
  assertEquals(await codeOf(() => direct.decrypt(message)), "kms_unavailable");
  assertEquals(aws.calls().length, 9, "three failures a region open its circuit");
  for (let made = 0; made < 20; made++) {
    const error = await suiteError(() => direct.decrypt(message));
    assertEquals([error.code, error.retryAfterSeconds], ["kms_unavailable", 1]);
  }
  assertEquals(aws.calls().length, 9);
  aws.faults.clear();
  clock.advance(1000);
  aws.resetCalls();
  assertEquals(await direct.decrypt(message), "4242", "the very first request is served");
  await settled(provider);
  const probes = [PRIMARY, SECOND, THIRD].map((region) => counts(aws)[`${region} ${PROBE}`]);
  assertEquals([...probes, aws.calls().length], [1, 1, 1, 4]);
});

test("half-open stampede: a thousand callers, one probe", async ({ aws }) => {
  const clock = new Clock();
  const { provider, direct } = worker(aws, {
    now: clock.now,
    attemptTimeoutMs: 10_000,
    timeoutMs: 60_000,
    config: { fallbackRegions: [] },
  });
  const message = await direct.encrypt();
  aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
  assertEquals(await codeOf(() => direct.decrypt(message)), "kms_unavailable");
  aws.faults.clear();
  aws.faults.set([{ operation: PROBE, effect: { kind: "latency", ms: 50 } }]);
  clock.advance(1000);
  aws.resetCalls();
  const answers = await Promise.all(
    Array.from({ length: 1000 }, () => provider.describe("payment").then(({ state }) => state)),
  );
  assertEquals(new Set(answers), new Set(["Enabled"]));
  const [probe] = aws.calls();
  assertEquals(probe?.operation, PROBE);
  assertEquals(aws.calls().length, 1001);
  aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
  assertEquals(await codeOf(() => direct.decrypt(message)), "kms_unavailable");
  clock.advance(1000);
  aws.resetCalls();
  const errors = await Promise.all(
    Array.from({ length: 1000 }, () => codeOf(() => direct.decrypt(message))),
  );
  assertEquals(new Set(errors), new Set(["kms_unavailable"]));
  assertEquals(counts(aws), { [`${PRIMARY} ${PROBE} refuse`]: 1 });
});

test("a thousand cold callers of one branch key: one fetch, in the region that lives", async ({ aws }) => {
  const first = worker(aws);
  const message = await first.encrypt();
  aws.faults.set(dead(PRIMARY, { kind: "blackhole" }));
  const cold = worker(aws, { records: first.records, now: new Clock().now });
  aws.resetCalls();
  const texts = await Promise.all(Array.from({ length: 1000 }, () => cold.decrypt(message)));
  assertEquals(new Set(texts), new Set(["4242"]));
  const { [`${SECOND} Decrypt`]: decrypts } = counts(aws);
  assertEquals([decrypts, callsIn(aws, PRIMARY)], [1, 1]);
});

test("what one worker found out, a cold one does not pay for", async ({ aws }) => {
  const clock = new Clock();
  const news: Parameters<ReturnType<typeof worker>["provider"]["learn"]>[0][number][] = [];
  const first = worker(aws, {
    now: clock.now,
    share: (_, dead) => dead !== undefined && news.push(dead),
  });
  const message = await first.encrypt();
  aws.faults.set(dead(PRIMARY, { kind: "blackhole" }));
  await first.direct.roundTrip();
  assertEquals(news.map(({ region }) => region), [PRIMARY]);
  const second = worker(aws, { records: first.records, now: clock.now });
  second.provider.learn(news);
  aws.resetCalls();
  assertEquals(await second.decrypt(message), "4242");
  await second.direct.roundTrip();
  assertEquals(callsIn(aws, PRIMARY), 0);
});

test("a message written in one region decrypts in every other, by either keyring", async ({ aws }) => {
  const { records } = worker(aws);
  const only = (region: string) =>
    worker(aws, { records, config: { region, fallbackRegions: [] } });
  for (const from of [PRIMARY, SECOND, THIRD]) {
    const writer = only(from);
    const messages = [await writer.direct.encrypt(from), await writer.encrypt(from)];
    for (const to of [PRIMARY, SECOND, THIRD]) {
      const reader = only(to);
      aws.resetCalls();
      for (const message of messages) assertEquals(await reader.decrypt(message), from);
      assertEquals(callsIn(aws, to), aws.calls().length, `${from} to ${to}`);
      assertEquals(counts(aws)[`${to} Decrypt`], 2);
    }
  }
});

test("a region that answers with a refusal is well: no other one is asked", async ({ aws }) => {
  const { direct, provider } = worker(aws);
  const message = await direct.encrypt();
  aws.faults.set([{ service: "kms", effect: { kind: "error", name: "AccessDeniedException" } }]);
  aws.resetCalls();
  await codeOf(() => direct.decrypt(message));
  // A policy may have ended the session alone: another one is tried.
  assertEquals(counts(aws), {
    [`${PRIMARY} Decrypt AccessDeniedException`]: 2,
    [`${PRIMARY} AssumeRole`]: 1,
  });
  for (const name of ["AccessDeniedException", "NotFoundException", "LimitExceededException"]) {
    aws.faults.set([{ service: "kms", effect: { kind: "error", name } }]);
    aws.resetCalls();
    await codeOf(() => direct.decrypt(message));
    assertEquals(counts(aws), { [`${PRIMARY} Decrypt ${name}`]: 1 });
  }
  assert(Object.values(provider.regions()).every(({ healthy }) => healthy));
});

test("a region that describes keys but does not use them stays out: no request pays a second timeout", async ({ aws }) => {
  const clock = new Clock();
  const { provider, direct } = worker(aws, { now: clock.now });
  const message = await direct.encrypt();
  aws.faults.set(
    ["Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"].map(
      (operation) => ({ region: PRIMARY, operation, effect: { kind: "blackhole" } as const }),
    ),
  );
  aws.resetCalls();
  for (let second = 0; second < 10; second++) {
    assertEquals(await direct.decrypt(message), "4242");
    await settled(provider);
    clock.advance(1000);
  }
  assertEquals(counts(aws)[`${PRIMARY} Decrypt blackhole`], 1);
});
