import { assertEquals } from "@std/assert";
import { SuiteError } from "../../functions-shared/errors.ts";
import type { DeadRegion } from "../../functions-shared/keys/key-provider.ts";
import { Regions } from "../../functions-shared/keys/providers/aws/regions.ts";

const NAMES = ["us-east-1", "us-west-2", "eu-west-1"];

/** Regions on a clock that is set by hand; a probe answers what `probe` says. */
function setting(names = NAMES) {
  const state = {
    now: 1_000_000,
    probes: [] as string[],
    probe: (): Promise<unknown> => Promise.resolve(),
    shared: [] as [string, DeadRegion | undefined][],
  };
  const regions = new Regions(names, {
    threshold: 3,
    probeAfterMs: 1000,
    maxProbeAfterMs: 30_000,
    probe: (region) => {
      state.probes.push(region);
      return state.probe();
    },
    share: (...news) => state.shared.push(news),
    now: () => state.now,
  });
  const die = (region: string, failures = 3) => {
    for (let made = 0; made < failures; made++) regions.failed(region);
  };
  return { state, regions, die };
}

const broken = () => Promise.reject(new TypeError("connection refused"));
const refused = (name: string) => Promise.reject(Object.assign(new Error("no"), { name }));
const settled = () => new Promise<void>((resolve) => setTimeout(resolve));

Deno.test("the primary first, then the fallbacks as configured", () => {
  assertEquals(setting().regions.order(), NAMES);
});

Deno.test("measured latency orders the fallbacks, and not the primary among them", () => {
  const { regions } = setting();
  regions.succeeded("us-east-1", 500);
  regions.succeeded("us-west-2", 90);
  regions.succeeded("eu-west-1", 80);
  assertEquals(regions.order(), ["us-east-1", "eu-west-1", "us-west-2"]);
});

Deno.test("a measured fallback comes before one that is not", () => {
  const { regions } = setting();
  regions.succeeded("eu-west-1", 80);
  assertEquals(regions.order(), ["us-east-1", "eu-west-1", "us-west-2"]);
});

Deno.test("healthy ones come first, a suspect last, an open one not at all", () => {
  const { regions, die } = setting();
  die("us-east-1", 1);
  assertEquals(regions.order(), ["us-west-2", "eu-west-1", "us-east-1"]);
  die("us-west-2", 3);
  assertEquals(regions.order(), ["eu-west-1", "us-east-1"]);
  die("eu-west-1", 1);
  assertEquals(regions.order(), ["us-east-1", "eu-west-1"], "the primary first among suspects");
  die("us-east-1", 2);
  die("eu-west-1", 2);
  assertEquals(regions.order(), []);
});

Deno.test("a region named twice is one region", () => {
  assertEquals(setting(["a", "b", "a"]).regions.order(), ["a", "b"]);
});

Deno.test("a due probe goes out once, and brings the region back", async () => {
  const { state, regions, die } = setting();
  die("us-east-1");
  for (let asked = 0; asked < 1000; asked++) regions.order();
  assertEquals(state.probes, []);
  state.now += 1000;
  for (let asked = 0; asked < 1000; asked++) regions.order();
  assertEquals(state.probes, ["us-east-1"]);
  assertEquals(regions.report()["us-east-1"]?.state, "HALF_OPEN");
  assertEquals(await regions.recovered(), true);
  assertEquals(regions.order(), NAMES);
});

Deno.test("a probe that fails goes out again later, and later still", async () => {
  const { state, regions, die } = setting();
  state.probe = broken;
  die("us-east-1");
  const times: number[] = [];
  for (let second = 0; second < 70; second++) {
    state.now += 1000;
    const before = state.probes.length;
    regions.order();
    await settled();
    if (state.probes.length > before) times.push(second + 1);
  }
  assertEquals(times, [1, 3, 7, 15, 31, 61]);
});

for (const name of ["AccessDeniedException", "NotFoundException", "ThrottlingException"]) {
  Deno.test(`a probe that is answered with ${name} found the region alive`, async () => {
    const { state, regions, die } = setting();
    state.probe = () => refused(name);
    die("us-east-1");
    state.now += 1000;
    regions.order();
    assertEquals(await regions.recovered(), true);
    assertEquals(regions.report()["us-east-1"]?.healthy, true);
  });
}

