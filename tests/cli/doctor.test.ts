/** `kms doctor` on the embedded stack: well, with variables that are wrong, and with a wrong key. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Stack } from "../../local/stack.ts";
import type { Line } from "../../cli/doctor/report.ts";
import { WITH_STACK } from "../support/stack.ts";
import { kms, privateFile } from "./cli.ts";
import { doctor, failed, runningStack } from "./doctor-stack.ts";

/** A file of the functions' variables with some of them changed. */
function envFile(stack: Stack, changes: Record<string, string>): string {
  const variables = { ...stack.functionEnv, ...changes };
  return privateFile(
    Object.entries(variables).map(([name, value]) => `${name}='${value}'`).join("\n"),
  );
}

Deno.test({
  name: "doctor: a stack that is well",
  ...WITH_STACK,
  fn: async (t) => {
    const stack = await runningStack();
    const { code, lines, stdout, stderr, json } = await doctor();

    await t.step("passes every line but the one about pg_cron, which is not here", () => {
      assertEquals(failed(lines), [], stdout);
      assertEquals(
        lines.filter(({ status }) => status === "warn").map(({ check }) => check),
        ["database.cron"],
      );
      assertEquals(code, 0);
      const { healthy, pass, warn, fail } = json();
      assertEquals([healthy, pass, warn, fail], [true, lines.length - 1, 1, 0]);
    });
    await t.step("has a line for everything it promises", () => {
      const checks = lines.map(({ check }) => check);
      const perClass = ["payment", "pii", "general"].flatMap((name) =>
        ["alias", "state", "rotation", "use"].map((what) => `aws.${what}.${name}`)
      );
      assertEquals(checks, [
        "configuration",
        ...["aws.clock", "aws.credentials", "aws.role", "aws.external_id", "aws.caller"],
        ...perClass,
        ...["answers", "migrations", "objects", "privileges", "cron", "erasures"].map((c) =>
          `database.${c}`
        ),
        ...["provider.migration", "jobs.running", "jobs.failures"],
        ...["database.hidden.publishable_key", "database.hidden.secret_key"],
        ...[...stack.functions].sort().map((name) => `functions.${name}`),
        ...["secret_key", "configuration", "health"].map((c) => `functions.${c}`),
        ...["payment", "pii", "general"].map((name) => `functions.keys.${name}`),
        "functions.cors",
      ]);
    });
    await t.step("shows no secret", () => {
      const { caller, role } = stack.aws.identities;
      for (
        const secret of [
          ...[stack.secretKey, stack.publishableKey, stack.jwtSecret],
          ...[caller.secretAccessKey, caller.accessKeyId, role.externalId],
        ]
      ) assert(!`${stdout}${stderr}`.includes(secret));
    });
    await t.step("says the same as text, line by line, with what to do", async () => {
      const text = await kms(["doctor", "--data-dir", stack.dataDir]);
      assertEquals(text.code, 0);
      assertMatch(text.stdout, /^pass {2}configuration +development, provider aws$/m);
      assertMatch(text.stdout, /^WARN {2}database\.cron .*\n {6}-> schedule the jobs/m);
      assertMatch(text.stdout, /\d+ passed, 1 warnings, 0 failed\n$/);
    });
    await t.step("leaves every key, alias and row as it was", () => {
      const changing = stack.aws.calls().map(({ operation }) => operation)
        .filter((name) => /^(Create|Delete|Put|Update|Enable|Disable|Schedule|Rotate)/.test(name));
      assertEquals(changing, []);
    });
  },
});

