-- What a configuration must be able to open, whichever part of the suite wrapped it: branch keys with
-- their copies, messages in direct mode, imported keys, canaries.

create function kms.wrapped_branch_keys() returns setof jsonb
-- From one to the next along the index: the number of rows does not matter. Whatever the statistics say,
-- a search through the rows for one of a few may be one through all of them.
language sql stable
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
  with recursive wrapping_keys (id, other) as (
    (
      select b.record ->> 'kms-arn', coalesce(b.copy ->> 'kms-arn', '') from kms.branch_keys as b
      order by 1, 2 limit 1
    )
    union all
    select n.id, n.other
    from wrapping_keys as w
    cross join lateral (
      select b.record ->> 'kms-arn' as id, coalesce(b.copy ->> 'kms-arn', '') as other
      from kms.branch_keys as b
      where (b.record ->> 'kms-arn', coalesce(b.copy ->> 'kms-arn', '')) > (w.id, w.other)
      order by 1, 2 limit 1
    ) as n
  )
  select case when r.copy is null
    then jsonb_build_array(r.record) else jsonb_build_array(r.record, r.copy) end
  from wrapping_keys as w
  cross join lateral (
    select b.record, b.copy from kms.branch_keys as b
    where b.record ->> 'kms-arn' = w.id and coalesce(b.copy ->> 'kms-arn', '') = w.other
    limit 1
  ) as r
$$;
comment on function kms.wrapped_branch_keys() is
  'One branch key record of each wrapping key, [record], and while keys move between providers one of '
  'each pair of them, [record, copy]: who can open either has that key.';

create function public.kms_keys_in_use() returns jsonb
language sql stable security definer
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
  select jsonb_build_object(
    'branch_keys', coalesce((
      select jsonb_agg(w.records)
      from (select w as records from kms.wrapped_branch_keys() as w limit 100) as w
    ), '[]'::jsonb),
    'messages', coalesce((
      select jsonb_agg((
        select c.message from kms.ciphertexts as c
        where c.branch_key_id is null and c.kms_key_arn = k.id limit 1
      ))
      from kms.direct_keys() as k (id)
    ), '[]'::jsonb) || coalesce((
      select jsonb_agg(m.message) from (
        select message from kms.legacy_keys where branch_key_id is null
        union all
        select message from kms.health_canaries where branch_key_id is null
      ) as m
    ), '[]'::jsonb)
  )
$$;
comment on function public.kms_keys_in_use() is
  'For each wrapping key that something was wrapped under, up to 100 of them, one branch key (its '
  'record, or record and copy), and one message of those in direct mode, imported keys and canaries '
  'besides: {"branch_keys": [[record[, copy]]], "messages"}. Whoever can open these can open '
  'everything. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_keys_in_use() from public, anon, authenticated;
grant execute on function public.kms_keys_in_use() to service_role;
