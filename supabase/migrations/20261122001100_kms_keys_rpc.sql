-- The branch key store, what workers tell each other, and the health check's canaries. Wherever two
-- workers may write at once the first one wins and is what every later one gets back, so that two
-- workers at first start agree on one key.

-- ── Branch key records ─────────────────────────────────────────────────────────────────────────
create function kms.check_branch_key_record(p_record jsonb, p_path text) returns void
language plpgsql stable set search_path = ''
as $$
declare
  v_uuid constant text := '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
  v_type text;
begin
  if p_record is null or jsonb_typeof(p_record) <> 'object' then
    perform kms.refuse(p_path || ' is not an object');
  end if;
  perform kms.read_text(p_record, 'branch-key-id', p_path, '', true);
  v_type := kms.read_text(
    p_record, 'type', p_path,
    '^(branch:ACTIVE|beacon:ACTIVE|branch:version:' || v_uuid || ')$', true);
  perform kms.read_text(
    p_record, 'enc', p_path,
    '^[A-Za-z0-9+/]{40}([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?$',
    true, 8192);
  perform kms.read_text(p_record, 'kms-arn', p_path, '', true, 2048);
  perform kms.read_text(p_record, 'create-time', p_path, '', true, 64);
  if p_record ->> 'hierarchy-version' is null
    or jsonb_typeof(p_record -> 'hierarchy-version') not in ('string', 'number')
  then
    perform kms.refuse(p_path || '.hierarchy-version is required');
  end if;
  perform kms.read_text(
    p_record, 'version', p_path, '^branch:version:' || v_uuid || '$', v_type = 'branch:ACTIVE');

  if exists (
    select from jsonb_each(p_record) as a (key, value)
    where a.key = 'version' and v_type <> 'branch:ACTIVE'
      or a.key not in (
        'branch-key-id', 'type', 'enc', 'kms-arn', 'create-time', 'hierarchy-version', 'version'
      )
      and (a.key !~ '^aws-crypto-ec:.' or jsonb_typeof(a.value) <> 'string')
  ) then
    perform kms.refuse(p_path || ' has an attribute that the specification does not know here');
  end if;
  if octet_length(p_record::text) > 16384 then
    perform kms.refuse(p_path || ' is larger than 16384 bytes');
  end if;
end
$$;
comment on function kms.check_branch_key_record(jsonb, text) is
  'A record in the shape of the specification''s branch key store, at most 16 KiB; otherwise 22023.';

create function kms.parse_branch_key_records(p_records text, p_types text[]) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_records jsonb := kms.parse_list(p_records, 'p_records', 1, 3);
  v_found text[];
begin
  for n in 0 .. jsonb_array_length(v_records) - 1 loop
    perform kms.check_branch_key_record(v_records -> n, format('p_records[%s]', n));
  end loop;
  select array_agg(regexp_replace(e.value ->> 'type', '^branch:version:.*', 'version'))
  into v_found
  from jsonb_array_elements(v_records) as e (value);
  if not (v_found @> p_types and cardinality(v_found) = cardinality(p_types)) then
    perform kms.refuse('p_records must be one each of ' || array_to_string(p_types, ', '));
  end if;
  -- Their custom context and creation time among the rest: they were made together, for each other.
  if (select count(distinct e.value - array['type', 'version', 'enc'])
      from jsonb_array_elements(v_records) as e (value)) <> 1
  then
    perform kms.refuse('p_records must agree in everything but type, version and enc');
  end if;
  if (select e.value ->> 'version' from jsonb_array_elements(v_records) as e (value)
      where e.value ->> 'type' = 'branch:ACTIVE')
    is distinct from
     (select e.value ->> 'type' from jsonb_array_elements(v_records) as e (value)
      where e.value ->> 'type' like 'branch:version:%')
  then
    perform kms.refuse('p_records'' active record must be of the version given with it');
  end if;
  return v_records;
end
$$;
comment on function kms.parse_branch_key_records(text, text[]) is
  'Records of one branch key, made together, exactly one of each of these kinds (branch:ACTIVE, '
  'beacon:ACTIVE, version); otherwise 22023.';

create function kms.lock_branch_key(p_branch_key_id text) returns void
language plpgsql volatile set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('kms.branch_key:' || p_branch_key_id, 0));
end
$$;
comment on function kms.lock_branch_key(text) is
  'Serialises creation and rotation of one branch key until the commit.';

create function kms.branch_key_record(p_branch_key_id text, p_type text) returns jsonb
language sql stable set search_path = ''
as $$
  select record from kms.branch_keys where branch_key_id = p_branch_key_id and type = p_type
$$;
comment on function kms.branch_key_record(text, text) is
  'One record of the branch key store, or null.';

