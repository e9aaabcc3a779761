-- The health history: every change, otherwise one a minute, codes only, for 30 days.
begin;
\ir support/personas.psql
select plan(37);

create function pg_temp.outcome(p_overrides jsonb default '{}') returns text
language sql as $$
  select ('{
    "status": "healthy", "checks": {"config": "pass", "kms_connectivity": "pass"},
    "regions": {"us-east-1": "CLOSED", "us-west-2": "CLOSED"}, "latency_ms": 12,
    "worker_region": "eu-central-1", "function": "kms-health-check"
  }'::jsonb || p_overrides)::text
$$;
create function pg_temp.recorded(p_overrides jsonb default '{}') returns boolean
language sql as $$
  select (public.kms_health_record(pg_temp.outcome(p_overrides)) ->> 'recorded')::boolean
$$;
create function pg_temp.age(p_by interval) returns void
language sql security definer as $$ update kms.health_history set checked_at = checked_at - p_by $$;
create function pg_temp.statuses(p_page jsonb) returns text
language sql as $$
  select string_agg(r.value ->> 'status', ' ' order by r.n)
  from jsonb_array_elements(p_page -> 'health_history') with ordinality as r (value, n)
$$;

-- ── Recording ──────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  public.kms_health_history(10, null), '{"health_history": [], "next": null}',
  'there is no history at first'
);
select is(
  public.kms_health_record(pg_temp.outcome()), '{"recorded": true}', 'the first outcome is recorded'
);
select is(pg_temp.recorded(), false, 'the same at once is not');
select is(
  pg_temp.recorded('{"status": "unhealthy"}'), false, 'nor is another within five seconds'
);
select pg_temp.age('6 seconds');
select is(
  pg_temp.recorded('{"latency_ms": 13, "worker_region": null, "function": "kms-admin"}'), false,
  'then the same is not, whoever found it'
);
select is(
  pg_temp.recorded('{"regions": {"us-east-1": "OPEN", "us-west-2": "CLOSED"}}'), true,
  'but a change of a region is'
);
select pg_temp.age('6 seconds');
select is(
  pg_temp.recorded('{"checks": {"config": "pass", "kms_connectivity": "kms_unavailable"}}'), true,
  'and one of a check'
);
select pg_temp.age('6 seconds');
select is(
  pg_temp.recorded(
    '{"status": "unhealthy", "checks": {"config": "pass", "kms_connectivity": "kms_unavailable"}}'
  ), true, 'and one of the status'
);
select pg_temp.age('61 seconds');
select is(
  pg_temp.recorded(
    '{"status": "unhealthy", "checks": {"config": "pass", "kms_connectivity": "kms_unavailable"}}'
  ), true, 'after a minute the same is recorded again'
);
select pg_temp.age('6 seconds');
select is(
  public.kms_health_record('{"status": "degraded", "latency_ms": 0, "function": "f"}'),
  '{"recorded": true}', 'checks, regions and the worker''s region may be unknown'
);

-- ── Reading ────────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.statuses(public.kms_health_history(100, null)),
  'degraded unhealthy unhealthy healthy healthy healthy', 'the history is newest first'
);
select public.kms_health_history(4, null) as page \gset
select is(
  pg_temp.statuses(public.kms_health_history(4, :'page'::jsonb ->> 'next')), 'healthy healthy',
  'page by page'
);
select is(
  (:'page'::jsonb #> '{health_history,0}') - array['id', 'checked_at'],
  '{"status": "degraded", "checks": {}, "regions": {}, "latency_ms": 0, "worker_region": null,
    "function": "f"}', 'with all that was recorded'
);
select is(
  (public.kms_health_history(4, :'page'::jsonb ->> 'next') #> '{health_history,1}')
    - array['id', 'checked_at'], pg_temp.outcome()::jsonb, 'as it was recorded'
);
select matches(
  :'page'::jsonb #>> '{health_history,0,checked_at}', '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$',
  'and when'
);
select is(
  pg_temp.fault_of(format('select public.kms_health_history(%s)', l.arguments)),
  '22023 invalid_argument: ' || l.detail, format('a history of %s is refused', l.arguments)
) from (values
  ('101, null', 'p_limit must be 1 to 100'), ('1, ''x''', 'p_before is not a cursor')
) as l (arguments, detail);

-- ── Refusing ───────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.fault_of(format('select pg_temp.recorded(%L)', r.overrides)),
  '22023 invalid_argument: p_entry' || r.detail,
  format('an outcome with %s is refused', left(r.overrides, 60))
) from (values
  ('{"status": "fine"}', '.status has the wrong form'),
  ('{"status": null}', '.status is required'),
  ('{"checks": []}', '.checks must be up to 32 codes by name'),
  ('{"checks": {"config": {"status": "pass"}}}', '.checks must be up to 32 codes by name'),
  ('{"checks": {"config": "card 4242424242424242"}}', '.checks must be up to 32 codes by name'),
  ('{"checks": {"config": "4242424242424242"}}', '.checks must be up to 32 codes by name'),
  ('{"checks": {"Config": "pass"}}', '.checks must be up to 32 codes by name'),
  ('{"regions": {"arn:aws:kms:us-east-1": "OPEN"}}', '.regions must be up to 32 codes by name'),
  ((select jsonb_build_object('regions', jsonb_object_agg('r' || n, 'OPEN'))::text
    from generate_series(1, 33) as n), '.regions must be up to 32 codes by name'),
  ('{"latency_ms": null}', '.latency_ms is required'),
  ('{"latency_ms": 1.5}', '.latency_ms must be an integer, 0 to 600000'),
  ('{"latency_ms": 600001}', '.latency_ms must be an integer, 0 to 600000'),
  ('{"worker_region": "Somewhere"}', '.worker_region has the wrong form'),
  ('{"function": "Kms"}', '.function has the wrong form'),
  ('{"error": "stack"}', ' has an unknown field error')
) as r (overrides, detail);
select is(
  pg_temp.fault_of('select public.kms_health_record(null)'),
  '22023 invalid_argument: p_entry is required', 'an outcome of null is refused'
);
reset role;
select lives_ok(
  $$ insert into kms.health_history (status, checks, regions, latency_ms, function_name)
     select 'healthy', (select jsonb_object_agg(rpad('c' || n || 'c', 32, 'c'), repeat('C', 28))
         from generate_series(1, 32) as n), '{}', 0, 'f' $$,
  'the largest outcome of any use fits the table'
);
delete from kms.health_history where function_name = 'f' and status = 'healthy';

-- ── Purge ──────────────────────────────────────────────────────────────────────────────────────
select pg_temp.age('29 days 23 hours');
select :as_service_role;
select is(
  public.kms_purge_expired(), '{"idempotency_keys": 0, "health_history": 0, "rate_limits": 0, "jobs": 0}',
  'the purge leaves what is not yet 30 days old'
);
reset role;
update kms.health_history set checked_at = checked_at - interval '1 day' where status = 'healthy';
select :as_service_role;
select is(
  public.kms_purge_expired(), '{"idempotency_keys": 0, "health_history": 3, "rate_limits": 0, "jobs": 0}',
  'deletes what is'
);
select is(
  pg_temp.statuses(public.kms_health_history(100, null)), 'degraded unhealthy unhealthy',
  'and nothing else'
);

select * from finish();
rollback;
