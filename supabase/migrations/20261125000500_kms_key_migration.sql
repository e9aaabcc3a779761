-- Keys over time: what stands of a branch key, the end of a version that nothing hangs on, one rotation
-- of a wrapping key at a time, and the migration of branch keys from one provider to another.

-- ── RPC: branch keys ───────────────────────────────────────────────────────────────────────────
create function public.kms_branch_key_info(p_branch_key_id text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    'version', regexp_replace(a.record ->> 'version', '^branch:version:', ''),
    'created_at', kms.iso_milliseconds(a.record ->> 'create-time'),
    'versions', (
      select count(*) from kms.branch_keys as v
      where v.branch_key_id = p_branch_key_id and v.version is not null
    ),
    'old_versions', coalesce((
      select jsonb_agg(jsonb_build_object(
        'version', o.version, 'created_at', kms.iso_milliseconds(o.created_at), 'in_use', exists (
          select from kms.ciphertexts as c
          where c.branch_key_id = p_branch_key_id and c.branch_key_version = o.version
        ) or exists (
          select from kms.legacy_keys as l
          where l.branch_key_id = p_branch_key_id and l.branch_key_version = o.version
        )
      ) order by o.created_at desc, o.version)
      from (
        select v.version, v.record ->> 'create-time' as created_at
        from kms.branch_keys as v
        where v.branch_key_id = p_branch_key_id and v.version is not null
          and a.record ->> 'version' <> v.type
        order by v.record ->> 'create-time' desc, v.version limit 100
      ) as o
    ), '[]'::jsonb)
  )
  from kms.branch_keys as a
  where a.branch_key_id = p_branch_key_id and a.type = 'branch:ACTIVE'
$$;
comment on function public.kms_branch_key_info(text) is
  'What stands of a branch key, or null: {"version" (the active one), "created_at" (of that one), '
  '"versions" (how many), "old_versions": [{"version", "created_at", "in_use"}], newest first, at most '
  '100}. For service_role.';

