-- What the operator's `doctor` asks of the database: what is there, what is open that should not be,
-- and what was begun and not ended. Names, versions, counts, and ids of erasures without a proof: no row
-- about a person is read.

-- ── The suite's objects ────────────────────────────────────────────────────────────────────────
create function kms.doctor_tables() returns table (oid oid, name text, schema_name name)
language sql stable set search_path = ''
as $$
  select c.oid, format('%I.%I', n.nspname, c.relname), n.nspname
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f')
    and (n.nspname = 'kms'
      or n.nspname = 'public' and c.relname in ('payment_methods', 'encrypted_records'))
$$;
comment on function kms.doctor_tables() is 'Tables of the suite, in either schema.';

create function kms.doctor_functions() returns table (oid oid, name text, schema_name name)
language sql stable set search_path = ''
as $$
  select p.oid, format('%I.%I', n.nspname, p.proname), n.nspname
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname = 'kms' or n.nspname = 'public' and p.proname like 'kms\_%'
$$;
comment on function kms.doctor_functions() is 'Functions of the suite, in either schema.';

-- ── What is open ───────────────────────────────────────────────────────────────────────────────
create function kms.doctor_excess() returns setof text
language sql stable set search_path = ''
as $$
  with role (name) as (values ('anon'), ('authenticated'), ('service_role'))
  select format('%s %s schema kms', r.name, p.name)
  from role r, (values ('USAGE'), ('CREATE')) as p (name)
  where pg_catalog.has_schema_privilege(r.name, 'kms', p.name)
  union all
  select format('%s %s table %s', r.name, p.name, t.name)
  from role r, kms.doctor_tables() t,
    (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'),
      ('TRIGGER')) as p (name)
  where (pg_catalog.has_table_privilege(r.name, t.oid, p.name)
      or p.name in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
        and pg_catalog.has_any_column_privilege(r.name, t.oid, p.name))
    -- What a signed-in user is meant to have.
    and not (t.schema_name = 'public' and r.name = 'authenticated' and p.name = 'SELECT')
  union all
  select format('%s EXECUTE function %s', r.name, f.name)
  from role r, kms.doctor_functions() f
  where pg_catalog.has_function_privilege(r.name, f.oid, 'EXECUTE')
    and not (f.schema_name = 'public' and r.name = 'service_role')
$$;
comment on function kms.doctor_excess() is
  'Privileges of the API roles on the suite''s objects beyond those that the migrations give, PUBLIC''s '
  'included: "<role> <privilege> <kind> <object>".';

create function kms.doctor_open_policies() returns setof text
language sql stable set search_path = ''
as $$
  select format('%s on %s', p.polname, t.name)
  from pg_catalog.pg_policy p
  join kms.doctor_tables() t on t.oid = p.polrelid
  where t.schema_name = 'public' and p.polpermissive
    and coalesce(
      pg_catalog.pg_get_expr(p.polqual, p.polrelid)
      !~ '^\(\( SELECT auth\.uid\(\) AS uid\) = user_id\)$', true)
$$;
comment on function kms.doctor_open_policies() is
  'Policies of the public tables that show more than a user''s own rows, or that nobody here wrote.';

-- ── Scheduled jobs ─────────────────────────────────────────────────────────────────────────────
create function kms.doctor_cron() returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_table constant regclass := to_regclass('cron.job');
  v_jobs jsonb;
begin
  if v_table is null then
    return null;
  end if;
  -- Only this owner's jobs are seen; the deployment guide schedules them as the same one.
  execute format($sql$
    select jsonb_build_object(
      'health_check', coalesce(bool_or(j.command ~ 'kms-health-check'), false),
      'purge', coalesce(bool_or(j.command ~ 'kms[._]+purge_expired'), false))
    from %s j where j.active
  $sql$, v_table) into v_jobs;
  return v_jobs;
exception when insufficient_privilege then
  return jsonb_build_object('health_check', null, 'purge', null);
end
$$;
comment on function kms.doctor_cron() is
  'Whether active jobs of pg_cron call the health check and the purge; null without pg_cron, members '
  'null when its jobs may not be read.';

create function kms.doctor_migrations() returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_table constant regclass := to_regclass('supabase_migrations.schema_migrations');
  v_versions jsonb;
begin
  if v_table is null then
    return null;
  end if;
  execute format(
    'select coalesce(jsonb_agg(m.version::text order by m.version), ''[]'') from %s m', v_table
  ) into v_versions;
  return v_versions;
exception when insufficient_privilege then
  return null;
end
$$;
comment on function kms.doctor_migrations() is
  'Versions of the migrations that were applied, by the Supabase CLI''s own table; null without one.';

