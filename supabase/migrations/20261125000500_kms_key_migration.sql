-- The migration of branch keys from one provider to another. There may be a branch key for every user: no
-- call reads more of them than it was asked to work on, and none waits for a writer of branch keys.
--
-- A record is single, then has a copy under the other provider, then changes places with it, is confirmed
-- and loses the copy. That is its stage, in its own row and its index: so what a step has to do next is
-- found at once, whatever was made, rotated or erased meanwhile.

-- ── kms.provider_migration ─────────────────────────────────────────────────────────────────────
create table kms.provider_migration (
  only_row boolean primary key default true constraint provider_migration_has_one_row check (only_row),
  from_provider text not null
    constraint provider_migration_from_is_known check (from_provider in ('aws', 'gcp', 'vault', 'env')),
  to_provider text not null
    constraint provider_migration_to_is_known check (to_provider in ('aws', 'gcp', 'vault', 'env')),
  step text not null default 'prepare'
    constraint provider_migration_step_is_known check (step in ('prepare', 'switch', 'back')),
  is_ending boolean not null default false,
  dropped bigint not null default 0
    constraint provider_migration_dropped_is_a_number check (dropped >= 0),
  started_at timestamptz not null default clock_timestamp(),
  constraint provider_migration_goes_somewhere check (from_provider <> to_provider),
  constraint provider_migration_ends_what_it_did check (step <> 'prepare' or not is_ending)
);

comment on table kms.provider_migration is
  'The migration of branch keys between providers that is under way, if one is.';
comment on column kms.provider_migration.only_row is 'True: there is one row at most.';
comment on column kms.provider_migration.from_provider is 'Who wrapped them at first.';
comment on column kms.provider_migration.to_provider is 'Who will.';
comment on column kms.provider_migration.step is
  'prepare: copies are made; switch: the copies become the records; back: the other way round.';
comment on column kms.provider_migration.is_ending is
  'The copies are being dropped, after a switch or after back: there is no other way from here.';
comment on column kms.provider_migration.dropped is 'How many of them were.';
comment on column kms.provider_migration.started_at is 'When it began.';

alter table kms.provider_migration enable row level security;

-- ── What there is to do ────────────────────────────────────────────────────────────────────────
create function kms.branch_keys_at(p_provider text, p_stages text[], p_limit integer)
returns table (branch_key_id text, type text)
-- Always by the index of stages: what statistics take for most rows may be none by now.
language sql stable rows 100
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
  select k.branch_key_id, k.type from kms.branch_keys as k
  where k.provider = p_provider and k.stage = any (p_stages) limit p_limit
$$;
comment on function kms.branch_keys_at(text, text[], integer) is
  'Up to so many records of a provider in one of these stages.';

create function kms.take_branch_keys_at(p_provider text, p_stages text[], p_limit integer)
returns table (branch_key_id text, type text)
language sql volatile rows 100
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
  select k.branch_key_id, k.type from kms.branch_keys as k
  where k.provider = p_provider and k.stage = any (p_stages) limit p_limit
  for no key update skip locked
$$;
comment on function kms.take_branch_keys_at(text, text[], integer) is
  'As kms.branch_keys_at, and they stay so until the commit. What somebody else holds is passed over: a '
  'caller with many rows waits for none.';

create function kms.migration_todo(p_from text, p_to text, p_step text, p_is_ending boolean)
returns table (provider text, stage text, operations integer)
language sql immutable rows 5 set search_path = ''
as $$
  select case t.holder when 'from' then p_from else p_to end, t.stage, t.operations
  from (values
    ('prepare', 'from', 'single', 1), ('prepare', 'to', 'single', 1),
    ('switch', 'from', 'single', 2), ('switch', 'from', 'copied', 1),
    ('switch', 'from', 'confirmed', 1), ('switch', 'to', 'single', 1),
    ('finish', 'from', 'single', 4), ('finish', 'from', 'copied', 3),
    ('finish', 'from', 'confirmed', 3), ('finish', 'to', 'copied', 2),
    ('finish', 'to', 'confirmed', 1),
    ('back', 'to', 'single', 4), ('back', 'to', 'copied', 3), ('back', 'to', 'confirmed', 3),
    ('back', 'from', 'copied', 2), ('back', 'from', 'confirmed', 1)
  ) as t (step, holder, stage, operations)
  -- There is no way back any more that a copy of what the new provider made would be for.
  where t.step = p_step and not (p_is_ending and t.step = 'switch' and t.holder = 'to')
