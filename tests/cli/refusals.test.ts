/** What the command line does when it must not, cannot, or is told no. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { kms, privateFile } from "./cli.ts";
import { KEY, problem, withSuite } from "./fake-suite.ts";

const JOB = "11111111-1111-4111-8111-111111111111";
const USER = "22222222-2222-4222-8222-222222222222";
const settings = { provider: "vault", credentials: { token: "s.not-a-real-token" } };

interface Refusal {
  readonly name: string;
  readonly args: readonly string[];
  readonly says: RegExp;
}

const MISUSE: readonly Refusal[] = [
  { name: "an unknown command", args: ["frobnicate"], says: /unknown command/ },
  { name: "no command of a group", args: ["audit"], says: /--help/ },
  { name: "an unknown option", args: ["health", "--fast"], says: /unknown option/ },
  { name: "a missing argument", args: ["retire", "payment"], says: /missing required argument/ },
  { name: "an unknown class", args: ["key", "--class", "card"], says: /Allowed choices/ },
  { name: "a job that is no UUID", args: ["jobs", "show", "../config"], says: /UUID/ },
  { name: "a version that is no UUID", args: ["retire", "payment", "newest"], says: /UUID/ },
  {
    name: "a day that does not exist",
    args: ["audit", "verify", "--from", "2026-02-30"],
    says: /day/,
  },
  {
    name: "no confirmation of an erasure",
    args: ["erase", USER, "--purpose", "x"],
    says: /--confirm/,
  },
  {
    name: "a confirmation of somebody else's",
    args: ["erase", USER, "--purpose", "x", "--confirm", JOB],
    says: /another user/,
  },
  {
    name: "a prune without consent",
    args: ["audit", "prune", "--before", "2026-01-01"],
    says: /export/,
  },
  {
    name: "a migration to itself",
    args: ["migrate-provider", "--from", "aws", "--to", "aws"],
    says: /same provider/,
  },
  {
    name: "credentials that others can read",
    args: ["config", "set", privateFile(JSON.stringify(settings), 0o644)],
    says: /chmod 600/,
  },
  {
    name: "a file that is not there",
    args: ["config", "test", "/nowhere.json"],
    says: /does not exist/,
  },
];

for (const { name, args, says } of MISUSE) {
  Deno.test(`kms: ${name} is exit code 2, and nothing is sent`, () =>
    withSuite(async (suite) => {
      const text = await suite.run(args);
      assertEquals(text.code, 2, text.stdout);
      assertMatch(text.stderr, says);
      const json = await suite.run([...args, "--json"]);
      assertEquals([json.code, json.json().error.code], [2, "usage"]);
      assertEquals(suite.seen, []);
    }));
}

Deno.test("kms: what is given in the wrong place is not repeated: it may be a secret", () =>
  withSuite(async (suite) => {
    const secret = "sb-like_Secret'of=tests only";
    const cases: readonly [args: readonly string[], says: RegExp][] = [
      [[secret], /unknown command$/m],
      [["audit", secret], /unknown command$/m],
      [["health", `--secret-key=${secret}`], /unknown option '--secret-key'$/m],
      [["health", secret], /too many arguments for 'health'\. Expected 0 arguments but got 1\.$/m],
      [["key", "--class", secret], /argument is invalid\. Allowed choices are payment/],
      [["jobs", "show", secret], /argument 'id'\. It is a UUID/],
      [["jobs", "list", "--limit", secret], /argument is invalid\. It is a whole number/],
      [["import-key", "--source", "stdin", "--name", "x", secret], /too many arguments/],
    ];
    for (const [args, says] of cases) {
      const { code, stdout, stderr } = await suite.run([...args, "--json"]);
      assertEquals(code, 2, stderr);
      assertMatch(stderr, says);
      assertMatch(JSON.parse(stdout).error.title, says);
      assert(!/Secret/.test(`${stdout}${stderr}`), stderr);
    }
    const typo = await suite.run(["heatlh"]);
    assertMatch(typo.stderr, /unknown command 'heatlh'\n\(Did you mean health\?\)/);
    assertEquals(suite.seen, []);
  }));

Deno.test("kms health: the answer that everybody gets is no answer to a key that is refused", () =>
  withSuite(async (suite) => {
    const checks = { config: { status: "pass" } };
    suite.on("GET /kms-health-check", () => Response.json({ status: "healthy", checks }));
    const refused = await suite.run(["health", "--json"]);
    assertEquals([refused.code, refused.json().error.code], [3, "unauthorized"]);
    assertMatch(refused.stderr, /the secret key is refused; what everybody is told: healthy/);
    const ill = { status: "unhealthy", checks };
    suite.on("GET /kms-health-check", () => Response.json(ill, { status: 503 }));
    assertEquals((await suite.run(["health"])).code, 1, "whoever asks");
  }));

Deno.test("kms rotate: before the first row there is nothing to rotate", () =>
  withSuite(async (suite) => {
    suite.on("POST /kms-admin/key/rotate", () => problem(404, "not_found", "No such resource"));
    const { code, stderr } = await suite.run(["rotate"]);
    assertEquals(code, 5);
    assertStringIncludes(stderr, "one is made with the first row");
  }));

Deno.test("kms --version: what it was made for", async () => {
  const { code, stdout } = await kms(["--version"]);
  assertEquals(code, 0);
  const newest = [...Deno.readDirSync("supabase/migrations")].map(({ name }) => name).sort().at(-1);
  assertEquals(
    stdout,
    `made for the migrations up to ${newest?.slice(0, 14)}; Deno ${Deno.version.deno}\n`,
  );
});

Deno.test("kms rotate --target kms-key: unconfirmed it says what is left and which id to repeat", () =>
  withSuite(async (suite) => {
    const metadata = { keyId: "arn:aws:kms:x", rotation: { on_demand_left: 24 } };
    suite.on("GET /kms-admin/key/metadata", metadata);
    const args = ["rotate", "--target", "kms-key", "--class", "pii"];
    const { code, stderr } = await suite.run(args);
    assertEquals([code, suite.seen.length], [2, 1]);
    assertStringIncludes(stderr, "24 rotations on demand are left, ever");
    assertStringIncludes(stderr, "--confirm arn:aws:kms:x");
  }));

Deno.test("kms: a problem document is told with its code, fields and request, and sets the exit code", () =>
  withSuite(async (suite) => {
    const cases: [status: number, code: string, exit: number][] = [
      [401, "unauthorized", 3],
      [403, "admin_required", 3],
      [404, "not_found", 5],
      [409, "rotation_in_progress", 5],
      [422, "validation_failed", 5],
      [429, "rate_limited", 4],
      [500, "internal_error", 4],
      [503, "kms_unavailable", 4],
    ];
    for (const [status, code, exit] of cases) {
      const errors = [{ pointer: "/user_id", code: "invalid_user_id", detail: "must be a UUID" }];
      suite.on("POST /kms-admin/key/rotate", () => problem(status, code, "No.", { errors }));
      const text = await suite.run(["rotate"]);
      assertEquals([text.code, text.stdout], [exit, ""]);
      assertStringIncludes(text.stderr, `error: No. (${code})\n  /user_id: must be a UUID`);
      assertStringIncludes(text.stderr, "request 7d9f4c1e-0000-4000-8000-000000000001");
      const json = await suite.run(["rotate", "--json"]);
      assertEquals(json.json().error, {
        ...{ code, title: "No.", status, errors },
        request_id: "7d9f4c1e-0000-4000-8000-000000000001",
      });
    }
  }));

Deno.test("kms: answers of others than the suite, and of nobody, are exit code 4 (401: 3)", () =>
  withSuite(async (suite) => {
    const route = "GET /kms-admin/config";
    const answers: [answer: () => Response, exit: number, says: RegExp][] = [
      [() => new Response("Not here", { status: 404 }), 4, /is the function deployed/],
      [() => Response.json({ message: "No API key" }, { status: 401 }), 3, /answered 401/],
      [() => new Response("<html>", { status: 502 }), 4, /answered 502/],
      [() => new Response("fine"), 4, /answered 200, and not as the suite/],
      [() => Response.redirect("https://elsewhere.example/"), 4, /answered 302/],
    ];
    for (const [answer, exit, says] of answers) {
      suite.on(route, answer);
      const { code, stderr } = await suite.run(["config", "get"]);
      assertEquals(code, exit, stderr);
      assertMatch(stderr, says);
    }
    const nobody = await kms(["config", "get", "--api-url", "http://127.0.0.1:1"], {
      env: { KMS_SECRET_KEY: KEY },
    });
    assertEquals(nobody.code, 4);
    assertStringIncludes(nobody.stderr, "http://127.0.0.1:1 cannot be reached");
  }));

Deno.test("kms: what a server sends cannot steer the terminal", () =>
  withSuite(async (suite) => {
    suite.on("GET /kms-admin/config", { provider: "\x1b[2Jaws\x07", revision: 1 });
    const { stdout } = await suite.run(["config", "get"]);
    assertMatch(stdout, /^provider +\?\[2Jaws\?$/m);
    suite.on("GET /kms-admin/config", () => problem(409, "busy", "\x1b[2JNo\nerror: yes"));
    assertMatch(
      (await suite.run(["config", "get"])).stderr,
      /^error: \?\[2JNo\?error: yes \(busy\)$/m,
    );
  }));