create function public.kms_branch_key_retire(
  p_actor text, p_branch_key_id text, p_version text
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_entry jsonb;
  v_record jsonb;
  v_outcome text := 'retired';
  v_rows bigint := 0;
begin
  if p_branch_key_id is null or length(p_branch_key_id) not between 1 and 256 then
    perform kms.refuse('p_branch_key_id is not a branch key id');
  end if;
  if p_version is null
    or p_version !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
  then
    perform kms.refuse('p_version is not a version');
  end if;

  -- Locks in one order: the branch key, the version, the epoch, the audit chain. A message that is being
  -- stored under the version holds the second one until it can be counted.
  perform kms.lock_branch_key(p_branch_key_id);
  select record into v_record from kms.branch_keys
  where branch_key_id = p_branch_key_id and version = p_version for update;
  if not found then
    return jsonb_build_object('outcome', 'not_found', 'rows', 0);
  end if;
  select count(*) into v_rows from (
    select from kms.ciphertexts
    where branch_key_id = p_branch_key_id and branch_key_version = p_version
    union all
    select from kms.legacy_keys
    where branch_key_id = p_branch_key_id and branch_key_version = p_version
  ) as m;
  if kms.branch_key_record(p_branch_key_id, 'branch:ACTIVE') ->> 'version'
    = 'branch:version:' || p_version
  then
    v_outcome := 'active';
  elsif v_rows > 0 then
    v_outcome := 'in_use';
  else
    perform set_config('kms.retiring_branch_key', p_branch_key_id || ' ' || p_version, true);
    delete from kms.branch_keys where branch_key_id = p_branch_key_id and version = p_version;
    perform set_config('kms.retiring_branch_key', '', true);
    update kms.key_epoch set epoch = epoch + 1;
  end if;

  v_entry := kms.branch_key_entry('branch_key.retire', v_record);
  if v_outcome <> 'retired' then
    v_entry := v_entry || '{"outcome": "failure", "error_code": "branch_key_in_use"}';
  end if;
  perform kms.audit_append(v_actor, jsonb_build_array(v_entry));
  return jsonb_build_object('outcome', v_outcome, 'rows', v_rows);
end
$$;
comment on function public.kms_branch_key_retire(text, text, text) is
  'Destroys an old version of a branch key: {"outcome": "retired", "active", "in_use" (by "rows" '
  'messages) or "not_found", "rows"}. Whoever has it cached forgets it by the epoch, and until then can '
  'store nothing under it. Audited, refusals too. For service_role.';

-- ── kms.key_rotations ──────────────────────────────────────────────────────────────────────────
create table kms.key_rotations (
  data_class text primary key
    constraint key_rotations_data_class_is_known
      check (data_class in ('payment', 'pii', 'general')),
  token uuid not null default gen_random_uuid(),
  expires_at timestamptz not null
);

comment on table kms.key_rotations is
  'Rotations of wrapping keys under way. The key service cannot be asked to take something back: so one '
  'caller asks at a time, and says so first.';
comment on column kms.key_rotations.data_class is 'Whose wrapping key.';
comment on column kms.key_rotations.token is 'Whose rotation.';
comment on column kms.key_rotations.expires_at is
  'After this the caller is taken to have died, and another may ask.';

alter table kms.key_rotations enable row level security;

create function public.kms_key_rotation_begin(
  p_actor text, p_data_class text, p_kms_key_arn text, p_lease_seconds integer
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_token uuid;
begin
  if p_data_class is null or p_data_class not in ('payment', 'pii', 'general') then
    perform kms.refuse('p_data_class must be payment, pii or general');
  end if;
  if p_lease_seconds is null or p_lease_seconds not between 1 and 600 then
    perform kms.refuse('p_lease_seconds must be 1 to 600');
  end if;
  insert into kms.key_rotations as r (data_class, expires_at)
  values (p_data_class, clock_timestamp() + p_lease_seconds * interval '1 second')
  on conflict (data_class) do update
  set token = excluded.token, expires_at = excluded.expires_at
  where r.expires_at <= clock_timestamp()
  returning r.token into v_token;
  perform kms.audit_append(v_actor, jsonb_build_array(
    jsonb_build_object(
      'action', 'kms_key.rotate_begin', 'outcome', 'success', 'data_class', p_data_class,
      'kms_key_arn', p_kms_key_arn
    ) || case when v_token is null
      then '{"outcome": "failure", "error_code": "rotation_conflict"}'::jsonb else '{}' end
  ));
  return jsonb_build_object('token', v_token);
end
$$;
comment on function public.kms_key_rotation_begin(text, text, text, integer) is
  'The right to ask the key service for a rotation of a class''s wrapping key, for so many seconds: '
  '{"token"}, null while another caller has it. Audited before anything is asked. For service_role.';

create function public.kms_key_rotation_end(
  p_actor text, p_data_class text, p_token uuid, p_kms_key_arn text, p_error_code text
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
begin
  delete from kms.key_rotations where data_class = p_data_class and token = p_token;
  perform kms.audit_append(v_actor, jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
    'action', 'kms_key.rotate',
    'outcome', case when p_error_code is null then 'success' else 'failure' end,
    'error_code', p_error_code, 'data_class', p_data_class, 'kms_key_arn', p_kms_key_arn
  ))));
  return to_jsonb(true);
end
$$;
comment on function public.kms_key_rotation_end(text, text, uuid, text, text) is
  'Gives the right back, and audits how it ended: with p_error_code, or well. True. For service_role.';

-- ── kms.provider_migration ─────────────────────────────────────────────────────────────────────
create table kms.provider_migration (
  only_row boolean primary key default true constraint provider_migration_has_one_row check (only_row),
  from_provider text not null
    constraint provider_migration_from_is_known check (from_provider in ('aws', 'gcp', 'vault', 'env')),
  to_provider text not null
    constraint provider_migration_to_is_known check (to_provider in ('aws', 'gcp', 'vault', 'env')),
  step text not null default 'prepare'
    constraint provider_migration_step_is_known check (step in ('prepare', 'switch', 'back')),
  started_at timestamptz not null default clock_timestamp(),
  constraint provider_migration_goes_somewhere check (from_provider <> to_provider)
);

