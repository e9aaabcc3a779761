-- Rate limits: exact counts, several limits all or none, windows, the purge.
begin;
\ir support/personas.psql
select plan(41);

-- A list of key limit/seconds, such as 'a 3/60, b 2/60', as kms_rate_limit_take wants it.
create function pg_temp.keys(p_limits text) returns text
language sql as $$
  select jsonb_agg(jsonb_build_object(
    'key', split_part(trim(l), ' ', 1), 'limit', split_part(split_part(trim(l), ' ', 2), '/', 1)::integer,
    'seconds', split_part(l, '/', 2)::integer
  ) order by n)::text
  from unnest(string_to_array(p_limits, ',')) with ordinality as l (l, n)
$$;
create function pg_temp.take(p_limits text) returns jsonb
language sql as $$ select public.kms_rate_limit_take(pg_temp.keys(p_limits)) $$;
-- 'yes|no index remaining' of as many takes.
create function pg_temp.takes(p_times integer, p_limits text) returns text
language plpgsql as $$
declare
  v_taken jsonb;
  v_all text[];
begin
  for i in 1 .. p_times loop
    v_taken := pg_temp.take(p_limits);
    v_all := v_all || format('%s %s %s',
      case v_taken ->> 'allowed' when 'true' then 'yes' else 'no' end,
      v_taken ->> 'index', v_taken ->> 'remaining');
  end loop;
  return array_to_string(v_all, ', ');
end
$$;
create function pg_temp.used(p_key text) returns bigint
language sql security definer as $$ select sum(used) from kms.rate_limits where key = p_key $$;
create function pg_temp.age(p_key text, p_by interval) returns void
language sql security definer as $$
  update kms.rate_limits set ends_at = ends_at - p_by where key = p_key
$$;

-- ── One limit ──────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  pg_temp.take('read:user:a 3/3600'), '{"allowed": true, "index": 0, "remaining": 2, "reset": 3600}',
  'the first request begins the window and says what is left of it'
);
select is(pg_temp.takes(4, 'read:user:a 3/3600'), 'yes 0 1, yes 0 0, no 0 0, no 0 0',
  'exactly the limit passes');
select is(pg_temp.used('read:user:a'), 3::bigint, 'and what is refused is not counted');
select is(pg_temp.takes(1, 'read:user:b 3/3600'), 'yes 0 2', 'another caller has a limit of their own');
select is(pg_temp.takes(1, 'write:user:a 3/3600'), 'yes 0 2', 'and so has another policy');
select is(pg_temp.takes(1, 'read:user:a 3/3601'), 'yes 0 2', 'a window of another length counts anew');
select is(pg_temp.takes(2, 'read:user:a 5/3600'), 'yes 0 1, yes 0 0',
  'a limit that was raised holds at once');
select is(pg_temp.takes(1, 'read:user:a 3/3600'), 'no 0 0', 'and so does one that was lowered');

-- ── Windows ────────────────────────────────────────────────────────────────────────────────────
select pg_temp.age('read:user:a', '3500 seconds');
select ok(
  (pg_temp.take('read:user:a 5/3600') ->> 'reset')::integer between 50 and 100,
  'a refusal says how long it holds'
);
select pg_temp.age('read:user:a', '101 seconds');
select is(
  pg_temp.take('read:user:a 3/3600'), '{"allowed": true, "index": 0, "remaining": 2, "reset": 3600}',
  'then a new window begins, whole'
);
select is(pg_temp.used('read:user:a'), 1::bigint + 1, 'with a count of its own');

-- ── Several limits ─────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.takes(3, 'read:user:c 2/3600, read_address:x 5/3600'), 'yes 0 1, yes 0 0, no 0 0',
  'of several limits the tightest answers'
);
select is(pg_temp.used('read_address:x'), 2::bigint,
  'who is over their own limit uses up nobody else''s');
