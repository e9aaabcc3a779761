/**
 * Whether requests get slower as the tables grow: the database's part of list, get, reveal,
 * re-encryption and a migration of providers with 1 thousand, 100 thousand and 1 million cards on real
 * Postgres. The rows are made by SQL, ten of each owner, who has a branch key.
 */
import postgres from "postgres";
import { startCluster } from "../postgres/cluster.ts";
import { explainer, type Scan } from "../postgres/plans.ts";
import { foundation, migrations } from "../postgres/schema.ts";
import type { BenchmarkOptions, BenchmarkResult } from "./benchmark.ts";
import { median, percentile } from "./measure.ts";

const PER_OWNER = 10;
/** Rows of one step of a re-encryption. */
const BATCH = 100;
/** As long as the message of a card number in base64. */
const MESSAGE_CHARACTERS = 716;

type Sql = postgres.Sql;

interface Query {
  readonly name: string;
  /** Rows that one call is for. */
  readonly rows: number;
  readonly statement: string;
  readonly parameters: (total: number) => (string | null)[];
}

const nth = (kind: string, n: number) =>
  `${kind}0000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
const anyRow = (total: number) => 1 + Math.floor(Math.random() * total);
const ownerOf = (row: number) => nth("a", Math.ceil(row / PER_OWNER));

const QUERIES: readonly Query[] = [{
  name: "list (20 of an owner)",
  rows: 1,
  statement: "select public.kms_payment_methods_list($1, $2, $3)",
  parameters: (total) => [ownerOf(anyRow(total)), "20", null],
}, {
  name: "get one",
  rows: 1,
  statement: "select public.kms_payment_method_get($1, $2)",
  parameters: (total) => {
    const row = anyRow(total);
    return [ownerOf(row), nth("b", row)];
  },
}, {
  name: "reveal: read one with its messages",
  rows: 1,
  statement: "select public.kms_ciphertexts_read($1, $2, $3)",
  parameters: (total) => {
    const row = anyRow(total);
    return [ownerOf(row), "payment_methods", nth("b", row)];
  },
}, {
  name: "re-encrypt: read, per row",
  rows: BATCH,
  // Page by page along the primary key, as a job that goes through all rows does.
  statement: `select table_name, record_id, field, owner_id, message from kms.ciphertexts
    where (table_name, record_id, field) > ($1, $2::uuid, $3)
    order by table_name, record_id, field limit ${BATCH}`,
  parameters: (total) => ["payment_methods", nth("b", anyRow(total - BATCH)), "number"],
}, {
  name: "status of a migration",
  rows: 1,
  statement: "select public.kms_migration_status($1)",
  parameters: () => [null],
}, {
  name: "work of a migration: 60 records",
  rows: 1,
  statement: "select public.kms_migration_work($1, $2, $3, $4)",
  parameters: () => ["aws", "vault", "copy", "60"],
}, {
  name: "keys in use",
  rows: 1,
  statement: "select public.kms_keys_in_use()",
  parameters: () => [],
}];

export async function growth({ quick, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const sizes = quick ? [1_000, 10_000] : [1_000, 100_000, 1_000_000];
  const samples = quick ? 50 : 400;
  const cluster = await startCluster();
  try {
    const sql = postgres(cluster.url("postgres"), { max: 1, onnotice: () => {} });
    try {
      await sql.unsafe(foundation());
      for (const migration of migrations()) await sql.unsafe(migration.sql);
      await sql.unsafe("set jit = off");
      const results = [];
      let stored = 0;
      for (const size of sizes) {
        progress(`${size} rows`);
        await addRows(sql, stored + 1, size);
        stored = size;
        results.push({ size, ...await measure(sql, cluster.url("postgres"), size, samples) });
      }
      return summary(results);
    } finally {
      await sql.end();
    }
  } finally {
    await cluster.close();
  }
}

interface SizeResult {
  readonly size: number;
  /** Milliseconds of each call, by query. */
  readonly times: Readonly<Record<string, readonly number[]>>;
  readonly plans: Readonly<Record<string, readonly Scan[]>>;
}

function summary(results: readonly SizeResult[]): BenchmarkResult {
  const ms = (value: number) => Number(value.toFixed(3));
  const first = results[0]!, last = results.at(-1)!;
  return {
    tables: [{
      title: "the database's part, milliseconds (median / 99 %)",
      rows: Object.fromEntries(QUERIES.map(({ name, rows }) => [
        name,
        Object.fromEntries(results.map(({ size, times }) => {
          const all = times[name]!.map((time) => time / rows);
          return [`${size} rows`, `${ms(median(all))} / ${ms(percentile(all, 99))}`];
        })),
      ])),
    }, {
      title: `plans with ${last.size} rows`,
      rows: Object.fromEntries(QUERIES.map(({ name }) => [name, {
        "reads by": [
          ...new Set(last.plans[name]!.map(({ table, index }) => index ?? `the whole of ${table}`)),
        ].join(", "),
      }])),
    }],
    ratios: Object.fromEntries(QUERIES.map(({ name }) => [
      `growth.${name.split(/[ :]/)[0]}.${last.size}_vs_${first.size}`,
      median(last.times[name]!) / median(first.times[name]!),
    ])),
    data: results,
  };
}

async function measure(sql: Sql, url: string, total: number, samples: number) {
  const times: Record<string, number[]> = {};
  const plans: Record<string, readonly Scan[]> = {};
  const explained = await explainer(url);
  try {
    for (const query of QUERIES) {
      const own: number[] = [];
      for (let i = -20; i < samples; i++) {
        const parameters = query.parameters(total);
        const started = performance.now();
        await sql.unsafe(query.statement, parameters, { prepare: true });
        if (i >= 0) own.push(performance.now() - started);
      }
      times[query.name] = own;
      plans[query.name] = query.rows === 1
        ? await explained.scansOf("force_generic_plan", query.statement, query.parameters(total))
        : await scansOfTable(sql, query, total);
    }
  } finally {
    await explained[Symbol.asyncDispose]();
  }
  return { times, plans };
}

/** The roles of the functions may not read the table themselves; its plan is one node. */
async function scansOfTable(sql: Sql, query: Query, total: number): Promise<Scan[]> {
  const [row] = await sql.unsafe(
    `explain (format json) ${query.statement}`,
    query.parameters(total),
  );
  const text = JSON.stringify(row);
  const index = /"Index Name":\s*"(\w+)"/.exec(text)?.[1];
  return [{ table: "ciphertexts", ...index === undefined ? {} : { index } }];
}

/** Cards `from` to `to`, each with a message; without the triggers that check what is made here. */
async function addRows(sql: Sql, from: number, to: number): Promise<void> {
  const uuid = (kind: string, n: string) =>
    `('${kind}0000000-0000-4000-8000-' || lpad((${n})::text, 12, '0'))::uuid`;
  const owner = uuid("a", `(n + ${PER_OWNER - 1}) / ${PER_OWNER}`);
  const rows = `generate_series(${from}, ${to}) as n`;
  await sql.unsafe(`
    set session_replication_role = replica;
    insert into auth.users (id)
      select distinct ${owner} from ${rows} on conflict do nothing;
    insert into public.payment_methods
      (id, user_id, brand, last4, exp_month, exp_year, created_at)
      select ${uuid("b", "n")}, ${owner}, 'visa', '4242', 12, 2030,
        '2026-01-01'::timestamptz + n * interval '1 second'
      from ${rows};
    insert into kms.ciphertexts
      (table_name, record_id, field, owner_id, data_class, message, kms_key_arn)
      select 'payment_methods', ${uuid("b", "n")}, 'number', ${owner}, 'payment',
        'AgR4' || repeat('A', ${MESSAGE_CHARACTERS - 4}), 'arn:aws:kms:us-east-1:000000000000:key/k'
      from ${rows};
    insert into kms.card_fingerprints (payment_method_id, owner_id, fingerprint)
      select ${uuid("b", "n")}, ${owner}, lpad(n::text, 64, 'f') from ${rows};
    insert into kms.branch_keys (branch_key_id, type, record)
      select o.id, t.type, jsonb_strip_nulls(jsonb_build_object(
        'branch-key-id', o.id, 'type', t.type, 'enc', repeat('A', 248),
        'version', case t.type when 'branch:ACTIVE' then o.version end,
        'kms-arn', 'arn:aws:kms:us-east-1:000000000000:key/k', 'hierarchy-version', '1',
        'create-time', '2026-01-01T00:00:00.000000Z'))
      from (
        select distinct 'payment:' || ${owner} as id, 'branch:version:' || ${owner} as version
        from ${rows}
      ) as o
      cross join lateral (values ('branch:ACTIVE'), ('beacon:ACTIVE'), (o.version)) as t (type)
      on conflict do nothing;
    truncate kms.branch_key_counts;
    insert into kms.branch_key_counts (provider, stage, is_active, records)
      select provider, stage, type = 'branch:ACTIVE', count(*) from kms.branch_keys group by 1, 2, 3;
    insert into kms.provider_migration (from_provider, to_provider) values ('aws', 'vault')
      on conflict do nothing;
    set session_replication_role = origin;
    analyze`);
}