comment on table kms.provider_migration is
  'The migration of branch keys between providers that is under way, if one is.';
comment on column kms.provider_migration.only_row is 'True: there is one row at most.';
comment on column kms.provider_migration.from_provider is 'Who wrapped them at first.';
comment on column kms.provider_migration.to_provider is 'Who will.';
comment on column kms.provider_migration.step is
  'prepare: copies are made; switch: the copies become the records; back: the other way round.';
comment on column kms.provider_migration.started_at is 'When it began.';

alter table kms.provider_migration enable row level security;

create function kms.provider_prefix(p_provider text) returns text
language sql immutable set search_path = ''
as $$
  select case p_provider
    when 'aws' then 'arn:' when 'gcp' then 'projects/' when 'vault' then 'vault:' when 'env' then 'env:'
  end
$$;
comment on function kms.provider_prefix(text) is
  'How the names of a provider''s keys begin. For queries over many rows, which compare with it: a call '
  'for each row would take many times as long.';

create function kms.provider_of(p_kms_key_arn text) returns text
language sql immutable set search_path = ''
as $$
  select name from unnest(array['aws', 'gcp', 'vault', 'env']) as p (name)
  where starts_with(p_kms_key_arn, kms.provider_prefix(name))
$$;
comment on function kms.provider_of(text) is 'Whose key that is, by its name; null for nobody''s.';

create function kms.migration_records(p_from text, p_to text)
returns table (branch_key_id text, type text, provider text, has_copy boolean, is_confirmed boolean)
language sql stable set search_path = ''
as $$
  with p as materialized ( -- otherwise it is called for each record
    select name, kms.provider_prefix(name) as prefix from unnest(array[p_from, p_to]) as n (name)
  )
  select k.branch_key_id, k.type, p.name, c.type is not null, c.confirmed_at is not null
  from p
  join kms.branch_keys as k on starts_with(k.record ->> 'kms-arn', p.prefix)
  left join kms.branch_key_copies as c on (c.branch_key_id, c.type) = (k.branch_key_id, k.type)
$$;
comment on function kms.migration_records(text, text) is
  'The records that a migration between these providers is about, by who wraps them now.';

create function kms.migration_remaining(p_from text, p_to text, p_step text) returns integer
language sql stable set search_path = ''
as $$
  -- By hash: there may be a branch key for every user.
  select count(*)::integer from (
    select from kms.migration_records(p_from, p_to) as r
    where case p_step
      when 'prepare' then not r.has_copy
      when 'switch' then not r.has_copy or r.provider = p_from
      when 'finish' then r.provider = p_from or r.has_copy and not r.is_confirmed
      else r.provider = p_to
    end
    group by r.branch_key_id
  ) as k
$$;
comment on function kms.migration_remaining(text, text, text) is
  'Branch keys for which a step is not done.';

create function kms.migration_json(p_from text, p_to text, p_step text, p_remaining integer)
returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'from', p_from, 'to', p_to, 'step', p_step, 'remaining', p_remaining,
    'branch_keys', (
      select count(*) from kms.migration_records(p_from, p_to) as r where r.type = 'branch:ACTIVE'
    ),
    'direct_rows', (
      select count(*) from kms.ciphertexts as c
      -- In the words of the index of wrapping keys.
      where c.branch_key_id is null and c.kms_key_arn is not null
        and starts_with(c.kms_key_arn, (select kms.provider_prefix(p_from)))
    )
  )
$$;
comment on function kms.migration_json(text, text, text, integer) is
  'A migration as the functions answer it: how many branch keys it is about, for how many the step is '
  'not done, and how many messages hang on a key of the old provider itself.';

create function kms.lock_migration(p_from text, p_to text, p_steps text[]) returns boolean
language plpgsql volatile set search_path = ''
as $$
begin
  perform from kms.provider_migration
  where from_provider = p_from and to_provider = p_to and step = any (p_steps) for update;
  return found;
