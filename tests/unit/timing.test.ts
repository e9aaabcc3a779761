import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  serverTiming,
  timed,
  type Timings,
  withTimings,
} from "../../functions-shared/telemetry/timing.ts";

Deno.test("outside of a request, work is passed through, failures included", async () => {
  assertEquals(await timed("db", Promise.resolve(1)), 1);
  await assertRejects(() => timed("db", Promise.reject(new Error("down"))), Error, "down");
});

Deno.test("the wait of a request is its own, however requests are interleaved", async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  const request = async (timings: Timings, name: string, gate: Promise<void>) =>
    await withTimings(timings, async () => {
      await timed(name, gate);
      await Promise.resolve();
      await timed("after", Promise.resolve());
    });
  const [first, second]: [Timings, Timings] = [new Map(), new Map()];
  const both = [request(first, "one", gates[0].promise), request(second, "two", gates[1].promise)];
  gates[1].resolve();
  await both[1];
  assertEquals([[...first.keys()], [...second.keys()]], [[], ["two", "after"]]);
  gates[0].resolve();
  await both[0];
  assertEquals([...first.keys()], ["one", "after"]);
  assertEquals([...second.keys()], ["two", "after"]);
});

Deno.test("waits of one name add up, those that overlap in full, and so do those that fail", async () => {
  const timings: Timings = new Map([["db", 1000]]);
  const gate = Promise.withResolvers<void>();
  const work = withTimings(timings, async () => {
    const failing = timed("db", gate.promise.then(() => Promise.reject(new Error("down"))));
    await Promise.allSettled([timed("db", gate.promise), failing]);
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  gate.resolve();
  await work;
  assert((timings.get("db") ?? 0) >= 1000 + 2 * 15, String(timings.get("db")));
});

Deno.test("serverTiming: names and milliseconds with one decimal", () => {
  const header = serverTiming(new Map([["db", 3.24], ["keys", 14]]));
  assertEquals(header, "db;dur=3.2, keys;dur=14.0");
  assertMatch(header, /^\w+;dur=\d+\.\d(, \w+;dur=\d+\.\d)*$/);
  assertEquals(serverTiming(new Map()), "");
});
