-- Reading and deleting personal and general records, and reading the ciphertext of any row. The
-- owner is always given and always compared.

-- ── Records ────────────────────────────────────────────────────────────────────────────────────
create function public.kms_records_list(
  p_owner_id uuid, p_data_class text, p_limit integer, p_before text
) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_time timestamptz;
  v_id uuid;
begin
  perform kms.check_limit(p_limit);
  if p_data_class not in ('pii', 'general') then
    perform kms.refuse('p_data_class must be pii, general or null');
  end if;
  select * into v_time, v_id from kms.read_cursor(p_before);
  return kms.page('records', p_limit, array(
    select kms.page_row(kms.encrypted_record_json(r), r.created_at, r.id)
    from public.encrypted_records as r
    where user_id = p_owner_id and (created_at, id) < (v_time, v_id)
      and (p_data_class is null or data_class = p_data_class)
    order by created_at desc, id desc limit p_limit + 1
  ));
end
$$;
comment on function public.kms_records_list(uuid, text, integer, text) is
  'A page of 1 to 100 of an owner''s records, of one class or (null) both, newest first, and the '
  'cursor of the next. For service_role.';

create function public.kms_record_get(p_owner_id uuid, p_id uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select kms.encrypted_record_json(r) from public.encrypted_records r
  where r.id = p_id and r.user_id = p_owner_id
$$;
comment on function public.kms_record_get(uuid, uuid) is
  'One of an owner''s records, without its data, or null. For service_role.';

create function public.kms_record_delete(p_actor text, p_owner_id uuid, p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_data_class text;
  v_keys jsonb;
begin
  select data_class into v_data_class from public.encrypted_records
  where id = p_id and user_id = p_owner_id for update;
  if not found then
    return false;
  end if;
  v_keys := kms.destroy_ciphertexts('encrypted_records', p_id, array['data']);
  delete from public.encrypted_records where id = p_id and user_id = p_owner_id;
  perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
    'action', 'record.delete', 'outcome', 'success', 'data_class', v_data_class,
    'table_name', 'encrypted_records', 'record_id', p_id, 'owner_id', p_owner_id
  ) || v_keys));
  return true;
end
$$;
comment on function public.kms_record_delete(text, uuid, uuid) is
  'Destroys a record and its ciphertext; the audit stays. False if there is none. Audited. For '
  'service_role.';

-- ── Ciphertexts ────────────────────────────────────────────────────────────────────────────────
create function public.kms_ciphertexts_read(p_owner_id uuid, p_table text, p_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_row jsonb;
begin
  case p_table
    when 'payment_methods' then
      v_row := public.kms_payment_method_get(p_owner_id, p_id);
    when 'encrypted_records' then
      v_row := public.kms_record_get(p_owner_id, p_id);
    else
      perform kms.refuse('p_table must be payment_methods or encrypted_records');
  end case;
  if v_row is null then
    return null;
  end if;
  return jsonb_build_object(
    'row', v_row,
    'ciphertexts', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'field', c.field, 'message', c.message, 'kms_key_arn', c.kms_key_arn,
        'branch_key_id', c.branch_key_id, 'branch_key_version', c.branch_key_version
      ) order by c.field), '[]')
      from kms.ciphertexts c
      where c.table_name = p_table and c.record_id = p_id and c.owner_id = p_owner_id
    )
  );
end
$$;
comment on function public.kms_ciphertexts_read(uuid, text, uuid) is
  'An owner''s row with its messages, or null. Not audited here: the function audits what it does '
  'with them, before any plaintext leaves it. For service_role.';

create function public.kms_ciphertexts_read_many(p_refs text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_refs jsonb := kms.parse_list(p_refs, 'p_refs', 1, 100);
  v_ref jsonb;
  v_path text;
begin
  for n in 0 .. jsonb_array_length(v_refs) - 1 loop
    v_ref := v_refs -> n;
    v_path := format('p_refs[%s]', n);
    perform kms.check_object(v_ref, v_path, array['owner_id', 'table', 'id']);
    perform kms.read_uuid(v_ref, 'owner_id', v_path, true);
    perform kms.read_text(v_ref, 'table', v_path, '^(payment_methods|encrypted_records)$', true);
    perform kms.read_uuid(v_ref, 'id', v_path, true);
  end loop;
  -- One statement, hence one snapshot: no row is of another moment than the rest.
  return (
    select jsonb_build_object('rows', jsonb_agg(
      public.kms_ciphertexts_read(
        (r.value ->> 'owner_id')::uuid, r.value ->> 'table', (r.value ->> 'id')::uuid
      ) order by r.n
    ))
    from jsonb_array_elements(v_refs) with ordinality as r (value, n)
  );
end
$$;
comment on function public.kms_ciphertexts_read_many(text) is
  '1 to 100 rows with their messages, named by [{"owner_id", "table", "id"}]: {"rows": [{"row", '
  '"ciphertexts"} or null]} in that order, all of one moment. Not audited here, as '
  'kms_ciphertexts_read. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on function
  public.kms_records_list(uuid, text, integer, text),
  public.kms_record_get(uuid, uuid),
  public.kms_record_delete(text, uuid, uuid),
  public.kms_ciphertexts_read(uuid, text, uuid),
  public.kms_ciphertexts_read_many(text)
from public, anon, authenticated;
grant execute on function
  public.kms_records_list(uuid, text, integer, text),
  public.kms_record_get(uuid, uuid),
  public.kms_record_delete(text, uuid, uuid),
  public.kms_ciphertexts_read(uuid, text, uuid),
  public.kms_ciphertexts_read_many(text)
to service_role;
