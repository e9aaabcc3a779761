-- Keys over time: what stands of a branch key, the end of a version that nothing hangs on, and one
-- rotation of a wrapping key at a time.

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

create function kms.rows_under(p_branch_key_id text, p_version text) returns bigint
language sql stable set search_path = ''
as $$
  select count(*) from (
    (select from kms.ciphertexts
     where branch_key_id = p_branch_key_id and branch_key_version = p_version limit 10001)
    union all
    (select from kms.legacy_keys
     where branch_key_id = p_branch_key_id and branch_key_version = p_version limit 10001)
    limit 10001
  ) as m
$$;
comment on function kms.rows_under(text, text) is
  'How many messages hang on a version of a branch key; 10001 are more than 10000.';

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
  where branch_key_id = p_branch_key_id and version = p_version;
  if not found then
    return jsonb_build_object('outcome', 'not_found', 'rows', 0);
  end if;
  if kms.branch_key_record(p_branch_key_id, 'branch:ACTIVE') ->> 'version'
    = 'branch:version:' || p_version
  then
    v_outcome := 'active';
  else
    perform from kms.branch_keys
    where branch_key_id = p_branch_key_id and version = p_version for update;
    if not found then -- erased meanwhile
      return jsonb_build_object('outcome', 'not_found', 'rows', 0);
    end if;
    v_rows := kms.rows_under(p_branch_key_id, p_version);
    if v_rows > 0 then
      v_outcome := 'in_use';
    end if;
  end if;
  if v_outcome = 'retired' then
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
  'messages; 10001 are more than 10000) or "not_found", "rows"}. Whoever has it cached forgets it by the epoch, and until then can '
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

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all tables in schema kms from public, anon, authenticated, service_role;
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_branch_key_info(text),
  public.kms_branch_key_retire(text, text, text),
  public.kms_key_rotation_begin(text, text, text, integer),
  public.kms_key_rotation_end(text, text, uuid, text, text)
from public, anon, authenticated;
grant execute on function
  public.kms_branch_key_info(text),
  public.kms_branch_key_retire(text, text, text),
  public.kms_key_rotation_begin(text, text, text, integer),
  public.kms_key_rotation_end(text, text, uuid, text, text)
to service_role;
