-- What a configuration must be able to open, whichever part of the suite wrapped it: branch keys with
-- their copies, messages in direct mode, imported keys, canaries.

create function kms.wrapped_branch_keys() returns setof jsonb
language sql stable set search_path = ''
as $$
  -- From one wrapping key to the next along the index: the number of rows does not matter.
  with recursive wrapping_key (id) as (
    (select b.record ->> 'kms-arn' from kms.branch_keys as b order by 1 limit 1)
    union all
    select (
      select b.record ->> 'kms-arn' from kms.branch_keys as b
      where b.record ->> 'kms-arn' > k.id order by 1 limit 1
    )
    from wrapping_key as k where k.id is not null
  )
  select jsonb_build_array(r.record)
  from wrapping_key as k
  cross join lateral (
    select b.record from kms.branch_keys as b
    where b.record ->> 'kms-arn' = k.id and not exists (
      select from kms.branch_key_copies as c
      where (c.branch_key_id, c.type) = (b.branch_key_id, b.type)
    )
    limit 1
  ) as r
  union all
  select jsonb_build_array(b.record, c.record)
  from (
    -- By hash, and of names alone: there may be a branch key for every user.
    select min(array[c.branch_key_id, c.type]) as one
    from kms.branch_key_copies as c
    join kms.branch_keys as b on (b.branch_key_id, b.type) = (c.branch_key_id, c.type)
    group by b.record ->> 'kms-arn', c.record ->> 'kms-arn'
  ) as p
  join kms.branch_key_copies as c on (c.branch_key_id, c.type) = (p.one[1], p.one[2])
  join kms.branch_keys as b on (b.branch_key_id, b.type) = (c.branch_key_id, c.type)
$$;
comment on function kms.wrapped_branch_keys() is
  'One branch key record of each wrapping key, [record], and while keys move between providers one of '
  'each pair of them, [record, copy]: who can open either has that key.';

create function public.kms_keys_in_use() returns jsonb
language sql stable security definer set search_path = ''
as $$
  with recursive direct_key (id) as (
    (select c.kms_key_arn from kms.ciphertexts as c
     where c.branch_key_id is null and c.kms_key_arn is not null order by 1 limit 1)
    union all
    select (
      select c.kms_key_arn from kms.ciphertexts as c
      where c.branch_key_id is null and c.kms_key_arn > k.id order by 1 limit 1
    )
    from direct_key as k where k.id is not null
  )
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
      from (select id from direct_key where id is not null limit 100) as k
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
