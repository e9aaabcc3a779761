-- The purge of jobs: how long they are kept, which of them longer, and how much goes at once.
begin;
\ir support/personas.psql
select plan(19);

-- A job that ended so many days ago, with a chunk, and a failure of each class given.
create function pg_temp.ended(p_n integer, p_days numeric, p_failed text[], p_job jsonb default '{}')
returns void
language sql security definer as $$
  insert into kms.jobs (
    id, kind, status, data_class, dry_run, total, failed, pass_epoch, created_by, created_at,
    finished_at
  )
  select pg_temp.nth(p_n), 'reencrypt', coalesce(p_job ->> 'status', 'completed'),
    p_job ->> 'data_class', coalesce((p_job ->> 'dry_run')::boolean, false), 1, cardinality(p_failed), 1,
    'tests', e.at - interval '1 minute', case when p_job ->> 'status' = 'running' then null else e.at end
  from (select clock_timestamp() - p_days * interval '1 day' as at) as e;
  insert into kms.job_chunks (
    job_id, pass, upto, rows, token, lease_expires_at, worker, request_id, done, unchanged, failed,
    finished_at
  ) values (
    pg_temp.nth(p_n), 1, array['a', 'b', 'c'], 1, gen_random_uuid(), now(), 'tests',
    gen_random_uuid(), 0, 1, 0, now()
  );
  insert into kms.job_failures (
    job_id, table_name, record_id, field, data_class, error_code, message_hash
  )
  select pg_temp.nth(p_n), 'encrypted_records', gen_random_uuid(), 'data', c, 'decryption_failed',
    repeat('0', 64)
  from unnest(p_failed) as c;
$$;
-- The jobs that are there, by their numbers.
create function pg_temp.jobs() returns text
language sql security definer as $$
  select string_agg(right(id::text, 3)::integer::text, ' ' order by id) from kms.jobs
$$;
create function pg_temp.purged(p_days integer default 365) returns integer
language sql as $$ select (public.kms_purge_expired(p_days) ->> 'jobs')::integer $$;
create function pg_temp.orphans() returns bigint
language sql security definer as $$
  select (select count(*) from kms.job_chunks where job_id <> all (select id from kms.jobs))
    + (select count(*) from kms.job_failures where job_id <> all (select id from kms.jobs))
$$;
create function pg_temp.add_chunks(p_n integer, p_count integer) returns void
language sql security definer as $$
  insert into kms.job_chunks (
    job_id, pass, upto, rows, token, lease_expires_at, worker, request_id
  )
  select pg_temp.nth(p_n), 1, array['a', 'b', 'c'], 1, gen_random_uuid(), now(), 'tests',
    gen_random_uuid()
  from generate_series(1, p_count)
$$;

-- ── How long ───────────────────────────────────────────────────────────────────────────────────
select pg_temp.ended(1, 366, '{}'), pg_temp.ended(2, 364, '{}'),
  pg_temp.ended(3, 366, '{}', '{"status": "cancelled"}'),
  pg_temp.ended(4, 3660, '{}', '{"status": "running"}'),
  pg_temp.ended(5, 366, '{}', '{"dry_run": true}');
select :as_service_role;
select is(pg_temp.purged(), 3, 'what ended more than a year ago goes, however it ended');
select is(pg_temp.jobs(), '2 4', 'what ended later stays, and what runs, however old');
select is(pg_temp.orphans(), 0::bigint, 'with its chunks');
select is(public.kms_job_get(pg_temp.nth(1)), null, 'it is as absent as if it had never been');
select is(public.kms_job_failures(pg_temp.nth(1), 10, null), null, 'so are its failures');
select is(public.kms_job_cancel(pg_temp.actor(), pg_temp.nth(1)), null, 'it cannot be cancelled');
select is(pg_temp.purged(90), 1, 'another number of days may be given');
select is(
  pg_temp.fault_of(format('select public.kms_purge_expired(%s)', d.days)),
  '22023 invalid_argument: p_job_days must be 90 to 36500', format('but not %s', d.days)
) from unnest(array['89', '0', '-1', '36501', 'null']) as d (days);

-- ── Failures ───────────────────────────────────────────────────────────────────────────────────
reset role;
select pg_temp.ended(11, 800, '{pii,general}'),
  pg_temp.ended(12, 700, '{pii}', '{"data_class": "pii"}'),
  pg_temp.ended(13, 650, '{}', '{"data_class": "general", "dry_run": true}'),
  pg_temp.ended(14, 640, '{}', '{"data_class": "general", "status": "cancelled"}'),
  pg_temp.ended(15, 630, '{}', '{"data_class": "payment"}');
select :as_service_role;
select pg_temp.purged();
select is(
  pg_temp.jobs(), '4 11 12',
  'failures stay until a later job has gone through all of their classes to the end'
);
reset role;
select pg_temp.ended(16, 300, '{general}', '{"data_class": "general"}');
select :as_service_role;
select is(pg_temp.purged(), 1, 'then what still fails is listed there');
select is(pg_temp.jobs(), '4 12 16', 'and the last one of a class stays');
select is(pg_temp.orphans(), 0::bigint, 'with its failures alone');
reset role;
select pg_temp.ended(17, 1, '{}');
select :as_service_role;
select is(pg_temp.purged(), 1, 'a job of all classes goes through each of them');

-- ── How much at once ───────────────────────────────────────────────────────────────────────────
reset role;
select pg_temp.ended(21, 400, '{}'), pg_temp.add_chunks(21, 10000);
select :as_service_role;
select is(pg_temp.purged(), 0, 'a job with more chunks than one call deletes');
select is(pg_temp.purged(), 1, 'goes with the last of them');

select * from finish();
rollback;
