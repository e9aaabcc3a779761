/** `kms doctor` on the embedded stack: well, and with one thing broken at a time. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeStackFile } from "../../local/stack-file.ts";
import type { Stack } from "../../local/stack.ts";
import type { Line } from "../../cli/doctor/report.ts";
import { eventually } from "../stack/eventually.ts";
import { call, startTestStack, WITH_STACK } from "../support/stack.ts";
import { type Finished, kms, privateFile } from "./cli.ts";

const PAYMENT = "alias/parker-flight-payment-development";
const PII = "alias/parker-flight-pii-development";

let started: Promise<Stack> | undefined;

/** Health is not cached: what the functions see of a fault ends with it. */
async function runningStack(): Promise<Stack> {
  started ??= startTestStack({ functionEnv: { KMS_HEALTH_CACHE_MS: "0" } });
  const stack = await started;
  await writeStackFile(stack, { userId: crypto.randomUUID(), running: true });
  return stack;
}

async function doctor(...args: string[]): Promise<Finished & { lines: Line[] }> {
  const { dataDir } = await runningStack();
  const finished = await kms(["doctor", "--json", "--data-dir", dataDir, ...args]);
  return { ...finished, lines: finished.json().checks };
}

function failed(lines: readonly Line[]): string[] {
  return lines.filter(({ status }) => status === "fail").map(({ check }) => check);
}

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
        ...["database.hidden.publishable_key", "database.hidden.secret_key"],
        ...[...stack.functions].sort().map((name) => `functions.${name}`),
        ...["health", "secret_key", "configuration", "cors"].map((c) => `functions.${c}`),
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

interface Fault {
  readonly name: string;
  readonly check: string;
  readonly message: RegExp;
  readonly next: RegExp;
  readonly breakIt: (stack: Stack) => Promise<unknown>;
  readonly mend: (stack: Stack) => Promise<unknown>;
}

const keyIdOf = async (stack: Stack, alias: string) => {
  const { KeyMetadata } = await stack.aws.asOperator("us-east-1", "DescribeKey", { KeyId: alias });
  return (KeyMetadata as { KeyId: string }).KeyId;
};

