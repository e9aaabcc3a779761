import { assertEquals, assertStrictEquals } from "@std/assert";
import {
  type AwsCredentials,
  CredentialSource,
  RENEW_BEFORE_MS,
  REPLACE_REFUSED_AFTER_MS,
} from "../../functions-shared/keys/providers/aws/credentials.ts";
import { codeOf } from "./support/thrown.ts";

const CALLER = {
  accessKeyId: "AKIAEXAMPLEEXAMPLE00",
  secretAccessKey: "example-secret-access-key-of-nobody",
  sessionToken: undefined,
};
const ROLE = {
  arn: "arn:aws:iam::123456789012:role/kms",
  externalId: "external-id",
  sessionName: "tests",
  durationSeconds: 3600,
};
const HOUR_MS = 3_600_000;

/** Sessions of an hour on a clock that is set by hand; `fail` makes the next exchanges fail. */
function source() {
  const state = { now: 0, exchanges: 0, fail: undefined as Error | undefined };
  const credentials = new CredentialSource({ ...CALLER, role: ROLE }, {
    assumeRole: async (): Promise<AwsCredentials> => {
      const exchange = ++state.exchanges;
      await Promise.resolve();
      if (state.fail !== undefined) throw state.fail;
      return {
        accessKeyId: `ASIA${exchange}`,
        secretAccessKey: "secret",
        sessionToken: "token",
        expiresAt: state.now + HOUR_MS,
      };
    },
    timeoutMs: 1000,
    now: () => state.now,
  });
  const accessKeyId = async () => (await credentials.get()).accessKeyId;
  return { state, credentials, accessKeyId };
}

function throttled(): Error {
  return Object.assign(new Error("Rate exceeded"), { name: "ThrottlingException" });
}

/** Lets what runs in the background finish. */
function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

Deno.test("without a role the configured key itself is used, for ever", async () => {
  let exchanges = 0;
  const credentials = new CredentialSource({ ...CALLER, sessionToken: "token", role: undefined }, {
    assumeRole: () => Promise.reject(new Error(`exchange ${++exchanges}`)),
    timeoutMs: 1000,
    now: () => Number.MAX_SAFE_INTEGER,
  });
  assertEquals(await credentials.get(), { ...CALLER, sessionToken: "token" });
  assertEquals(exchanges, 0);
});

Deno.test("concurrent callers wait for one exchange", async () => {
  const { state, accessKeyId } = source();
  const ids = await Promise.all(Array.from({ length: 20 }, accessKeyId));
  assertEquals(new Set(ids), new Set(["ASIA1"]));
  assertEquals(state.exchanges, 1);
});

Deno.test("a session is renewed five minutes before it expires, and not earlier", async () => {
  const { state, accessKeyId } = source();
  await accessKeyId();
  state.now = HOUR_MS - RENEW_BEFORE_MS - 1;
  assertEquals(await accessKeyId(), "ASIA1");
  assertEquals(state.exchanges, 1);
  state.now++;
  await accessKeyId();
  await settled();
  assertEquals(state.exchanges, 2);
  assertEquals(await accessKeyId(), "ASIA2");
});

Deno.test("nobody waits for a renewal while the old session is good", async () => {
  const { state, accessKeyId } = source();
  await accessKeyId();
  state.now = HOUR_MS - 1;
  assertEquals(await Promise.all([accessKeyId(), accessKeyId()]), ["ASIA1", "ASIA1"]);
  assertEquals(state.exchanges, 2, "one renewal for both");
});

Deno.test("when renewals fail, the old session serves until it expires, and each use tries again", async () => {
  const { state, accessKeyId } = source();
  await accessKeyId();
  state.fail = throttled();
  state.now = HOUR_MS - 2;
  assertEquals(await accessKeyId(), "ASIA1");
  await settled();
  state.now = HOUR_MS - 1;
  assertEquals(await accessKeyId(), "ASIA1");
  await settled();
  assertEquals(state.exchanges, 3);
  state.now = HOUR_MS;
  assertEquals(await codeOf(accessKeyId), "kms_unavailable");
  state.fail = undefined;
  assertEquals(await accessKeyId(), "ASIA5");
});

Deno.test("a first exchange that fails is not kept", async () => {
  const { state, accessKeyId } = source();
  state.fail = Object.assign(new Error("not authorized"), { name: "AccessDenied" });
  assertEquals(await codeOf(accessKeyId), "kms_access_denied");
  state.fail = undefined;
  assertEquals(await accessKeyId(), "ASIA2");
});

Deno.test("a session that AWS calls expired is exchanged at once", async () => {
  const { state, credentials, accessKeyId } = source();
  credentials.invalidate(await credentials.get());
  assertEquals(await accessKeyId(), "ASIA2");
  assertEquals(state.exchanges, 2);
});

Deno.test("late news of an older session do not throw the newer one away", async () => {
  const { state, credentials, accessKeyId } = source();
  const old = await credentials.get();
  credentials.invalidate(old);
  const fresh = await credentials.get();
  credentials.invalidate(old);
  assertStrictEquals(await credentials.get(), fresh);
  assertEquals(await accessKeyId(), "ASIA2");
  assertEquals(state.exchanges, 2);
});

Deno.test("a refused session is exchanged once for all who were refused, and not again at once", async () => {
  const { state, credentials, accessKeyId } = source();
  const old = await credentials.get();
  assertEquals(await Promise.all([credentials.replace(old), credentials.replace(old)]), [
    true,
    true,
  ]);
  assertEquals([await accessKeyId(), state.exchanges], ["ASIA2", 2]);
  assertEquals(await credentials.replace(old), true, "who heard of it late has a new one already");
  const fresh = await credentials.get();
  assertEquals(await credentials.replace(fresh), false, "the role itself may not");
  assertEquals(state.exchanges, 2);
  state.now += REPLACE_REFUSED_AFTER_MS;
  assertEquals(await credentials.replace(fresh), true);
  assertEquals(await accessKeyId(), "ASIA3");
});

Deno.test("a refused session stays when there is no other to be had", async () => {
  const { state, credentials, accessKeyId } = source();
  const old = await credentials.get();
  state.fail = throttled();
  assertEquals(await credentials.replace(old), false);
  assertEquals(await accessKeyId(), "ASIA1");
});

Deno.test("without a role a refused key is the only one there is", async () => {
  const credentials = new CredentialSource({ ...CALLER, role: undefined }, {
    assumeRole: () => Promise.reject(new Error("there is no role")),
    timeoutMs: 1000,
  });
  assertEquals(await credentials.replace(await credentials.get()), false);
});

Deno.test("an exchange is given a deadline", async () => {
  const signals: AbortSignal[] = [];
  const credentials = new CredentialSource({ ...CALLER, role: ROLE }, {
    assumeRole: (signal) => {
      signals.push(signal);
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      );
    },
    timeoutMs: 5,
  });
  // The timer of AbortSignal.timeout alone would not keep the process waiting.
  const alive = setInterval(() => {}, 5);
  assertEquals(await codeOf(() => credentials.get()), "kms_unavailable");
  clearInterval(alive);
  assertEquals(signals.length, 1);
});
