import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { SuiteError } from "../../functions-shared/errors.ts";
import {
  type AttemptReport,
  type CallOptions,
  Failover,
  type FailoverOptions,
} from "../../functions-shared/keys/providers/aws/failover.ts";
import { RefusedSession } from "../../functions-shared/keys/providers/aws/errors.ts";
import { Regions } from "../../functions-shared/keys/providers/aws/regions.ts";
import { codeOf, suiteError } from "./support/thrown.ts";

const [A, B, C] = ["us-east-1", "us-west-2", "eu-west-1"] as const;

const named = (name: string) => Object.assign(new Error("as AWS words it"), { name });
const skewed = () =>
  Object.assign(named("InvalidSignatureException"), { $metadata: { clockSkewCorrected: true } });

/** What an attempt in a region does; `undefined` answers. */
type Play = (region: string, call: number) => Error | undefined;

/** Attempts that are played, on a clock that only pauses move. */
function setting(
  options: Partial<FailoverOptions> & { readonly regions?: readonly string[] } = {},
) {
  const state = {
    now: 1_000_000,
    attempts: [] as string[],
    sleeps: [] as number[],
    probes: [] as string[],
    reports: [] as AttemptReport[],
    play: (() => undefined) as Play,
    probe: (): Promise<unknown> => Promise.reject(new TypeError("refused")),
    /** Milliseconds each attempt takes. */
    takes: 0,
  };
  const regions = new Regions(options.regions ?? [A, B, C], {
    threshold: 3,
    probeAfterMs: 1000,
    maxProbeAfterMs: 30_000,
    probe: (region) => {
      state.probes.push(region);
      return state.probe();
    },
    now: () => state.now,
  });
  const failover = new Failover(regions, {
    maxAttempts: 5,
    timeoutMs: 10_000,
    attemptTimeoutMs: 2000,
    now: () => state.now,
    random: () => 1,
    sleep: (ms) => {
      state.sleeps.push(ms);
      state.now += ms;
      return Promise.resolve();
    },
    onAttempt: (report) => state.reports.push(report),
    ...options,
  });
  const call = (callOptions: CallOptions = {}) =>
    failover.call(async (region) => {
      state.attempts.push(region);
      const failure = state.play(region, state.attempts.length);
      await Promise.resolve();
      state.now += state.takes;
      if (failure !== undefined) throw failure;
      return `answer of ${region}`;
    }, callOptions);
  return { state, regions, failover, call };
}

Deno.test("all well: one attempt, in the primary", async () => {
  const { state, call } = setting();
  assertEquals(await call(), `answer of ${A}`);
  assertEquals([state.attempts, state.sleeps], [[A], []]);
});

Deno.test("a region that breaks costs one attempt, and then nothing", async () => {
  const { state, call } = setting();
  state.play = (region) => region === A ? new TypeError("refused") : undefined;
  for (let calls = 0; calls < 100; calls++) assertEquals(await call(), `answer of ${B}`);
  assertEquals(state.attempts.filter((region) => region === A).length, 1);
  assertEquals(state.attempts.length, 101);
  assertEquals(state.sleeps, [], "another region is asked at once");
});

Deno.test("it is probed in the background, each time later, and used again when it is back", async () => {
  const { state, call } = setting();
  state.play = (region) => region === A ? new TypeError("refused") : undefined;
  await call();
  for (let second = 0; second < 20; second++) {
    state.now += 1000;
    assertEquals(await call(), `answer of ${B}`);
    await new Promise((resolve) => setTimeout(resolve));
  }
  assertEquals(state.probes, [A, A, A, A], "after 1, 3, 7 and 15 seconds");
  state.play = () => undefined;
  state.probe = () => Promise.resolve();
  state.now += 30_000;
  await call();
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals(await call(), `answer of ${A}`);
});

Deno.test("a thousand calls under way when a region dies: each goes elsewhere, nothing is lost", async () => {
  const { state, call } = setting();
  state.play = (region) => region === A ? new TypeError("reset") : undefined;
  const answers = await Promise.all(Array.from({ length: 1000 }, () => call()));
  assertEquals(new Set(answers), new Set([`answer of ${B}`]));
  assertEquals(state.attempts.length, 2000);
  state.attempts.length = 0;
  await call();
  assertEquals(state.attempts, [B]);
});

