import { assertEquals } from "@std/assert";
import { SuiteError } from "../../functions-shared/errors.ts";
import {
  Attempts,
  type AttemptsOptions,
} from "../../functions-shared/keys/providers/rest/attempts.ts";
import {
  accessDenied,
  keyNotFound,
  unavailable,
} from "../../functions-shared/keys/providers/rest/failure.ts";
import { TokenSource } from "../../functions-shared/keys/providers/rest/token-source.ts";
import { codeOf, suiteError } from "./support/thrown.ts";

/** Attempts whose pauses move a clock of their own. */
function manual(changes: Partial<AttemptsOptions> = {}) {
  const state = { now: 0, pauses: [] as number[], made: 0 };
  const attempts = new Attempts({
    maxAttempts: 4,
    timeoutMs: 10_000,
    attemptTimeoutMs: 2_000,
    now: () => state.now,
    random: () => 0.5,
    sleep: (ms) => {
      state.pauses.push(ms);
      state.now += ms;
      return Promise.resolve();
    },
    ...changes,
  });
  /** Fails as given, attempt by attempt, then answers how many were made. */
  const call = (...failures: readonly unknown[]) =>
    attempts.call({
      operation: "Test",
      attempt: () => {
        const failure = failures[state.made++];
        return failure === undefined ? Promise.resolve(state.made) : Promise.reject(failure);
      },
    });
  return { state, attempts, call };
}

// A signal that times out keeps its timer for as long as it would have taken.
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, sanitizeOps: false, sanitizeResources: false, fn });
}

test("what may pass with time is tried again after pauses that grow, to the last attempt", async () => {
  const { state, call } = manual();
  const failure = unavailable("status 503");
  assertEquals(await call(failure, new TypeError("connection refused"), failure), 4);
  assertEquals(state.pauses, [25, 50, 100]);
  const error = await suiteError(() => manual().call(failure, failure, failure, failure));
  assertEquals([error.code, error.cause], ["kms_unavailable", failure]);
});

test("a refusal is an answer: one attempt, its own code", async () => {
  for (
    const [failure, code] of [
      [accessDenied(), "kms_access_denied"],
      [keyNotFound("k"), "kms_key_unusable"],
    ] as const
  ) {
    const { state, call } = manual();
    assertEquals(await codeOf(() => call(failure)), code);
    assertEquals(state.made, 1);
  }
});

test("expired credentials are replaced once, at once, and not counted as an attempt", async () => {
  const { state, call } = manual({ maxAttempts: 1 });
  assertEquals(await call(accessDenied("credentials")), 2);
  assertEquals(state.pauses, []);
  const again = manual();
  const failure = accessDenied("credentials");
  assertEquals(await codeOf(() => again.call(failure, failure)), "kms_access_denied");
  assertEquals(again.state.made, 2);
});

test("no pause reaches beyond the deadline", async () => {
  const { state, call } = manual({ timeoutMs: 60 });
  const failure = unavailable("status 503");
  assertEquals(await codeOf(() => call(failure, failure, failure)), "kms_unavailable");
  assertEquals([state.made, state.pauses], [2, [25]]);
});

test("what preparing throws ends the call", async () => {
  const { attempts } = manual();
  const prepare = () => Promise.reject(new SuiteError("kms_access_denied"));
  const call = () =>
    attempts.call({ operation: "Test", attempt: () => Promise.resolve(1), prepare });
  assertEquals(await codeOf(call), "kms_access_denied");
});

test("a token serves while its renewal is under way or fails, and not beyond its life", async () => {
  const state = { now: 0, issued: 0 };
  const source = new TokenSource((last) => {
    state.issued++;
    if (last !== undefined && state.now < 100) return Promise.reject(new Error("no renewal"));
    return Promise.resolve({
      value: `token ${state.issued}`,
      renewAt: state.now + 50,
      expiresAt: state.now + 100,
    });
  }, () => state.now);
  const [one, two] = await Promise.all([source.get(), source.get()]);
  assertEquals([one.value, two.value, state.issued], ["token 1", "token 1", 1]);
  state.now = 60;
  assertEquals([(await source.get()).value, state.issued], ["token 1", 2]);
  // Until the failed renewal is over: who has no token would wait for it.
  await new Promise((resolve) => setTimeout(resolve));
  state.now = 100;
  assertEquals((await source.get()).value, "token 3");
  source.invalidate(one);
  assertEquals((await source.get()).value, "token 3");
});
