/** The migrations on a real Postgres, by the real Supabase CLI, owned by roles like hosted ones. */

import { join } from "node:path";
import { assert, assertEquals, assertRejects } from "@std/assert";
import postgres from "postgres";
import { ROOT } from "../support/repository.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { createHostedDatabase, HOSTED_OWNER, type HostedDatabase, PLAIN_OWNER } from "./hosted.ts";
import { EFFECTIVE_PRIVILEGES, EXPECTED_PRIVILEGES } from "./privileges.ts";
import {
  branchKeyRecords,
  card,
  CARD_NUMBER,
  healthEntry,
  newVersion,
  rpc,
  STORE_ACTOR,
} from "./rpc.ts";
import { migrations } from "./schema.ts";
import { type SupabaseCli, supabaseCli } from "./supabase_cli.ts";
import { readTap } from "./tap.ts";

const PGTAP = "supabase/tests";

/** Information the advisors may give, and why it is no fault here. */
const ALLOWED_ADVICE: Record<string, (schema?: string) => boolean> = {
  // The database is a minute old.
  unused_index: () => true,
  // Default deny: the private tables are for their owner's functions alone.
  rls_enabled_no_policy: (schema) => schema === "kms",
};

Deno.test("migrations on Postgres", async (t) => {
  const cluster = await startCluster();
  const cli = await supabaseCli();
  try {
    await t.step("owned as on hosted Supabase", (t) => hosted(t, cluster, cli));
    await t.step("owned by a role with no attributes at all", (t) => plain(t, cluster));
  } finally {
    await cli.close();
    await cluster.close();
  }
});

