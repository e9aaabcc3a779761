/** Where the key comes from and where it goes: never from arguments, never to a stranger, never shown. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { findTarget } from "../../cli/target.ts";
import { CliError } from "../../cli/errors.ts";
import { kms, privateFile, type RunOptions } from "./cli.ts";
import { KEY, withSuite } from "./fake-suite.ts";
import { startKms } from "./process.ts";

const NOWHERE = { dataDir: "/nowhere" };
const URL_OF_PROJECT = "https://project.example";

function io({ env = {}, stdin = "" }: RunOptions) {
  return {
    ...{ out: () => {}, err: () => {}, draw: () => {}, isTerminal: false, columns: () => 80 },
    ...{ env, stdin: () => Promise.resolve(stdin) },
    ...{ interrupted: new AbortController().signal, now: () => 0 },
  };
}

async function faultOf(options: object, env: Record<string, string>): Promise<string> {
  try {
    await findTarget({ ...NOWHERE, ...options }, io({ env }));
  } catch (error) {
    assert(error instanceof CliError);
    return `${error.exit} ${error.message}`;
  }
  throw new Error("it was found");
}

Deno.test("target: the address by option, then KMS_API_URL, then SUPABASE_URL", async () => {
  const env = {
    KMS_SECRET_KEY: KEY,
    KMS_API_URL: "https://two.example/",
    SUPABASE_URL: "https://three.example",
  };
  const apiUrl = async (options: object, variables: Record<string, string>) =>
    (await findTarget({ ...NOWHERE, ...options }, io({ env: variables }))).apiUrl;
  assertEquals(await apiUrl({ apiUrl: "https://one.example" }, env), "https://one.example");
  assertEquals(await apiUrl({}, env), "https://two.example");
  assertEquals(await apiUrl({}, { ...env, KMS_API_URL: "" }), "https://three.example");
  for (const loopback of ["http://127.0.0.1:54321", "http://localhost:1", "http://[::1]:1"]) {
    assertEquals(await apiUrl({ apiUrl: loopback }, env), loopback);
  }
});

Deno.test("target: the key by file, stdin, KMS_SECRET_KEY, SUPABASE_SECRET_KEYS or the legacy key", async () => {
  const key = async (options: object, given: RunOptions) =>
    (await findTarget({ ...NOWHERE, apiUrl: URL_OF_PROJECT, ...options }, io(given))).secretKey;
  const env = {
    KMS_SECRET_KEY: "key-of-the-environment",
    SUPABASE_SECRET_KEYS: JSON.stringify({
      other: "key-named-other-one",
      default: "key-named-default",
    }),
    SUPABASE_SERVICE_ROLE_KEY: "key-of-the-old-days",
  };
  assertEquals(await key({ secretKeyFile: privateFile(`${KEY}\n`) }, { env }), KEY);
  assertEquals(await key({ secretKeyFile: "-" }, { env, stdin: `${KEY}\n` }), KEY);
  assertEquals(await key({}, { env }), "key-of-the-environment");
  assertEquals(await key({}, { env: { ...env, KMS_SECRET_KEY: "" } }), "key-named-default");
  assertEquals(
    await key({}, { env: { SUPABASE_SERVICE_ROLE_KEY: env.SUPABASE_SERVICE_ROLE_KEY } }),
    "key-of-the-old-days",
  );
});

Deno.test("target: what is missing or unsafe is refused, and no key is quoted", async () => {
  const cases: [options: object, env: Record<string, string>, fault: RegExp][] = [
    [{}, {}, /^2 where is the suite\?/],
    [{}, { KMS_SECRET_KEY: KEY }, /^2 there is a secret key but no address/],
    // The embedded stack's own key must not go to another address.
    [{ apiUrl: URL_OF_PROJECT }, {}, /^3 there is an address but no secret key/],
    [{ apiUrl: "http://project.example" }, { KMS_SECRET_KEY: KEY }, /^2 .*must be https/],
    [{ apiUrl: "http://127.0.0.1.example" }, { KMS_SECRET_KEY: KEY }, /^2 .*must be https/],
    [{ apiUrl: "http://localhost@evil.example" }, { KMS_SECRET_KEY: KEY }, /^2 .*must be https/],
    [{ apiUrl: "https://user:pass@x.example" }, { KMS_SECRET_KEY: KEY }, /^2 .*plain URL/],
    [{ apiUrl: "https://x.example/?a=b" }, { KMS_SECRET_KEY: KEY }, /^2 .*plain URL/],
    [{ apiUrl: "file:///etc/passwd" }, { KMS_SECRET_KEY: KEY }, /^2 .*must be a URL/],
    [{ apiUrl: "project" }, { KMS_SECRET_KEY: KEY }, /^2 .*must be a URL/],
    [{ apiUrl: URL_OF_PROJECT }, { KMS_SECRET_KEY: `${KEY}\nx-evil: 1` }, /^2 .*without spaces/],
    [{ apiUrl: URL_OF_PROJECT }, { SUPABASE_SECRET_KEYS: `{"a": "${KEY}` }, /^2 .*JSON object/],
    [
      { apiUrl: URL_OF_PROJECT, secretKeyFile: privateFile(KEY, 0o640) },
      {},
      /^2 .*others can read it: chmod 600/,
    ],
    [{ apiUrl: URL_OF_PROJECT, secretKeyFile: "/nowhere" }, {}, /^2 \/nowhere does not exist/],
  ];
  for (const [options, env, fault] of cases) {
    const text = await faultOf(options, env);
    assertMatch(text, fault);
    assert(!text.includes(KEY));
  }
});

Deno.test("target: no option takes a secret", async () => {
  const { stdout } = await kms(["health", "--help"]);
  assertEquals(
    [...stdout.matchAll(/^ +(?:-\w, )?--([\w-]+)/gm)].map(([, name]) => name).sort(),
    ["api-url", "data-dir", "help", "json", "secret-key-file"],
  );
  const refused = await kms(["health", "--secret-key", KEY]);
  assertEquals(refused.code, 2);
});

Deno.test("target: a redirect is not followed, so the key stays where it was sent", () =>
  withSuite(async (suite) => {
    let stolen = false;
    const thief = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
      stolen = true;
      return new Response();
    });
    try {
      const to = `http://127.0.0.1:${thief.addr.port}/`;
      suite.on("GET /kms-admin/config", () => Response.redirect(to, 307));
      assertEquals((await suite.run(["config", "get"])).code, 4);
      assertEquals(stolen, false);
    } finally {
      await thief.shutdown();
    }
  }));

Deno.test("the command itself: dashes passed on by deno task, help, exit codes", async () => {
  const env = { KMS_API_URL: "http://127.0.0.1:1", KMS_SECRET_KEY: KEY };
  const start = (...args: string[]) => startKms(args, { env }).ended();
  const help = await start("--help");
  assertEquals(help.code, 0);
  for (
    const name of [
      ...["doctor", "health", "rotate", "retire", "reencrypt", "jobs", "migrate-provider"],
      ...["import-key", "import-rows", "audit", "config", "erase"],
    ]
  ) assertMatch(help.stdout, new RegExp(`^  ${name}\\b`, "m"));
  assertStringIncludes(help.stdout, "Exit codes: 0 done, 1 the answer is no");
  const unreachable = await start("health", "--json");
  assertEquals(unreachable.code, 4);
  assertEquals(JSON.parse(unreachable.stdout).error.code, "unreachable");
  assert(!`${unreachable.stdout}${unreachable.stderr}`.includes(KEY));
});
