-- What the doctor sees: nothing on a sound database, and each fault by its name.
begin;
\ir support/personas.psql
select plan(39);

create function pg_temp.seen(p_key text) returns jsonb
language sql as $$ select public.kms_doctor() -> p_key $$;

-- ── A sound database ───────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(pg_temp.seen(k.key), '[]', format('nothing is wrong with %s', k.key))
from (values ('not_executable'), ('not_readable'), ('excess'), ('without_rls'), ('open_policies'),
  ('disabled_triggers'), ('unsigned_erasures')) as k (key);
select is(
  (select array_agg(k order by k) from jsonb_object_keys(public.kms_doctor()) as k),
  array['cron', 'disabled_triggers', 'excess', 'functions', 'jobs', 'migrations', 'not_executable',
    'not_readable', 'open_policies', 'postgres', 'provider_migration', 'tables', 'unsigned_erasures',
    'without_rls'],
  'these are all its answers'
);
select is(
  pg_temp.seen('postgres') #>> '{}', current_setting('server_version'), 'it knows the version'
);
select ok(
  pg_temp.seen('tables') @> '["kms.audit_log", "kms.ciphertexts", "public.payment_methods"]',
  'and the tables of both schemas'
);
select ok(
  pg_temp.seen('functions') @> '["kms.audit_hash", "public.kms_store", "public.kms_doctor"]',
  'and the functions'
);
select ok(not pg_temp.seen('tables') @> '["auth.users"]', 'but nobody else''s');
select is(pg_temp.seen('cron'), 'null', 'there is no pg_cron here');
select is(pg_temp.seen('provider_migration'), 'null', 'no migration is under way');
select is(pg_temp.seen('jobs'), '[]', 'and no job runs or has failures');
reset role;

-- ── Faults ─────────────────────────────────────────────────────────────────────────────────────
grant execute on function public.kms_store(text, text, text) to anon;
grant usage on schema kms to authenticated;
grant select (message) on kms.ciphertexts to service_role;
grant delete on public.payment_methods to authenticated;
select is(
  pg_temp.seen('excess'),
  '["anon EXECUTE function public.kms_store", "authenticated DELETE table public.payment_methods",
    "authenticated USAGE schema kms", "service_role SELECT table kms.ciphertexts"]',
  'every privilege beyond those of the migrations is named, of a column too'
);
grant select on kms.audit_log to public;
select ok(
  pg_temp.seen('excess') @> '["anon SELECT table kms.audit_log"]', 'PUBLIC''s count for everybody'
);
revoke execute on function public.kms_store(text, text, text) from service_role;
select is(
  pg_temp.seen('not_executable'), '["public.kms_store"]', 'so is an RPC that servers may not execute'
);
revoke select on public.encrypted_records from authenticated;
select is(
  pg_temp.seen('not_readable'), '["public.encrypted_records"]', 'and a table that users may not read'
);
alter table kms.branch_keys disable row level security;
select is(pg_temp.seen('without_rls'), '["kms.branch_keys"]', 'and one without row level security');
create policy "everybody sees all" on public.payment_methods for select to authenticated
  using (true);
create policy "nearly one's own" on public.encrypted_records for select to authenticated
  using ((select auth.uid()) = user_id or true);
select is(
  pg_temp.seen('open_policies'),
  '["everybody sees all on public.payment_methods",
    "nearly one''s own on public.encrypted_records"]',
  'and policies that show more than one''s own rows'
);
alter table kms.audit_log disable trigger audit_log_no_truncate;
select is(
  pg_temp.seen('disabled_triggers'), '["audit_log_no_truncate on kms.audit_log"]',
  'and a trigger that is off'
);

-- ── Scheduled jobs ─────────────────────────────────────────────────────────────────────────────
create schema cron;
create table cron.job (command text not null, active boolean not null);
select is(
  pg_temp.seen('cron'), '{"health_check": false, "purge": false}', 'pg_cron without jobs'
);
insert into cron.job values
  ('select net.http_get(url := ''https://x/functions/v1/kms-health-check'')', true),
  ('select kms.purge_expired()', false);
select is(
  pg_temp.seen('cron'), '{"health_check": true, "purge": false}', 'one that is off does not count'
);
update cron.job set active = true;
select is(pg_temp.seen('cron'), '{"health_check": true, "purge": true}', 'both jobs are seen');

-- ── Erasures without a proof ───────────────────────────────────────────────────────────────────
insert into kms.erasures (id, owner_id, erased_at, actor, erased, branch_keys)
select pg_temp.nth(n), gen_random_uuid(), now() - n * interval '6 minutes', pg_temp.actor()::jsonb,
  '{}', '[]'
from generate_series(1, 3) as n;
set constraints all immediate;
select public.kms_erasures_sign(jsonb_build_array(
  jsonb_build_object('id', pg_temp.nth(3), 'proof', 'a.b.c'))::text);
select is(
  pg_temp.seen('unsigned_erasures'), jsonb_build_array(pg_temp.nth(2)),
  'an erasure that waits for its proof is named after ten minutes'
);