-- ── News ───────────────────────────────────────────────────────────────────────────────────────
create function kms.worker_news() returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'epoch', (select e.epoch from kms.key_epoch as e),
    'dead_regions', coalesce((
      select jsonb_agg(jsonb_build_object(
        'region', h.region,
        'for_ms', ceil(extract(epoch from h.dead_until - clock_timestamp()) * 1000)::integer
      ) order by h.region)
      from kms.region_health as h where h.dead_until > clock_timestamp()
    ), '[]'::jsonb)
  )
$$;
comment on function kms.worker_news() is
  'What every worker wants to know whenever it asks for something: {"epoch", "dead_regions": '
  '[{"region", "for_ms" (milliseconds left, since clocks differ)}]}.';

create function kms.branch_key_entry(p_action text, p_record jsonb) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'action', p_action, 'outcome', 'success',
    'data_class', substring(split_part(i.id, ':', 1) from '^(payment|pii|general)$'),
    'owner_id', substring(i.id from
      ':([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$'),
    'kms_key_arn', p_record ->> 'kms-arn', 'branch_key_id', i.id,
    'branch_key_version', regexp_replace(
      coalesce(p_record ->> 'version', p_record ->> 'type'), '^branch:version:', '')
  )
  from (select p_record ->> 'branch-key-id' as id) as i
$$;
comment on function kms.branch_key_entry(text, jsonb) is
  'Audit entry of what is done with a branch key, by one of its records.';

