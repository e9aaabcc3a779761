-- Every persona, every table, every verb, every RPC: what is refused is refused with 42501.
begin;
\ir support/personas.psql
select plan(937);

-- Rows to be refused, so that no test passes for want of one.
select :as_service_role;
select pg_temp.store(pg_temp.card(1, :owner), pg_temp.record(2, :owner));
reset role;

create temporary view verbs as
select t.schemaname, t.schemaname || '.' || t.tablename as name, v.verb,
  format(v.statement, t.schemaname, t.tablename) as statement
from pg_tables t, (values
  ('select', 'select count(*) from %I.%I'),
  ('insert', 'insert into %I.%I default values'),
  ('update', 'update %I.%I set created_at = now()'),
  ('delete', 'delete from %I.%I'),
  ('truncate', 'truncate %I.%I cascade')
) as v (verb, statement)
where t.schemaname = 'kms'
  or t.schemaname = 'public' and t.tablename in ('payment_methods', 'encrypted_records')
order by 2, 3;
grant select on verbs to public;

create temporary view calls as
select p.proname as name, format('select public.%I(%s)', p.proname, string_agg(
    'null::' || format_type(a.type, null), ', ' order by a.n)) as statement
from pg_proc p left join unnest(p.proargtypes) with ordinality as a (type, n) on true
where p.pronamespace = 'public'::regnamespace and p.proname like 'kms\_%'
group by p.oid, p.proname
order by p.proname;
grant select on calls to public;

-- ── anon: nothing ──────────────────────────────────────────────────────────────────────────────
select :as_anon;
select throws_ok(statement, '42501', null, format('anon may not %s %s', verb, name)) from verbs;
select throws_ok(statement, '42501', null, format('anon may not call %s', name)) from calls;

-- ── Owner, stranger, admin: reading the public tables only ─────────────────────────────────────
select :as_owner;
select throws_ok(statement, '42501', null, format('the owner may not %s %s', verb, name))
from verbs where schemaname = 'kms' or verb <> 'select';
select lives_ok(statement, format('the owner may %s %s', verb, name))
from verbs where schemaname = 'public' and verb = 'select';
select throws_ok(statement, '42501', null, format('the owner may not call %s', name)) from calls;

select :as_stranger;
select throws_ok(statement, '42501', null, format('a stranger may not %s %s', verb, name))
from verbs where schemaname = 'kms' or verb <> 'select';
select lives_ok(statement, format('a stranger may %s %s', verb, name))
from verbs where schemaname = 'public' and verb = 'select';
select throws_ok(statement, '42501', null, format('a stranger may not call %s', name)) from calls;

select :as_admin;
select throws_ok(statement, '42501', null, format('an admin user may not %s %s', verb, name))
from verbs where schemaname = 'kms' or verb <> 'select';
select lives_ok(statement, format('an admin user may %s %s', verb, name))
from verbs where schemaname = 'public' and verb = 'select';
select throws_ok(statement, '42501', null, format('an admin user may not call %s', name))
from calls;

-- ── service_role: the RPCs only ────────────────────────────────────────────────────────────────
select :as_service_role;
select throws_ok(statement, '42501', null, format('service_role may not %s %s', verb, name))
from verbs;
select unalike(
  coalesce(pg_temp.fault_of(statement), 'no fault'), '42501%',
  format('service_role may call %s', name))
from calls;

reset role;
select is(
  (select count(*)::integer from public.payment_methods), 1, 'nobody removed the payment method'
);
select is((select count(*)::integer from kms.ciphertexts), 2, 'nobody removed a ciphertext');

select * from finish();
rollback;