-- ── Jobs ───────────────────────────────────────────────────────────────────────────────────────
create function pg_temp.job(
  p_n integer, p_status text, p_class text, p_failed integer, p_minutes_ago integer
) returns void
language sql as $$
  insert into kms.jobs (
    id, kind, status, data_class, dry_run, total, done, failed, pass_epoch, created_by, created_at,
    updated_at, finished_at
  ) values (
    pg_temp.nth(p_n), 'reencrypt', p_status, p_class, false, 10, 3, p_failed, 1, 'tests',
    now() - p_minutes_ago * interval '1 minute', now() - p_minutes_ago * interval '1 minute',
    case when p_status <> 'running' then now() end)
$$;
create function pg_temp.jobs() returns text
language sql as $$
  select string_agg(format('%s %s', right(j ->> 'id', 1), j ->> 'status'), ', ' order by n)
  from jsonb_array_elements(pg_temp.seen('jobs')) with ordinality as e (j, n)
$$;

select pg_temp.job(1, 'completed', 'pii', 2, 90);
select pg_temp.job(2, 'completed', 'pii', 0, 100);
select pg_temp.job(3, 'completed', 'payment', 0, 80);
select is(pg_temp.jobs(), '1 completed', 'what failed counts until a later job was over the same rows');
select pg_temp.job(4, 'running', null, 1, 60);
select is(pg_temp.jobs(), '4 running, 1 completed', 'which has to be at its end for that');
select is(
  pg_temp.seen('jobs') -> 0,
  jsonb_build_object('id', pg_temp.nth(4), 'kind', 'reencrypt', 'status', 'running',
    'data_class', null, 'dry_run', false, 'total', 10, 'worked', 4, 'failed', 1, 'held', false,
    'idle_seconds', pg_temp.seen('jobs') #> '{0,idle_seconds}'),
  'these are all answers about a job'
);
select ok(
  (pg_temp.seen('jobs') #>> '{0,idle_seconds}')::integer between 3600 and 4200,
  'it tells for how long nobody worked on it'
);
insert into kms.job_chunks (job_id, pass, upto, rows, token, lease_expires_at, worker, request_id)
select pg_temp.nth(4), 1, array['x'], 1, gen_random_uuid(), now() + l.minutes * interval '1 minute',
  'tests', gen_random_uuid()
from (values (-1), (5)) as l (minutes);
select is(pg_temp.seen('jobs') #> '{0,held}', 'true', 'a lease that has not run out is a worker''s');
update kms.job_chunks set lease_expires_at = now() - interval '1 minute';
select is(pg_temp.seen('jobs') #> '{0,held}', 'false', 'one that has is nobody''s');
update kms.jobs set status = 'completed', finished_at = now() where id = pg_temp.nth(4);
select is(pg_temp.jobs(), '4 completed', 'its own failures take the place of those before');

-- ── A migration between providers ──────────────────────────────────────────────────────────────
create function pg_temp.remaining(p_step text) returns jsonb
language sql as $$
  update kms.provider_migration set step = p_step;
  select pg_temp.seen('provider_migration') -> 'remaining'
$$;
insert into kms.branch_keys (branch_key_id, type, record, copy)
select k.id, 'beacon:ACTIVE', r.record || jsonb_build_object('kms-arn', k.arn),
  case when k.copy is not null then r.record || jsonb_build_object('kms-arn', k.copy) end
from (values ('a', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1', null),
  ('b', 'vault:transit/b', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1'),
  ('c', 'vault:transit/c', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1'), ('d', 'env:d', null)
) as k (id, arn, copy)
cross join lateral (select jsonb_build_object(
  'branch-key-id', k.id, 'type', 'beacon:ACTIVE', 'enc', rpad('e', 88, 'A'),
  'create-time', '2026-11-22T00:00:00.000000Z', 'hierarchy-version', '1')) as r (record);
insert into kms.provider_migration (from_provider, to_provider, started_at)
values ('aws', 'vault', '2026-11-20T10:00:00Z');
select is(
  pg_temp.seen('provider_migration'),
  '{"from": "aws", "to": "vault", "step": "prepare", "started_at": "2026-11-20T10:00:00.000Z",
    "remaining": 1}',
  'a migration that was begun: which, since when, and how far'
);
select is(pg_temp.remaining('switch'), '1', 'what the old provider still wraps is to be switched');
select is(pg_temp.remaining('back'), '2', 'on the way back it is what the new one wraps');
update kms.provider_migration set step = 'switch', is_ending = true;
select is(
  pg_temp.seen('provider_migration') - 'started_at',
  '{"from": "aws", "to": "vault", "step": "finish", "remaining": 3}', 'and at its end what has a copy'
);

-- ── Who may ask ────────────────────────────────────────────────────────────────────────────────
select :as_anon;
select is(
  pg_temp.fault_of('select public.kms_doctor()'),
  '42501 permission denied for function kms_doctor', 'anon may not ask'
);
reset role;
select :as_owner;
select is(
  pg_temp.fault_of('select public.kms_doctor()'),
  '42501 permission denied for function kms_doctor', 'nor may a user'
);
reset role;

select * from finish();
rollback;
