-- The way of an older setup's rows: staged, claimed under a lease, stored by the ordinary intake,
-- verified, closed. A worker may die between any two of these; the next one goes on from there.

-- ── Shapes ─────────────────────────────────────────────────────────────────────────────────────
create function kms.legacy_table(p_row kms.legacy_rows) returns text
language sql stable set search_path = ''
as $$
  select case p_row.target ->> 'data_class'
    when 'payment' then 'payment_methods' else 'encrypted_records'
  end
$$;
comment on function kms.legacy_table(kms.legacy_rows) is 'The table a row is stored in.';

create function kms.legacy_row_json(p_row kms.legacy_rows) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'id', p_row.id, 'source_id', p_row.source_id, 'key_id', p_row.key_id,
    'user_id', p_row.user_id, 'encoding', p_row.encoding,
    'data_class', p_row.target ->> 'data_class', 'status', p_row.status,
    'error_code', p_row.error_code, 'error_detail', p_row.error_detail,
    'table', case when p_row.record_id is not null then kms.legacy_table(p_row) end,
    'record_id', p_row.record_id,
    'staged_at', kms.iso_time(p_row.staged_at), 'updated_at', kms.iso_time(p_row.updated_at)
  )
$$;
comment on function kms.legacy_row_json(kms.legacy_rows) is
  'A row as administrators see it: without its ciphertext.';

create function kms.legacy_row_entry(p_row kms.legacy_rows, p_action text, p_error_code text)
returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'action', p_action, 'outcome', case when p_error_code is null then 'success' else 'failure' end,
    'error_code', p_error_code, 'data_class', p_row.target ->> 'data_class',
    'table_name', 'legacy_rows', 'record_id', p_row.id, 'owner_id', p_row.user_id
  ))
$$;
comment on function kms.legacy_row_entry(kms.legacy_rows, text, text) is
  'The audit entry of what is done with a row, a failure when there is an error code.';

create function kms.read_legacy_target(p_item jsonb, p_path text) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_target jsonb := p_item -> 'target';
  v_class text;
begin
  p_path := p_path || '.target';
  perform kms.check_object(
    v_target, p_path, array['data_class', 'exp_month', 'exp_year', 'nickname', 'label', 'field']);
  v_class := kms.read_text(v_target, 'data_class', p_path, '^(payment|pii|general)$', true);
  if v_class = 'payment' then
    perform kms.check_object(
      v_target, p_path, array['data_class', 'exp_month', 'exp_year', 'nickname']);
    perform kms.read_integer(v_target, 'exp_month', p_path, 1, 12, true);
    perform kms.read_integer(v_target, 'exp_year', p_path, 1000, 9999, true);
    perform kms.read_free_text(v_target, 'nickname', p_path, 100, false);
  else
    perform kms.check_object(v_target, p_path, array['data_class', 'label', 'field']);
    perform kms.read_free_text(v_target, 'label', p_path, 200, false);
    perform kms.read_text(v_target, 'field', p_path, '^[A-Za-z_][A-Za-z0-9_]{0,63}$', false);
  end if;
  return v_target;
end
$$;
comment on function kms.read_legacy_target(jsonb, text) is
  'What a staged row is to become, as kms.legacy_rows.target has it; otherwise 22023.';

-- ── Staging ────────────────────────────────────────────────────────────────────────────────────
create function kms.stage_legacy_row(p_row kms.legacy_rows, out o_outcome text, out o_id uuid)
language plpgsql volatile set search_path = ''
as $$
declare
  v_stored kms.legacy_rows;