end
$$;
comment on function kms.lock_migration(text, text, text[]) is
  'Whether this migration is under way, in one of these steps; if so it stays so until the commit.';

-- ── RPC: migration ─────────────────────────────────────────────────────────────────────────────
create function public.kms_migration_status(p_step text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select kms.migration_json(m.from_provider, m.to_provider, s.step,
    kms.migration_remaining(m.from_provider, m.to_provider, s.step))
  from kms.provider_migration as m
  cross join lateral (select coalesce(p_step, m.step) as step) as s
$$;
comment on function public.kms_migration_status(text) is
  'The migration under way, or null: {"from", "to", "step", "branch_keys", "remaining", '
  '"direct_rows"}, as its own step sees it or the one given. For service_role.';

create function public.kms_migration_step(p_actor text, p_from text, p_to text, p_step text)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_row kms.provider_migration;
  v_outcome text := 'ok';
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
      when p_step = 'finish' and kms.migration_remaining(p_from, p_to, 'finish') = 0
        or p_step = 'back' and kms.migration_remaining(p_from, p_to, 'back') = 0 then 'ended'
      else 'conflict'
    end;
  elsif (v_row.from_provider, v_row.to_provider) <> (p_from, p_to)
    or p_step = 'finish' and v_row.step <> 'switch'
  then
    v_outcome := 'conflict';
  elsif p_step = 'switch' and v_row.step <> 'switch'
    and kms.migration_remaining(p_from, p_to, 'prepare') > 0
    or p_step = 'finish' and exists (
      select from kms.migration_records(p_from, p_to) as r where r.provider = p_from
    )
  then
    v_outcome := 'incomplete';
  elsif p_step in ('switch', 'back') or v_row.step = 'back' then
    update kms.provider_migration set step = case p_step when 'finish' then step else p_step end;
  end if;
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
  return kms.migration_json(p_from, p_to, p_step, case
    when v_outcome = 'incomplete' and p_step = 'switch'
      then kms.migration_remaining(p_from, p_to, 'prepare')
    else kms.migration_remaining(p_from, p_to, p_step)
  end) || jsonb_build_object('outcome', v_outcome);
end
$$;
comment on function public.kms_migration_step(text, text, text, text) is
  'Enters a step of a migration, or stays in it: as kms_migration_status, with "outcome": ok; conflict '
  '(another migration, or a step that does not follow); incomplete (a switch before every record has a '
  'copy, an end before every record is the new provider''s); ended (there is nothing to finish or to '
  'undo). Audited. For service_role.';

create function public.kms_migration_work(
  p_from text, p_to text, p_kind text, p_limit integer
) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform kms.check_limit(p_limit);
  return coalesce((
    select jsonb_agg(k.record order by k.branch_key_id, k.type)
    from (
      select r.branch_key_id, r.type from kms.migration_records(p_from, p_to) as r
      where case p_kind
        when 'copy' then not r.has_copy
        else r.has_copy and not r.is_confirmed and r.provider = p_to
      end
      order by r.branch_key_id, r.type limit p_limit
    ) as w
    join kms.branch_keys as k on (k.branch_key_id, k.type) = (w.branch_key_id, w.type)
  ), '[]'::jsonb);
end
$$;
comment on function public.kms_migration_work(text, text, text, integer) is
  '1 to 100 records without a copy ("copy"), or whose copy may go once they were opened ("confirm"). For '
  'service_role.';

create function public.kms_migration_copy(p_actor text, p_from text, p_to text, p_items text)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_items jsonb := kms.parse_list(p_items, 'p_items', 1, 100);
  v_item jsonb;
  v_path text;
  v_stored jsonb[] := array[]::jsonb[];
begin
  if not kms.lock_migration(p_from, p_to, array['prepare', 'switch', 'back']) then
    return jsonb_build_object('stored', 0);
  end if;
  for n in 0 .. jsonb_array_length(v_items) - 1 loop
    v_item := v_items -> n;
    v_path := format('p_items[%s]', n);
    perform kms.check_object(v_item, v_path, array['record', 'copy']);
    perform kms.check_branch_key_record(v_item -> 'copy', v_path || '.copy');
    if (v_item -> 'copy') - array['kms-arn', 'enc'] <> (v_item -> 'record') - array['kms-arn', 'enc']
      or array[
        kms.provider_of(v_item -> 'record' ->> 'kms-arn'),
        kms.provider_of(v_item -> 'copy' ->> 'kms-arn')
      ] not in (array[p_from, p_to], array[p_to, p_from])
    then
      perform kms.refuse(v_path || '.copy is not the same key under the other provider');
    end if;
    insert into kms.branch_key_copies (branch_key_id, type, record)
    select k.branch_key_id, k.type, v_item -> 'copy' from kms.branch_keys as k
    where k.branch_key_id = v_item -> 'record' ->> 'branch-key-id'
      and k.type = v_item -> 'record' ->> 'type'
      -- Rotated, destroyed or moved since it was read: then this is no copy of it. Whoever is about to is
      -- not waited for, since the records here are many: the next call finds what came of it.
      and k.record = v_item -> 'record'
    for no key update skip locked
    on conflict do nothing;
    if found then
      v_stored := v_stored || kms.branch_key_entry('branch_key.copy', v_item -> 'copy');
    end if;
  end loop;
  perform kms.audit_append(v_actor, to_jsonb(v_stored));
  return jsonb_build_object('stored', cardinality(v_stored));
end
$$;
comment on function public.kms_migration_copy(text, text, text, text) is
  'Stores copies, 1 to 100 of {"record" (as it was read), "copy"}, of records that still are what they '
  'were and have none: {"stored"}. Nothing once the migration is over. Audited. For service_role.';

create function public.kms_migration_swap(p_actor text, p_from text, p_to text, p_limit integer)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_step text;
  v_provider text;
  v_key record;
  v_record jsonb;
  v_copy jsonb;
  v_swapped integer := 0;
begin
  if p_limit is null or p_limit not between 1 and 10000 then
    perform kms.refuse('p_limit must be 1 to 10000');
  end if;
  if not kms.lock_migration(p_from, p_to, array['switch', 'back']) then
    return jsonb_build_object('swapped', 0);
  end if;
  select m.step into strict v_step from kms.provider_migration as m;
  v_provider := case v_step when 'switch' then p_to else p_from end;
  perform set_config('kms.moving_branch_keys', 'on', true);
  for v_key in
    select r.branch_key_id, r.type from kms.migration_records(p_from, p_to) as r
    where r.provider <> v_provider and r.has_copy
    order by r.branch_key_id, r.type limit p_limit
  loop
    -- Row by row, the record before its copy, as rotations do; what has changed meanwhile is left, and
    -- so is what somebody holds: a caller with many rows waits for none.
    select k.record into v_record from kms.branch_keys as k
    where k.branch_key_id = v_key.branch_key_id and k.type = v_key.type
    for no key update skip locked;
    continue when not found;
    select c.record into v_copy from kms.branch_key_copies as c
    where c.branch_key_id = v_key.branch_key_id and c.type = v_key.type
    for no key update skip locked;
    continue when not found or kms.provider_of(v_copy ->> 'kms-arn') <> v_provider;
    update kms.branch_keys as k set record = v_copy
    where k.branch_key_id = v_key.branch_key_id and k.type = v_key.type;
    update kms.branch_key_copies as c set record = v_record, confirmed_at = null
    where c.branch_key_id = v_key.branch_key_id and c.type = v_key.type;
    v_swapped := v_swapped + 1;
  end loop;
  perform set_config('kms.moving_branch_keys', '', true);
  if v_swapped > 0 then
    perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
      'action', 'provider.swap', 'outcome', 'success',
      'purpose', format('%s records to %s', v_swapped, v_provider)
    )));
  end if;
  return jsonb_build_object('swapped', v_swapped);
