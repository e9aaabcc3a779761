import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { Logger } from "../../functions-shared/telemetry/log.ts";
import {
  BufferedMetrics,
  loggedMetrics,
  type MetricDatum,
  type MetricsSink,
} from "../../functions-shared/telemetry/metrics.ts";

/** A buffer on a clock that stands, what it sent, and what it dropped. */
function buffer(sink: MetricsSink = () => Promise.resolve()) {
  const batches: (readonly MetricDatum[])[] = [];
  const drops: number[] = [];
  const state = { now: 1_000 };
  const metrics = new BufferedMetrics((batch) => {
    batches.push(batch);
    return sink(batch);
  }, { now: () => state.now, onDrop: (count) => drops.push(count) });
  return { metrics, batches, drops, state };
}

/** Resolved by hand. */
function gate() {
  return Promise.withResolvers<void>();
}

function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

/** Every measurement of a batch, written out. */
function writtenOut(batch: readonly MetricDatum[]): string[] {
  return batch.flatMap(({ name, unit, dimensions, values, counts }) =>
    values.flatMap((value, at) =>
      Array<string>(counts[at] ?? 0).fill(JSON.stringify([name, unit, dimensions, value]))
    )
  ).sort();
}

Deno.test("equal values are counted, others stand beside them, with the time of the first", async () => {
  const { metrics, batches, drops, state } = buffer();
  for (const value of [5, 7, 5, 5]) {
    metrics.record("Duration", value, "Milliseconds", { Region: "a" });
    state.now++;
  }
  metrics.record("Duration", 5, "Milliseconds", { Region: "b" });
  await metrics.flush();
  const datum = { name: "Duration", unit: "Milliseconds" as const };
  assertEquals(batches, [[
    { ...datum, dimensions: { Region: "a" }, at: 1_000, values: [5, 7], counts: [3, 1] },
    { ...datum, dimensions: { Region: "b" }, at: 1_004, values: [5], counts: [1] },
  ]]);
  assertEquals(drops, []);
});

Deno.test("the order of dimensions makes no difference; unit and name do", async () => {
  const { metrics, batches } = buffer();
  metrics.record("m", 1, "Count", { a: "1", b: "2" });
  metrics.record("m", 1, "Count", { b: "2", a: "1" });
  metrics.record("m", 1, "None", { a: "1", b: "2" });
  metrics.record("n", 1, "Count", { a: "1", b: "2" });
  metrics.record("m", 1, "Count");
  await metrics.flush();
  assertEquals(batches[0]?.map(({ name, unit, counts }) => [name, unit, counts]), [
    ["m", "Count", [2]],
    ["m", "None", [1]],
    ["n", "Count", [1]],
    ["m", "Count", [1]],
  ]);
});

