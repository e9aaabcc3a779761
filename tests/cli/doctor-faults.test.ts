/** `kms doctor` on the embedded stack with one thing broken at a time. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Stack } from "../../local/stack.ts";
import { eventually } from "../stack/eventually.ts";
import { call, WITH_STACK } from "../support/stack.ts";
import { doctor, failed, runningStack } from "./doctor-stack.ts";

const PAYMENT = "alias/parker-flight-payment-development";
const PII = "alias/parker-flight-pii-development";

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

const newJob = (stack: Stack, status: "running" | "completed", failed: number) =>
  stack.sql(
    `insert into kms.jobs (kind, status, data_class, dry_run, total, done, failed, pass_epoch,
       created_by, created_at, updated_at, finished_at)
     select 'reencrypt', s.status, 'pii', false, 5, 1, $2, 1, 'tests', t.long_ago, t.long_ago,
       case when s.status <> 'running' then t.long_ago end
     from (select $1::text as status) as s, (select now() - interval '1 hour' as long_ago) as t`,
    [status, failed],
  );

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
    name: "a key that is to be deleted in one region",
    check: "aws.state.pii",
    message: /^PendingDeletion in eu-west-1$/,
    next: /^aws kms cancel-key-deletion --region eu-west-1 --key-id mrk-\S+, then enable-key$/,
    breakIt: async (stack) => {
      const KeyId = await keyIdOf(stack, PII);
      const request = { KeyId, PendingWindowInDays: 7 };
      await stack.aws.asOperator("eu-west-1", "ScheduleKeyDeletion", request);
    },
    mend: async (stack) => {
      const KeyId = await keyIdOf(stack, PII);
      await stack.aws.asOperator("eu-west-1", "CancelKeyDeletion", { KeyId });
      await stack.aws.asOperator("eu-west-1", "EnableKey", { KeyId });
    },
  },
  {
    name: "rows that a job could not re-encrypt",
    check: "jobs.failures",
    message: /^2 rows of job [0-9a-f-]{36} \(pii\)$/,
    next: /kms -- jobs failures [0-9a-f-]{36}; mend or delete them/,
    breakIt: (stack) => newJob(stack, "completed", 2),
    mend: (stack) => stack.sql("delete from kms.jobs"),
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

const WARNINGS: readonly Fault[] = [
  {
    name: "rotation that is off",
    check: "aws.rotation.payment",
    message: /^automatic rotation is off at the primary in us-east-1$/,
    next: /^aws kms enable-key-rotation --region us-east-1 --key-id arn:/,
    breakIt: async (stack) => {
      const KeyId = await keyIdOf(stack, PAYMENT);
      await stack.aws.asOperator("us-east-1", "DisableKeyRotation", { KeyId });
    },
    mend: async (stack) => {
      const KeyId = await keyIdOf(stack, PAYMENT);
      await stack.aws.asOperator("us-east-1", "EnableKeyRotation", { KeyId });
    },
  },
  {
    name: "a job that nobody works on",
    check: "jobs.running",
    message: /^job [0-9a-f-]{36} \(pii\) at 1 of 5 rows, idle for 60 min$/,
    next: /kms -- reencrypt --class pii goes on where it stopped/,
    breakIt: (stack) => newJob(stack, "running", 0),
    mend: (stack) => stack.sql("delete from kms.jobs"),
  },
];

for (const { name, check, message, next, breakIt, mend } of WARNINGS) {
  Deno.test({
    name: `doctor: ${name} is a warning`,
    ...WITH_STACK,
    fn: async () => {
      const stack = await runningStack();
      await breakIt(stack);
      try {
        const { code, lines } = await doctor();
        assertEquals([code, failed(lines)], [0, []]);
        const line = lines.find((one) => one.check === check);
        assertEquals(line?.status, "warn");
        assertMatch(line?.message ?? "", message);
        assertMatch(line?.next ?? "", next);
      } finally {
        await mend(stack);
      }
    },
  });
}