Deno.test("all dead: each region in turn, then the best again after a pause, five attempts in all", async () => {
  const { state, call } = setting();
  state.play = () => new TypeError("refused");
  assertEquals(await codeOf(call), "kms_unavailable");
  assertEquals(state.attempts, [A, B, C, A, A]);
  assertEquals(state.sleeps, [200, 400]);
  assertEquals(await codeOf(call), "kms_unavailable");
});

Deno.test("with all circuits open nothing is asked, and the answer says when to come back", async () => {
  const { state, regions, call } = setting();
  for (const name of [A, B, C]) for (const _ of [1, 2, 3]) regions.failed(name);
  state.now += 500;
  const error = await suiteError(call);
  assertEquals([error.code, error.retryAfterSeconds], ["kms_unavailable", 1]);
  assertEquals([state.attempts, state.probes], [[], []]);
});

Deno.test("half open: a thousand callers wait for one probe, and all go on when it succeeds", async () => {
  const { state, regions, call } = setting({ regions: [A] });
  for (const _ of [1, 2, 3]) regions.failed(A);
  state.now += 1000;
  let succeed = (_value?: unknown) => {};
  state.probe = () => new Promise((resolve) => succeed = resolve);
  const calls = Array.from({ length: 1000 }, () => call());
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals([state.probes, state.attempts.length], [[A], 0]);
  succeed();
  assertEquals(new Set(await Promise.all(calls)), new Set([`answer of ${A}`]));
  assertEquals([state.probes.length, state.attempts.length], [1, 1000]);
});

Deno.test("half open: when the probe fails all are told so, without an attempt", async () => {
  const { state, regions, call } = setting({ regions: [A] });
  for (const _ of [1, 2, 3]) regions.failed(A);
  state.now += 1000;
  const errors = await Promise.all(Array.from({ length: 1000 }, () => suiteError(call)));
  assertEquals(new Set(errors.map(({ code }) => code)), new Set(["kms_unavailable"]));
  assertEquals(new Set(errors.map((error) => error.retryAfterSeconds)), new Set([2]));
  assertEquals([state.probes, state.attempts], [[A], []]);
});

Deno.test("throttling goes on, at once elsewhere and with pauses then, and marks no region", async () => {
  const { state, regions, call } = setting();
  state.play = (_, made) => made < 5 ? named("ThrottlingException") : undefined;
  assertEquals(await call(), `answer of ${A}`);
  assertEquals(state.attempts, [A, B, C, A, A]);
  assertEquals(state.sleeps, [200, 400]);
  for (const report of Object.values(regions.report())) assert(report.healthy);
});

for (
  const [name, code] of [
    ["AccessDeniedException", "kms_access_denied"],
    ["InvalidCiphertextException", "decryption_failed"],
    ["IncorrectKeyException", "decryption_failed"],
    ["DisabledException", "kms_key_unusable"],
    ["NotFoundException", "kms_key_unusable"],
    ["LimitExceededException", "kms_key_unusable"],
    ["KMSInvalidStateException", "kms_key_unusable"],
  ] as const
) {
  Deno.test(`${name} is an answer: one attempt, and the region is well`, async () => {
    const { state, regions, call } = setting();
    for (const _ of [1, 2]) regions.failed(A);
    for (const region of [B, C]) for (const _ of [1, 2, 3]) regions.failed(region);
    state.play = () => named(name);
    assertEquals(await codeOf(call), code);
    assertEquals(state.attempts, [A]);
    assertEquals(regions.report()[A]?.healthy, true);
  });
}

Deno.test("a key that is still being replicated to a region is tried elsewhere", async () => {
  const { state, regions, call } = setting();
  const creating = Object.assign(new Error("arn:... is creating."), {
    name: "KMSInvalidStateException",
  });
  state.play = (region) => region === A ? creating : undefined;
  assertEquals(await call(), `answer of ${B}`);
  assert(regions.report()[A]?.healthy);
});

for (
  const [what, failure] of [["expired credentials", () => named("ExpiredTokenException")], [
    "a wrong clock",
    skewed,
  ]] as const
) {
  Deno.test(`${what}: prepared again and asked again, once, in the same region, at once`, async () => {
    const { state, regions, call } = setting({ maxAttempts: 1 });
    let prepared = 0;
    const prepare = () => Promise.resolve(prepared++);
    state.play = (_, made) => made === 1 ? failure() : undefined;
    assertEquals(await call({ prepare }), `answer of ${A}`);
    assertEquals([state.attempts, state.sleeps, prepared], [[A, A], [], 2]);
    state.play = failure;
    assertEquals(await codeOf(() => call({ prepare })), "kms_access_denied");
    assertEquals(state.attempts.length, 4);
    assert(regions.report()[A]?.healthy);
  });
}

