-- Rate limits: one counter a caller and window, taken atomically and several at once, all or none.

-- ── kms.rate_limits ────────────────────────────────────────────────────────────────────────────
-- Unlogged: every request writes here, and a commit that writes nothing else waits for no disk. After
-- a crash or a failover the table is empty: each caller then gets at most one window more.
-- Half-empty pages, so that counting rewrites a row within its page and touches no index.
create unlogged table kms.rate_limits (
  key text not null
    constraint rate_limits_key_is_short check (length(key) between 1 and 256),
  seconds integer not null
    constraint rate_limits_seconds_is_a_window check (seconds between 1 and 86400),
  used integer not null
    constraint rate_limits_used_is_a_count check (used >= 0),
  ends_at timestamptz not null,
  primary key (key, seconds)
) with (fillfactor = 50);

comment on table kms.rate_limits is
  'What a caller has used of a limit in the window that runs. Rows whose window is over count nothing.';
comment on column kms.rate_limits.key is
  'Policy and caller: a user''s id, the name of a secret key, or the keyed hash of an address.';
comment on column kms.rate_limits.seconds is
  'Length of the window. Part of the key: a limit that is configured anew counts anew.';
comment on column kms.rate_limits.used is 'Requests let through in this window.';
comment on column kms.rate_limits.ends_at is
  'When the window is over. It began with its first request, so that callers do not all begin together.';

create index rate_limits_by_end on kms.rate_limits (ends_at);
comment on index kms.rate_limits_by_end is 'Serves the purge.';

alter table kms.rate_limits enable row level security;
revoke all on table kms.rate_limits from public, anon, authenticated, service_role;

-- ── Time left ──────────────────────────────────────────────────────────────────────────────────
create function kms.rate_limit_reset(p_row kms.rate_limits, p_now timestamptz) returns integer
language sql stable set search_path = ''
as $$
  -- Whoever waited for the row began by an older clock than the one that set its end.
  select least(
    p_row.seconds, greatest(1, ceil(extract(epoch from p_row.ends_at - p_now))::integer)
  )
$$;
comment on function kms.rate_limit_reset(kms.rate_limits, timestamptz) is
  'Seconds until a window is over, 1 to its length.';

-- ── Refusal ────────────────────────────────────────────────────────────────────────────────────
create function kms.rate_limit_refusal(
  p_keys text[], p_limits integer[], p_seconds integer[], p_now timestamptz
) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_row kms.rate_limits;
  v_latest timestamptz;
  v_refusal jsonb;
begin
  for v_n in 1 .. cardinality(p_keys) loop
    select * into v_row from kms.rate_limits
    where key = p_keys[v_n] and seconds = p_seconds[v_n];
    if v_row.used >= p_limits[v_n] and v_row.ends_at > greatest(p_now, v_latest) then
      v_latest := v_row.ends_at;
      v_refusal := jsonb_build_object(
        'allowed', false, 'index', v_n - 1, 'remaining', 0,
        'reset', kms.rate_limit_reset(v_row, p_now)
      );
    end if;
  end loop;
  return v_refusal;
end
$$;
comment on function kms.rate_limit_refusal(text[], integer[], integer[], timestamptz) is
  'The used-up limit that is free again last, as kms_rate_limit_take answers it; null when none is.';

-- ── RPC ────────────────────────────────────────────────────────────────────────────────────────
create function public.kms_rate_limit_take(p_keys text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_list jsonb := kms.parse_list(p_keys, 'p_keys', 1, 8);
  v_entry jsonb;
  v_keys text[];
  v_limits integer[];
  v_seconds integer[];
  v_taken integer[] := array[]::integer[];
  v_now constant timestamptz := clock_timestamp();
  v_row kms.rate_limits;
  v_latest timestamptz;
  v_answer jsonb;
  v_n integer;
begin
  for v_entry in select e.value from jsonb_array_elements(v_list) as e loop
    perform kms.check_object(v_entry, 'p_keys', array['key', 'limit', 'seconds']);
    v_keys := v_keys || kms.read_text(v_entry, 'key', 'p_keys', '', true);
    v_limits := v_limits || kms.read_integer(v_entry, 'limit', 'p_keys', 1, 999999999, true);
    v_seconds := v_seconds || kms.read_integer(v_entry, 'seconds', 'p_keys', 1, 86400, true);
  end loop;
  if (select count(distinct (k.key, k.seconds)) < count(*) from unnest(v_keys, v_seconds) as k (key, seconds))
  then
    perform kms.refuse('p_keys has a key twice');
  end if;

  -- Whoever is over is told so without a write or a lock: a flood costs two reads.
  v_answer := kms.rate_limit_refusal(v_keys, v_limits, v_seconds, v_now);
  if v_answer is not null then
    return v_answer;
  end if;

  -- In one order, whoever calls: two requests that share keys cannot wait for each other.
  for v_n in
    select k.n from unnest(v_keys, v_seconds) with ordinality as k (key, seconds, n)
    order by k.key collate "C", k.seconds
  loop
    insert into kms.rate_limits as r (key, seconds, used, ends_at)
    values (v_keys[v_n], v_seconds[v_n], 1, v_now + make_interval(secs => v_seconds[v_n]))
    on conflict (key, seconds) do update set
      used = case when r.ends_at <= v_now then 1 else r.used + 1 end,
      ends_at = case when r.ends_at <= v_now then excluded.ends_at else r.ends_at end
    where r.ends_at <= v_now or r.used < v_limits[v_n]
    returning * into v_row;
    if not found then
      -- Used up while we waited for the row. What was taken is still locked: nobody saw it.
      update kms.rate_limits as r set used = r.used - 1
      from unnest(v_taken) as t (n)
      where r.key = v_keys[t.n] and r.seconds = v_seconds[t.n];
      -- Purged since, the row says nothing any more; the caller has been told no all the same.
      return coalesce(
        kms.rate_limit_refusal(v_keys, v_limits, v_seconds, v_now),
        jsonb_build_object('allowed', false, 'index', v_n - 1, 'remaining', 0, 'reset', 1)
      );
    end if;
    v_taken := v_taken || v_n;
    if v_answer is null
      or (v_limits[v_n] - v_row.used, v_latest) < ((v_answer ->> 'remaining')::integer, v_row.ends_at)
    then
      v_latest := v_row.ends_at;
      v_answer := jsonb_build_object(
        'allowed', true, 'index', v_n - 1, 'remaining', v_limits[v_n] - v_row.used,
        'reset', kms.rate_limit_reset(v_row, v_now)
      );
    end if;
  end loop;
  return v_answer;
end
$$;
comment on function public.kms_rate_limit_take(text) is
  'Counts one request against 1 to 8 limits, [{"key", "limit", "seconds"}], all of them or none. '
  '{"allowed", "index", "remaining", "reset"}: of the limit with the least left (of the one that is free '
  'again last when refused), its place in p_keys from 0, requests left, and seconds until its window is '
  'over. For service_role.';

-- ── Purge ──────────────────────────────────────────────────────────────────────────────────────
create function kms.purge_rate_limits() returns bigint
language plpgsql volatile set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_count bigint;
begin
  delete from kms.rate_limits where ctid = any (array(
    select ctid from kms.rate_limits
    where ends_at <= v_now
    order by ends_at limit 10000 for update skip locked
  ));
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function kms.purge_rate_limits() is
  'Deletes counters whose window is over and that nobody is using, up to 10,000 a call; how many.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_rate_limit_take(text) from public, anon, authenticated;
grant execute on function public.kms_rate_limit_take(text) to service_role;