-- ── RPC: branch keys ───────────────────────────────────────────────────────────────────────────
create function public.kms_branch_key_get(p_branch_key_id text, p_type text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object('record', k.record) || kms.worker_news()
    || case when k.copy is null then '{}' else jsonb_build_object('copy', k.copy) end
  from (select) as always
  left join kms.branch_keys as k on k.branch_key_id = p_branch_key_id and k.type = p_type
$$;
comment on function public.kms_branch_key_get(text, text) is
  'One record of the branch key store by branch-key-id and type (or null), with the news of '
  'kms.worker_news(): {"record"[, "copy" (the same key under another provider)], "epoch", '
  '"dead_regions"}. For service_role.';

create function public.kms_branch_key_create(p_records text, p_request_id uuid default null)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_records jsonb := kms.parse_branch_key_records(
    p_records, array['branch:ACTIVE', 'beacon:ACTIVE', 'version']);
  v_id text := v_records -> 0 ->> 'branch-key-id';
begin
  perform kms.lock_branch_key(v_id);
  if not exists (select from kms.branch_keys where branch_key_id = v_id) then
    insert into kms.branch_keys (branch_key_id, type, record)
    select v_id, e.value ->> 'type', e.value from jsonb_array_elements(v_records) as e (value);
    -- Whoever's request came first has asked for no key: the store makes it.
    perform kms.audit_append(
      jsonb_build_object(
        'actor_type', 'system', 'actor_id', 'branch_key_store',
        'request_id', coalesce(p_request_id, gen_random_uuid()), 'function', 'keys'
      ),
      jsonb_build_array(kms.branch_key_entry(
        'branch_key.create', kms.branch_key_record(v_id, 'branch:ACTIVE')))
    );
  end if;
  return jsonb_build_object(
    'active', kms.branch_key_record(v_id, 'branch:ACTIVE'),
    'beacon', kms.branch_key_record(v_id, 'beacon:ACTIVE')
  );
end
$$;
comment on function public.kms_branch_key_create(text, uuid) is
  'Stores the three records of a new branch key, all or, if the branch key exists, none: {"active", '
  '"beacon"} as they then stand. Audited as the system''s when they are stored, by the id of the request '
  'that was the first to need the key, or a new one. For service_role.';

create function public.kms_branch_key_rotate(
  p_actor text, p_records text, p_expected_version text
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_records jsonb := kms.parse_branch_key_records(p_records, array['branch:ACTIVE', 'version']);
  v_id text := v_records -> 0 ->> 'branch-key-id';
  v_active jsonb;
  v_new jsonb;
begin
  if p_expected_version is null then
    perform kms.refuse('p_expected_version is required');
  end if;
  select e.value into strict v_new
  from jsonb_array_elements(v_records) as e (value) where e.value ->> 'type' = 'branch:ACTIVE';

  -- Locks in one order: the branch key, the epoch, the audit chain.
  perform kms.lock_branch_key(v_id);
  v_active := kms.branch_key_record(v_id, 'branch:ACTIVE');
  if v_active = v_new then
    -- This very rotation committed before, and its caller did not hear of it.
    return jsonb_build_object('rotated', true, 'active', v_active);
  end if;
  if v_active ->> 'version' is distinct from p_expected_version then
    if v_active is not null then
      perform kms.audit_append(v_actor, jsonb_build_array(
        kms.branch_key_entry('branch_key.rotate', v_active)
          || '{"outcome": "failure", "error_code": "rotation_conflict"}'
      ));
    end if;
    return jsonb_build_object('rotated', false, 'active', v_active);
  end if;
  if kms.branch_key_record(v_id, v_new ->> 'version') is not null then
    perform kms.refuse('p_records'' version exists already');
  end if;

  insert into kms.branch_keys (branch_key_id, type, record)
  select v_id, e.value ->> 'type', e.value
  from jsonb_array_elements(v_records) as e (value) where e.value ->> 'type' <> 'branch:ACTIVE';
  perform set_config('kms.rotating_branch_key', v_id, true);
  -- A copy is of the version before; the next step of a migration makes a new one.
  update kms.branch_keys set record = v_new, copy = null, confirmed_at = null
  where branch_key_id = v_id and type = 'branch:ACTIVE';
  perform set_config('kms.rotating_branch_key', '', true);
  update kms.key_epoch set epoch = epoch + 1;
  perform kms.audit_append(
    v_actor, jsonb_build_array(kms.branch_key_entry('branch_key.rotate', v_new)));
  return jsonb_build_object('rotated', true, 'active', v_new);
end
$$;
comment on function public.kms_branch_key_rotate(text, text, text) is
  'Makes a new version of a branch key the active one if the active one is still the version '
  'expected (branch:version:<uuid>): {"rotated", "active"}, active being null if there is no such '
  'branch key. The same rotation again has rotated, too. Old versions stay for decryption, the beacon '
  'key stays what it is. Workers notice by the epoch. Audited, also that another came first. For '
  'service_role.';

-- ── RPC: regions ───────────────────────────────────────────────────────────────────────────────
create function public.kms_region_report(p_region text, p_dead_for_ms integer) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_region is null or p_region !~ '^[a-z]{2}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$' then
    perform kms.refuse('p_region is not a region');
  end if;
  if p_dead_for_ms is null then
    delete from kms.region_health where region = p_region;
  elsif p_dead_for_ms not between 1 and 600000 then
    perform kms.refuse('p_dead_for_ms must be 1 to 600000');
  else
    insert into kms.region_health as h (region, dead_until)
    values (p_region, clock_timestamp() + p_dead_for_ms * interval '1 millisecond')
    on conflict (region) do update
    set dead_until = greatest(h.dead_until, excluded.dead_until), reported_at = clock_timestamp();
  end if;
  return to_jsonb(true);
end
$$;
comment on function public.kms_region_report(text, integer) is
  'A worker found a region dead, not to be tried for 1 to 600000 milliseconds, or, with null, well '
  'again. Of several reports the latest time stands. True. For service_role.';

-- ── Canaries ───────────────────────────────────────────────────────────────────────────────────
create function public.kms_canary_get(p_data_class text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object('message', message, 'kms_key_arn', kms_key_arn)
  from kms.health_canaries where data_class = p_data_class
$$;
comment on function public.kms_canary_get(text) is
  'The known message of a data class, {"message", "kms_key_arn"}, or null. For service_role.';

create function public.kms_canary_put(
  p_data_class text, p_message text, p_kms_key_arn text,
  p_branch_key_id text default null, p_branch_key_version text default null
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_data_class is null or p_data_class not in ('payment', 'pii', 'general') then
    perform kms.refuse('p_data_class must be payment, pii or general');
  end if;
  insert into kms.health_canaries (
    data_class, message, kms_key_arn, branch_key_id, branch_key_version
  ) values (p_data_class, p_message, p_kms_key_arn, p_branch_key_id, p_branch_key_version)
  on conflict (data_class) do nothing;
  return public.kms_canary_get(p_data_class);
end
$$;
comment on function public.kms_canary_put(text, text, text, text, text) is
  'Sets the known message of a data class unless it has one; whichever is then stored. For '
  'service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_branch_key_get(text, text),
  public.kms_branch_key_create(text, uuid),
  public.kms_branch_key_rotate(text, text, text),
  public.kms_region_report(text, integer),
  public.kms_canary_get(text),
  public.kms_canary_put(text, text, text, text, text)
from public, anon, authenticated;
grant execute on function
  public.kms_branch_key_get(text, text),
  public.kms_branch_key_create(text, uuid),
  public.kms_branch_key_rotate(text, text, text),
  public.kms_region_report(text, integer),
  public.kms_canary_get(text),
  public.kms_canary_put(text, text, text, text, text)
to service_role;