/** A refusal whose session the exchange replaces, or not, in `takes` milliseconds on the clock. */
function refused(state: { now: number }, takes: number, replaced: boolean) {
  const exchanges: number[] = [];
  const failure = () =>
    new RefusedSession(named("AccessDeniedException"), () => {
      exchanges.push(state.now);
      state.now += takes;
      return Promise.resolve(replaced);
    });
  return { exchanges, failure };
}

Deno.test("the exchange of a refused session is on nobody's time: region, metric", async () => {
  const { state, regions, call } = setting();
  state.takes = 7;
  const { exchanges, failure } = refused(state, 900, true);
  state.play = (_, made) => made === 1 ? failure() : undefined;
  assertEquals(await call(), `answer of ${A}`);
  assertEquals([state.attempts, exchanges.length], [[A, A], 1]);
  assertEquals(state.reports.map(({ success, durationMs }) => [success, durationMs]), [
    [false, 7],
    [true, 7],
  ]);
  assertEquals(regions.report()[A]?.latency_ms, 7);
});

Deno.test("a refusal is final when no other session is to be had, or the other is refused too", async () => {
  for (const [replaced, attempts] of [[false, [A]], [true, [A, A]]] as const) {
    const { state, call } = setting();
    const { exchanges, failure } = refused(state, 0, replaced);
    state.play = failure;
    assertEquals(await codeOf(call), "kms_access_denied");
    assertEquals([state.attempts, exchanges.length], [[...attempts], 1]);
  }
});

Deno.test("an exchange that outlasts the call, or its client, leaves the refusal as the answer", async () => {
  for (const [options, hangsUp] of [[{ timeoutMs: 5 }, false], [{}, true]] as const) {
    const { state, call } = setting(options);
    const client = new AbortController();
    state.play = () => {
      if (hangsUp) setTimeout(() => client.abort());
      return new RefusedSession(named("AccessDeniedException"), () => new Promise(() => {}));
    };
    // The timer of AbortSignal.timeout alone would not keep the process waiting.
    const alive = setInterval(() => {}, 5);
    assertEquals(await codeOf(() => call({ signal: client.signal })), "kms_access_denied");
    clearInterval(alive);
    assertEquals(state.attempts, [A]);
  }
});

Deno.test("what cannot be prepared fails as it is, and marks no region", async () => {
  const { state, regions, call } = setting();
  const failure = new SuiteError("kms_access_denied");
  const error = await suiteError(() => call({ prepare: () => Promise.reject(failure) }));
  assertStrictEquals(error, failure);
  assertEquals(state.attempts, []);
  assert(regions.report()[A]?.healthy);
});

Deno.test("only regions that serve the key are asked", async () => {
  const { state, call } = setting();
  state.play = () => new TypeError("refused");
  const serves = (region: string) => region === C;
  assertEquals(await codeOf(() => call({ serves })), "kms_unavailable");
  assertEquals(state.attempts, [C, C, C], "its circuit is open then");
  state.attempts.length = 0;
  assertEquals(await codeOf(() => call({ serves: () => false })), "kms_unavailable");
  assertEquals(state.attempts, []);
});

Deno.test("the deadline of the whole call ends it", async () => {
  const { state, call } = setting();
  state.takes = 4000;
  state.play = () => named("ThrottlingException");
  assertEquals(await codeOf(call), "kms_unavailable");
  assertEquals(state.attempts, [A, B, C]);
});

Deno.test("no pause is begun that would outlast the deadline", async () => {
  const { state, call } = setting({ timeoutMs: 250 });
  state.play = () => named("ThrottlingException");
  assertEquals(await codeOf(call), "kms_unavailable");
  assertEquals(state.sleeps, [200]);
});