$$;
comment on function kms.migration_todo(text, text, text, boolean) is
  'The records for which a step is not done, by provider and stage, and how many operations each then '
  'needs: to be copied, exchanged, opened, or its copy dropped.';

create function kms.migration_remains(p_from text, p_to text, p_step text, p_is_ending boolean)
returns boolean
language sql stable set search_path = ''
as $$
  select exists (
    select from kms.migration_todo(p_from, p_to, p_step, p_is_ending) as t
    cross join lateral kms.branch_keys_at(t.provider, array[t.stage], 1)
  )
$$;
comment on function kms.migration_remains(text, text, text, boolean) is
  'Whether there is any record for which a step is not done: exact, and found by one look.';

create function kms.direct_keys() returns setof text
language sql stable rows 10
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set jit = off
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
  select id from direct_key where id is not null limit 100
$$;
comment on function kms.direct_keys() is
  'Wrapping keys of messages in direct mode, up to 100: from one to the next along their index.';

create function kms.direct_rows(p_provider text) returns integer
language sql stable
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
  select count(*)::integer from (
    select from kms.direct_keys() as k (id)
    cross join lateral (
      select from kms.ciphertexts as c
      where c.branch_key_id is null and c.kms_key_arn = k.id limit 10001
    ) as m
    where kms.provider_of(k.id) = p_provider limit 10001
  ) as m
$$;
comment on function kms.direct_rows(text) is
  'How many messages hang on keys of a provider itself; 10001 are more than 10000.';

create function kms.migration_json(p_from text, p_to text, p_step text) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  c_counted constant integer := 1000;
  v_is_ending boolean := coalesce((
    select m.is_ending from kms.provider_migration as m
    where m.from_provider = p_from and m.to_provider = p_to
  ), false);
  v_keys bigint;
  v_records bigint;
  v_todo bigint;
  v_operations bigint;
  v_found integer;
  v_remaining bigint;
begin
  select coalesce(sum(c.records) filter (where c.is_active), 0), coalesce(sum(c.records), 0)
  into v_keys, v_records
  from kms.branch_key_counts as c where c.provider in (p_from, p_to);
  select coalesce(sum(c.records), 0), coalesce(sum(c.records * t.operations), 0)
  into v_todo, v_operations
  from kms.migration_todo(p_from, p_to, p_step, v_is_ending) as t
  join kms.branch_key_counts as c on (c.provider, c.stage) = (t.provider, t.stage);
  select count(*), count(distinct f.branch_key_id) into v_found, v_remaining from (
    select k.branch_key_id from kms.migration_todo(p_from, p_to, p_step, v_is_ending) as t
    cross join lateral kms.branch_keys_at(t.provider, array[t.stage], c_counted + 1) as k
    limit c_counted + 1
  ) as f;
  if v_found > c_counted then
    v_remaining := greatest(v_remaining, ceil(v_todo::numeric * v_keys / greatest(v_records, 1)));
  end if;
  return jsonb_build_object(
    'from', p_from, 'to', p_to, 'step', p_step,
    'branch_keys', greatest(v_keys, v_remaining), 'remaining', v_remaining,
    -- What is there counts, and no counter.
    'operations', case when v_found = 0 then 0 else greatest(v_operations, v_found) end,
    'direct_rows', kms.direct_rows(p_from)
  );
end
$$;
comment on function kms.migration_json(text, text, text) is
  'A migration as the functions answer it: how many branch keys it is about; for how many the step is '
  'not done, by their share of the records where that is more than 1000 records, and 0 only when there is '
  'none; how many operations that takes; and how many messages hang on a key of the old provider itself.';

create function kms.lock_migration(p_from text, p_to text) returns kms.provider_migration
language sql volatile set search_path = ''
as $$
  select * from kms.provider_migration
  where from_provider = p_from and to_provider = p_to for update