select is(
  pg_temp.takes(4, 'read:user:d 9/3600, read_address:x 5/3600'), 'yes 1 2, yes 1 1, yes 1 0, no 1 0',
  'the limit of an address holds for all its users together'
);
select is(pg_temp.used('read:user:d'), 3::bigint, 'and costs them nothing of their own');
select is(pg_temp.takes(1, 'read_address:y 5/3600, read:user:d 9/3600'), 'yes 0 4',
  'a user goes on from another address, whatever the order of the keys');
select is(pg_temp.takes(1, 'read_address:z 2/3600, read:user:e 2/5400'), 'yes 1 1',
  'of two with as much left it is the one that is free again later');
select is(
  pg_temp.take('one 1/3600, two 1/5400'), '{"allowed": true, "index": 1, "remaining": 0, "reset": 5400}',
  'one request uses up two limits'
);
select is(
  pg_temp.take('one 1/3600, two 1/5400') - 'reset', '{"allowed": false, "index": 1, "remaining": 0}',
  'and waits for the later of them'
);

-- ── Refusing ───────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.fault_of(format('select public.kms_rate_limit_take(%L)', r.keys)),
  '22023 invalid_argument: p_keys' || r.detail, format('keys of %s are refused', left(r.keys, 60))
) from (values
  (null, ' is required'),
  ('{}', ' is not JSON of type array'),
  ('[', ' is not JSON'),
  ('[]', ' must have 1 to 8 elements'),
  ((select pg_temp.keys(string_agg('k 1/1', ',')) from generate_series(1, 9)),
    ' must have 1 to 8 elements'),
  ((select pg_temp.keys('k 1/1, l 1/1, k 2/1')), ' has a key twice'),
  ('["k"]', ' is not an object'),
  ('[{"key": "k", "limit": 1, "seconds": 1, "used": 0}]', ' has an unknown field used'),
  ('[{"limit": 1, "seconds": 1}]', '.key is required'),
  ('[{"key": "", "limit": 1, "seconds": 1}]', '.key has the wrong form'),
  ((select pg_temp.keys(repeat('k', 257) || ' 1/1')), '.key has the wrong form'),
  ('[{"key": "k", "limit": 0, "seconds": 1}]', '.limit must be an integer, 1 to 999999999'),
  ('[{"key": "k", "limit": -1, "seconds": 1}]', '.limit must be an integer, 1 to 999999999'),
  ('[{"key": "k", "limit": 1, "seconds": 0}]', '.seconds must be an integer, 1 to 86400'),
  ('[{"key": "k", "limit": 1, "seconds": 86401}]', '.seconds must be an integer, 1 to 86400')
) as r (keys, detail);
select is(pg_temp.used('k'), null, 'and leave nothing');

-- ── Personas ───────────────────────────────────────────────────────────────────────────────────
select :as_owner;
select is(
  pg_temp.fault_of($$ select public.kms_rate_limit_take('[]') $$),
  '42501 permission denied for function kms_rate_limit_take', 'no user takes for themselves'
);
select is(
  pg_temp.fault_of('delete from kms.rate_limits'), '42501 permission denied for schema kms',
  'nor clears a counter'
);
select :as_anon;
select is(
  pg_temp.fault_of($$ select public.kms_rate_limit_take('[]') $$),
  '42501 permission denied for function kms_rate_limit_take', 'and nobody else does'
);

-- ── Purge ──────────────────────────────────────────────────────────────────────────────────────
reset role; -- of read:user:a only the window of 3601 seconds is over
select pg_temp.age('read:user:c', '2 hours');
select pg_temp.age('two', '1 hour');
select count(*) - 2 as kept from kms.rate_limits \gset
select :as_service_role;
select is(
  public.kms_purge_expired() ->> 'rate_limits', '2', 'the purge deletes counters whose window is over'
);
reset role;
select is((select count(*) from kms.rate_limits), :kept::bigint, 'and no other');
select is(pg_temp.takes(1, 'two 1/5400'), 'no 0 0', 'so that a limit still holds');

select * from finish();
rollback;