Deno.test({
  name: "doctor: a wrong external id fails exactly aws.role, and what hangs on it is not checked",
  ...WITH_STACK,
  fn: async () => {
    const stack = await runningStack();
    const path = envFile(stack, { AWS_EXTERNAL_ID: "another-external-id" });
    const { code, lines, stdout, stderr } = await doctor("--env-file", path);
    assertEquals(failed(lines), ["aws.role"], stdout);
    assertEquals(code, 1);
    const notChecked = lines.filter(({ message }) => message === "not checked");
    assertEquals(notChecked.map(({ check }) => check), ["aws.external_id", "aws.keys"]);
    assert(!`${stdout}${stderr}`.includes("another-external-id"));
  },
});

const VARIABLES: readonly {
  readonly name: string;
  readonly changes: Readonly<Record<string, string>>;
  readonly checks: readonly string[];
  readonly message: RegExp;
}[] = [
  {
    name: "an unknown access key",
    changes: { AWS_ACCESS_KEY_ID: "AKIA" + "EXAMPLE7".repeat(2) },
    checks: ["aws.credentials"],
    message: /^AWS does not know the access key/,
  },
  {
    name: "a wrong secret access key",
    changes: { AWS_SECRET_ACCESS_KEY: "another-secret-of-tests-only" },
    checks: ["aws.credentials"],
    message: /^the secret is not that of the access key$/,
  },
  {
    name: "no external id",
    changes: { AWS_EXTERNAL_ID: "" },
    checks: ["configuration"],
    message: /^AWS_EXTERNAL_ID is required when AWS_ROLE_ARN is set$/,
  },
  {
    name: "another account",
    changes: { AWS_ACCOUNT_ID: "999999999999" },
    checks: ["payment", "pii", "general"].map((name) => `aws.alias.${name}`),
    message: /names a key of account 0{12}, and the functions take those of 9{12} only$/,
  },
];

for (const { name, changes, checks, message } of VARIABLES) {
  Deno.test({
    name: `doctor: ${name} fails exactly ${checks.join(", ")}`,
    ...WITH_STACK,
    fn: async () => {
      const path = envFile(await runningStack(), changes);
      const { code, lines, stdout } = await doctor("--env-file", path);
      assertEquals([code, failed(lines)], [1, checks], stdout);
      for (const check of checks) {
        assertMatch(lines.find((line) => line.check === check)?.message ?? "", message);
      }
    },
  });
}

Deno.test({
  name: "doctor: faults of the variables are listed by name, and the rest is checked all the same",
  ...WITH_STACK,
  fn: async () => {
    const stack = await runningStack();
    const path = envFile(stack, { AWS_REGION: "nowhere", KMS_PII_ALIAS: "secret-thing" });
    const { code, lines, stdout } = await doctor("--env-file", path);
    assertEquals([code, failed(lines)], [1, ["configuration"]], stdout);
    const [first] = lines;
    assertStringIncludes(first?.message ?? "", "AWS_REGION must be an AWS region");
    assertStringIncludes(first?.message ?? "", "KMS_PII_ALIAS must be");
    assert(!stdout.includes("secret-thing"));
    assert(lines.some(({ check, status }) => check === "functions.health" && status === "pass"));
  },
});

Deno.test({
  name: "doctor: variables of another environment than the functions' are noticed",
  ...WITH_STACK,
  fn: async () => {
    const stack = await runningStack();
    const path = envFile(stack, { APP_ENVIRONMENT: "staging" });
    const { lines } = await doctor("--env-file", path);
    assertEquals(failed(lines), ["functions.health"]);
  },
});

Deno.test({
  name: "doctor: another secret key is refused everywhere, and opens nothing",
  ...WITH_STACK,
  fn: async () => {
    const stack = await runningStack();
    const { code, stdout } = await kms(["doctor", "--json", "--api-url", stack.apiUrl], {
      env: { ...stack.functionEnv, KMS_SECRET_KEY: "not-a-key-of-this-project" },
    });
    const lines = JSON.parse(stdout).checks as Line[];
    assertEquals([code, failed(lines)], [1, ["database.answers", "functions.secret_key"]], stdout);
    assert(!stdout.includes("not-a-key-of-this-project"));
  },
});