begin
  begin
    insert into kms.legacy_rows (
      source_id, key_id, user_id, encoding, ciphertext, ciphertext_hash, target
    ) values (
      p_row.source_id, p_row.key_id, p_row.user_id, p_row.encoding, p_row.ciphertext,
      p_row.ciphertext_hash, p_row.target
    ) on conflict (source_id) do nothing
    returning id into o_id;
  exception when foreign_key_violation then
    o_outcome := 'owner_not_found';
    return;
  end;
  if o_id is not null then
    o_outcome := 'staged';
    return;
  end if;

  select * into v_stored from kms.legacy_rows where source_id = p_row.source_id for update;
  if not found then
    o_outcome := 'owner_not_found'; -- its user was deleted this very moment, and it with them
    return;
  end if;
  o_id := v_stored.id;
  if v_stored.ciphertext_hash <> p_row.ciphertext_hash then
    o_outcome := 'conflict';
  elsif v_stored.status = 'failed' then
    -- What failed has another try, with whatever was wrong put right.
    begin
      update kms.legacy_rows
      set key_id = p_row.key_id, user_id = p_row.user_id, encoding = p_row.encoding,
        target = p_row.target, status = 'pending', error_code = null, error_detail = null,
        record_id = case
          when (v_stored.user_id, v_stored.target ->> 'data_class')
            = (p_row.user_id, p_row.target ->> 'data_class')
            and public.kms_ciphertexts_read(
              v_stored.user_id, kms.legacy_table(v_stored), v_stored.record_id
            ) is not null
          then v_stored.record_id
        end,
        updated_at = clock_timestamp()
      where id = v_stored.id;
      o_outcome := 'staged';
    exception when foreign_key_violation then
      o_outcome := 'owner_not_found';
    end;
  elsif v_stored.user_id <> p_row.user_id or v_stored.status = 'pending' and (
    v_stored.key_id, v_stored.encoding, v_stored.target
  ) is distinct from (p_row.key_id, p_row.encoding, p_row.target) then
    o_outcome := 'conflict';
  else
    o_outcome := case v_stored.status when 'imported' then 'imported' else 'known' end;
  end if;
end
$$;
comment on function kms.stage_legacy_row(kms.legacy_rows) is
  'Stages one row whose key is locked: staged (new, or failed before), known (pending already), imported '
  '(done), conflict (the source id has other ciphertext, owner or target, and keeps it) or owner_not_found.';

create function public.kms_legacy_rows_stage(
  p_actor text, p_key_id text, p_encoding text, p_rows text
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_items jsonb := kms.parse_list(p_rows, 'p_rows', 1, 100);
  v_row kms.legacy_rows;
  v_item jsonb;
  v_path text;
  v_n bigint;
  v_outcome text;
  v_results jsonb := jsonb_build_object();
  v_entries jsonb := jsonb_build_array();
begin
  perform from kms.legacy_keys where key_id = p_key_id for key share;
  if not found then
    return null;
  end if;
  v_row.key_id := p_key_id;
  v_row.encoding := kms.read_text(
    jsonb_build_object('p_encoding', p_encoding), 'p_encoding', 'arguments',
    '^(v1_hex|hex|base64_iv_tag_ciphertext|base64_iv_ciphertext_tag)$', true);
  -- By source id, so that two callers with the same rows do not wait for each other.
  for v_item, v_n in
    select e.value, e.n - 1 from jsonb_array_elements(v_items) with ordinality as e (value, n)
    order by e.value ->> 'source_id', e.n
  loop
    v_path := format('p_rows[%s]', v_n);
    perform kms.check_object(v_item, v_path, array['source_id', 'user_id', 'ciphertext', 'target']);
    v_row.source_id := kms.read_text(
      v_item, 'source_id', v_path, '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$', true);
    v_row.user_id := kms.read_uuid(v_item, 'user_id', v_path, true);
    v_row.ciphertext := kms.read_text(v_item, 'ciphertext', v_path, '', true, 131072);
    v_row.ciphertext_hash := encode(sha256(convert_to(v_row.ciphertext, 'UTF8')), 'hex');
    v_row.target := kms.read_legacy_target(v_item, v_path);
    select o_outcome, o_id into v_outcome, v_row.id from kms.stage_legacy_row(v_row);
    v_results := v_results || jsonb_build_object(v_n::text, jsonb_build_object(
      'source_id', v_row.source_id, 'outcome', v_outcome, 'id', v_row.id
    ));
    if v_outcome in ('staged', 'conflict', 'owner_not_found') then
      v_entries := v_entries || kms.legacy_row_entry(
        v_row, 'legacy_row.stage', nullif(v_outcome, 'staged')
      );
    end if;
  end loop;
  perform kms.audit_append(v_actor, v_entries);
  return jsonb_build_object('results', (
    select jsonb_agg(r.value order by r.key::integer) from jsonb_each(v_results) as r
  ));
end
$$;
comment on function public.kms_legacy_rows_stage(text, text, text, text) is
  'Stages 1 to 100 rows [{"source_id", "user_id", "ciphertext", "target"}] under an imported key: '
  '{"results": [{"source_id", "outcome", "id"}]} in their order, outcomes as kms.stage_legacy_row has '
  'them; null when there is no such key. Audited. For service_role.';

-- ── Working ────────────────────────────────────────────────────────────────────────────────────
create function public.kms_legacy_rows_claim(p_limit integer, p_lease_seconds integer) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_token uuid := gen_random_uuid();
  v_now constant timestamptz := clock_timestamp();
  v_rows jsonb;
begin
  perform kms.check_limit(p_limit);
  if p_lease_seconds is null or p_lease_seconds not between 1 and 600 then
    perform kms.refuse('p_lease_seconds must be 1 to 600');
  end if;
  with claimed as (
    update kms.legacy_rows
    set lease_token = v_token, lease_expires_at = v_now + make_interval(secs => p_lease_seconds)
    where id = any (array(
      select id from kms.legacy_rows
      where status = 'pending' and coalesce(lease_expires_at, '-infinity') <= v_now
      order by staged_at, id limit p_limit for update skip locked
    ))
    returning *
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', c.id, 'key_id', c.key_id, 'user_id', c.user_id, 'encoding', c.encoding,
    'ciphertext', c.ciphertext, 'target', c.target, 'record_id', c.record_id
  ) order by c.staged_at, c.id), '[]') into v_rows from claimed c;
  return jsonb_build_object('token', v_token, 'rows', v_rows);
