/** With many rows stored, every request still reads by index: its cost does not grow with the tables. */

import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import postgres from "postgres";
import { startCluster } from "./cluster.ts";
import { createHostedDatabase, HOSTED_OWNER } from "./hosted.ts";
import { explainer } from "./plans.ts";
import { card, healthEntry, STORE_ACTOR } from "./rpc.ts";
import { migrations } from "./schema.ts";

/** Owners with one card and one record each. */
const OWNERS = 10_000;
/** Cards and records of one more owner. */
const HOARD = 2_000;
const AUDITED = 5_000;

/** Tables of one row or a few; reading them whole is the fastest way. */
const SMALL = [
  ...["key_epoch", "region_health", "health_canaries", "audit_anchors"],
  ...["provider_migration", "branch_key_counts", "settings"],
];

const id = (kind: string, n: number) =>
  `${kind}0000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
const OWNER = id("a", 7);
const HOARDER = id("a", 0);
const CARD = id("b", 7);
const RECORD = id("c", 7);
const HOARDED = id("b", OWNERS + 5);
const CURSOR = `2026-06-01T00:00:00.000000Z|${id("b", 0)}`;
const JOB = id("e", 1);
/** Half of all chunks and failures are the job's, the others have one each. */
const JOB_OF_N = `pg_temp.nth('e', case when n <= ${OWNERS / 2} then 1 else n end)`;
const CHUNK = id("f", 1);
const OWNED = { keyring: "hierarchical", scope: "owner" };
const TARGETS = JSON.stringify({ payment: OWNED, pii: OWNED, general: OWNED });
const LIMITS = JSON.stringify({ rows: 200, bytes: 2_000_000, lease_seconds: 60 });
/** Of the message that every row has. */
const HASH = createHash("sha256").update(`AgR4${"A".repeat(176)}`).digest("hex");
const fingerprint = (n: number) => String(n).padStart(64, "f");

const MANY = JSON.stringify(Array.from({ length: 100 }, (_, index) => {
  const [table, kind] = index % 2 ? ["payment_methods", "b"] : ["encrypted_records", "c"];
  return { owner_id: id("a", index + 1), table, id: id(kind ?? "", index + 1) };
}));

const BRANCH_KEY = {
  "branch-key-id": `payment:${OWNER}`,
  type: "branch:ACTIVE",
  version: `branch:version:${id("a", 7)}`,
  enc: "A".repeat(88),
  "kms-arn": "arn:aws:kms:us-east-1:000000000000:key/mrk-1",
  "create-time": "2026-01-01T00:00:00.000000Z",
  "hierarchy-version": "1",
};
const COPY = { record: BRANCH_KEY, copy: { ...BRANCH_KEY, "kms-arn": "vault:k" } };

const CARDS = "payment_methods_id_user_id_key";
const RECORDS = "encrypted_records_id_user_id_data_class_key";
const VERSIONS = "branch_keys_one_record_per_version";
const AUDIT = "audit_log_pkey";

/** What is called, and the indexes by which it reads: these and no other. */
const CALLS: [name: string, args: (string | null)[], indexes: string[]][] = [
  ["kms_payment_methods_list", [OWNER, "100", null], ["payment_methods_newest_first"]],
  ["kms_payment_methods_list", [HOARDER, "20", null], ["payment_methods_newest_first"]],
  ["kms_payment_methods_list", [HOARDER, "20", CURSOR], ["payment_methods_newest_first"]],
  ["kms_payment_method_get", [OWNER, CARD], [CARDS]],
  ["kms_records_list", [HOARDER, null, "20", CURSOR], ["encrypted_records_newest_first"]],
  ["kms_records_list", [OWNER, "pii", "20", null], ["encrypted_records_newest_first"]],
  ["kms_record_get", [OWNER, RECORD], [RECORDS]],
  ["kms_ciphertexts_read", [HOARDER, "payment_methods", HOARDED], [CARDS, "ciphertexts_pkey"]],
  ["kms_ciphertexts_read_many", [MANY], [CARDS, RECORDS, "ciphertexts_pkey"]],
  ["kms_store", [
    STORE_ACTOR,
    JSON.stringify([card(OWNER, { fingerprint: fingerprint(7) }), card(HOARDER)]),
    JSON.stringify({ scope: "s", key_hash: fingerprint(9), token: id("d", 9) }),
  ], [
    "idempotency_keys_pkey",
    "users_pkey",
    "card_fingerprints_one_per_owner",
    CARDS,
    AUDIT,
  ]],
  [
    "kms_payment_method_update",
    [STORE_ACTOR, OWNER, CARD, '{"clear": ["billing_address"]}', null],
    [
      CARDS,
      "ciphertexts_pkey",
      VERSIONS,
      AUDIT,
    ],
  ],
  ["kms_payment_method_set_default", [STORE_ACTOR, HOARDER, HOARDED], [
    CARDS,
    "payment_methods_one_default_per_owner",
    AUDIT,
  ]],
  ["kms_payment_method_delete", [STORE_ACTOR, OWNER, CARD], [
    CARDS,
    "ciphertexts_pkey",
    VERSIONS,
    "ciphertexts_by_payment_method",
    "card_fingerprints_pkey",
    AUDIT,
  ]],
  ["kms_record_delete", [STORE_ACTOR, OWNER, RECORD], [
    RECORDS,
    "ciphertexts_pkey",
    VERSIONS,
    "ciphertexts_by_encrypted_record",
    AUDIT,
  ]],
  ["kms_idempotency_begin", ["s", fingerprint(9), fingerprint(9), "60", "86400"], [
    "idempotency_keys_pkey",
  ]],
  ["kms_branch_key_get", [`payment:${OWNER}`, "branch:ACTIVE"], [
    "branch_keys_pkey",
  ]],
  ["kms_keys_in_use", [], [
    ...["branch_keys_by_wrapping_key", "ciphertexts_by_wrapping_key"],
    ...["legacy_keys_by_branch_key", "health_canaries_by_branch_key"],
  ]],
  ["kms_migration_status", [null], ["branch_keys_by_stage", "ciphertexts_by_wrapping_key"]],
  ["kms_migration_step", [STORE_ACTOR, "aws", "vault", "switch"], [
    ...["branch_keys_by_stage", "ciphertexts_by_wrapping_key", AUDIT],
  ]],
  ["kms_migration_work", ["aws", "vault", "copy", "60"], [
    ...["branch_keys_by_stage", "branch_keys_pkey"],
  ]],
  ["kms_migration_copy", [STORE_ACTOR, "aws", "vault", JSON.stringify([COPY])], [
    ...["branch_keys_pkey", AUDIT],
  ]],
  ["kms_migration_swap", [STORE_ACTOR, "aws", "vault", "1000"], [
    ...["branch_keys_by_stage", "branch_keys_pkey", AUDIT],
  ]],
  ["kms_migration_confirm", ["aws", "vault", JSON.stringify([COPY.copy])], ["branch_keys_pkey"]],
  ["kms_migration_end", [STORE_ACTOR, "aws", "vault", "finish", "1000"], [
    ...["branch_keys_by_stage", "ciphertexts_by_wrapping_key"],
  ]],
  ["kms_user_erase", [STORE_ACTOR, OWNER, "x"], [
    ...["payment_methods_newest_first", "ciphertexts_by_payment_method"],
    ...["encrypted_records_newest_first", "ciphertexts_by_encrypted_record"],
    ...["card_fingerprints_one_per_owner", "card_fingerprints_pkey"],
    ...["idempotency_keys_by_owner", "idempotency_keys_pkey"],
    ...["legacy_rows_by_user", "branch_keys_pkey", "erasures_by_owner", "erasures_pkey", AUDIT],
  ]],
  ["kms_job_start", [STORE_ACTOR, "reencrypt", '{"data_class": "pii"}'], [
    "jobs_running",
    "ciphertexts_by_encrypted_record",
    "ciphertexts_pkey",
    AUDIT,
  ]],
  ["kms_job_cancel", [STORE_ACTOR, JOB], ["jobs_running", AUDIT]],
  ["kms_job_get", [JOB], ["jobs_pkey"]],
  ["kms_job_next", ["reencrypt"], ["jobs_running"]],
  ["kms_jobs_list", ["50", CURSOR], ["jobs_newest_first"]],
  ["kms_job_failures", [JOB, "50", CURSOR], ["jobs_pkey", "job_failures_newest_first"]],
  ["kms_job_release", [CHUNK, CHUNK], ["job_chunks_open"]],
  ["kms_reencrypt_claim", [STORE_ACTOR, JOB, TARGETS, LIMITS], [
    "jobs_running",
    "jobs_pkey",
    "job_chunks_open",
    "ciphertexts_pkey",
    "branch_keys_pkey",
    "job_failures_one_per_row",
  ]],
  ["kms_reencrypt_commit", [
    STORE_ACTOR,
    CHUNK,
    CHUNK,
    JSON.stringify([{
      table_name: "payment_methods",
      record_id: CARD,
      field: "number",
      hash: HASH,
      error_code: "decryption_failed",
    }]),
  ], [
    "job_chunks_open",
    "job_chunks_pkey",
    "jobs_pkey",
    "ciphertexts_pkey",
    "job_failures_one_per_row",
    AUDIT,
  ]],
  ["kms_health_record", [healthEntry()], ["health_history_newest_first"]],
  ["kms_health_history", ["50", CURSOR], ["health_history_newest_first"]],
  ["kms_rate_limit_take", [
    JSON.stringify([
      { key: `read:user:${OWNER}`, limit: 100, seconds: 60 },
      { key: "read_address:new", limit: 100, seconds: 60 },
    ]),
  ], ["rate_limits_pkey"]],
  ["kms_audit_entries", ["{}", "100", null], [AUDIT]],
  ["kms_audit_entries", [JSON.stringify({ owner_id: OWNER }), "20", null], ["audit_log_by_owner"]],
  ["kms_audit_entries", [JSON.stringify({ record_id: CARD }), "20", null], [
    "audit_log_by_record",
  ]],
  ["kms_audit_entries", [JSON.stringify({ actor_id: "seldom" }), "20", null], [
    "audit_log_by_actor",
  ]],
  ["kms_audit_entries", [JSON.stringify({ action: "a.seldom" }), "20", null], [
    "audit_log_by_action",
  ]],
  ["kms_audit_entries", [JSON.stringify({ outcome: "failure" }), "20", null], [
    "audit_log_failures",
  ]],
  ["kms_audit_export", ["2026-01-01", "100", "500"], [AUDIT]],
  ["kms_audit_verify_page", [null, null, null, "5000"], [AUDIT]],
  ["kms_audit_anchors", [null, null, "100", "false"], [AUDIT]],
  ["kms_audit_points", ['[{"day": "2026-01-01", "seq": 7}]'], [AUDIT]],
  ["kms_audit_alerts", ["24", "100", "10", '{"payment": 365, "pii": 365, "general": 365}'], [
    "audit_log_by_action",
    "audit_log_failures",
    "branch_keys_active_by_age",
    "erasures_unsigned",
  ]],
  ["kms_purge_expired", ["90"], [
    "idempotency_keys_by_expiry",
    "health_history_newest_first",
    "rate_limits_by_end",
    "jobs_by_end",
    "jobs_newest_first",
    "job_failures_newest_first",
    "job_chunks_by_job",
    "jobs_pkey",
    "ctid",
  ]],
];

Deno.test(`with ${OWNERS} owners' rows stored, every request reads by index`, async (t) => {
  const cluster = await startCluster();
  try {
    const database = await createHostedDatabase(cluster, "planned", HOSTED_OWNER);
    await using owner = disposable(postgres(database.ownerUrl, { max: 1, onnotice: () => {} }));
    for (const { sql } of migrations()) await owner.sql.unsafe(sql);
    await using admin = disposable(postgres(database.adminUrl, { max: 1, onnotice: () => {} }));
    await admin.sql.unsafe(SEED);
    await admin.sql.unsafe("vacuum analyze");

    await using explained = await explainer(database.adminUrl);
    for (const [name, args, indexes] of CALLS) {
      for (const mode of ["force_custom_plan", "force_generic_plan"] as const) {
        await t.step(`${name}, ${mode}: ${indexes.join(", ")}`, async () => {
          const list = args.map((_, index) => `$${index + 1}`).join(", ");
          const scans = await explained.scansOf(mode, `select public.${name}(${list})`, args);
          const whole = scans.filter(({ table, index }) => !index && !SMALL.includes(table));
          assertEquals(whole, []);
          const used = new Set(scans.flatMap(({ index }) => index ?? []));
          assertEquals([...used].sort(), indexes.toSorted());
        });
      }
    }

    await t.step("a scan of a whole table would have been seen", async () => {
      const scans = await explained.scansOf(
        "force_custom_plan",
        "select query_to_xml('select count(reltuples) from pg_class', true, true, '')",
        [],
      );
      assert(scans.some(({ table, index }) => table === "pg_class" && !index));
    });
  } finally {
    await cluster.close();
  }
});