end
$$;
comment on function public.kms_migration_swap(text, text, text, integer) is
  'Exchanges up to so many records and their copies, towards the new provider after a switch, towards '
  'the old one after back: {"swapped"}. Audited by their number. For service_role.';

create function public.kms_migration_confirm(p_from text, p_to text, p_records text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_records jsonb := kms.parse_list(p_records, 'p_records', 1, 100);
  v_confirmed integer;
begin
  if not kms.lock_migration(p_from, p_to, array['switch']) then
    return jsonb_build_object('confirmed', 0);
  end if;
  perform set_config('kms.moving_branch_keys', 'on', true);
  with opened as (
    select c.branch_key_id, c.type
    from jsonb_array_elements(v_records) as e (value)
    join kms.branch_keys as k on k.branch_key_id = e.value ->> 'branch-key-id'
      and k.type = e.value ->> 'type' and k.record = e.value
    join kms.branch_key_copies as c on (c.branch_key_id, c.type) = (k.branch_key_id, k.type)
    for no key update of c skip locked
  )
  update kms.branch_key_copies as c set confirmed_at = clock_timestamp()
  from opened as o where (c.branch_key_id, c.type) = (o.branch_key_id, o.type);
  get diagnostics v_confirmed = row_count;
  perform set_config('kms.moving_branch_keys', '', true);
  return jsonb_build_object('confirmed', v_confirmed);
end
$$;
comment on function public.kms_migration_confirm(text, text, text) is
  'Notes that these records, 1 to 100, just were opened by their provider: {"confirmed"}, of those that '
  'still are what they were. For service_role.';

create function public.kms_migration_end(p_actor text, p_from text, p_to text, p_step text)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_dropped integer;
begin
  if p_step is null or p_step not in ('finish', 'back') then
    perform kms.refuse('p_step must be finish or back');
  end if;
  if not kms.lock_migration(
    p_from, p_to, array[case p_step when 'finish' then 'switch' else 'back' end])
  then
    return jsonb_build_object('ended', false);
  end if;
  -- No record is written between the last look at all of them and the end.
  lock table kms.branch_keys in share row exclusive mode;
  if kms.migration_remaining(p_from, p_to, p_step) > 0 then
    return jsonb_build_object('ended', false);
  end if;
  perform set_config('kms.moving_branch_keys', 'on', true);
  delete from kms.branch_key_copies as c
  where kms.provider_of(c.record ->> 'kms-arn') in (p_from, p_to);
  get diagnostics v_dropped = row_count;
  perform set_config('kms.moving_branch_keys', '', true);
  delete from kms.provider_migration;
  perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
    'action', 'provider.end', 'outcome', 'success',
    'purpose', format('%s from %s to %s, %s copies dropped', p_step, p_from, p_to, v_dropped)
  )));
  return jsonb_build_object('ended', true);