end
$$;
comment on function public.kms_legacy_rows_claim(integer, integer) is
  'Leases up to 100 pending rows that nobody else has: {"token", "rows"}. For service_role.';

create function kms.hold_legacy_row(p_id uuid, p_token uuid) returns kms.legacy_rows
language plpgsql volatile set search_path = ''
as $$
declare
  v_row kms.legacy_rows;
begin
  select * into v_row from kms.legacy_rows where id = p_id for update;
  if not found or v_row.status <> 'pending' or v_row.lease_token is distinct from p_token then
    raise exception 'legacy_lease_lost' using errcode = 'KM409',
      detail = 'The row was taken over, closed or deleted; nothing was changed.';
  end if;
  return v_row;
end
$$;
comment on function kms.hold_legacy_row(uuid, uuid) is
  'Locks a claimed row until the commit. Raises KM409 legacy_lease_lost.';

create function public.kms_legacy_row_store(p_actor text, p_id uuid, p_token uuid, p_item text)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_row kms.legacy_rows := kms.hold_legacy_row(p_id, p_token);
  v_item jsonb := kms.parse_json(p_item, 'p_item', 'object');
  v_card public.payment_methods;
  v_result jsonb;
begin
  if v_row.record_id is not null then
    perform kms.refuse('p_id is stored already');
  end if;
  if kms.read_uuid(v_item, 'owner_id', 'p_item', true) <> v_row.user_id
    or coalesce(v_item ->> 'data_class', 'payment') <> v_row.target ->> 'data_class'
    or (v_item ->> 'kind' is distinct from 'payment_method')
      = (v_row.target ->> 'data_class' = 'payment')
  then
    perform kms.refuse('p_item is not what the row was staged as');
  end if;
  if v_item ->> 'kind' = 'payment_method' then
    -- The intake brings the expiry of a card that its owner has up to date; an older setup's may be of
    -- the card before.
    perform kms.lock_owner(v_row.user_id);
    select p.* into v_card from public.payment_methods p
    join kms.card_fingerprints f on f.payment_method_id = p.id
    where f.owner_id = v_row.user_id and f.fingerprint = v_item ->> 'fingerprint';
    if found and (v_card.exp_year, v_card.exp_month)
      > ((v_item ->> 'exp_year')::integer, (v_item ->> 'exp_month')::integer)
    then
      v_item := v_item || jsonb_build_object(
        'exp_month', v_card.exp_month, 'exp_year', v_card.exp_year
      );
    end if;
  end if;
  v_result := public.kms_store(p_actor, jsonb_build_array(v_item)::text, null) -> 'results' -> 0;
  if v_result ->> 'outcome' in ('created', 'existing') then
    update kms.legacy_rows
    set record_id = (coalesce(v_result -> 'payment_method', v_result -> 'record') ->> 'id')::uuid,
      updated_at = clock_timestamp()
    where id = p_id;
  end if;
  return v_result;
end
$$;
comment on function public.kms_legacy_row_store(text, uuid, uuid, text) is
  'Stores what a claimed row became, as public.kms_store does, and notes it on the row in the same '
  'transaction: no row is stored twice. A card that its owner has keeps a later expiry. Answers the '
  'item''s result. Raises KM409 legacy_lease_lost. For service_role.';