async function hosted(t: Deno.TestContext, cluster: Cluster, cli: SupabaseCli): Promise<void> {
  const database = await createHostedDatabase(cluster, "hosted", HOSTED_OWNER);

  await t.step("`supabase db push` applies every migration", async () => {
    await cli.push(database.ownerUrl);
    await using owner = connect(database.ownerUrl);
    const applied = await owner.sql<{ version: string }[]>`
      select version from supabase_migrations.schema_migrations order by version`;
    assertEquals(
      applied.map((row) => row.version),
      migrations().map(({ name }) => name.split("_")[0] ?? ""),
    );
  });

  await t.step("the API roles hold exactly the privileges meant for them", async () => {
    assertEquals(await privileges(database), EXPECTED_PRIVILEGES);
  });

  for (const file of pgTapFiles()) {
    await t.step(`pgTAP: ${file}`, async () => {
      const report = readTap(await psql(cluster, database.ownerUrl, join(ROOT, PGTAP, file)));
      assertEquals(report.faults, []);
      assert(report.passed > 0);
    });
  }

  await t.step("`supabase db lint` finds nothing", async () => {
    assertEquals(await cli.lint(database.ownerUrl, ["public", "kms"]), []);
  });

  await t.step("`supabase db advisors` finds nothing to act on", async () => {
    const advice = await cli.advisors(database.ownerUrl);
    assert(advice.length > 0, "a young database has unused indexes: the advisors did not run");
    const faults = advice.filter(({ name, level, metadata }) =>
      level !== "INFO" || !ALLOWED_ADVICE[name]?.(metadata?.schema)
    );
    assertEquals(faults, []);
  });

  await t.step("a second push has nothing to do", async () => {
    await cli.push(database.ownerUrl);
    await using owner = connect(database.ownerUrl);
    const [row] = await owner.sql<{ count: number }[]>`
      select count(*)::int from supabase_migrations.schema_migrations`;
    assertEquals(row?.count, migrations().length);
  });

  await t.step("not even a superuser can change the audit log by accident", async () => {
    await using admin = connect(database.adminUrl);
    await using service = connect(database.ownerUrl, "service_role");
    await rpc(service.sql, "kms_audit_append", [
      STORE_ACTOR,
      JSON.stringify([{ action: "test.append", outcome: "success" }]),
    ]);
    for (
      const statement of [
        "update kms.audit_log set outcome = outcome",
        "delete from kms.audit_log",
        "truncate kms.audit_log",
      ]
    ) {
      const refused = await assertRejects(
        () => admin.sql.unsafe(statement),
        postgres.PostgresError,
        "audit_log_append_only",
      );
      assertEquals(refused.code, "KM403");
    }
  });

  await t.step("nor a branch key, or the only key to old messages", async () => {
    await using admin = connect(database.adminUrl);
    await using service = connect(database.ownerUrl, "service_role");
    const version = newVersion();
    await rpc(service.sql, "kms_branch_key_create", [branchKeyRecords({}, version)]);
    for (
      const statement of [
        "update kms.branch_keys set record = record",
        "delete from kms.branch_keys",
        "truncate kms.branch_keys cascade",
      ]
    ) {
      const refused = await assertRejects(
        () => admin.sql.unsafe(statement),
        postgres.PostgresError,
        "branch_key_record_immutable",
      );
      assertEquals(refused.code, "KM403");
    }
    const rotation = [STORE_ACTOR, branchKeyRecords({}, newVersion(), false), version];
    await admin.sql.begin(async (sql) => {
      const answer = await rpc<{ rotated: boolean }>(sql, "kms_branch_key_rotate", rotation);
      assertEquals(answer?.rotated, true);
      // A rotation opens the table for itself alone, not for the rest of its transaction.
      await assertRejects(
        () => sql.savepoint((sql) => sql`update kms.branch_keys set record = record`),
        postgres.PostgresError,
        "branch_key_record_immutable",
      );
    });
  });

  await t.step("a card number in the wrong place reaches neither error nor log", async () => {
    await using admin = connect(database.adminUrl);
    await using service = connect(database.ownerUrl, "service_role");
    const owner = crypto.randomUUID();
    await admin.sql`insert into auth.users (id) values (${owner})`;
    await rpc(service.sql, "kms_store", [STORE_ACTOR, JSON.stringify([card(owner)]), null]);
    const started = await rpc<{ job: { id: string } }>(service.sql, "kms_job_start", [
      ...[STORE_ACTOR, "reencrypt", '{"data_class": "payment"}'],
    ]);
    const jobId = started?.job.id ?? "";
    const targets = (scope: string) =>
      JSON.stringify({ payment: { keyring: "hierarchical", scope } });
    const limits = JSON.stringify({ rows: 1, bytes: 1, lease_seconds: 60 });
    const claim = await rpc<
      { chunk: { id: string; token: string; rows: Record<string, string>[] } }
    >(
      service.sql,
      "kms_reencrypt_claim",
      [STORE_ACTOR, jobId, targets("class"), limits],
    );
    const { table_name, record_id, field, hash } = claim?.chunk.rows[0] ?? {};
    const result = { table_name, record_id, field, hash };
    const chunk = claim?.chunk ?? { id: "", token: "" };
    const attempts: [name: string, args: (string | null)[]][] = [
      ["kms_store", [STORE_ACTOR, `[{"number": "${CARD_NUMBER}"`, null]],
      ["kms_store", [STORE_ACTOR, JSON.stringify([{ ...card(owner), number: CARD_NUMBER }]), null]],
      ["kms_store", [STORE_ACTOR, JSON.stringify([{ [CARD_NUMBER]: 1 }]), null]],
      ...["id", "owner_id", "fingerprint", "brand", "last4", "exp_year", "nickname"].map(
        (field): [string, (string | null)[]] => [
          "kms_store",
          [STORE_ACTOR, JSON.stringify([{ ...card(owner), [field]: CARD_NUMBER }]), null],
        ],
      ),
      ["kms_store", [
        STORE_ACTOR,
        JSON.stringify([{
          ...card(owner),
          ciphertexts: [{ field: "number", message: CARD_NUMBER }],
        }]),
        null,
      ]],
      ["kms_payment_method_update", [
        STORE_ACTOR,
        owner,
        owner,
        JSON.stringify({ nickname: CARD_NUMBER }),
        null,
      ]],
      ["kms_audit_append", [
        STORE_ACTOR,
        JSON.stringify([{ action: "a.b", outcome: "success", purpose: CARD_NUMBER }]),
      ]],
      ["kms_idempotency_begin", ["scope", CARD_NUMBER, CARD_NUMBER, "60", "86400"]],
      ["kms_ciphertexts_read_many", [
        JSON.stringify([{ owner_id: owner, table: "payment_methods", id: CARD_NUMBER }]),
      ]],
      ["kms_branch_key_create", [branchKeyRecords({ enc: CARD_NUMBER })]],
      ["kms_branch_key_create", [branchKeyRecords({ [CARD_NUMBER]: "1" })]],
      ["kms_branch_key_rotate", [STORE_ACTOR, branchKeyRecords({ enc: CARD_NUMBER }), "v"]],
      ["kms_region_report", [CARD_NUMBER, null]],
      ["kms_health_record", [healthEntry({ status: CARD_NUMBER })]],
      ["kms_health_record", [healthEntry({ checks: { config: CARD_NUMBER } })]],
      ["kms_health_record", [healthEntry({ regions: { [CARD_NUMBER]: "OPEN" } })]],
      ["kms_health_history", ["10", CARD_NUMBER]],
      ["kms_job_start", [STORE_ACTOR, CARD_NUMBER, "{}"]],
      ["kms_job_start", [STORE_ACTOR, "reencrypt", JSON.stringify({ data_class: CARD_NUMBER })]],
      ["kms_jobs_list", ["10", CARD_NUMBER]],
      ["kms_reencrypt_claim", [STORE_ACTOR, jobId, targets(CARD_NUMBER), limits]],
      ["kms_reencrypt_claim", [STORE_ACTOR, jobId, targets("class"), CARD_NUMBER]],
      ...["hash", "error_code", CARD_NUMBER].map(
        (field): [string, (string | null)[]] => [
          "kms_reencrypt_commit",
          [
            STORE_ACTOR,
            chunk.id,
            chunk.token,
            JSON.stringify([{
              ...result,
              [field]: CARD_NUMBER,
            }]),
          ],
        ],
      ),
      ["kms_reencrypt_commit", [
        STORE_ACTOR,
        chunk.id,
        chunk.token,
        JSON.stringify([{ ...result, ciphertext: { message: CARD_NUMBER } }]),
      ]],
      ["kms_canary_put", ["payment", CARD_NUMBER, null]],
      ["kms_rate_limit_take", [`[{"${CARD_NUMBER}": 1}]`]],
      ["kms_rate_limit_take", [`[{"key": "k", "limit": ${CARD_NUMBER}, "seconds": 1}]`]],
      ["kms_payment_methods_list", [owner, "10", CARD_NUMBER]],
    ];
    for (const [name, args] of attempts) {
      const error = await assertRejects(
        () => rpc(service.sql, name, args),
        postgres.PostgresError,
        undefined,
        name,
      );
      assert(error.code === "22023" || error.code === "23514", `${name}: ${error.code}`);
      const { message, detail, hint, where } = error;
      assert(!JSON.stringify({ message, detail, hint, where }).includes(CARD_NUMBER), name);
    }
    assert(cluster.log().includes("invalid_argument"), "the log holds the refusals");
    assert(!cluster.log().includes(CARD_NUMBER), "but not the number");
  });
}

