import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { RegionHealth } from "../../functions-shared/keys/providers/aws/region-health.ts";

const OPTIONS = { threshold: 3, probeAfterMs: 1000, maxProbeAfterMs: 30_000 };
const NOW = 1_000_000;

function dead(failures: number): RegionHealth {
  const health = new RegionHealth(OPTIONS);
  for (let made = 0; made < failures; made++) health.failed(NOW);
  return health;
}

Deno.test("one failure makes a region suspect, three open its circuit", () => {
  const seen = [0, 1, 2, 3].map((failures) => {
    const health = dead(failures);
    return [health.healthy, health.state, health.consecutiveFailures, health.probeAt];
  });
  assertEquals(seen, [
    [true, "CLOSED", 0, undefined],
    [false, "CLOSED", 1, NOW + 1000],
    [false, "CLOSED", 2, NOW + 1000],
    [false, "OPEN", 3, NOW + 1000],
  ]);
});

Deno.test("a success among failures starts the count again", () => {
  const health = dead(2);
  health.succeeded(10);
  health.failed(NOW);
  health.failed(NOW);
  assertEquals([health.state, health.consecutiveFailures], ["CLOSED", 2]);
});

Deno.test("a thousand calls that fail together set one time for the probe", () => {
  assertEquals(dead(1000).probeAt, NOW + 1000);
});

Deno.test("one probe at a time, when its time has come", () => {
  const health = dead(3);
  assert(!health.claimProbe(NOW + 999));
  assert(health.claimProbe(NOW + 1000));
  assertEquals(health.state, "HALF_OPEN");
  assert(!health.claimProbe(NOW + 1000));
  // What else fails meanwhile does not make room for a second one.
  health.failed(NOW + 1500);
  assert(!health.claimProbe(NOW + 60_000));
});

Deno.test("the pause doubles with each probe that fails, to its bound", () => {
  const health = dead(3);
  let now = NOW + 1000;
  const pauses: number[] = [];
  for (let probes = 0; probes < 40; probes++) {
    assert(health.claimProbe(now));
    health.probeFailed(now);
    assertEquals(health.state, "OPEN");
    pauses.push((health.probeAt ?? 0) - now);
    now = health.probeAt ?? 0;
  }
  assertEquals(pauses.slice(0, 6), [2000, 4000, 8000, 16_000, 30_000, 30_000]);
  assertEquals(pauses.at(-1), 30_000);
  assert(health.claimProbe(now));
  health.probeSucceeded(5);
  assertEquals([health.state, health.healthy, health.consecutiveFailures], ["CLOSED", true, 0]);
  health.succeeded(5);
  health.failed(now);
  assertEquals(health.probeAt, now + 1000, "the pause starts over as well");
});

Deno.test("where probes end well and calls do not, the pause doubles too, until a call ends well", () => {
  const health = new RegionHealth(OPTIONS);
  const pauses: number[] = [];
  let now = NOW;
  const fail = () => {
    health.failed(now);
    pauses.push((health.probeAt ?? 0) - now);
    now = health.probeAt ?? 0;
    assert(health.claimProbe(now));
    health.probeSucceeded(5);
    assertEquals([health.healthy, health.state], [true, "CLOSED"]);
  };
  for (let round = 0; round < 7; round++) fail();
  assertEquals(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  health.succeeded(5);
  fail();
  assertEquals(pauses.at(-1), 1000);
});

Deno.test("a probe that never went out changes nothing but the time of the next", () => {
  const health = dead(3);
  health.claimProbe(NOW + 1000);
  health.probeAbandoned(NOW + 1100);
  assertEquals([health.state, health.consecutiveFailures], ["OPEN", 3]);
  assertEquals(health.probeAt, NOW + 2100);
});

Deno.test("what others say makes a region one to avoid, never one that is closed to all", () => {
  const health = new RegionHealth(OPTIONS);
  health.avoidUntil(NOW + 5000);
  assertEquals([health.healthy, health.state, health.probeAt], [false, "CLOSED", NOW + 5000]);
  health.avoidUntil(NOW + 3000);
  assertEquals(health.probeAt, NOW + 5000, "an earlier time is no news");
  assert(!health.claimProbe(NOW + 4999));
  assert(health.claimProbe(NOW + 5000));
  health.probeSucceeded(1);
  assert(health.healthy);
  health.avoidUntil(NOW + 9000);
  health.succeeded(1);
  assert(health.healthy, "a success of one's own counts for more");
});

Deno.test("what was found out here stands against what others say", () => {
  const health = dead(3);
  health.avoidUntil(NOW + 29_000);
  assertEquals(health.probeAt, NOW + 1000);
});

Deno.test("the latency is a moving average of successes", () => {
  const health = new RegionHealth(OPTIONS);
  assertEquals(health.latencyMs, undefined);
  health.succeeded(100);
  assertEquals(health.latencyMs, 100);
  health.succeeded(200);
  assertEquals(health.latencyMs, 120);
  health.failed(NOW);
  assertEquals(health.latencyMs, 120);
});

Deno.test("whatever happens, at most one probe is out, and success heals", () => {
  const event = fc.constantFrom("fail", "succeed", "claim", "end well", "end badly", "rumour");
  fc.assert(fc.property(fc.array(fc.tuple(event, fc.nat(5000))), (events) => {
    const health = new RegionHealth(OPTIONS);
    let now = NOW, out = 0;
    for (const [name, later] of events) {
      now += later;
      if (name === "fail") health.failed(now);
      if (name === "succeed") health.succeeded(1);
      if (name === "rumour") health.avoidUntil(now + 1000);
      if (name === "claim" && health.claimProbe(now)) out++;
      if (name === "end well" && out > 0) out--, health.probeSucceeded(1);
      if (name === "end badly" && out > 0) out--, health.probeFailed(now);
      assert(out <= 1);
      assert(!health.healthy || health.state === "CLOSED");
      assertEquals(health.state === "CLOSED", health.consecutiveFailures < 3);
      if (name === "succeed") assert(health.healthy);
    }
  }));
});