create function public.kms_legacy_row_close(
  p_actor text, p_id uuid, p_token uuid, p_error_code text, p_error_detail text
) returns void
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_row kms.legacy_rows := kms.hold_legacy_row(p_id, p_token);
begin
  update kms.legacy_rows
  set status = case when p_error_code is null then 'imported' else 'failed' end,
    ciphertext = case when p_error_code is not null then ciphertext end,
    error_code = p_error_code, error_detail = p_error_detail,
    lease_token = null, lease_expires_at = null, updated_at = clock_timestamp()
  where id = p_id;
  perform kms.audit_append(v_actor, jsonb_build_array(
    kms.legacy_row_entry(v_row, 'legacy_row.import', p_error_code)
  ));
end
$$;
comment on function public.kms_legacy_row_close(text, uuid, uuid, text, text) is
  'Ends the work on a claimed row: imported, which destroys its ciphertext, or failed with a code. '
  'Audited. Raises KM409 legacy_lease_lost. For service_role.';

create function public.kms_legacy_rows_release(p_token uuid) returns integer
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_count integer;
begin
  update kms.legacy_rows set lease_token = null, lease_expires_at = null
  where lease_token = p_token;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function public.kms_legacy_rows_release(uuid) is
  'Gives back what is left of a claim, so that nobody need wait for its end; how many rows. For '
  'service_role.';

-- ── Looking and discarding ─────────────────────────────────────────────────────────────────────
create function public.kms_legacy_rows_list(p_status text, p_limit integer, p_before text)
returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_time timestamptz;
  v_id uuid;
begin
  perform kms.check_limit(p_limit);
  if p_status not in ('pending', 'failed', 'imported') then
    perform kms.refuse('p_status must be pending, failed, imported or null');
  end if;
  select * into v_time, v_id from kms.read_cursor(p_before);
  return kms.page('rows', p_limit, array(
    select kms.page_row(kms.legacy_row_json(r), r.staged_at, r.id)
    from kms.legacy_rows as r
    where (staged_at, id) < (v_time, v_id) and (p_status is null or status = p_status)
    order by staged_at desc, id desc limit p_limit + 1
  ));
end
$$;
comment on function public.kms_legacy_rows_list(text, integer, text) is
  'A page of 1 to 100 rows, of one status or (null) all, last staged first, and the cursor of the next: '
  '{"rows", "next"}. For service_role.';

create function public.kms_legacy_progress() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    'pending', count(*) filter (where status = 'pending'),
    'failed', count(*) filter (where status = 'failed'),
    'imported', count(*) filter (where status = 'imported')
  ) from kms.legacy_rows
$$;
comment on function public.kms_legacy_progress() is
  'How many rows are pending, failed and imported. For service_role.';

create function public.kms_legacy_row_discard(p_actor text, p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_row kms.legacy_rows;
begin
  delete from kms.legacy_rows
  where id = p_id and status <> 'imported'
    and coalesce(lease_expires_at, '-infinity') <= clock_timestamp()
  returning * into v_row;
  if not found then
    return false;
  end if;
  perform kms.audit_append(v_actor, jsonb_build_array(
    kms.legacy_row_entry(v_row, 'legacy_row.discard', null)
  ));
  return true;
end
$$;
comment on function public.kms_legacy_row_discard(text, uuid) is
  'Gives a pending or failed row up, and destroys its ciphertext. False if there is none, or a worker has '
  'it, or it is imported. Audited. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_legacy_rows_stage(text, text, text, text),
  public.kms_legacy_rows_claim(integer, integer),
  public.kms_legacy_row_store(text, uuid, uuid, text),
  public.kms_legacy_row_close(text, uuid, uuid, text, text),
  public.kms_legacy_rows_release(uuid),
  public.kms_legacy_rows_list(text, integer, text),
  public.kms_legacy_progress(),
  public.kms_legacy_row_discard(text, uuid)
from public, anon, authenticated;
grant execute on function
  public.kms_legacy_rows_stage(text, text, text, text),
  public.kms_legacy_rows_claim(integer, integer),
  public.kms_legacy_row_store(text, uuid, uuid, text),
  public.kms_legacy_row_close(text, uuid, uuid, text, text),
  public.kms_legacy_rows_release(uuid),
  public.kms_legacy_rows_list(text, integer, text),
  public.kms_legacy_progress(),
  public.kms_legacy_row_discard(text, uuid)
to service_role;
