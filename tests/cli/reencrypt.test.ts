/** `kms reencrypt`: starting, resuming, helping, waiting, being interrupted, and what it shows meanwhile. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Job } from "../../cli/api.ts";
import { runJob } from "../../cli/run-job.ts";
import { AdminApi } from "../../cli/api.ts";
import { Client } from "../../cli/client.ts";
import { type FakeSuite, KEY, problem, success, withSuite } from "./fake-suite.ts";
import { startKms } from "./process.ts";

const ID = "11111111-1111-4111-8111-111111111111";
const RUN = `POST /kms-admin/jobs/${ID}/run`;

function jobAt(done: number, changes: Partial<Job> = {}): Job {
  return {
    id: ID,
    kind: "reencrypt",
    status: done < 100 ? "running" : "completed",
    dry_run: false,
    data_class: null,
    ...{ total: 100, done, unchanged: 0, failed: 0, created_by: "default" },
    ...{ created_at: "2026-11-25T10:00:00.000Z", updated_at: "2026-11-25T10:00:00.000Z" },
    finished_at: done < 100 ? null : "2026-11-25T10:01:00.000Z",
    ...changes,
  };
}

/** No job runs; the one that is started does 25 rows a call. */
function fresh(suite: FakeSuite): void {
  let done = 0;
  suite.on("GET /kms-admin/jobs", { jobs: [jobAt(100)], next_cursor: null });
  suite.on("POST /kms-admin/jobs/reencrypt", () => success(jobAt(0), 202));
  suite.on(RUN, () => success(jobAt(done = Math.min(100, done + 25))));
}

Deno.test("reencrypt: starts a job, runs it to its end, and says what was done", () =>
  withSuite(async (suite) => {
    fresh(suite);
    const { code, stdout, stderr } = await suite.run(["reencrypt", "--workers", "1", "--json"]);
    assertEquals(code, 0, stderr);
    assertEquals(JSON.parse(stdout), jobAt(100));
    assertEquals(suite.seen.map(({ method, path }) => `${method} ${path}`), [
      "GET /kms-admin/jobs",
      "POST /kms-admin/jobs/reencrypt",
      ...[RUN, RUN, RUN, RUN],
    ]);
    assertEquals(suite.seen[1]?.body, {});
    assertEquals(suite.seen[2]?.body, { budget_ms: 5000 });
    assertMatch(stderr, /^started job 1{8}-/);
    assertMatch(stderr, /^25\.0 % {2}25\/100 rows {2}[\d.]+\/s {2}\d+ s left$/m);
    assertMatch(stderr, /^100\.0 % {2}100\/100 rows .* completed$/m);
    assert(!stderr.includes("\x1b") && !stderr.includes("\r"), "plain lines without a terminal");
  }));

Deno.test("reencrypt: class and dry run are asked for, and found again", () =>
  withSuite(async (suite) => {
    const mine = { data_class: "pii", dry_run: true };
    suite.on("GET /kms-admin/jobs", { jobs: [jobAt(5)], next_cursor: null });
    suite.on("POST /kms-admin/jobs/reencrypt", () => success(jobAt(0, mine), 202));
    suite.on(RUN, jobAt(100, mine));
    const args = ["reencrypt", "--class", "pii", "--dry-run", "--workers", "1"];
    const { code, stderr } = await suite.run(args);
    assertEquals(code, 0, stderr);
    assertEquals(suite.seen[1]?.body, { data_class: "pii", dry_run: true });

    suite.on("GET /kms-admin/jobs", { jobs: [jobAt(5), jobAt(50, mine)], next_cursor: null });
    const before = suite.seen.length;
    const again = await suite.run(args);
    assertEquals(again.code, 0);
    assertStringIncludes(again.stderr, "taking up job");
    assertEquals(suite.seen.slice(before).map(({ path }) => path.split("/").at(-1)), [
      "jobs",
      "run",
    ]);
  }));

Deno.test("reencrypt: whoever comes second helps the first; another kind of job refuses", () =>
  withSuite(async (suite) => {
    const none = { jobs: [], next_cursor: null };
    suite.on("GET /kms-admin/jobs", none, { jobs: [jobAt(3)], next_cursor: null });
    suite.on("POST /kms-admin/jobs/reencrypt", () => problem(409, "job_running", "A job runs"));
    suite.on(RUN, jobAt(100));
    assertEquals((await suite.run(["reencrypt"])).code, 0);

    suite.on("GET /kms-admin/jobs", none);
    const refused = await suite.run(["reencrypt"]);
    assertEquals(refused.code, 5);
    assertStringIncludes(refused.stderr, "A job runs (job_running)");
  }));

Deno.test("reencrypt: failures are exit code 1, with the command that lists them", () =>
  withSuite(async (suite) => {
    fresh(suite);
    // Both workers hear of the end; it is told once.
    const both = Promise.withResolvers<void>();
    let asked = 0;
    suite.on(RUN, async () => {
      if (++asked === 2) both.resolve();
      await both.promise;
      return success(jobAt(100, { done: 90, unchanged: 8, failed: 2 }));
    });
    const { code, stdout, stderr } = await suite.run(["reencrypt"]);
    assertEquals(code, 1);
    assertStringIncludes(stdout, `which: deno task kms -- jobs failures ${ID}`);
    assertMatch(stderr, /^started job \S+\n100\.0 % {2}100\/100 rows .*2 FAILED\n$/);
    suite.on(RUN, jobAt(60, { status: "cancelled" }));
    assertEquals((await suite.run(["reencrypt"])).code, 1, "somebody cancelled it");
  }));

