/** `kms import-key` and `kms import-rows`: what an earlier system left, handed over and seen by nobody. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { privateFile } from "./cli.ts";
import { KEY, type Seen, success, withSuite } from "./fake-suite.ts";

const HEX = "00112233445566778899aabbccddeeff".repeat(2);

Deno.test("import-key: the place by its name, or the key itself through stdin", () =>
  withSuite(async (suite) => {
    suite.on("POST /kms-admin/legacy/keys", { key_id: "default", fingerprint: "f00d" });
    const cases: [args: string[], body: object][] = [
      [["--source", "env"], { source: "env" }],
      [
        ["--source", "aws", "--key-id", "default", "--name", "/my/own", "--key-version", "3"],
        { source: "aws", key_id: "default", name: "/my/own", version: 3 },
      ],
      [
        ["--source", "stdin", "--key-id", "old", "--derivation", "pbkdf2"],
        { source: "inline", key_id: "old", derivation: "pbkdf2", key: HEX },
      ],
    ];
    for (const [args, body] of cases) {
      const done = await suite.run(["import-key", ...args], { stdin: `${HEX}\n` });
      assertEquals(done.code, 0, done.stderr);
      assertEquals(suite.seen.at(-1)?.body, body);
      assertMatch(done.stdout, /^fingerprint +f00d$/m);
      assert(!`${done.stdout}${done.stderr}`.includes(HEX));
    }
  }));

Deno.test("import-key: what does not go together is refused, and nothing is sent", () =>
  withSuite(async (suite) => {
    const cases: [args: string[], stdin: string, says: RegExp][] = [
      [[], "", /--source/],
      [["--source", "disk"], "", /Allowed choices/],
      [["--source", "env", "--name", "x"], "", /belong to the sources/],
      [["--source", "stdin"], "", /one line of 1 to 1024/],
      [["--source", "stdin"], "two\nlines\n", /one line of 1 to 1024/],
      [["--source", "stdin", "--secret-key-file", "-"], KEY, /stdin can be read only once/],
    ];
    for (const [args, stdin, says] of cases) {
      const { code, stderr } = await suite.run(["import-key", ...args], { stdin });
      assertEquals(code, 2, stderr);
      assertMatch(stderr, says);
    }
    assertEquals(suite.seen, []);
  }));

const rowsOf = (seen: Seen) => (seen.body as { items: { source_id: string }[] }).items;

Deno.test("import-rows: every line before the first request, a hundred at a time, then to the end", () =>
  withSuite(async (suite) => {
    suite.on("POST /kms-admin/legacy/rows", (seen: Seen) =>
      success({
        results: rowsOf(seen).map(({ source_id }) => ({
          source_id,
          outcome: source_id === "150" ? "owner_not_found" : "staged",
          id: null,
        })),
      }));
    const left = (pending: number) => ({ pending, failed: 1 });
    const failed = [{ source_id: "9", error_code: "decryption_failed", error_detail: null }];
    suite.on("GET /kms-admin/legacy/rows", { rows: failed, next_cursor: null });
    suite.on(
      "POST /kms-admin/legacy/run",
      { imported: 200, failed: 0, remaining: left(29) },
      { imported: 28, failed: 1, remaining: left(0) },
    );
    const rows = Array.from({ length: 230 }, (_, n) => JSON.stringify({ source_id: String(n) }));
    const args = ["import-rows", privateFile(rows.join("\n") + "\n"), "--encoding", "hex"];
    const done = await suite.run([...args, "--key-id", "default", "--json"]);
    assertEquals(done.code, 1);
    assertEquals(done.json(), {
      rows: 230,
      refused: [{ source_id: "150", outcome: "owner_not_found", id: null }],
      run: { imported: 228, failed: 1, remaining: left(0) },
      failed,
    });
    const staged = suite.seen.filter(({ method, path }) =>
      `${method} ${path}`.endsWith("POST /kms-admin/legacy/rows")
    );
    assertEquals(staged.map((seen) => rowsOf(seen).length), [100, 100, 30]);
    const { items: _, ...rest } = staged[0]?.body as Record<string, unknown>;
    assertEquals(rest, { key_id: "default", encoding: "hex" });

    const only = await suite.run([...args, "--stage-only"]);
    assertStringIncludes(only.stdout, "229 of 230 rows handed over");
    assertEquals(suite.seen.filter(({ path }) => path.endsWith("/run")).length, 2);
  }));

Deno.test("import-rows: large rows go in smaller portions, and a bad line is named, not quoted", () =>
  withSuite(async (suite) => {
    suite.on("POST /kms-admin/legacy/rows", (seen: Seen) =>
      success({
        results: rowsOf(seen).map(({ source_id }) => ({ source_id, outcome: "known", id: null })),
      }));
    suite.on("POST /kms-admin/legacy/run", {
      ...{ imported: 0, failed: 0 },
      remaining: { pending: 0, failed: 0 },
    });
    const large = Array.from(
      { length: 6 },
      (_, n) => JSON.stringify({ source_id: `${n}`, ciphertext: "ab".repeat(10_000) }),
    );
    const args = ["import-rows", "-", "--encoding", "v1_hex"];
    const done = await suite.run(args, { stdin: large.join("\n") });
    assertEquals(done.code, 0, done.stderr);
    const portions = suite.seen.filter(({ method, path }) =>
      `${method} ${path}`.endsWith("POST /kms-admin/legacy/rows")
    );
    assertEquals(portions.map((seen) => rowsOf(seen).length), [2, 2, 2]);

    const before = suite.seen.length;
    const bad = '{"n":1}\n{"n":"4242424242424242"\n';
    const refused = await suite.run(args, { stdin: bad });
    assertEquals([refused.code, suite.seen.length], [2, before]);
    assertStringIncludes(refused.stderr, "line 2 is not a JSON object");
    assert(!refused.stderr.includes("4242"));
  }));
