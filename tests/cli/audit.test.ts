/** `kms audit`: what the routes answer in portions becomes one answer, one file, one end. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { privateFile } from "./cli.ts";
import { problem, type Seen, success, withSuite } from "./fake-suite.ts";

const page = (changes: object) => ({
  ...{ valid: true, days: 10, entries: 500, faults: [], fault_count: 0, anchor: null },
  next_cursor: null,
  ...changes,
});

Deno.test("audit verify: page by page, one answer; 429 is waited for", () =>
  withSuite(async (suite) => {
    suite.on(
      "POST /kms-admin/audit/verify",
      page({ next_cursor: "c1" }),
      () => problem(429, "rate_limited", "Slower", { retryAfter: 0 }),
      page({ anchor: { day: "2026-11-24" } }),
    );
    const { code, stdout, stderr } = await suite.run([
      ...["audit", "verify", "--from", "2026-11-01", "--to", "2026-11-25", "--json"],
    ]);
    assertEquals(code, 0, stderr);
    assertEquals(
      JSON.parse(stdout),
      page({ days: 20, entries: 1000, anchor: { day: "2026-11-24" } }),
    );
    const range = { from: "2026-11-01", to: "2026-11-25" };
    assertEquals(suite.seen.map(({ body }) => body), [
      range,
      { ...range, cursor: "c1" },
      { ...range, cursor: "c1" },
    ]);
  }));

Deno.test("audit verify: a fault on any page is exit code 1, with day, seq and kind", () =>
  withSuite(async (suite) => {
    const fault = { day: "2026-11-24", seq: 7, kind: "missing", through: 9 };
    suite.on(
      "POST /kms-admin/audit/verify",
      page({ valid: false, faults: [fault], fault_count: 1, next_cursor: "c1" }),
      page({}),
    );
    const { code, stdout } = await suite.run(["audit", "verify"]);
    assertEquals(code, 1);
    assertMatch(stdout, /^NOT VALID: 1 faults in 1000 entries of 20 days$/m);
    assertMatch(stdout, /^day +seq +kind +through\n2026-11-24 +7 +missing +9$/m);
  }));

Deno.test("audit verify: all anchors of a file, as many at a time as a request takes", () =>
  withSuite(async (suite) => {
    const anchors = Array.from({ length: 450 }, (_, n) => ({ day: `day ${n}`, last_seq: 1 }));
    suite.on("POST /kms-admin/audit/verify", page({}), page({}), page({ valid: false }));
    for (const file of [{ anchors }, anchors]) {
      const before = suite.seen.length;
      const args = ["audit", "verify", "--anchors", privateFile(JSON.stringify(file)), "--json"];
      const { code, json } = await suite.run(args);
      assertEquals([code, json().entries], [1, 500], "the range is counted once");
      const bodies = suite.seen.slice(before).map(({ body }) => body as { anchors: unknown[] });
      assertEquals(bodies.flatMap((body) => body.anchors), anchors);
      assertEquals(bodies.map((body) => body.anchors.length), [200, 200, 50]);
    }
    const verified = privateFile(JSON.stringify({ valid: true, anchor: anchors[7] }));
    const before = suite.seen.length;
    await suite.run(["audit", "verify", "--anchors", verified]);
    const [body] = suite.seen.slice(before).map(({ body }) => body as { anchors: unknown[] });
    assertEquals(body?.anchors, [anchors[7]], "as a verification ended");

    const other = await suite.run(["audit", "verify", "--anchors", privateFile('"anchors"')]);
    assertEquals(other.code, 2);
  }));

Deno.test("audit anchors: every page, in the form that verify takes", () =>
  withSuite(async (suite) => {
    const anchor = (day: string) => ({ day, entries: 1, signature: "s" });
    suite.on(
      "GET /kms-admin/audit/anchors",
      { anchors: [anchor("2026-11-01")], next_cursor: "c1" },
      { anchors: [anchor("2026-11-02")], next_cursor: null },
    );
    const { stdout } = await suite.run(["audit", "anchors", "--from", "2026-11-01"]);
    assertEquals(JSON.parse(stdout), { anchors: [anchor("2026-11-01"), anchor("2026-11-02")] });
    assertEquals(suite.seen.map(({ query }) => query), [
      { from: "2026-11-01", limit: "100" },
      { from: "2026-11-01", limit: "100", cursor: "c1" },
    ]);
  }));

Deno.test("audit export: day by day into a new private file, or into none", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await withSuite(async (suite) => {
      const out = `${folder}/audit.ndjson`;
      const route = "GET /kms-admin/audit/export";
      const answer = ({ query }: Seen) =>
        success(
          query.day === "2026-02-28" && query.cursor === undefined
            ? { day: query.day, entries: [{ seq: 1 }, { seq: 2 }], next_cursor: "c1" }
            : { day: query.day, entries: [{ seq: 3 }], next_cursor: null },
        );
      suite.on(route, answer);
      const range = ["--from", "2026-02-28", "--to", "2026-03-01"];
      const done = await suite.run(["audit", "export", ...range, "--out", out, "--json"]);
      assertEquals(done.code, 0, done.stderr);
      const text = '{"seq":1}\n{"seq":2}\n{"seq":3}\n{"seq":3}\n';
      assertEquals(await Deno.readTextFile(out), text);
      assertEquals(done.json(), { file: out, entries: 4, bytes: text.length });
      assertEquals((await Deno.stat(out)).mode! & 0o777, 0o600);
      assertEquals(suite.seen.map(({ query }) => query), [
        { day: "2026-02-28" },
        { day: "2026-02-28", cursor: "c1" },
        { day: "2026-03-01" },
      ]);

      const again = await suite.run(["audit", "export", ...range, "--out", out]);
      assertEquals([again.code, suite.seen.length], [2, 3]);
      assertStringIncludes(again.stderr, "exists");

      suite.on(route, answer, () => problem(503, "database_unavailable", "Gone"));
      const broken = await suite.run(["audit", "export", ...range, "--out", `${folder}/other`]);
      assertEquals(broken.code, 4);
      assertStringIncludes(broken.stderr, "database_unavailable");
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["audit.ndjson"]);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("audit prune: confirmed by the day, in portions, until all of it is gone", () =>
  withSuite(async (suite) => {
    const args = ["audit", "prune", "--before", "2026-01-01"];
    for (const confirm of [[], ["--confirm", "2026-01-02"]]) {
      const { code, stderr } = await suite.run([...args, ...confirm]);
      assertEquals([code, suite.seen.length], [2, 0]);
      assertStringIncludes(stderr, "--confirm 2026-01-01");
    }
    const part = (days: number, complete: boolean) => ({
      ...{ before: "2026-01-01", days, entries: days * 10, complete },
      anchor: { day: `the last of ${days}` },
    });
    suite.on("POST /kms-admin/audit/prune", part(3, false), part(2, true));
    const done = await suite.run([...args, "--confirm", "2026-01-01", "--json"]);
    assertEquals(done.json(), { ...part(2, true), days: 5, entries: 50 });
    assertEquals(suite.seen[0]?.body, { before: "2026-01-01", confirm: "2026-01-01" });

    suite.on("POST /kms-admin/audit/prune", part(0, false));
    assertEquals((await suite.run([...args, "--confirm", "2026-01-01"])).code, 1);
  }));
