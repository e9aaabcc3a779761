-- The migration of branch keys, as it is worked on: copies, exchanges, confirmations, and their end.

create function kms.check_portion(p_limit integer) returns void
language plpgsql stable set search_path = ''
as $$
begin
  if p_limit is null or p_limit not between 1 and 10000 then
    perform kms.refuse('p_limit must be 1 to 10000');
  end if;
end
$$;
comment on function kms.check_portion(integer) is 'Records of one call, 1 to 10000; otherwise 22023.';

-- ── RPC: work ──────────────────────────────────────────────────────────────────────────────────
create function public.kms_migration_work(
  p_from text, p_to text, p_kind text, p_limit integer
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_row kms.provider_migration;
begin
  perform kms.check_limit(p_limit);
  select * into v_row from kms.provider_migration
  where from_provider = p_from and to_provider = p_to;
  return coalesce((
    select jsonb_agg(k.record order by k.branch_key_id, k.type)
    from (
      select c.branch_key_id, c.type
      from (values
        ('copy', p_from, 'single', v_row.step <> 'back'),
        -- On the way back, and at the end, only what is still to be moved needs a copy.
        ('copy', p_to, 'single', v_row.step = 'back' or not v_row.is_ending),
        ('confirm', p_to, 'copied', v_row.step = 'switch'),
        ('confirm', p_from, 'copied', v_row.step = 'back')
      ) as t (kind, provider, stage, is_due)
      cross join lateral kms.branch_keys_at(t.provider, array[t.stage], 1000) as c
      where t.kind = p_kind and t.is_due
      -- Several callers at once then seldom do the same.
      order by random() limit p_limit
    ) as w
    join kms.branch_keys as k on (k.branch_key_id, k.type) = (w.branch_key_id, w.type)
  ), '[]'::jsonb);
end
$$;
comment on function public.kms_migration_work(text, text, text, integer) is
  '1 to 100 records that need a copy ("copy"), or whose copy may go once they were opened ("confirm"), in '
  'the step that the migration is in. For service_role.';

create function public.kms_migration_copy(p_actor text, p_from text, p_to text, p_items text)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_items jsonb := kms.parse_list(p_items, 'p_items', 1, 100);
  v_item jsonb;
  v_path text;
  v_entries jsonb;
begin
  if kms.lock_migration(p_from, p_to) is null then
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
  end loop;
  perform set_config('kms.moving_branch_keys', 'on', true);
  with held as (
    select k.branch_key_id, k.type, i.value -> 'copy' as copy
    from jsonb_array_elements(v_items) as i (value)
    join kms.branch_keys as k on k.branch_key_id = i.value -> 'record' ->> 'branch-key-id'
      and k.type = i.value -> 'record' ->> 'type'
      -- Rotated, destroyed or moved since it was read: then this is no copy of it.
      and k.record = i.value -> 'record' and k.copy is null
    for no key update of k skip locked
  ), stored as (
    update kms.branch_keys as k set copy = h.copy from held as h
    where (k.branch_key_id, k.type) = (h.branch_key_id, h.type)
    returning k.branch_key_id, k.type, k.copy
  )
  select coalesce(jsonb_agg(
    kms.branch_key_entry('branch_key.copy', s.copy) order by s.branch_key_id, s.type), '[]')
  into v_entries from stored as s;
  perform set_config('kms.moving_branch_keys', '', true);
  perform kms.audit_append(v_actor, v_entries);
  return jsonb_build_object('stored', jsonb_array_length(v_entries));
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
  v_swapped integer;
begin
  perform kms.check_portion(p_limit);
  v_step := (kms.lock_migration(p_from, p_to)).step;
  if v_step is null or v_step = 'prepare' then
    return jsonb_build_object('swapped', 0);
  end if;
  perform set_config('kms.moving_branch_keys', 'on', true);
  update kms.branch_keys as k set record = k.copy, copy = k.record, confirmed_at = null
  from kms.take_branch_keys_at(
    case v_step when 'switch' then p_from else p_to end, array['copied', 'confirmed'], p_limit) as t
  where (k.branch_key_id, k.type) = (t.branch_key_id, t.type);
  get diagnostics v_swapped = row_count;
  perform set_config('kms.moving_branch_keys', '', true);
  if v_swapped > 0 then
    perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
      'action', 'provider.swap', 'outcome', 'success', 'purpose', format('%s records to %s',
        v_swapped, case v_step when 'switch' then p_to else p_from end)
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
  v_step text := (kms.lock_migration(p_from, p_to)).step;
  v_confirmed integer;
begin
  if v_step is null or v_step = 'prepare' then
    return jsonb_build_object('confirmed', 0);
  end if;
  perform set_config('kms.moving_branch_keys', 'on', true);
  with held as (
    select k.branch_key_id, k.type
    from jsonb_array_elements(v_records) as e (value)
    join kms.branch_keys as k on k.branch_key_id = e.value ->> 'branch-key-id'
      and k.type = e.value ->> 'type'
      and k.record = e.value and k.copy is not null
    where kms.provider_of(e.value ->> 'kms-arn') = case v_step when 'switch' then p_to else p_from end
    for no key update of k skip locked
  )
  update kms.branch_keys as k set confirmed_at = clock_timestamp()
  from held as h where (k.branch_key_id, k.type) = (h.branch_key_id, h.type);
  get diagnostics v_confirmed = row_count;
  perform set_config('kms.moving_branch_keys', '', true);
  return jsonb_build_object('confirmed', v_confirmed);
end
$$;
comment on function public.kms_migration_confirm(text, text, text) is
  'Notes that these records, 1 to 100, just were opened by the provider that they are to stay with, the new '
  'one after a switch, the old one after back: {"confirmed"}, of those that still are what they were. For '
  'service_role.';

-- ── RPC: the end ───────────────────────────────────────────────────────────────────────────────
create function kms.drop_copies(p_provider text, p_stages text[], p_limit integer) returns integer
language plpgsql volatile set search_path = ''
as $$
declare
  v_dropped integer;
begin
  perform set_config('kms.moving_branch_keys', 'on', true);
  update kms.branch_keys as k set copy = null, confirmed_at = null
  from kms.take_branch_keys_at(p_provider, p_stages, p_limit) as t
  where (k.branch_key_id, k.type) = (t.branch_key_id, t.type);
  get diagnostics v_dropped = row_count;
  perform set_config('kms.moving_branch_keys', '', true);
  return v_dropped;
end
$$;
comment on function kms.drop_copies(text, text[], integer) is
  'Drops the copies of up to so many records of a provider in these stages; how many.';

create function public.kms_migration_end(
  p_actor text, p_from text, p_to text, p_step text, p_limit integer default 1000
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_row kms.provider_migration;
  v_dropped integer := 0;
  v_ended boolean := false;
  v_report jsonb;
begin
  if p_step is null or p_step not in ('finish', 'back') then
    perform kms.refuse('p_step must be finish or back');
  end if;
  perform kms.check_portion(p_limit);
  v_row := kms.lock_migration(p_from, p_to);
  -- Whether a copy can go is in its own row. But none goes before all of them can: until then there is
  -- another way.
  if v_row.step = (case p_step when 'finish' then 'switch' else 'back' end)
    and (v_row.is_ending or not exists (
      select from kms.migration_todo(p_from, p_to, p_step, false) as t
      cross join lateral kms.branch_keys_at(t.provider, array[t.stage], 1)
      where t.operations > 1 -- more than to drop it
    ))
  then
    v_dropped := kms.drop_copies(
      case p_step when 'finish' then p_to else p_from end, array['confirmed'], p_limit);
    update kms.provider_migration set is_ending = true, dropped = dropped + v_dropped
    returning * into v_row;
  end if;
  v_report := kms.migration_json(p_from, p_to, p_step);
  if v_row.is_ending and v_report -> 'remaining' = '0' then
    -- Who has a branch key in the audit before the end has committed it by then: every one is seen.
    perform kms.lock_audit_chain();
    v_ended := not kms.migration_remains(p_from, p_to, p_step, true);
    if v_ended then
      delete from kms.provider_migration;
    else
      v_report := kms.migration_json(p_from, p_to, p_step);
    end if;
  end if;
  if v_ended or v_dropped > 0 then
    perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
      'action', case when v_ended then 'provider.end' else 'provider.drop' end, 'outcome', 'success',
      'purpose', format('%s from %s to %s, %s copies dropped', p_step, p_from, p_to,
        case when v_ended then v_row.dropped else v_dropped end)
    )));
  end if;
  return v_report || jsonb_build_object('ended', v_ended);
end
$$;
comment on function public.kms_migration_end(text, text, text, text, integer) is
  'Drops up to so many copies, from when there is nothing else to do of the step, finish or back; when '
  'none is left and every record is the provider''s that it is to be, ends the migration: as '
  'kms_migration_status, with "ended". Audited. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_migration_work(text, text, text, integer),
  public.kms_migration_copy(text, text, text, text),
  public.kms_migration_swap(text, text, text, integer),
  public.kms_migration_confirm(text, text, text),
  public.kms_migration_end(text, text, text, text, integer)
from public, anon, authenticated;
grant execute on function
  public.kms_migration_work(text, text, text, integer),
  public.kms_migration_copy(text, text, text, text),
  public.kms_migration_swap(text, text, text, integer),
  public.kms_migration_confirm(text, text, text),
  public.kms_migration_end(text, text, text, text, integer)
to service_role;
