-- How healthy the suite was, for the dashboard: codes and numbers, never a message, a key or a name.

-- ── kms.health_history ─────────────────────────────────────────────────────────────────────────
create table kms.health_history (
  id uuid primary key default gen_random_uuid(),
  checked_at timestamptz not null default clock_timestamp(),
  status text not null
    constraint health_history_status_is_known check (status in ('healthy', 'degraded', 'unhealthy')),
  checks jsonb not null
    constraint health_history_checks_is_an_object check (jsonb_typeof(checks) = 'object')
    constraint health_history_checks_is_small check (octet_length(checks::text) <= 4096),
  regions jsonb not null
    constraint health_history_regions_is_an_object check (jsonb_typeof(regions) = 'object')
    constraint health_history_regions_is_small check (octet_length(regions::text) <= 4096),
  latency_ms integer not null
    constraint health_history_latency_ms_is_plausible check (latency_ms between 0 and 600000),
  worker_region text
    constraint health_history_worker_region_is_a_slug
      check (worker_region ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
  function_name text not null
    constraint health_history_function_name_is_a_slug
      check (function_name ~ '^[a-z][a-z0-9_-]{0,63}$')
);

comment on table kms.health_history is
  'Outcomes of the health check, thinned: every change, otherwise one a minute. Kept for 30 days.';
comment on column kms.health_history.id is 'Tells apart rows of one moment.';
comment on column kms.health_history.checked_at is 'Clock of the database, when it heard of it.';
comment on column kms.health_history.status is 'healthy, degraded or unhealthy.';
comment on column kms.health_history.checks is
  'Outcome of each check by its name: pass, or the code of the error.';
comment on column kms.health_history.regions is
  'State of each AWS region by its name, a code such as CLOSED; empty for providers without regions.';
comment on column kms.health_history.latency_ms is 'Duration of the check''s key calls, milliseconds.';
comment on column kms.health_history.worker_region is
  'Where the worker that checked runs, if the platform told it.';
comment on column kms.health_history.function_name is 'Edge function that checked.';

create index health_history_newest_first on kms.health_history (checked_at desc, id desc);
comment on index kms.health_history_newest_first is
  'The latest row, the order of the list, and the purge.';

alter table kms.health_history enable row level security;
revoke all on table kms.health_history from public, anon, authenticated, service_role;

-- ── Reading the entry ──────────────────────────────────────────────────────────────────────────
create function kms.read_codes(p_object jsonb, p_key text, p_path text) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_codes jsonb := coalesce(p_object -> p_key, '{}');
begin
  if jsonb_typeof(v_codes) <> 'object'
    or (select count(*) from jsonb_object_keys(v_codes)) > 32
    or exists (
      select from jsonb_each(v_codes) as c (key, value)
      where c.key !~ '^[a-z][a-z0-9_-]{0,31}$'
        or jsonb_typeof(c.value) <> 'string'
        or c.value #>> '{}' !~ '^[A-Za-z][A-Za-z0-9_]{0,27}$'
    )
  then
    perform kms.refuse(format('%s.%s must be up to 32 codes by name', p_path, p_key));
  end if;
  return v_codes;
end
$$;
comment on function kms.read_codes(jsonb, text, text) is
  'An object of up to 32 codes (letters, digits and _, at most 28) by slugs, empty when absent; '
  'otherwise 22023.';

-- ── RPC ────────────────────────────────────────────────────────────────────────────────────────
create function public.kms_health_record(p_entry text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_entry jsonb := kms.parse_json(p_entry, 'p_entry', 'object');
  v_new kms.health_history;
  v_last kms.health_history;
  v_quiet interval;
begin
  perform kms.check_object(v_entry, 'p_entry',
    array['status', 'checks', 'regions', 'latency_ms', 'worker_region', 'function']);
  v_new.status :=
    kms.read_text(v_entry, 'status', 'p_entry', '^(healthy|degraded|unhealthy)$', true);
  v_new.checks := kms.read_codes(v_entry, 'checks', 'p_entry');
  v_new.regions := kms.read_codes(v_entry, 'regions', 'p_entry');
  v_new.latency_ms := kms.read_integer(v_entry, 'latency_ms', 'p_entry', 0, 600000, true);
  v_new.worker_region :=
    kms.read_text(v_entry, 'worker_region', 'p_entry', '^[a-z0-9][a-z0-9-]{0,63}$', false);
  v_new.function_name :=
    kms.read_text(v_entry, 'function', 'p_entry', '^[a-z][a-z0-9_-]{0,63}$', true);

  -- Anybody may ask for the health check: whoever comes while another records has nothing to add, and
  -- does not wait.
  if not pg_try_advisory_xact_lock(hashtextextended('kms.health_history', 0)) then
    return jsonb_build_object('recorded', false);
  end if;
  select * into v_last from kms.health_history order by checked_at desc, id desc limit 1;
  v_quiet := case
    when (v_last.status, v_last.checks, v_last.regions)
      = (v_new.status, v_new.checks, v_new.regions) then interval '60 seconds'
    else interval '5 seconds'
  end;
  if v_last.checked_at > clock_timestamp() - v_quiet then
    return jsonb_build_object('recorded', false);
  end if;

  insert into kms.health_history (
    status, checks, regions, latency_ms, worker_region, function_name
  ) values (
    v_new.status, v_new.checks, v_new.regions, v_new.latency_ms, v_new.worker_region,
    v_new.function_name
  );
  return jsonb_build_object('recorded', true);
end
$$;
comment on function public.kms_health_record(text) is
  'Records the outcome of a health check, {"status", "checks": {name: code}, "regions": {region: '
  'code}, "latency_ms", "worker_region", "function"}, if the last one recorded is 5 seconds old, or '
  '60 when nothing but the latency differs: {"recorded"}. For service_role.';

create function public.kms_health_history(p_limit integer, p_before text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_time timestamptz;
  v_id uuid;
begin
  perform kms.check_limit(p_limit);
  select * into v_time, v_id from kms.read_cursor(p_before);
  return kms.page('health_history', p_limit, array(
    select kms.page_row(
      jsonb_build_object(
        'id', h.id, 'checked_at', kms.iso_time(h.checked_at), 'status', h.status,
        'checks', h.checks, 'regions', h.regions, 'latency_ms', h.latency_ms,
        'worker_region', h.worker_region, 'function', h.function_name
      ), h.checked_at, h.id)
    from kms.health_history as h
    where (checked_at, id) < (v_time, v_id)
    order by checked_at desc, id desc limit p_limit + 1
  ));
end
$$;
comment on function public.kms_health_history(integer, text) is
  'A page of 1 to 100 recorded outcomes, newest first, and the cursor of the next: '
  '{"health_history": [...], "next"}. For service_role.';

-- ── Purge ──────────────────────────────────────────────────────────────────────────────────────
create function kms.purge_health_history() returns bigint
language plpgsql volatile set search_path = ''
as $$
declare
  v_horizon constant timestamptz := clock_timestamp() - interval '30 days';
  v_count bigint;
begin
  delete from kms.health_history where ctid = any (array(
    select ctid from kms.health_history
    where checked_at < v_horizon
    order by checked_at limit 10000 for update skip locked
  ));
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function kms.purge_health_history() is
  'Deletes outcomes older than 30 days, up to 10,000 a call; how many.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_health_record(text),
  public.kms_health_history(integer, text)
from public, anon, authenticated;
grant execute on function
  public.kms_health_record(text),
  public.kms_health_history(integer, text)
to service_role;