Deno.test("what is sent is what was recorded, whatever it was", async () => {
  const measurement = fc.record({
    name: fc.constantFrom("a", "b"),
    value: fc.oneof(
      fc.integer({ min: 0, max: 5 }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
    ),
    dimensions: fc.constantFrom<Record<string, string>>({}, { x: "1" }, { x: "2", y: "1" }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(measurement, { maxLength: 400 }), async (all) => {
      const { metrics, batches, drops } = buffer();
      for (const { name, value, dimensions } of all) {
        metrics.record(name, value, "Count", dimensions);
      }
      await metrics.flush();
      const expected = all.map(({ name, value, dimensions }) =>
        JSON.stringify([name, "Count", dimensions, value])
      ).sort();
      assertEquals(batches.flatMap(writtenOut).sort(), expected);
      assertEquals(drops, []);
    }),
    { numRuns: 50 },
  );
});

Deno.test("more than 150 distinct values of one series are several data", async () => {
  const { metrics, batches } = buffer();
  for (let value = 0; value < 301; value++) metrics.record("m", value, "Count");
  metrics.record("m", 300, "Count");
  await metrics.flush();
  assertEquals(batches[0]?.map(({ values }) => values.length), [150, 150, 1]);
  assertEquals(batches[0]?.[2]?.counts, [2]);
});

Deno.test("more than 100 data are several batches", async () => {
  const { metrics, batches } = buffer();
  for (let n = 0; n < 250; n++) metrics.record("m", 1, "Count", { n: String(n) });
  await metrics.flush();
  assertEquals(batches.map((batch) => batch.length), [100, 100, 50]);
});

Deno.test("series beyond 500 are dropped and counted; those known go on", async () => {
  const { metrics, batches, drops } = buffer();
  for (let n = 0; n < 503; n++) metrics.record("m", 1, "Count", { n: String(n) });
  metrics.record("m", 2, "Count", { n: "0" });
  await metrics.flush();
  assertEquals(batches.flat().length, 500);
  assertEquals(batches[0]?.[0]?.values, [1, 2]);
  assertEquals(drops, [3]);
});

Deno.test("distinct values beyond 10,000 are dropped and counted; those known go on", async () => {
  const { metrics, batches, drops } = buffer();
  for (let value = 0; value < 10_002; value++) metrics.record("m", value, "Count");
  metrics.record("m", 0, "Count");
  await metrics.flush();
  assertEquals(batches.flatMap(writtenOut).length, 10_001);
  assertEquals(drops, [2]);
  metrics.record("m", 10_001, "Count");
  await metrics.flush();
  assertEquals(batches.at(-1)?.[0]?.values, [10_001], "there is room again");
  assertEquals(drops, [2]);
});

Deno.test("what is no number is dropped and counted, and spoils nothing", async () => {
  const { metrics, batches, drops } = buffer();
  for (const value of [NaN, Infinity, -Infinity, 1]) metrics.record("m", value, "Count");
  await metrics.flush();
  assertEquals(batches.map((batch) => batch.map(({ values }) => values)), [[[1]]]);
  assertEquals(drops, [3]);
});

Deno.test("flush does not reject: what a sink did not take is gone, and counted by measurement", async () => {
  for (
    const sink of [() => Promise.reject(new Error("refused")), () => {
      throw new Error("thrown");
    }]
  ) {
    const { metrics, batches, drops } = buffer(sink);
    for (const value of [1, 1, 2]) metrics.record("m", value, "Count");
    await metrics.flush();
    assertEquals(drops, [3]);
    await metrics.flush();
    assertEquals(batches.length, 1, "nothing is left to send");
  }
});

Deno.test("after a batch that failed no other is tried; what went before is not counted", async () => {
  let sent = 0;
  const { metrics, batches, drops } = buffer(() =>
    ++sent === 2 ? Promise.reject(new Error("refused")) : Promise.resolve()
  );
  for (let n = 0; n < 250; n++) metrics.record("m", 1, "Count", { n: String(n) });
  await metrics.flush();
  assertEquals(batches.length, 2);
  assertEquals(drops, [150]);
});

Deno.test("an empty buffer sends nothing", async () => {
  const { metrics, batches } = buffer();
  assert(metrics.isEmpty);
  await metrics.flush();
  assertEquals([batches, metrics.flushLater(0)], [[], undefined]);
});

Deno.test("what is recorded while a flush is under way goes with the next one, once", async () => {
  const { promise, resolve } = gate();
  const { metrics, batches } = buffer(() => promise);
  metrics.record("m", 1, "Count");
  const first = metrics.flush();
  metrics.record("m", 2, "Count");
  assert(!metrics.isEmpty);
  const second = metrics.flush();
  assert(metrics.isEmpty);
  resolve();
  await Promise.all([first, second]);
  assertEquals(batches.map((batch) => batch.map(({ values }) => values)), [[[1]], [[2]]]);
});

Deno.test("flushLater: one sending at a time, and another one for those who asked meanwhile", async () => {
  const gates = [gate(), gate()];
  let sends = 0;
  const { metrics, batches } = buffer(() => gates[sends++]?.promise ?? Promise.resolve());
  metrics.record("m", 1, "Count");
  const sent = metrics.flushLater(0);
  assert(sent !== undefined);
  assertEquals(metrics.flushLater(0), undefined, "the pause covers it");
  await settled();
  assertEquals(batches.length, 1);
  for (const value of [2, 3, 4]) {
    metrics.record("m", value, "Count");
    assertEquals(metrics.flushLater(0), undefined);
  }
  await settled();
  assertEquals(batches.length, 1, "the first is still on its way");
  gates[0]?.resolve();
  await settled();
  await settled();
  assertEquals(batches.map((batch) => batch[0]?.values), [[1], [2, 3, 4]]);
  gates[1]?.resolve();
  await sent;
  metrics.record("m", 5, "Count");
  await metrics.flushLater(0);
  assertEquals(batches.length, 3);
});

Deno.test("flushLater: measurements that nobody asks to send wait, so that sending ends", async () => {
  const { metrics, batches, drops } = buffer(() => {
    // As when getting credentials for the sink is itself measured.
    metrics.record("m", 1, "Count");
    return Promise.reject(new Error("refused"));
  });
  metrics.record("m", 1, "Count");
  await metrics.flushLater(0);
  assertEquals([batches.length, drops, metrics.isEmpty], [1, [1], false]);
});

Deno.test("loggedMetrics: a debug line for each measurement, with no dimension but the known ones", () => {
  const written: string[] = [];
  const log = (level: "debug" | "info") =>
    loggedMetrics(new Logger(level, { write: (line) => written.push(line), now: () => 0 }));
  log("info").record("m", 1, "Count");
  assertEquals(written, []);
  const dimensions = { Region: "us-east-1", Operation: "Decrypt", Success: "false", Owner: "x" };
  log("debug").record("KMSOperationDuration", 12, "Milliseconds", dimensions);
  assertEquals(written.map((line) => JSON.parse(line)), [{
    time: "1970-01-01T00:00:00.000Z",
    level: "debug",
    event: "metric",
    region: "us-east-1",
    operation: "Decrypt",
    metric: "KMSOperationDuration",
    value: 12,
    success: false,
  }]);
});