/** Owner n has card n and record n; owner 0 has what is left, a minute apart. */
const SEED = `
  create function pg_temp.nth(kind text, n integer) returns uuid language sql immutable as
    $$ select (kind || '0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;

  insert into auth.users (id) select pg_temp.nth('a', n) from generate_series(0, ${OWNERS}) as n;
  create temporary table seed as
    select n, pg_temp.nth('a', case when n <= ${OWNERS} then n else 0 end) as owner,
      '2026-01-01'::timestamptz + n * interval '1 minute' as at
    from generate_series(1, ${OWNERS + HOARD}) as n;
  insert into public.payment_methods
    (id, user_id, brand, last4, exp_month, exp_year, is_default, created_at)
    select pg_temp.nth('b', n), owner, 'visa', '4242', 12, 2030, n <= ${OWNERS + 1}, at from seed;
  insert into public.encrypted_records (id, user_id, data_class, created_at)
    select pg_temp.nth('c', n), owner, case n % 2 when 0 then 'general' else 'pii' end, at
    from seed;
  insert into kms.ciphertexts (table_name, record_id, field, owner_id, data_class, message)
    select 'payment_methods', pg_temp.nth('b', n), field, owner, 'payment',
      'AgR4' || repeat('A', 176)
    from seed, unnest(array['number', 'billing_address']) as field
    union all
    select 'encrypted_records', id, 'data', user_id, data_class, 'AgR4' || repeat('A', 176)
    from public.encrypted_records;
  insert into kms.card_fingerprints (payment_method_id, owner_id, fingerprint)
    select pg_temp.nth('b', n), owner, lpad(n::text, 64, 'f') from seed;
  insert into kms.idempotency_keys
    (scope, key_hash, request_hash, token, lease_expires_at, created_at, expires_at)
    select 's', lpad(n::text, 64, 'f'), lpad(n::text, 64, 'f'), pg_temp.nth('d', n),
      now() + interval '1 minute', now(), now() + n * interval '1 minute'
    from seed;
  insert into kms.branch_keys (branch_key_id, type, record)
    select 'payment:' || owner, 'branch:ACTIVE', '${JSON.stringify(BRANCH_KEY)}'::jsonb
      || jsonb_build_object('branch-key-id', 'payment:' || owner, 'version', 'branch:version:' || owner)
    from seed where n <= ${OWNERS};
  set kms.moving_branch_keys = 'on';
  update kms.branch_keys set copy = record || '{"kms-arn": "vault:k"}'
    where right(branch_key_id, 1) in ('1', '2', '3');
  reset kms.moving_branch_keys;
  insert into kms.provider_migration (from_provider, to_provider, step) values ('aws', 'vault', 'switch');
  insert into kms.legacy_keys (key_id, id, message, fingerprint, source, created_by)
    values ('k', gen_random_uuid(), 'AgR4' || repeat('A', 176), repeat('a', 64), 'inline', 'seed');
  insert into kms.legacy_rows (source_id, key_id, user_id, encoding, ciphertext, ciphertext_hash, target)
    select 's' || n, 'k', owner, 'hex', 'c', repeat('a', 64), '{"data_class": "pii"}' from seed;
  insert into kms.erasures
    (owner_id, actor, erased, branch_keys, audit_day, audit_seq, audit_hash, proof)
    select owner, '{}', '{}', '[]', '2026-01-01', n, repeat('0', 64), 'a.b.c'
    from seed where n <= ${OWNERS};
  insert into kms.jobs (id, kind, status, data_class, dry_run, total, pass_epoch,
      created_by, created_at, finished_at)
    select pg_temp.nth('e', n), 'reencrypt', case n when 1 then 'running' else 'completed' end,
      'payment', false, 1, 1, 'seed', at, case n when 1 then null else at end from seed;
  insert into kms.job_chunks (id, job_id, pass, upto, rows, token, lease_expires_at, worker,
      request_id, done, unchanged, failed, finished_at)
    select pg_temp.nth('f', n), ${JOB_OF_N}, 1, '{}', 1, pg_temp.nth('f', n),
      '2040-01-01', 'seed', pg_temp.nth('f', n), c, c, c, case n when 1 then null else at end
    from seed, lateral (values (case n when 1 then null else 0 end)) as r (c);
  insert into kms.job_failures (id, job_id, table_name, record_id, field, data_class, error_code,
      message_hash, created_at)
    select pg_temp.nth('f', n), ${JOB_OF_N}, 'payment_methods', pg_temp.nth('b', n), 'number',
      'payment', 'decryption_failed', repeat('0', 64), at from seed;
  insert into kms.health_history (checked_at, status, checks, regions, latency_ms, function_name)
    select now() - n * interval '1 minute', 'healthy', '{}', '{}', 1, 'f' from seed;
  insert into kms.rate_limits (key, seconds, used, ends_at)
    select 'read:user:' || owner, 60, 1, now() + n * interval '1 minute' from seed where n <= ${OWNERS};
  select kms.audit_append('${STORE_ACTOR}'::jsonb, (
    select jsonb_agg(jsonb_build_object('action', 'a.b', 'outcome', 'success',
      'owner_id', pg_temp.nth('a', n), 'record_id', pg_temp.nth('b', n)))
    from generate_series(1, ${AUDITED}) as n
  ))`;

function disposable(sql: postgres.Sql): { sql: postgres.Sql } & AsyncDisposable {
  return { sql, [Symbol.asyncDispose]: () => sql.end() };
}
