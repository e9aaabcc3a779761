-- What setups of the key management guide left: the one key they encrypted with, itself encrypted under
-- ours, and their ciphertexts on the way through the ordinary intake. Everything here is a visitor: a key
-- is destroyed once no row needs it, and a ciphertext with the import of its row.

-- ── kms.legacy_keys ────────────────────────────────────────────────────────────────────────────
create table kms.legacy_keys (
  key_id text primary key
    constraint legacy_keys_key_id_is_a_name check (key_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  id uuid not null unique,
  message kms.encrypted_message not null,
  kms_key_arn text
    constraint legacy_keys_kms_key_arn_is_short check (length(kms_key_arn) between 1 and 2048),
  branch_key_id text
    constraint legacy_keys_branch_key_id_is_short check (length(branch_key_id) between 1 and 256),
  branch_key_version text
    constraint legacy_keys_branch_key_version_is_short
      check (length(branch_key_version) between 1 and 64),
  fingerprint text not null
    constraint legacy_keys_fingerprint_is_a_mac check (fingerprint ~ '^[0-9a-f]{64}$'),
  source text not null
    constraint legacy_keys_source_is_known
      check (source in ('aws', 'gcp', 'vault', 'env', 'inline')),
  created_at timestamptz not null default clock_timestamp(),
  created_by text not null
    constraint legacy_keys_created_by_is_short check (length(created_by) between 1 and 128),
  constraint legacy_keys_branch_key_version_fkey
    foreign key (branch_key_id, branch_key_version)
    references kms.branch_keys (branch_key_id, version)
);

comment on table kms.legacy_keys is
  'Keys of older setups, each as a message under the payment class. Never answered, only used; deleted '
  'by public.kms_legacy_key_destroy.';
comment on column kms.legacy_keys.key_id is 'Its name in the older setup.';
comment on column kms.legacy_keys.id is 'Bound into the message as its record.';
comment on column kms.legacy_keys.message is 'The message, canonical base64.';
comment on column kms.legacy_keys.kms_key_arn is 'KMS key the message''s data key hangs on, if any.';
comment on column kms.legacy_keys.branch_key_id is 'Branch key, null in direct mode.';
comment on column kms.legacy_keys.branch_key_version is 'Its version, null in direct mode.';
comment on column kms.legacy_keys.fingerprint is
  'Keyed hash of the key: tells the same key twice, and nothing about it.';
comment on column kms.legacy_keys.source is 'Where it was read from.';
comment on column kms.legacy_keys.created_at is 'When it was imported.';
comment on column kms.legacy_keys.created_by is 'Who imported it.';

comment on constraint legacy_keys_branch_key_version_fkey on kms.legacy_keys is
  'The version its message hangs on is not retired while the key is there.';

create index legacy_keys_by_branch_key on kms.legacy_keys (branch_key_id, branch_key_version);
comment on index kms.legacy_keys_by_branch_key is 'Serves the foreign key.';

alter table kms.legacy_keys enable row level security;

-- ── kms.legacy_rows ────────────────────────────────────────────────────────────────────────────
create table kms.legacy_rows (
  id uuid primary key default gen_random_uuid(),
  source_id text not null unique
    constraint legacy_rows_source_id_is_a_name
      check (source_id ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
  key_id text not null,
  user_id uuid not null references auth.users (id) on delete cascade,
  encoding text not null
    constraint legacy_rows_encoding_is_known check (
      encoding in ('v1_hex', 'hex', 'base64_iv_tag_ciphertext', 'base64_iv_ciphertext_tag')
    ),
  ciphertext text
    constraint legacy_rows_ciphertext_is_short check (length(ciphertext) between 1 and 131072),
  ciphertext_hash text not null
    constraint legacy_rows_ciphertext_hash_is_sha256 check (ciphertext_hash ~ '^[0-9a-f]{64}$'),
  target jsonb not null
    constraint legacy_rows_target_has_a_class
      check (target ->> 'data_class' in ('payment', 'pii', 'general')),
  status text not null default 'pending'
    constraint legacy_rows_status_is_known check (status in ('pending', 'failed', 'imported')),
  error_code text
    constraint legacy_rows_error_code_is_a_code check (error_code ~ '^[a-z][a-z0-9_]{0,63}$'),
  error_detail text
    constraint legacy_rows_error_detail_is_a_code check (error_detail ~ '^[a-z][a-z0-9_]{0,63}$'),
  record_id uuid,
  lease_token uuid,
  lease_expires_at timestamptz,
  staged_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  needed_key_id text
    generated always as (case when ciphertext is not null then key_id end) stored,
  constraint legacy_rows_key_fkey foreign key (needed_key_id) references kms.legacy_keys (key_id),
  constraint legacy_rows_imported_keeps_no_ciphertext
    check ((status = 'imported') = (ciphertext is null)),
  constraint legacy_rows_imported_is_stored check (status <> 'imported' or record_id is not null),
  constraint legacy_rows_failed_says_why check ((status = 'failed') = (error_code is not null)),
  constraint legacy_rows_lease_is_whole
    check ((lease_token is null) = (lease_expires_at is null))
);

comment on table kms.legacy_rows is
  'Ciphertexts of older setups, from their staging to their import. An imported row stays without its '
  'ciphertext: it says what became of its source, and that it is not to be imported again.';
comment on column kms.legacy_rows.id is 'The row.';
comment on column kms.legacy_rows.source_id is 'Its name in the older setup; imported once.';
comment on column kms.legacy_rows.key_id is 'The key of kms.legacy_keys it was encrypted under.';
comment on column kms.legacy_rows.user_id is 'Owner. The row goes with its user.';
comment on column kms.legacy_rows.encoding is 'How IV, tag and ciphertext were written down.';
comment on column kms.legacy_rows.ciphertext is 'As it was staged; null once it is imported.';
comment on column kms.legacy_rows.ciphertext_hash is
  'SHA-256 of the ciphertext: tells other ciphertext under this source id.';
comment on column kms.legacy_rows.target is
  'What it becomes: {"data_class": "payment", "exp_month", "exp_year"[, "nickname"]} or {"data_class": '
  '"pii" or "general"[, "label"][, "field"]}.';
comment on column kms.legacy_rows.status is 'pending, failed or imported.';
comment on column kms.legacy_rows.error_code is 'Why it failed, an error code of the functions.';
comment on column kms.legacy_rows.error_detail is 'The code of the first field at fault, if any.';
comment on column kms.legacy_rows.record_id is
  'The payment method or record it was stored as; on a pending row what is yet to be verified.';
comment on column kms.legacy_rows.lease_token is
  'Fencing token of the worker that has it; a takeover changes it.';
comment on column kms.legacy_rows.lease_expires_at is 'When that worker is given up for dead.';
comment on column kms.legacy_rows.staged_at is 'When it was staged.';
comment on column kms.legacy_rows.updated_at is 'When it last changed.';
comment on column kms.legacy_rows.needed_key_id is
  'Generated, for the foreign key: a key stays while one ciphertext needs it.';

create index legacy_rows_by_status on kms.legacy_rows (status, staged_at, id);
comment on index kms.legacy_rows_by_status is 'Serves the claims and the list.';
create index legacy_rows_by_user on kms.legacy_rows (user_id);
comment on index kms.legacy_rows_by_user is 'Serves the cascade.';
create index legacy_rows_by_needed_key on kms.legacy_rows (needed_key_id)
  where needed_key_id is not null;
comment on index kms.legacy_rows_by_needed_key is 'Serves the foreign key.';

alter table kms.legacy_rows enable row level security;

-- ── Keys ───────────────────────────────────────────────────────────────────────────────────────
create function kms.legacy_key_json(p_row kms.legacy_keys) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'key_id', p_row.key_id, 'source', p_row.source,
    -- Enough to tell two keys apart.
    'fingerprint', left(p_row.fingerprint, 16),
    'created_at', kms.iso_time(p_row.created_at), 'created_by', p_row.created_by
  )
$$;
comment on function kms.legacy_key_json(kms.legacy_keys) is
  'A key as administrators see it: everything but the key.';

create function kms.legacy_key_entry(p_row kms.legacy_keys, p_action text, p_error_code text)
returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
    'action', p_action, 'outcome', case when p_error_code is null then 'success' else 'failure' end,
    'error_code', p_error_code, 'data_class', 'payment',
    'table_name', 'legacy_keys', 'record_id', p_row.id, 'kms_key_arn', p_row.kms_key_arn,
    'branch_key_id', p_row.branch_key_id, 'branch_key_version', p_row.branch_key_version
  )))
