-- Storing cards and records: data, audit entries and the idempotent answer in one transaction.
-- Locks are always taken in one order, idempotency key, owners by id, rows, audit chain, so that
-- no two requests wait for each other.

-- ── Owners, one writer at a time ───────────────────────────────────────────────────────────────
create function kms.lock_owner(p_owner_id uuid) returns void
language plpgsql volatile set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('kms.owner:' || p_owner_id, 0));
end
$$;
comment on function kms.lock_owner(uuid) is
  'Serialises what is stored for one owner, and that owner''s erasure, until the commit.';

create function kms.make_default(p_owner_id uuid, p_id uuid) returns void
language plpgsql volatile set search_path = ''
as $$
begin
  update public.payment_methods set is_default = false, updated_at = clock_timestamp()
  where user_id = p_owner_id and is_default and id <> p_id;
  update public.payment_methods set is_default = true, updated_at = clock_timestamp()
  where user_id = p_owner_id and id = p_id and not is_default;
end
$$;
comment on function kms.make_default(uuid, uuid) is
  'Makes an existing card its owner''s only default. The owner must be locked.';

-- ── Ciphertexts ────────────────────────────────────────────────────────────────────────────────
create function kms.put_ciphertexts(
  p_table_name text, p_record_id uuid, p_owner_id uuid, p_data_class text,
  p_ciphertexts jsonb, p_path text, p_allowed text[], p_required text
) returns void
language plpgsql volatile set search_path = ''
as $$
declare
  v_item jsonb;
  v_path text;
  v_field text;
  v_seen text[] := array[]::text[];
begin
  if p_ciphertexts is null or jsonb_typeof(p_ciphertexts) <> 'array' then
    perform kms.refuse(p_path || ' is not an array');
  end if;
  for v_item in
    select e.value from jsonb_array_elements(p_ciphertexts) with ordinality as e (value, n)
    order by e.n
  loop
    v_path := format('%s[%s]', p_path, cardinality(v_seen));
    perform kms.check_object(v_item, v_path,
      array['field', 'message', 'kms_key_arn', 'kms_region', 'branch_key_id', 'branch_key_version']);
    v_field := kms.read_text(v_item, 'field', v_path, '', true);
    if v_field <> all (p_allowed) or v_field = any (v_seen) then
      perform kms.refuse(v_path || '.field is not one to store here, or is given twice');
    end if;
    v_seen := v_seen || v_field;

    insert into kms.ciphertexts (
      table_name, record_id, field, owner_id, data_class,
      message, kms_key_arn, branch_key_id, branch_key_version
    ) values (
      p_table_name, p_record_id, v_field, p_owner_id, p_data_class,
      kms.read_text(v_item, 'message', v_path, '', true, 131072),
      kms.read_text(v_item, 'kms_key_arn', v_path, '', false, 2048),
      kms.read_text(v_item, 'branch_key_id', v_path, '', false),
      kms.read_text(v_item, 'branch_key_version', v_path, '', false, 64)
    )
    on conflict (table_name, record_id, field) do update
    set message = excluded.message, kms_key_arn = excluded.kms_key_arn,
      branch_key_id = excluded.branch_key_id, branch_key_version = excluded.branch_key_version,
      updated_at = clock_timestamp();
  end loop;
  if p_required is not null and p_required <> all (v_seen) then
    perform kms.refuse(format('%s must hold the field %s', p_path, p_required));
  end if;
end
$$;
comment on function kms.put_ciphertexts(text, uuid, uuid, text, jsonb, text, text[], text) is
  'Writes a row''s messages, each field once and only those allowed, over what was there. Their '
  'kms_region is for the audit alone.';

create function kms.audit_keys(p_ciphertexts jsonb) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'kms_key_arn', p_ciphertexts -> 0 ->> 'kms_key_arn',
    'kms_region', p_ciphertexts -> 0 ->> 'kms_region',
    'branch_key_id', p_ciphertexts -> 0 ->> 'branch_key_id',
    'branch_key_version', p_ciphertexts -> 0 ->> 'branch_key_version'
  )
$$;
comment on function kms.audit_keys(jsonb) is
  'The keys of a row''s messages for its audit entry, and the region that was asked for them; one request '
  'encrypts a row under one key.';

create function kms.destroy_ciphertexts(p_table_name text, p_record_id uuid, p_fields text[])
returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_keys jsonb;
begin
  with gone as (
    delete from kms.ciphertexts
    where table_name = p_table_name and record_id = p_record_id and field = any (p_fields)
    returning field, kms_key_arn, branch_key_id, branch_key_version
  )
  select jsonb_build_object(
    -- As a reveal has it: what wraps the branch key now, which a change of the provider changes.
    'kms_key_arn', coalesce((
      select k.record ->> 'kms-arn' from kms.branch_keys as k
      where (k.branch_key_id, k.version) = (g.branch_key_id, g.branch_key_version)
    ), g.kms_key_arn),
    'branch_key_id', g.branch_key_id, 'branch_key_version', g.branch_key_version
  ) into v_keys
  from gone as g order by array_position(p_fields, g.field) limit 1;
  return coalesce(v_keys, '{}');