end
$$;
comment on function public.kms_migration_end(text, text, text, text) is
  'Drops all copies and ends the migration, once nothing remains of the step, finish or back: {"ended"}. '
  'Audited. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all tables in schema kms from public, anon, authenticated, service_role;
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_branch_key_info(text),
  public.kms_branch_key_retire(text, text, text),
  public.kms_key_rotation_begin(text, text, text, integer),
  public.kms_key_rotation_end(text, text, uuid, text, text),
  public.kms_migration_status(text),
  public.kms_migration_step(text, text, text, text),
  public.kms_migration_work(text, text, text, integer),
  public.kms_migration_copy(text, text, text, text),
  public.kms_migration_swap(text, text, text, integer),
  public.kms_migration_confirm(text, text, text),
  public.kms_migration_end(text, text, text, text)
from public, anon, authenticated;
grant execute on function
  public.kms_branch_key_info(text),
  public.kms_branch_key_retire(text, text, text),
  public.kms_key_rotation_begin(text, text, text, integer),
  public.kms_key_rotation_end(text, text, uuid, text, text),
  public.kms_migration_status(text),
  public.kms_migration_step(text, text, text, text),
  public.kms_migration_work(text, text, text, integer),
  public.kms_migration_copy(text, text, text, text),
  public.kms_migration_swap(text, text, text, integer),
  public.kms_migration_confirm(text, text, text),
  public.kms_migration_end(text, text, text, text)
to service_role;