$$;
comment on function kms.legacy_key_entry(kms.legacy_keys, text, text) is
  'The audit entry of what is done with a key, a failure when there is an error code.';

create function public.kms_legacy_key_put(p_actor text, p_key text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_key jsonb := kms.parse_json(p_key, 'p_key', 'object');
  v_row kms.legacy_keys;
  v_stored kms.legacy_keys;
  v_outcome text := 'imported';
begin
  perform kms.check_object(v_key, 'p_key', array[
    'key_id', 'id', 'message', 'kms_key_arn', 'branch_key_id', 'branch_key_version', 'fingerprint',
    'source'
  ]);
  v_row.key_id :=
    kms.read_text(v_key, 'key_id', 'p_key', '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$', true);
  v_row.id := kms.read_uuid(v_key, 'id', 'p_key', true);
  v_row.message := kms.read_text(v_key, 'message', 'p_key', '', true, 131072);
  v_row.kms_key_arn := kms.read_text(v_key, 'kms_key_arn', 'p_key', '', false, 2048);
  v_row.branch_key_id := kms.read_text(v_key, 'branch_key_id', 'p_key', '', false);
  v_row.branch_key_version := kms.read_text(v_key, 'branch_key_version', 'p_key', '', false, 64);
  v_row.fingerprint := kms.read_text(v_key, 'fingerprint', 'p_key', '^[0-9a-f]{64}$', true);
  v_row.source := kms.read_text(v_key, 'source', 'p_key', '^(aws|gcp|vault|env|inline)$', true);
  v_row.created_by := v_actor ->> 'actor_id';

  loop
    insert into kms.legacy_keys (
      key_id, id, message, kms_key_arn, branch_key_id, branch_key_version, fingerprint, source,
      created_by
    ) values (
      v_row.key_id, v_row.id, v_row.message, v_row.kms_key_arn, v_row.branch_key_id,
      v_row.branch_key_version, v_row.fingerprint, v_row.source, v_row.created_by
    ) on conflict (key_id) do nothing
    returning * into v_stored;
    exit when found;
    select * into v_stored from kms.legacy_keys where key_id = v_row.key_id for share;
    if found then
      v_outcome := case
        when v_stored.fingerprint = v_row.fingerprint then 'existing' else 'conflict'
      end;
      exit;
    end if; -- otherwise destroyed since: try again
  end loop;

  perform kms.audit_append(v_actor, kms.legacy_key_entry(
    v_stored, 'legacy_key.import', case when v_outcome = 'conflict' then 'legacy_key_conflict' end
  ));
  return jsonb_build_object('outcome', v_outcome, 'key', kms.legacy_key_json(v_stored));
end
$$;
comment on function public.kms_legacy_key_put(text, text) is
  'Keeps the key of an older setup: {"outcome", "key"} with imported, existing (the same key has this id) '
  'or conflict (another one has, and stays). Audited. For service_role.';

create function public.kms_legacy_keys_list() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object('keys', coalesce(jsonb_agg(
    kms.legacy_key_json(k) || jsonb_build_object('rows', (
      select jsonb_build_object(
        'pending', count(*) filter (where r.status = 'pending'),
        'failed', count(*) filter (where r.status = 'failed')
      ) from kms.legacy_rows r where r.needed_key_id = k.key_id
    )) order by k.key_id
  ), '[]')) from kms.legacy_keys k
$$;
comment on function public.kms_legacy_keys_list() is
  'All imported keys, without the keys, each with how many rows still need it: {"keys": [...]}. For '
  'service_role.';

create function public.kms_legacy_key_get(p_key_id text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object('id', k.id, 'message', k.message)
  from kms.legacy_keys k where k.key_id = p_key_id
$$;
comment on function public.kms_legacy_key_get(text) is
  'A key''s message and the record that is bound into it, or null. For service_role.';

create function public.kms_legacy_key_destroy(p_actor text, p_key_id text) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_row kms.legacy_keys;
begin
  -- Whoever stages a row under it waits, and is then told that there is no such key.
  select * into v_row from kms.legacy_keys where key_id = p_key_id for update;
  if not found then
    return 'not_found';
  end if;
  if exists (select from kms.legacy_rows where needed_key_id = p_key_id) then
    perform kms.audit_append(v_actor, kms.legacy_key_entry(
      v_row, 'legacy_key.destroy', 'legacy_key_in_use'
    ));
    return 'in_use';
  end if;
  delete from kms.legacy_keys where key_id = p_key_id;
  perform kms.audit_append(v_actor, kms.legacy_key_entry(v_row, 'legacy_key.destroy', null));
  return 'destroyed';
end
$$;
comment on function public.kms_legacy_key_destroy(text, text) is
  'Deletes a key: destroyed, not_found, or in_use while a pending or failed row needs it. Audited. For '
  'service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all tables in schema kms from public, anon, authenticated, service_role;
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_legacy_key_put(text, text),
  public.kms_legacy_keys_list(),
  public.kms_legacy_key_get(text),
  public.kms_legacy_key_destroy(text, text)
from public, anon, authenticated;
grant execute on function
  public.kms_legacy_key_put(text, text),
  public.kms_legacy_keys_list(),
  public.kms_legacy_key_get(text),
  public.kms_legacy_key_destroy(text, text)
to service_role;