-- ── What was begun ─────────────────────────────────────────────────────────────────────────────
create function kms.doctor_provider_migration() returns jsonb
language sql stable set search_path = ''
as $$
  select public.kms_migration_status(null) - array['branch_keys', 'operations', 'direct_rows']
    || jsonb_build_object('started_at', kms.iso_time(m.started_at))
  from kms.provider_migration as m
$$;
comment on function kms.doctor_provider_migration() is
  'The migration between providers that is under way, or null: {"from", "to", "step", "started_at", '
  '"remaining"}, the branch keys for which its step is not done.';

create function kms.doctor_jobs() returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(j.job order by j.created_at desc), '[]')
  from (
    select j.created_at, jsonb_build_object(
      'id', j.id, 'kind', j.kind, 'status', j.status, 'data_class', j.data_class,
      'dry_run', j.dry_run, 'total', greatest(j.total, j.done + j.unchanged + j.failed),
      'worked', j.done + j.unchanged + j.failed, 'failed', j.failed,
      'held', exists (
        select from kms.job_chunks as c
        where c.job_id = j.id and c.finished_at is null and c.lease_expires_at > clock_timestamp()
      ),
      'idle_seconds', greatest(0, floor(extract(epoch from clock_timestamp() - j.updated_at)))
    ) as job
    from kms.jobs as j
    -- What a job could not do, a later one over the same rows has tried again.
    where j.status = 'running' or j.failed > 0 and not exists (
      select from kms.jobs as n
      where n.kind = j.kind and n.status = 'completed' and n.created_at > j.created_at
        and (n.data_class is null or n.data_class = j.data_class)
    )
    order by j.created_at desc limit 20
  ) as j
$$;
comment on function kms.doctor_jobs() is
  'Jobs that run, and those with failures that no later one went over, at most 20, newest first: '
  '[{"id", "kind", "status", "data_class", "dry_run", "total", "worked", "failed", "held" (whether a '
  'worker has a lease of it), "idle_seconds" (since one last asked for work or brought results)}].';

-- ── RPC ────────────────────────────────────────────────────────────────────────────────────────
create function public.kms_doctor() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    'postgres', current_setting('server_version'),
    'migrations', kms.doctor_migrations(),
    'tables', (select coalesce(jsonb_agg(t.name order by t.name), '[]') from kms.doctor_tables() t),
    'functions', (
      select coalesce(jsonb_agg(distinct f.name), '[]') from kms.doctor_functions() f),
    'not_executable', (
      select coalesce(jsonb_agg(f.name order by f.name), '[]') from kms.doctor_functions() f
      where f.schema_name = 'public'
        and not pg_catalog.has_function_privilege('service_role', f.oid, 'EXECUTE')),
    'not_readable', (
      select coalesce(jsonb_agg(t.name order by t.name), '[]') from kms.doctor_tables() t
      where t.schema_name = 'public'
        and not pg_catalog.has_table_privilege('authenticated', t.oid, 'SELECT')),
    'excess', (select coalesce(jsonb_agg(e order by e), '[]') from kms.doctor_excess() e),
    'without_rls', (
      select coalesce(jsonb_agg(t.name order by t.name), '[]')
      from kms.doctor_tables() t join pg_catalog.pg_class c on c.oid = t.oid
      where c.relkind in ('r', 'p') and not c.relrowsecurity),
    'open_policies', (
      select coalesce(jsonb_agg(p order by p), '[]') from kms.doctor_open_policies() p),
    'disabled_triggers', (
      select coalesce(jsonb_agg(format('%s on %s', g.tgname, t.name) order by g.tgname), '[]')
      from pg_catalog.pg_trigger g join kms.doctor_tables() t on t.oid = g.tgrelid
      where not g.tgisinternal and g.tgenabled = 'D'),
    'cron', kms.doctor_cron(),
    'unsigned_erasures', (
      select coalesce(jsonb_agg(e.alert -> 'subject' order by e.n), '[]')
      from kms.erasure_alerts() with ordinality as e (alert, n)),
    'provider_migration', kms.doctor_provider_migration(),
    'jobs', kms.doctor_jobs()
  )
$$;
comment on function public.kms_doctor() is
  'What is there, what is open and what was begun, for the operator''s command line: {"postgres", '
  '"migrations": [version]|null, "tables", "functions", "not_executable", "not_readable", "excess", '
  '"without_rls", "open_policies", "disabled_triggers": [name], "cron": {"health_check", "purge"}|null, '
  '"unsigned_erasures": [id], "provider_migration": {...}|null, "jobs": [...]}. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_doctor() from public, anon, authenticated;
grant execute on function public.kms_doctor() to service_role;
