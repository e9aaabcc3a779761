import { assert, assertEquals } from "@std/assert";
import { inspect } from "./hygiene.ts";
import { listFiles, readText } from "../support/repository.ts";

Deno.test("no file holds a secret, a registry's host or a path of one machine", () => {
  const files = listFiles();
  assert(files.includes("deno.json") && files.includes("tests/architecture/hygiene.ts"));
  const findings = files.flatMap((path) =>
    inspect(readText(path)).map(({ rule, line }) => `${path}:${line}: ${rule}`)
  );
  assertEquals(findings, []);
});

// Put together at run time, so that this file passes the check itself.
const planted: readonly [rule: string, line: string][] = [
  ["registry host", ["https://registry", "npmjs", "org/x"].join(".")],
  ["registry host", ["http://deb", "debian", "org/debian"].join(".")],
  ["registry host", ["https://jsr", "io/@std/assert"].join(".")],
  ["path of a machine", ["", "root", "project/x.ts"].join("/")],
  ["path of a machine", ["cd ", "home", "anna/project"].join("/")],
  ["AWS access key id", `AWS_ACCESS_KEY_ID=${"AKIA"}${"Q3EG".repeat(4)}`],
  ["AWS secret access key", `AWS_SECRET_ACCESS_KEY="${"aB3/".repeat(10)}"`],
  ["private key", ["-----BEGIN RSA ", "PRIVATE KEY-----"].join("")],
  ["Supabase token or secret key", "sbp_" + "0123456789".repeat(4)],
  ["Supabase token or secret key", "sb_secret_" + "Ab0_".repeat(6)],
  ["signed token", ["eyJhbGciOiJIUzI1NiJ9", "eyJyb2xlIjoiYW5vbiJ9", "x".repeat(43)].join(".")],
  ["payment provider key", "sk_" + "live_" + "4".repeat(24)],
  ["GitHub token", "ghp_" + "a".repeat(36)],
  ["npm token", "npm_" + "a".repeat(36)],
  ["card number that is no published test number", "number: " + "4532015" + "112830366"],
  ["card number that is no published test number", ["4532", "0151", "1283", "0366"].join(" ")],
];

Deno.test("the check finds what it looks for, on the right line", async (t) => {
  for (const [rule, line] of planted) {
    await t.step(rule, () => assertEquals(inspect(`# ok\n${line}\n`), [{ rule, line: 2 }]));
  }
});

Deno.test("the check lets documented examples pass", () => {
  assertEquals(inspect("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"), []);
  assertEquals(inspect("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), []);
  assertEquals(inspect("4242 4242 4242 4242, 378282246310005; 4242424242424241 fails Luhn"), []);
  assertEquals(inspect("sbp_<40 hex digits>, ./work, supabase/functions, /tmp"), []);
});

Deno.test("the lock file holds names and hashes, and no address", () => {
  const lock = JSON.parse(readText("deno.lock"));
  assertEquals(
    Object.keys(lock).filter((key) => !["version", "specifiers", "npm", "workspace"].includes(key)),
    [],
    "only npm packages are locked",
  );
  assert(!readText("deno.lock").includes("://"));
  const packages: [string, { integrity?: string }][] = Object.entries(lock.npm);
  assert(packages.length > 0);
  for (const [name, { integrity }] of packages) {
    assert(/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity ?? ""), `${name} has no SHA-512 hash`);
  }
});
