-- Sweeps over the catalog: what holds for every object of the suite, those of tomorrow included.
begin;
\ir support/personas.psql
select plan(17);

create temporary view suite_functions as
select p.oid, n.nspname, p.proname, p.oid::regprocedure::text as signature, p.proacl, p.proowner,
  p.proconfig, p.prosecdef
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'kms' or n.nspname = 'public' and p.proname like 'kms\_%';

create temporary view suite_tables as
select c.oid, c.oid::regclass::text as name, n.nspname, c.relacl, c.relowner, c.relrowsecurity,
  c.relforcerowsecurity
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and (n.nspname = 'kms'
    or n.nspname = 'public' and c.relname in ('payment_methods', 'encrypted_records'));

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
select is_empty(
  $$ select r from unnest(array['anon', 'authenticated', 'service_role']) as r
     where has_schema_privilege(r, 'kms', 'USAGE') or has_schema_privilege(r, 'kms', 'CREATE') $$,
  'no API role may use or create in the schema kms'
);
select is_empty(
  $$ select t.name, a.grantee::regrole, a.privilege_type
     from suite_tables t, aclexplode(t.relacl) as a
     where t.nspname = 'kms' and a.grantee <> t.relowner $$,
  'no table in kms is granted to anybody but its owner'
);
select set_eq(
  $$ select t.name, a.grantee::regrole::text, a.privilege_type
     from suite_tables t, aclexplode(t.relacl) as a
     where t.nspname = 'public' and a.grantee <> t.relowner $$,
  $$ values ('payment_methods', 'authenticated', 'SELECT'),
       ('encrypted_records', 'authenticated', 'SELECT') $$,
  'authenticated may read the public tables, and that is all that anybody is granted'
);
select is_empty(
  $$ select t.name, a.attname from suite_tables t join pg_attribute a on a.attrelid = t.oid
     where a.attacl is not null $$,
  'no column is granted by itself'
);
select is_empty(
  $$ select signature from suite_functions where proacl is null $$,
  'no function has the default privileges, which let PUBLIC execute it'
);
select is_empty(
  $$ select f.signature, a.grantee::regrole
     from suite_functions f, aclexplode(f.proacl) as a
     where a.grantee <> f.proowner and not (
       f.nspname = 'public' and a.grantee = 'service_role'::regrole
       and a.privilege_type = 'EXECUTE' and not a.is_grantable) $$,
  'no function is granted but the RPCs to service_role'
);
select is_empty(
  $$ select f.signature from suite_functions f
     where f.nspname = 'public' and not has_function_privilege('service_role', f.oid, 'EXECUTE') $$,
  'service_role may execute every RPC'
);
select is_empty(
  $$ select f.signature, r
     from suite_functions f, unnest(array['anon', 'authenticated']) as r
     where has_function_privilege(r, f.oid, 'EXECUTE') $$,
  'anon and authenticated may execute no function of the suite'
);

create table kms.of_tomorrow (id bigint generated always as identity);
create function kms.of_tomorrow() returns integer language sql as 'select 1';
select is_empty(
  $$ select r, p
     from unnest(array['anon', 'authenticated', 'service_role']) as r,
       unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as p
     where has_table_privilege(r, 'kms.of_tomorrow', p) $$,
  'default privileges give the API roles nothing on a table made later'
);
select :as_service_role;
select is(
  pg_temp.fault_of('select kms.of_tomorrow()'),
  '42501 permission denied for schema kms',
  'nor can they reach a function made later'
);
reset role;
drop table kms.of_tomorrow;
drop function kms.of_tomorrow();

-- ── Safety of functions ────────────────────────────────────────────────────────────────────────
select is_empty(
  $$ select signature from suite_functions
     where proconfig is null or not 'search_path=""' = any (proconfig) $$,
  'every function has an empty search_path'
);
select is_empty(
  $$ select signature from suite_functions where nspname = 'public' and not prosecdef $$,
  'every RPC is security definer'
);
select is(
  (select count(*)::integer from suite_functions where nspname = 'public'), 72,
  'there are 72 RPCs'
);

-- ── Row level security ─────────────────────────────────────────────────────────────────────────
select is_empty(
  $$ select name from suite_tables where not relrowsecurity $$,
  'every table has row level security'
);
select ok(
  (select relforcerowsecurity from suite_tables where name = 'kms.audit_log'),
  'the audit log''s binds its owner too'
);
select is_empty(
  $$ select t.name from suite_tables t
     where t.nspname = 'public' and not exists (
       select from pg_index i join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0]
       where i.indrelid = t.oid and a.attname = 'user_id' and i.indpred is null) $$,
  'the column of each policy leads an index'
);

-- ── Comments ───────────────────────────────────────────────────────────────────────────────────
select is_empty(
  $$ select 'table ' || name from suite_tables where obj_description(oid, 'pg_class') is null
     union all
     select format('column %s.%s', t.name, a.attname)
     from suite_tables t join pg_attribute a on a.attrelid = t.oid
     where a.attnum > 0 and not a.attisdropped and col_description(t.oid, a.attnum) is null
     union all
     select 'function ' || signature from suite_functions
     where obj_description(oid, 'pg_proc') is null
     union all
     select format('policy %s on %s', p.polname, t.name)
     from suite_tables t join pg_policy p on p.polrelid = t.oid
     where obj_description(p.oid, 'pg_policy') is null
     union all
     select format('trigger %s on %s', g.tgname, t.name)
     from suite_tables t join pg_trigger g on g.tgrelid = t.oid
     where not g.tgisinternal and obj_description(g.oid, 'pg_trigger') is null
     union all
     select 'index ' || i.indexrelid::regclass
     from suite_tables t join pg_index i on i.indrelid = t.oid
     where obj_description(i.indexrelid, 'pg_class') is null
       and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
     union all
     select 'domain ' || typname from pg_type
     where typnamespace = 'kms'::regnamespace and typtype = 'd'
       and obj_description(oid, 'pg_type') is null
     union all
     select 'schema kms' where obj_description('kms'::regnamespace, 'pg_namespace') is null $$,
  'everything has a comment'
);

select * from finish();
rollback;
