-- Writing the audit log: from other RPCs in the same transaction, and by RPC for what has no data
-- of its own, such as a decryption, whose entry must commit before plaintext leaves the function.

-- ── Actor ──────────────────────────────────────────────────────────────────────────────────────
create function kms.parse_actor(p_actor text) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_json(p_actor, 'p_actor', 'object');
begin
  perform kms.check_object(v_actor, 'p_actor',
    array['actor_type', 'actor_id', 'request_id', 'function', 'address_hash']);
  perform kms.read_text(v_actor, 'actor_type', 'p_actor', '^(user|admin|secret_key|system)$', true);
  perform kms.read_text(v_actor, 'actor_id', 'p_actor', '', true, 128);
  perform kms.read_uuid(v_actor, 'request_id', 'p_actor', true);
  perform kms.read_text(v_actor, 'function', 'p_actor', '^[a-z][a-z0-9_-]{0,63}$', true);
  perform kms.read_text(v_actor, 'address_hash', 'p_actor', '^[A-Za-z0-9+/=_-]{43,128}$', false);
  return v_actor;
end
$$;
comment on function kms.parse_actor(text) is
  'Who acts: {"actor_type","actor_id","request_id","function"[,"address_hash"]}; otherwise 22023.';

-- ── Entries ────────────────────────────────────────────────────────────────────────────────────
create function kms.region_of(p_kms_key_arn text) returns text
language sql stable set search_path = ''
as $$
  select substring(p_kms_key_arn from '^arn:aws[a-z-]*:kms:([a-z0-9][a-z0-9-]{0,63}):')
$$;
comment on function kms.region_of(text) is 'Region of a KMS key ARN, null for anything else.';

create function kms.audit_append(p_actor jsonb, p_entries jsonb) returns integer
language plpgsql volatile set search_path = ''
as $$
declare
  v_entry jsonb;
  v_path text;
  v_count integer := 0;
begin
  for v_entry in
    select e.value from jsonb_array_elements(p_entries) with ordinality as e (value, n) order by e.n
  loop
    v_path := format('p_entries[%s]', v_count);
    perform kms.check_object(v_entry, v_path, array[
      'action', 'outcome', 'error_code', 'data_class', 'table_name', 'record_id', 'owner_id',
      'purpose', 'kms_key_arn', 'kms_region', 'branch_key_id', 'branch_key_version'
    ]);
    if v_entry ->> 'outcome' = 'failure' and v_entry ->> 'error_code' is null then
      perform kms.refuse(v_path || '.error_code is required for a failure');
    end if;

    insert into kms.audit_log (
      actor_type, actor_id, request_id, function_name, address_hash,
      action, outcome, error_code,
      data_class, table_name, record_id, owner_id, purpose,
      kms_key_arn, kms_region, branch_key_id, branch_key_version
    ) values (
      p_actor ->> 'actor_type', p_actor ->> 'actor_id', (p_actor ->> 'request_id')::uuid,
      p_actor ->> 'function', p_actor ->> 'address_hash',
      kms.read_text(v_entry, 'action', v_path,
        '^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*){0,3}$', true, 64),
      kms.read_text(v_entry, 'outcome', v_path, '^(success|failure)$', true),
      kms.read_text(v_entry, 'error_code', v_path, '^[a-z][a-z0-9_]{0,63}$', false),
      kms.read_text(v_entry, 'data_class', v_path, '^(payment|pii|general)$', false),
      kms.read_text(v_entry, 'table_name', v_path, '^[a-z][a-z0-9_]{0,62}$', false),
      kms.read_uuid(v_entry, 'record_id', v_path, false),
      kms.read_uuid(v_entry, 'owner_id', v_path, false),
      kms.read_free_text(v_entry, 'purpose', v_path, 200, false),
      kms.read_text(v_entry, 'kms_key_arn', v_path, '', false, 2048),
      coalesce(
        kms.read_text(v_entry, 'kms_region', v_path, '^[a-z0-9][a-z0-9-]{0,63}$', false),
        kms.region_of(v_entry ->> 'kms_key_arn')
      ),
      kms.read_text(v_entry, 'branch_key_id', v_path, '', false),
      kms.read_text(v_entry, 'branch_key_version', v_path, '', false, 64)
    );
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;
comment on function kms.audit_append(jsonb, jsonb) is
  'Appends entries by an actor that kms.parse_actor accepted; the number appended. An entry with a key '
  'and no region is of the key''s own. Call it last in a transaction: it holds the chain until the '
  'commit.';

-- ── RPC ────────────────────────────────────────────────────────────────────────────────────────
create function public.kms_audit_append(p_actor text, p_entries text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
begin
  return jsonb_build_object(
    'appended',
    kms.audit_append(
      kms.parse_actor(p_actor), kms.parse_list(p_entries, 'p_entries', 1, 1000)
    )
  );
end
$$;
comment on function public.kms_audit_append(text, text) is
  'Appends 1 to 1000 audit entries, all or none: {"appended": n}. Without kms_region an entry is of '
  'the region of its kms_key_arn. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_audit_append(text, text) from public, anon, authenticated;
grant execute on function public.kms_audit_append(text, text) to service_role;