Deno.test("reencrypt: a terminal sees one line redrawn, no wider than it is", () =>
  withSuite(async (suite) => {
    fresh(suite);
    const { stderr } = await suite.run(["reencrypt", "--workers", "1"], { isTerminal: true });
    const frames = stderr.split("\r").slice(1).map((frame) => frame.split("\x1b[K")[0] ?? "");
    assertEquals(frames.length, 4);
    assertMatch(frames[1] ?? "", /^\[#{12}-{12}\] {2}50\.0 % {2}50\/100 rows/);
    for (const frame of frames) assert(frame.length < 80);
    assert(stderr.endsWith("\x1b[K\n"), "the last one stays");
  }));

Deno.test("reencrypt: a narrow terminal sees numbers rather than a bar, down to nothing", () =>
  withSuite(async (suite) => {
    for (const columns of [30, 9, 1]) {
      fresh(suite);
      const options = { isTerminal: true, columns };
      const { stderr } = await suite.run(["reencrypt", "--workers", "1"], options);
      const [, first = ""] = stderr.split("\r");
      const [frame = ""] = first.split("\x1b[K");
      assert(frame.length < columns, frame);
      assertEquals(frame.slice(0, 19), "25.0 %  25/100 rows".slice(0, columns - 1));
    }
  }));

Deno.test("reencrypt: Ctrl-C leaves the job, and says how it goes on", () =>
  withSuite(async (suite) => {
    const stop = new AbortController();
    fresh(suite);
    suite.on(RUN, () => {
      stop.abort();
      return success(jobAt(25, { data_class: "pii" }));
    });
    suite.on("POST /kms-admin/jobs/reencrypt", () => success(jobAt(0, { data_class: "pii" }), 202));
    const { code, stderr } = await suite.run(["reencrypt", "--class", "pii"], {
      interrupted: stop.signal,
    });
    assertEquals(code, 130);
    assertStringIncludes(stderr, "deno task kms -- reencrypt --class pii\n");
    assertStringIncludes(stderr, `deno task kms -- jobs cancel ${ID}`);
    assert(!suite.seen.some(({ path }) => path.endsWith("/cancel")));
  }));

Deno.test("reencrypt: Ctrl-C in the middle of a call ends the process, and not the job", () =>
  withSuite(async (suite) => {
    const called = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    fresh(suite);
    suite.on(RUN, async () => {
      called.resolve();
      await over.promise;
      return success(jobAt(100));
    });
    const env = { KMS_API_URL: suite.url, KMS_SECRET_KEY: KEY };
    const child = startKms(["reencrypt", "--workers", "2", "--json"], { env });
    try {
      await child.until(called.promise);
      child.interrupt();
      const { code, json, stderr } = await child.ended();
      assertEquals([code, json().error.code], [130, "interrupted"], stderr);
      assertStringIncludes(stderr, `deno task kms -- jobs cancel ${ID}`);
    } finally {
      // The server ends when its last answer is out.
      over.resolve();
    }
  }));

Deno.test("runJob: waits through outages as it is told, and gives up when they do not end", () =>
  withSuite(async (suite) => {
    const api = new AdminApi(
      new Client({ apiUrl: suite.url, secretKey: KEY, publishableKey: undefined }),
    );
    const pauses: number[] = [];
    const options = {
      workers: 1,
      signal: new AbortController().signal,
      onProgress: () => {},
      pause: (ms: number) => Promise.resolve(void pauses.push(ms)),
    };
    const down = () => problem(503, "database_unavailable", "Gone", { retryAfter: 5 });
    const busy = () => problem(429, "rate_limited", "Slower");
    suite.on(RUN, down, busy, jobAt(10), down, jobAt(10), jobAt(100));
    const job = await runJob(api, jobAt(0), options);
    assertEquals(job.done, 100);
    // As told; doubled; as told again after a success; and when others hold what is left.
    assertEquals(pauses, [5000, 1000, 5000, 250]);

    suite.on(RUN, down);
    const before = suite.seen.length;
    const error = await runJob(api, jobAt(0), options).catch((caught) => caught);
    assertEquals([error.code, suite.seen.length - before], ["database_unavailable", 6]);

    suite.on(RUN, () => problem(404, "not_found", "No such job"));
    const gone = await runJob(api, jobAt(0), options).catch((caught) => caught);
    assertEquals([gone.code, suite.seen.length - before], ["not_found", 7], "no second try");
  }));

Deno.test("runJob: as many calls at a time as asked, none after the end, an old answer changes nothing", () =>
  withSuite(async (suite) => {
    const api = new AdminApi(
      new Client({ apiUrl: suite.url, secretKey: KEY, publishableKey: undefined }),
    );
    let [open, most, done] = [0, 0, 0];
    const all = Promise.withResolvers<void>();
    suite.on(RUN, async () => {
      most = Math.max(most, ++open);
      if (open === 4) all.resolve();
      await all.promise;
      open--;
      done = Math.min(100, done + 10);
      return success(jobAt(done));
    });
    const seen: number[] = [];
    const job = await runJob(api, jobAt(0), {
      workers: 4,
      signal: new AbortController().signal,
      onProgress: (one) => seen.push(one.done),
      pause: () => Promise.resolve(),
    });
    assertEquals([job.status, most], ["completed", 4]);
    assertEquals(seen, [...seen].sort((a, b) => a - b));
    assertEquals(seen.at(-1), 100);
  }));
