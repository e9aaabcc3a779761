import { assertEquals, assertRejects } from "@std/assert";
import { Live } from "../../functions-shared/admin/live.ts";

/** A worker with a cache time of a second, on a clock and a database of the test's own. */
function worker(cacheMs = 1000) {
  const state = {
    now: 0,
    revision: 1,
    asked: [] as (number | undefined)[],
    heard: [] as string[],
    retired: [] as string[],
    background: [] as Promise<unknown>[],
    /** Answers wait for it. */
    gate: Promise.resolve(),
    failure: undefined as Error | undefined,
  };
  const live = new Live<string, { revision: number }>({
    read: async (known) => {
      state.asked.push(known);
      const { revision, failure, gate } = state;
      await gate;
      if (failure !== undefined) throw failure;
      return { revision };
    },
    build: ({ revision }) => `made of ${revision}`,
    hear: (value) => void state.heard.push(value),
    retire: (value) => void state.retired.push(value),
    cacheMs,
    background: (work) => void state.background.push(work.catch(() => {})),
    now: () => state.now,
  });
  return { state, live };
}

Deno.test("a cold worker asks once for all who wait, and not again for half of the cache time", async () => {
  const { state, live } = worker();
  assertEquals(live.peek(), undefined);
  assertEquals(await Promise.all([live.get(), live.get()]), ["made of 1", "made of 1"]);
  state.now = 499;
  assertEquals(await live.get(), "made of 1");
  assertEquals(state.asked, [undefined]);
  assertEquals([live.peek(), state.heard], ["made of 1", []]);
});

Deno.test("a worker in use asks in the background: nothing waits, and the next request has it", async () => {
  const { state, live } = worker();
  await live.get();
  const gate = Promise.withResolvers<void>();
  state.gate = gate.promise;
  state.revision = 2;
  state.now = 500;
  assertEquals(await Promise.all([live.get(), live.get()]), ["made of 1", "made of 1"]);
  assertEquals(state.asked, [undefined, 1]);
  gate.resolve();
  await Promise.all(state.background);
  assertEquals(await live.get(), "made of 2");
  assertEquals(state.retired, ["made of 1"]);
});

Deno.test("an unchanged revision makes nothing anew, and its news are heard", async () => {
  const { state, live } = worker();
  await live.get();
  state.now = 600;
  await live.get();
  await Promise.all(state.background);
  state.now = 1099;
  await live.get();
  assertEquals([state.asked, state.retired], [[undefined, 1], []]);
  assertEquals(state.heard, ["made of 1"]);
});

Deno.test("one that was idle for longer than the cache time waits for the answer", async () => {
  const { state, live } = worker();
  await live.get();
  state.revision = 2;
  state.now = 1000;
  assertEquals(await live.get(), "made of 2");
});

Deno.test("an answer counts from its question on, and a clock that was set back makes none live longer", async () => {
  const { state, live } = worker();
  const gate = Promise.withResolvers<void>();
  state.gate = gate.promise;
  const first = live.get();
  state.now = 800;
  gate.resolve();
  await first;
  assertEquals(await live.get(), "made of 1");
  assertEquals(state.asked.length, 2);
  await Promise.all(state.background);
  state.now = -5;
  state.revision = 2;
  assertEquals(await live.get(), "made of 2");
});

Deno.test("without an answer a cold worker fails and asks again; a warm one goes on and pauses", async () => {
  const { state, live } = worker();
  state.failure = new Error("no database");
  await assertRejects(() => live.get(), Error, "no database");
  await assertRejects(() => live.get(), Error, "no database");
  state.failure = undefined;
  await live.get();
  assertEquals(state.asked, [undefined, undefined, undefined]);

  state.failure = new Error("no database");
  state.now = 1500;
  assertEquals(await live.get(), "made of 1");
  assertEquals(await live.get(), "made of 1");
  assertEquals(state.asked.length, 4);
  state.now = 2000;
  state.failure = undefined;
  state.revision = 2;
  assertEquals(await live.get(), "made of 2");
});

Deno.test("to renew is to hear an answer that is younger than the wish", async () => {
  const { state, live } = worker();
  await live.get();
  const gate = Promise.withResolvers<void>();
  state.gate = gate.promise;
  state.now = 600;
  await live.get();
  state.revision = 2;
  state.gate = Promise.resolve();
  const renewed = live.renew();
  gate.resolve();
  assertEquals(await renewed, "made of 2");
});

Deno.test("with no cache time every request asks", async () => {
  const { state, live } = worker(0);
  await live.get();
  state.revision = 2;
  assertEquals(await live.get(), "made of 2");
  assertEquals(await live.get(), "made of 2");
  assertEquals(state.asked, [undefined, 1, 2]);
});

Deno.test("an older revision, of a database that was restored, counts as well", async () => {
  const { state, live } = worker(0);
  state.revision = 5;
  await live.get();
  state.revision = 4;
  assertEquals(await live.get(), "made of 4");
});