end
$$;
comment on function kms.destroy_ciphertexts(text, uuid, text[]) is
  'Deletes those of a row''s messages; the keys of the first of them, in the order given, for its audit '
  'entry, or {} when there was none.';

-- ── Items ──────────────────────────────────────────────────────────────────────────────────────
create function kms.store_payment_method(
  p_item jsonb, p_path text, out o_result jsonb, out o_entry jsonb
)
language plpgsql volatile set search_path = ''
as $$
declare
  v_row public.payment_methods;
  v_fingerprint text;
  v_outcome text := 'created';
begin
  perform kms.check_object(p_item, p_path, array[
    'kind', 'id', 'owner_id', 'fingerprint', 'brand', 'last4', 'exp_month', 'exp_year', 'nickname',
    'set_default', 'ciphertexts'
  ]);
  v_fingerprint :=
    kms.read_text(p_item, 'fingerprint', p_path, '^[A-Za-z0-9+/=_-]{43,128}$', true);
  v_row.id := kms.read_uuid(p_item, 'id', p_path, true);
  v_row.user_id := kms.read_uuid(p_item, 'owner_id', p_path, true);
  v_row.brand := kms.read_text(p_item, 'brand', p_path, '^[a-z][a-z0-9_-]{1,31}$', true);
  v_row.last4 := kms.read_text(p_item, 'last4', p_path, '^[0-9]{4}$', true);
  v_row.exp_month := kms.read_integer(p_item, 'exp_month', p_path, 1, 12, true);
  v_row.exp_year := kms.read_integer(p_item, 'exp_year', p_path, 2020, 2099, true);
  v_row.nickname := kms.read_free_text(p_item, 'nickname', p_path, 100, false);
  v_row.is_default := kms.read_boolean(p_item, 'set_default', p_path, false);

  o_entry := jsonb_build_object(
    'action', 'payment_method.create', 'outcome', 'success', 'data_class', 'payment',
    'table_name', 'payment_methods', 'record_id', v_row.id, 'owner_id', v_row.user_id
  );

  update public.payment_methods p
  set exp_month = v_row.exp_month, exp_year = v_row.exp_year, updated_at = clock_timestamp()
  from kms.card_fingerprints f
  where f.owner_id = v_row.user_id and f.fingerprint = v_fingerprint
    and p.id = f.payment_method_id
  returning p.id into v_row.id;
  if found then
    v_outcome := 'existing';
    o_entry := o_entry || jsonb_build_object(
      'action', 'payment_method.update', 'record_id', v_row.id
    );
  else
    v_row.id := kms.read_uuid(p_item, 'id', p_path, true);
    begin
      insert into public.payment_methods (
        id, user_id, brand, last4, exp_month, exp_year, nickname
      ) values (
        v_row.id, v_row.user_id, v_row.brand, v_row.last4, v_row.exp_month, v_row.exp_year,
        v_row.nickname
      );
    exception when foreign_key_violation then
      o_result := jsonb_build_object('outcome', 'owner_not_found');
      o_entry := o_entry || jsonb_build_object(
        'outcome', 'failure', 'error_code', 'owner_not_found'
      );
      return;
    end;
    insert into kms.card_fingerprints (payment_method_id, owner_id, fingerprint)
    values (v_row.id, v_row.user_id, v_fingerprint);
    perform kms.put_ciphertexts(
      'payment_methods', v_row.id, v_row.user_id, 'payment',
      p_item -> 'ciphertexts', p_path || '.ciphertexts',
      array['number', 'cardholder_name', 'billing_address'], 'number'
    );
    o_entry := o_entry || kms.audit_keys(p_item -> 'ciphertexts');
  end if;

  if v_row.is_default then
    perform kms.make_default(v_row.user_id, v_row.id);
  end if;
  select * into strict v_row from public.payment_methods where id = v_row.id;
  o_result := jsonb_build_object(
    'outcome', v_outcome, 'payment_method', kms.payment_method_json(v_row)
  );
end
$$;
comment on function kms.store_payment_method(jsonb, text) is
  'Stores one card, or finds that its owner, who must be locked, has it; its result and audit entry.';

create function kms.store_record(p_item jsonb, p_path text, out o_result jsonb, out o_entry jsonb)
language plpgsql volatile set search_path = ''
as $$
declare
  v_row public.encrypted_records;