const FAULTS: readonly Fault[] = [
  {
    name: "a key that is disabled in the first region",
    check: "aws.state.payment",
    message: /^Disabled in us-east-1$/,
    next: /^aws kms enable-key --region us-east-1 --key-id mrk-/,
    breakIt: async (stack) => {
      const KeyId = await keyIdOf(stack, PAYMENT);
      await stack.aws.asOperator("us-east-1", "DisableKey", { KeyId });
    },
    mend: async (stack) => {
      const KeyId = await keyIdOf(stack, PAYMENT);
      await stack.aws.asOperator("us-east-1", "EnableKey", { KeyId });
    },
  },
  {
    name: "an alias that is missing in one region",
    check: "aws.alias.pii",
    message: /is not there in us-west-2$/,
    next: /^aws kms create-alias --region us-west-2 --alias-name alias\/parker-flight-pii/,
    breakIt: (stack) => stack.aws.asOperator("us-west-2", "DeleteAlias", { AliasName: PII }),
    mend: async (stack) => {
      const TargetKeyId = await keyIdOf(stack, PII);
      await stack.aws.asOperator("us-west-2", "CreateAlias", { AliasName: PII, TargetKeyId });
    },
  },
  {
    name: "an alias that names another key in one region",
    check: "aws.alias.pii",
    message: /names another key in eu-west-1 than in us-east-1$/,
    next: /^aws kms update-alias --region eu-west-1/,
    breakIt: async (stack) => {
      const TargetKeyId = await keyIdOf(stack, PAYMENT);
      await stack.aws.asOperator("eu-west-1", "UpdateAlias", { AliasName: PII, TargetKeyId });
    },
    mend: async (stack) => {
      const TargetKeyId = await keyIdOf(stack, PII);
      await stack.aws.asOperator("eu-west-1", "UpdateAlias", { AliasName: PII, TargetKeyId });
    },
  },
  {
    name: "a clock that is ten minutes off",
    check: "aws.clock",
    message: /^this clock is \d+ s behind$/,
    next: /NTP/,
    breakIt: (stack) => Promise.resolve(stack.aws.clock.set(10 * 60_000)),
    mend: (stack) => Promise.resolve(stack.aws.clock.set(0)),
  },
  {
    name: "a privilege that was revoked",
    check: "database.privileges",
    message: /^service_role may not execute public\.kms_store$/,
    next: /put back what the migrations say/,
    breakIt: (stack) =>
      stack.sql(
        "revoke execute on function public.kms_store(text, text, text) from service_role",
      ),
    mend: (stack) =>
      stack.sql("grant execute on function public.kms_store(text, text, text) to service_role"),
  },
  {
    name: "a privilege that was given",
    check: "database.privileges",
    message: /^anon SELECT table kms\.audit_log \(must not be\)$/,
    next: /put back what the migrations say/,
    breakIt: (stack) => stack.sql("grant select on kms.audit_log to anon"),
    mend: (stack) => stack.sql("revoke select on kms.audit_log from anon"),
  },
  {
    name: "a migration that was not applied",
    check: "database.migrations",
    message: /^not applied: \d{14}$/,
    next: /^supabase db push$/,
    breakIt: (stack) =>
      stack.sql(
        "update supabase_migrations.schema_migrations set version = version || 'x' where version = " +
          "(select max(version) from supabase_migrations.schema_migrations)",
      ),
    mend: (stack) =>
      stack.sql(
        "update supabase_migrations.schema_migrations set version = rtrim(version, 'x')",
      ),
  },
  {
    name: "a function without its variables",
    check: "functions.manage-payment-methods-kms",
    message: /^its variables are missing or wrong$/,
    next: /supabase secrets set/,
    breakIt: (stack) => stack.restartFunction("manage-payment-methods-kms", { AWS_REGION: "" }),
    mend: (stack) => stack.restartFunction("manage-payment-methods-kms", {}),
  },
  {
    name: "a function that is stopped",
    check: "functions.encrypt-payment-data",
    message: /^does not run: the platform answers 50\d$/,
    next: /functions deploy encrypt-payment-data/,
    breakIt: async (stack) => {
      // The stack starts anew what ends in any other way.
      const pid = stack.functionPids()[stack.functions.indexOf("encrypt-payment-data")];
      assert(pid !== undefined);
      Deno.kill(pid, "SIGINT");
      const status = async () => {
        const { status, body } = await call(stack, "encrypt-payment-data", "", { json: {} });
        await body?.cancel();

        return status;
      };
      await eventually(status, (seen) => seen >= 500);
    },
    mend: (stack) => stack.restartFunction("encrypt-payment-data", {}),
  },
];

for (const fault of FAULTS) {
  Deno.test({
    name: `doctor: ${fault.name} fails exactly ${fault.check}`,
    ...WITH_STACK,
    fn: async () => {
      const stack = await runningStack();
      await fault.breakIt(stack);
      try {
        const { code, lines, stdout } = await doctor();
        assertEquals(failed(lines), [fault.check], stdout);
        assertEquals(code, 1);
        const line = lines.find(({ check }) => check === fault.check);
        assertMatch(line?.message ?? "", fault.message);
        assertMatch(line?.next ?? "", fault.next);
      } finally {
        await fault.mend(stack);
      }
      assertEquals(failed((await doctor()).lines), [], "it was mended");
    },
  });
}

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

Deno.test({
  name: "doctor: an unknown access key fails exactly aws.credentials",
  ...WITH_STACK,
  fn: async () => {
    const stack = await runningStack();
    const path = envFile(stack, { AWS_ACCESS_KEY_ID: "AKIA" + "EXAMPLE7".repeat(2) });
    const { lines, stdout } = await doctor("--env-file", path);
    assertEquals(failed(lines), ["aws.credentials"], stdout);
  },
});

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