Deno.test("an attempt gets half of the deadline at most, so that another region gets its chance", async () => {
  // The one test on real time: AbortSignal.timeout has no other clock.
  const { state, failover, regions } = setting({ timeoutMs: 60 });
  const alive = setInterval(() => {}, 5);
  const answer = await failover.call((region, signal) => {
    state.attempts.push(region);
    if (region !== A) return Promise.resolve(region);
    return new Promise((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason))
    );
  });
  clearInterval(alive);
  assertEquals([answer, state.attempts], [B, [A, B]]);
  assertEquals(regions.report()[A]?.consecutive_failures, 1);
});

Deno.test("an attempt that our own deadline cut short says nothing about its region", async () => {
  const { state, failover, regions } = setting({ timeoutMs: 1000, attemptTimeoutMs: 500 });
  const alive = setInterval(() => {}, 5);
  const error = await suiteError(() =>
    failover.call((region, signal) => {
      state.attempts.push(region);
      if (region === A) {
        state.now += 980;
        return Promise.reject(new TypeError("reset"));
      }
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          state.now += 20;
          reject(signal.reason);
        })
      );
    })
  );
  clearInterval(alive);
  assertEquals(error.code, "kms_unavailable");
  assertEquals(state.attempts, [A, B]);
  assertEquals(regions.report()[B]?.healthy, true);
});

Deno.test("a client that hangs up ends the work: no further attempt, no mark", async () => {
  const { state, regions, failover } = setting();
  const client = new AbortController();
  const error = await suiteError(() =>
    failover.call((region, signal) => {
      state.attempts.push(region);
      queueMicrotask(() => client.abort());
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      );
    }, { signal: client.signal })
  );
  assertEquals([error.code, state.attempts], ["kms_unavailable", [A]]);
  assert(regions.report()[A]?.healthy);
  await codeOf(() => failover.call(() => Promise.reject(), { signal: client.signal }));
  assertEquals(state.attempts, [A], "and none for one that was gone before");
});

Deno.test("a client that hangs up during a pause or a wait for a probe waits no longer", async () => {
  const { state, regions, call } = setting({ regions: [A], sleep: () => new Promise(() => {}) });
  state.play = () => named("ThrottlingException");
  const client = new AbortController();
  const pausing = codeOf(() => call({ signal: client.signal }));
  await new Promise((resolve) => setTimeout(resolve));
  client.abort();
  assertEquals(await pausing, "kms_unavailable");
  for (const _ of [1, 2, 3]) regions.failed(A);
  state.now += 1000;
  state.probe = () => new Promise(() => {});
  const second = new AbortController();
  const waiting = codeOf(() => call({ signal: second.signal }));
  await new Promise((resolve) => setTimeout(resolve));
  second.abort();
  assertEquals(await waiting, "kms_unavailable");
  assertEquals(state.attempts, [A]);
});

Deno.test("pauses are full jitter: from nothing to a bound that doubles to its cap", async () => {
  await fc.assert(
    fc.asyncProperty(fc.double({ min: 0, max: 0.999, noNaN: true }), async (jitter) => {
      const { state, call } = setting({
        regions: [A],
        random: () => jitter,
        maxAttempts: 12,
        timeoutMs: 1_000_000,
        backoffBaseMs: 50,
        backoffCapMs: 2000,
      });
      state.play = () => named("ThrottlingException");
      await codeOf(call);
      const bounds = [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000, 2000];
      assertEquals(state.sleeps, bounds.map((bound) => jitter * bound));
    }),
  );
});

Deno.test("every attempt is reported: where, the how manieth, and how it ended", async () => {
  const { state, call } = setting();
  state.takes = 7;
  state.play = (region, made) =>
    region === A ? new TypeError("reset") : made === 2 ? named("ThrottlingException") : undefined;
  await call({ operation: "Decrypt" });
  const shared = { operation: "Decrypt", durationMs: 7 };
  assertEquals(state.reports, [
    { ...shared, region: A, attempt: 0, failedOver: false, success: false },
    { ...shared, region: B, attempt: 1, failedOver: true, success: false },
    { ...shared, region: C, attempt: 2, failedOver: true, success: true },
  ]);
});

Deno.test("a refusal is reported as no success: alarms must hear of a disabled key", async () => {
  const { state, call } = setting();
  state.play = () => named("DisabledException");
  assertEquals(await codeOf(() => call({ operation: "Decrypt" })), "kms_key_unusable");
  assertEquals(state.reports.map(({ region, success }) => [region, success]), [[A, false]]);
});