begin
  perform kms.check_object(p_item, p_path,
    array['kind', 'id', 'owner_id', 'data_class', 'label', 'ciphertexts']);
  v_row.id := kms.read_uuid(p_item, 'id', p_path, true);
  v_row.user_id := kms.read_uuid(p_item, 'owner_id', p_path, true);
  v_row.data_class := kms.read_text(p_item, 'data_class', p_path, '^(pii|general)$', true);
  v_row.label := kms.read_free_text(p_item, 'label', p_path, 200, false);

  o_entry := jsonb_build_object(
    'action', 'record.create', 'outcome', 'success', 'data_class', v_row.data_class,
    'table_name', 'encrypted_records', 'record_id', v_row.id, 'owner_id', v_row.user_id
  );

  begin
    insert into public.encrypted_records (id, user_id, data_class, label)
    values (v_row.id, v_row.user_id, v_row.data_class, v_row.label)
    returning * into v_row;
  exception when foreign_key_violation then
    o_result := jsonb_build_object('outcome', 'owner_not_found');
    o_entry := o_entry || jsonb_build_object(
      'outcome', 'failure', 'error_code', 'owner_not_found'
    );
    return;
  end;
  perform kms.put_ciphertexts(
    'encrypted_records', v_row.id, v_row.user_id, v_row.data_class,
    p_item -> 'ciphertexts', p_path || '.ciphertexts', array['data'], 'data'
  );
  o_entry := o_entry || kms.audit_keys(p_item -> 'ciphertexts');
  o_result := jsonb_build_object(
    'outcome', 'created', 'record', kms.encrypted_record_json(v_row)
  );
end
$$;
comment on function kms.store_record(jsonb, text) is
  'Stores one personal or general record; its result and audit entry.';

create function kms.store_problem(p_item jsonb, p_path text, out o_result jsonb, out o_entry jsonb)
language plpgsql stable set search_path = ''
as $$
declare
  v_code text := p_item -> 'problem' ->> 'code';
begin
  perform kms.check_object(p_item, p_path, array['kind', 'problem', 'owner_id', 'data_class']);
  if jsonb_typeof(p_item -> 'problem') is distinct from 'object' then
    perform kms.refuse(p_path || '.problem is not an object');
  end if;
  o_entry := jsonb_build_object(
    'action', 'item.refuse', 'outcome', 'failure',
    'error_code', case when v_code ~ '^[a-z][a-z0-9_]{0,63}$' then v_code else 'problem' end,
    'owner_id', kms.read_uuid(p_item, 'owner_id', p_path, false),
    'data_class', kms.read_text(p_item, 'data_class', p_path, '^(payment|pii|general)$', false)
  );
  o_result := jsonb_build_object('outcome', 'problem', 'problem', p_item -> 'problem');
end
$$;
comment on function kms.store_problem(jsonb, text) is
  'Passes on an item that the edge function refused, so that a replay repeats it, and audits it.';

-- ── RPC ────────────────────────────────────────────────────────────────────────────────────────
create function public.kms_store(p_actor text, p_items text, p_idempotency text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_items jsonb := kms.parse_list(p_items, 'p_items', 1, 100);
  v_claim jsonb;
  v_response jsonb;
  v_owner_id uuid;
  v_item jsonb;
  v_path text;
  v_count integer := 0;
  v_result jsonb;
  v_entry jsonb;
  v_results jsonb[] := array[]::jsonb[];
  v_entries jsonb[] := array[]::jsonb[];
begin
  if p_idempotency is not null then
    v_claim := kms.parse_json(p_idempotency, 'p_idempotency', 'object');
    v_response := kms.idempotency_hold(v_claim);
    if v_response is not null then
      return v_response; -- this claim committed before, and its caller did not hear of it
    end if;
  end if;

  for v_owner_id in
    select distinct kms.read_uuid(e.value, 'owner_id', 'p_items[]', false) as owner_id
    from jsonb_array_elements(v_items) as e (value)
    where e.value ->> 'kind' in ('payment_method', 'record')
    order by owner_id
  loop
    if v_owner_id is not null then
      perform kms.lock_owner(v_owner_id);
    end if;
  end loop;

  for v_item in
    select e.value from jsonb_array_elements(v_items) with ordinality as e (value, n) order by e.n
  loop
    v_path := format('p_items[%s]', v_count);
    case v_item ->> 'kind'
      when 'payment_method' then
        select * into v_result, v_entry from kms.store_payment_method(v_item, v_path);
      when 'record' then
        select * into v_result, v_entry from kms.store_record(v_item, v_path);
      when 'problem' then
        select * into v_result, v_entry from kms.store_problem(v_item, v_path);
      else
        perform kms.refuse(v_path || '.kind must be payment_method, record or problem');
    end case;
    v_results := v_results || v_result;
    v_entries := v_entries || v_entry;
    v_count := v_count + 1;
  end loop;

  perform kms.audit_append(v_actor, to_jsonb(v_entries));
  v_response := jsonb_build_object('results', to_jsonb(v_results));
  if v_claim is not null then
    perform kms.idempotency_complete(v_claim, v_response);
  end if;
  return v_response;
end
$$;
comment on function public.kms_store(text, text, text) is
  'Stores 1 to 100 items with their audit entries and, if claimed, the answer of the Idempotency-Key, '
  'all or none: {"results": [...]} in the items'' order. A card its owner already has is not stored '
  'again: its expiry is brought up to date. Raises KM409 idempotency_lease_lost. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_store(text, text, text) from public, anon, authenticated;
grant execute on function public.kms_store(text, text, text) to service_role;
