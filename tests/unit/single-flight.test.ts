import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { SingleFlight } from "../../functions-shared/keys/single-flight.ts";

/** A flight whose fetches are settled by hand, on a clock that is set by hand. */
function manual() {
  const state = {
    now: 0,
    fetches: [] as PromiseWithResolvers<{ value: string; expiresAt: number }>[],
  };
  const flight = new SingleFlight(() => {
    const fetch = Promise.withResolvers<{ value: string; expiresAt: number }>();
    state.fetches.push(fetch);
    return fetch.promise;
  }, () => state.now);
  return { state, flight };
}

Deno.test("concurrent callers share one fetch", async () => {
  const { state, flight } = manual();
  const callers = Array.from({ length: 50 }, () => flight.get());
  assertEquals(state.fetches.length, 1);
  state.fetches[0]?.resolve({ value: "a", expiresAt: 10 });
  assertEquals(new Set(await Promise.all(callers)), new Set(["a"]));
});

Deno.test("a value is used until the moment it expires, and not at it", async () => {
  const { state, flight } = manual();
  const first = flight.get();
  state.fetches[0]?.resolve({ value: "a", expiresAt: 10 });
  await first;
  state.now = 9.999;
  assertEquals(await flight.get(), "a");
  assertEquals(state.fetches.length, 1);
  state.now = 10;
  const second = flight.get();
  assertEquals(state.fetches.length, 2);
  state.fetches[1]?.resolve({ value: "b", expiresAt: 20 });
  assertEquals(await second, "b");
});

Deno.test("a failure reaches every waiting caller and is not kept", async () => {
  const { state, flight } = manual();
  const failure = new Error("down");
  const callers = [flight.get(), flight.get()];
  state.fetches[0]?.reject(failure);
  for (const caller of callers) {
    assertStrictEquals(await assertRejects(() => caller, Error), failure);
  }
  const next = flight.get();
  assertEquals(state.fetches.length, 2);
  state.fetches[1]?.resolve({ value: "a", expiresAt: 10 });
  assertEquals(await next, "a");
});

Deno.test("a failed renewal leaves the old value to look at, not to get", async () => {
  const { state, flight } = manual();
  const first = flight.get();
  state.fetches[0]?.resolve({ value: "a", expiresAt: 10 });
  await first;
  state.now = 11;
  const renewal = flight.get();
  state.fetches[1]?.reject(new Error("down"));
  await assertRejects(() => renewal, Error, "down");
  assertEquals(flight.peek(), "a");
  assertEquals(state.fetches.length, 2);
});

Deno.test("what was cleared is fetched again", async () => {
  const { state, flight } = manual();
  const first = flight.get();
  state.fetches[0]?.resolve({ value: "a", expiresAt: Infinity });
  await first;
  flight.clear();
  assertEquals(flight.peek(), undefined);
  void flight.get();
  assertEquals(state.fetches.length, 2);
});

Deno.test("a value that is refreshed serves until the new one is there, and if it never comes", async () => {
  const { state, flight } = manual();
  const first = flight.get();
  state.fetches[0]?.resolve({ value: "a", expiresAt: Infinity });
  await first;
  const refreshed = [flight.refresh(), flight.refresh()];
  assertEquals(state.fetches.length, 2, "one fetch for both");
  assertEquals(await flight.get(), "a");
  state.fetches[1]?.resolve({ value: "b", expiresAt: Infinity });
  assertEquals(await Promise.all(refreshed), ["b", "b"]);
  assertEquals(await flight.get(), "b");
  const failed = flight.refresh();
  state.fetches[2]?.reject(new Error("down"));
  await assertRejects(() => failed, Error, "down");
  assertEquals(await flight.get(), "b");
});

Deno.test("a lifetime of nothing still lets concurrent callers share", async () => {
  let fetches = 0;
  const flight = new SingleFlight(
    () => Promise.resolve({ value: ++fetches, expiresAt: 0 }),
    () => 0,
  );
  assertEquals(await Promise.all([flight.get(), flight.get()]), [1, 1]);
  assertEquals(await flight.get(), 2);
});

Deno.test("however calls and time interleave, a caller never gets an expired value", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(
      fc.record({ wait: fc.integer({ min: 0, max: 5 }), callers: fc.integer({ min: 1, max: 4 }) }),
    ),
    async (rounds) => {
      let now = 0;
      const flight = new SingleFlight(
        () => Promise.resolve({ value: now + 3, expiresAt: now + 3 }),
        () => now,
      );
      for (const { wait, callers } of rounds) {
        now += wait;
        for (
          const expiry of await Promise.all(Array.from({ length: callers }, () => flight.get()))
        ) {
          assertEquals(now < expiry, true);
        }
      }
    },
  ));
});