/** FORCE ROW LEVEL SECURITY binds this owner, and it cannot read auth.users. */
async function plain(t: Deno.TestContext, cluster: Cluster): Promise<void> {
  const database = await createHostedDatabase(cluster, "plain", PLAIN_OWNER);

  await t.step("every migration applies", async () => {
    await using owner = connect(database.ownerUrl);
    for (const { sql } of migrations()) await owner.sql.unsafe(sql);
    assertEquals(await privileges(database), EXPECTED_PRIVILEGES);
  });

  await t.step("data, audit and cascade work", async () => {
    await using admin = connect(database.adminUrl);
    await using service = connect(database.ownerUrl, "service_role");
    const user = crypto.randomUUID();
    await admin.sql`insert into auth.users (id) values (${user})`;
    const stored = await rpc<{ results: { outcome: string }[] }>(service.sql, "kms_store", [
      STORE_ACTOR,
      JSON.stringify([card(user), card(crypto.randomUUID())]),
      null,
    ]);
    assertEquals(stored?.results.map(({ outcome }) => outcome), ["created", "owner_not_found"]);
    await admin.sql`delete from auth.users where id = ${user}`;
    const [left] = await admin.sql`
      select (select count(*)::int from kms.ciphertexts) as ciphertexts,
        (select count(*)::int from kms.card_fingerprints) as fingerprints,
        (select count(*)::int from kms.audit_log) as entries,
        (select kms.audit_verify(max(chain_day)) from kms.audit_log) as bad`;
    assertEquals({ ...left }, { ciphertexts: 0, fingerprints: 0, entries: 2, bad: null });
  });

  await t.step("an old day is pruned behind its anchor, and its entries alone", async () => {
    await using admin = connect(database.adminUrl);
    await using service = connect(database.ownerUrl, "service_role");
    // As if all this had been long ago.
    await admin.sql.unsafe(`
      alter table kms.audit_log disable trigger user;
      update kms.audit_log set chain_day = '2024-01-01';
      update kms.audit_log a set hash = kms.audit_hash(a) where seq = 1;
      update kms.audit_log a set prev_hash = b.hash from kms.audit_log b where a.seq = 2 and b.seq = 1;
      update kms.audit_log a set hash = kms.audit_hash(a) where seq = 2;
      alter table kms.audit_log enable trigger user`);
    await rpc(service.sql, "kms_audit_append", [
      STORE_ACTOR,
      JSON.stringify([{ action: "test.append", outcome: "success" }]),
    ]);
    const page = await rpc<{ anchors: Record<string, unknown>[] }>(
      service.sql,
      "kms_audit_anchors",
      [null, null, "1", "false"],
    );
    const { finished: _, pruned: __, ...anchor } = page?.anchors[0] ?? {};
    const signed = { ...anchor, signed_at: "2026-11-25T00:00:00.000Z", signature: "a".repeat(64) };
    const pruned = await rpc(service.sql, "kms_audit_prune", [STORE_ACTOR, JSON.stringify(signed)]);
    assertEquals(pruned, { pruned: true });
    const left = await admin.sql<{ action: string }[]>`
      select action from kms.audit_log order by chain_day, seq`;
    assertEquals(left.map(({ action }) => action), ["test.append", "audit.prune"]);
  });

  await t.step("the policies hide the audit log from change, whatever is granted", async () => {
    await using owner = connect(database.ownerUrl);
    await owner.sql.unsafe("grant update, delete on kms.audit_log to plain_owner");
    assertEquals((await owner.sql.unsafe("update kms.audit_log set outcome = outcome")).count, 0);
    assertEquals((await owner.sql.unsafe("delete from kms.audit_log")).count, 0);
  });
}

function pgTapFiles(): string[] {
  const names = [...Deno.readDirSync(join(ROOT, PGTAP))].map((entry) => entry.name);
  const files = names.filter((name) => name.endsWith(".test.sql")).sort();
  assert(files.length > 0, `no test in ${PGTAP}`);
  return files;
}

async function psql(cluster: Cluster, url: string, file: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(join(cluster.binaries, "psql"), {
    args: ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", file, url],
    clearEnv: true,
    env: { LC_ALL: "C.UTF-8" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(text.decode(stdout) + text.decode(stderr));
  return text.decode(stdout);
}

async function privileges(database: HostedDatabase): Promise<string[]> {
  await using admin = connect(database.adminUrl);
  const rows = await admin.sql.unsafe<{ privilege: string }[]>(EFFECTIVE_PRIVILEGES);
  return rows.map((row) => row.privilege);
}

function connect(url: string, role?: string): { sql: postgres.Sql } & AsyncDisposable {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connection: role ? { role } : {} });
  return { sql, [Symbol.asyncDispose]: () => sql.end() };
}