$$;
comment on function kms.lock_migration(text, text) is
  'This migration, which stays as it is until the commit; null when it is not under way.';

-- ── RPC: steps ─────────────────────────────────────────────────────────────────────────────────
create function public.kms_migration_status(p_step text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select kms.migration_json(m.from_provider, m.to_provider, coalesce(p_step, case
    when m.is_ending and m.step = 'switch' then 'finish' else m.step end))
  from kms.provider_migration as m
$$;
comment on function public.kms_migration_status(text) is
  'The migration under way, or null: {"from", "to", "step", "branch_keys", "remaining", "operations", '
  '"direct_rows"}, as its own step sees it or the one given. For service_role.';

create function public.kms_migration_step(p_actor text, p_from text, p_to text, p_step text)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_row kms.provider_migration;
  v_outcome text := 'ok';
  v_report jsonb;
begin
  if p_step is null or p_step not in ('prepare', 'switch', 'finish', 'back') then
    perform kms.refuse('p_step must be prepare, switch, finish or back');
  end if;
  if p_from is null or p_to is null or p_from = p_to
    or not array[p_from, p_to] <@ array['aws', 'gcp', 'vault', 'env']
  then
    perform kms.refuse('p_from and p_to must be two of aws, gcp, vault, env');
  end if;
  if p_step = 'prepare' then
    insert into kms.provider_migration (from_provider, to_provider) values (p_from, p_to)
    on conflict do nothing;
  end if;
  select * into v_row from kms.provider_migration for update;
  if not found then
    -- Ended before, and the caller did not hear of it? Then nothing is left to do.
    v_outcome := case
      when p_step in ('finish', 'back') and not kms.migration_remains(p_from, p_to, p_step, false)
        then 'ended'
      else 'conflict'
    end;
  elsif (v_row.from_provider, v_row.to_provider) <> (p_from, p_to)
    or p_step = 'finish' and v_row.step <> 'switch'
    or v_row.is_ending and v_row.step <> (case p_step when 'finish' then 'switch' else p_step end)
    -- Who wraps new keys by the old one may be about to forget the new one.
    or p_step = 'finish' and p_from = (
      select s.provider from kms.settings as s order by s.revision desc limit 1)
  then
    v_outcome := 'conflict';
  elsif p_step = 'switch' and v_row.step <> 'switch'
    and kms.migration_remains(p_from, p_to, 'prepare', false)
    or p_step = 'finish' and exists (
      select from kms.branch_keys_at(p_from, array['single', 'copied', 'confirmed'], 1)
    )
  then
    v_outcome := 'incomplete';
  elsif p_step in ('switch', 'back') or v_row.step = 'back' then
    update kms.provider_migration set step = case p_step when 'finish' then step else p_step end;
  end if;
  v_report := kms.migration_json(p_from, p_to, case
    when v_outcome = 'incomplete' and p_step = 'switch' then 'prepare' else p_step end);
  perform kms.audit_append(v_actor, jsonb_build_array(
    jsonb_build_object(
      'action', 'provider.' || p_step, 'outcome', 'success',
      'purpose', format('from %s to %s', p_from, p_to)
    ) || case v_outcome
      when 'conflict' then '{"outcome": "failure", "error_code": "migration_conflict"}'::jsonb
      when 'incomplete' then '{"outcome": "failure", "error_code": "migration_incomplete"}'
      else '{}'
    end
  ));
  return v_report || jsonb_build_object('step', p_step, 'outcome', v_outcome);
end
$$;
comment on function public.kms_migration_step(text, text, text, text) is
  'Enters a step of a migration, or stays in it: as kms_migration_status, with "outcome": ok; conflict '
  '(another migration, or a step that does not follow); incomplete (a switch before every record has a '
  'copy, an end before every record is the new provider''s); ended (there is nothing to finish or to '
  'undo). Audited. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all tables in schema kms from public, anon, authenticated, service_role;
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_migration_status(text),
  public.kms_migration_step(text, text, text, text)
from public, anon, authenticated;
grant execute on function
  public.kms_migration_status(text),
  public.kms_migration_step(text, text, text, text)
to service_role;
