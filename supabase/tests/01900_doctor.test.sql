-- What the doctor sees: nothing on a sound database, and each fault by its name.
begin;
\ir support/personas.psql
select plan(26);

create function pg_temp.seen(p_key text) returns jsonb
language sql as $$ select public.kms_doctor() -> p_key $$;

-- ── A sound database ───────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(pg_temp.seen(k.key), '[]', format('nothing is wrong with %s', k.key))
from (values ('not_executable'), ('not_readable'), ('excess'), ('without_rls'), ('open_policies'),
  ('disabled_triggers'), ('unsigned_erasures')) as k (key);
select is(
  (select array_agg(k order by k) from jsonb_object_keys(public.kms_doctor()) as k),
  array['cron', 'disabled_triggers', 'excess', 'functions', 'migrations', 'not_executable',
    'not_readable', 'open_policies', 'postgres', 'tables', 'unsigned_erasures', 'without_rls'],
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