Deno.test("a probe that could not go out for want of credentials is no verdict", async () => {
  const { state, regions, die } = setting();
  state.probe = () => Promise.reject(new SuiteError("kms_unavailable"));
  die("us-east-1");
  state.shared.length = 0;
  state.now += 1000;
  regions.order();
  assertEquals(await regions.recovered(), false);
  const { state: circuit, consecutive_failures } = regions.report()["us-east-1"] ?? {};
  assertEquals([circuit, consecutive_failures], ["OPEN", 3]);
  assertEquals(state.shared, []);
  state.now += 1000;
  regions.order();
  assertEquals(state.probes.length, 2);
});

Deno.test("waiting for a recovery: the first region that is back ends it, all that fail do too", async () => {
  const { state, regions, die } = setting();
  for (const name of NAMES) die(name);
  assertEquals(await regions.recovered(), false, "no probe is out");
  state.now += 1000;
  const ends: ((dead?: Error) => void)[] = [];
  state.probe = () =>
    new Promise<void>((resolve, reject) =>
      ends.push((dead) => dead === undefined ? resolve() : reject(dead))
    );
  regions.order();
  assertEquals(state.probes, NAMES);
  const any = regions.recovered();
  const ofTwo = regions.recovered((name) => name !== "us-west-2");
  ends[1]?.();
  assertEquals(await any, true);
  ends[0]?.(new TypeError("refused"));
  ends[2]?.(new TypeError("refused"));
  assertEquals(await ofTwo, false);
});

Deno.test("others are told once that a region died, each time a probe fails, and that it is back", async () => {
  const { state, regions, die } = setting();
  die("us-east-1", 500);
  const [region, until] = ["us-east-1", state.now + 1000];
  assertEquals(state.shared, [["us-east-1", { region, until }]]);
  state.now += 1000;
  state.probe = broken;
  regions.order();
  await settled();
  assertEquals(state.shared.at(-1), ["us-east-1", { region, until: state.now + 2000 }]);
  for (let called = 0; called < 500; called++) regions.succeeded("us-east-1", 1);
  assertEquals(state.shared.length, 3);
  assertEquals(state.shared.at(-1), ["us-east-1", undefined]);
});

Deno.test("what others learnt orders, with an expiry, and closes nothing", async () => {
  const { state, regions } = setting();
  regions.learn([
    { region: "us-east-1", until: state.now + 5000 },
    { region: "us-west-2", until: state.now - 1 },
    { region: "mars-north-1", until: state.now + 5000 },
  ]);
  assertEquals(regions.order(), ["us-west-2", "eu-west-1", "us-east-1"]);
  assertEquals(state.shared, [], "hearsay is not passed on");
  state.now += 5000;
  regions.order();
  assertEquals(state.probes, ["us-east-1"]);
  await settled();
  assertEquals(regions.order(), NAMES);
});

Deno.test("a worker without a network that calls all regions dead stops nobody else", () => {
  const { state, regions } = setting();
  regions.learn(NAMES.map((region) => ({ region, until: state.now + 30_000 })));
  assertEquals(regions.order(), NAMES);
});

Deno.test("news from a clock that is an hour fast hold no longer than a probe of our own", () => {
  const { state, regions } = setting();
  regions.learn([{ region: "us-east-1", until: state.now + 3_600_000 }]);
  assertEquals(regions.report()["us-east-1"]?.next_probe_at, new Date(1_030_000).toISOString());
});

Deno.test("the earliest probe is told when no region that serves is worth a call", () => {
  const { state, regions, die } = setting();
  die("us-east-1");
  assertEquals(regions.nextProbeAt(), undefined);
  assertEquals(regions.nextProbeAt((name) => name === "us-east-1"), state.now + 1000);
  state.now += 500;
  die("us-west-2");
  die("eu-west-1");
  assertEquals(regions.nextProbeAt(), 1_001_000);
});
