-- Erasing a person: rows, ciphertext, fingerprints and masked answers are deleted, the branch keys that
-- are theirs alone are destroyed, and what went is recorded for a proof, all in one transaction. It
-- happens when an administrator asks for it, and when the user is deleted in whatever way.
--
-- Locks in one order: the owner, rows, idempotency keys, branch keys, the epoch, the audit chain.

-- ── kms.erasures ───────────────────────────────────────────────────────────────────────────────
create table kms.erasures (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null,
  erased_at timestamptz not null default clock_timestamp(),
  actor jsonb not null,
  purpose text
    constraint erasures_purpose_is_short check (length(purpose) between 1 and 200)
    constraint erasures_purpose_is_printable check (purpose !~ '[[:cntrl:]]'),
  erased jsonb not null
    constraint erasures_erased_is_an_object check (jsonb_typeof(erased) = 'object'),
  branch_keys jsonb not null
    constraint erasures_branch_keys_is_an_array check (jsonb_typeof(branch_keys) = 'array'),
  audit_day date,
  audit_seq bigint,
  audit_hash text,
  proof text
    constraint erasures_proof_is_a_jws
      check (proof ~ '^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$'),
  constraint erasures_audit_entry_is_whole
    check (num_nulls(audit_day, audit_seq, audit_hash) in (0, 3)),
  constraint erasures_proof_names_its_audit_entry check (proof is null or audit_seq is not null)
);

comment on table kms.erasures is
  'What was erased of whom, and the signed proof of it. Append-only: a row outlives its user, and '
  'nothing in it changes but that its audit entry and then its proof are added, once.';
comment on column kms.erasures.id is 'Named by the audit entry as its record.';
comment on column kms.erasures.owner_id is 'Who was erased.';
comment on column kms.erasures.erased_at is 'Clock of the database.';
comment on column kms.erasures.actor is 'Who erased, as in the audit.';
comment on column kms.erasures.purpose is
  'Why, in the administrator''s words; null when the user was deleted.';
comment on column kms.erasures.erased is 'How many of what were deleted.';
comment on column kms.erasures.branch_keys is
  'The versions of branch keys destroyed: [{"branch_key_id", "branch_key_version", "kms_key_arn"}].';
comment on column kms.erasures.audit_day is 'Day of the audit entry.';
comment on column kms.erasures.audit_seq is 'Its number within the day.';
comment on column kms.erasures.audit_hash is 'Its hash.';
comment on column kms.erasures.proof is
  'JWS of all this, signed by a key that the database does not hold; null until it is signed.';

create index erasures_by_owner on kms.erasures (owner_id, erased_at desc);
comment on index kms.erasures_by_owner is 'The last erasure of an owner.';
create index erasures_unsigned on kms.erasures (erased_at, id) where proof is null;
comment on index kms.erasures_unsigned is 'What is still to be signed.';

alter table kms.erasures enable row level security;
revoke all on table kms.erasures from public, anon, authenticated, service_role;

create function kms.erasures_check_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    if (new.id, new.owner_id, new.erased_at, new.actor, new.erased, new.branch_keys)
        = (old.id, old.owner_id, old.erased_at, old.actor, old.erased, old.branch_keys)
      and new.purpose is not distinct from old.purpose
      and (old.audit_seq is null
        or (new.audit_day, new.audit_seq, new.audit_hash)
          = (old.audit_day, old.audit_seq, old.audit_hash))
      and (old.proof is null or new.proof = old.proof)
    then
      return new;
    end if;
  end if;
  raise exception 'erasure_immutable' using errcode = 'KM403',
    detail = 'Rows of kms.erasures cannot be removed, and only completed.';
end
$$;
comment on function kms.erasures_check_change() is
  'Lets the audit entry and the proof be added, once; raises KM403 erasure_immutable for all else.';

create trigger erasures_check_change before update or delete on kms.erasures
  for each row execute function kms.erasures_check_change();
comment on trigger erasures_check_change on kms.erasures is 'Erasures are for ever.';
create trigger erasures_no_truncate before truncate on kms.erasures
  for each statement execute function kms.erasures_check_change();
comment on trigger erasures_no_truncate on kms.erasures is 'Erasures are for ever.';

-- ── Erasing ────────────────────────────────────────────────────────────────────────────────────
create index idempotency_keys_by_owner on kms.idempotency_keys
  using gin (jsonb_path_query_array(response, '$.results[*].*.user_id') jsonb_path_ops)
  where response is not null;
comment on index kms.idempotency_keys_by_owner is 'Stored answers that tell of an owner''s rows.';

create function kms.forget_answers(p_owner_id uuid) returns bigint
language plpgsql volatile set search_path = ''
as $$
declare
  v_count bigint;
begin
  with told as (
    select scope, key_hash from kms.idempotency_keys
    where response is not null
      and jsonb_path_query_array(response, '$.results[*].*.user_id')
        @> jsonb_build_array(p_owner_id)
    order by scope, key_hash for update
  )
  update kms.idempotency_keys as k set response = kms.standing_response(k.response)
  from told where k.scope = told.scope and k.key_hash = told.key_hash;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function kms.forget_answers(uuid) is
  'Takes out of the stored answers what they tell of an owner''s rows, which must be deleted already; '
  'how many answers. A repeat of such a request hears that they are gone, and stores nothing anew.';

create function kms.destroy_branch_keys(p_owner_id uuid, out o_versions jsonb, out o_records bigint)
language plpgsql volatile set search_path = ''
as $$
declare
  v_ids constant text[] := kms.owner_branch_key_ids(p_owner_id::text);
begin
  perform kms.lock_branch_key(i.id) from unnest(v_ids) with ordinality as i (id, n) order by i.n;
  select coalesce(jsonb_agg(jsonb_build_object(
    'branch_key_id', k.branch_key_id,
    'branch_key_version', regexp_replace(k.type, '^branch:version:', ''),
    'kms_key_arn', k.record ->> 'kms-arn'
  ) order by k.branch_key_id, k.record ->> 'create-time', k.type), '[]')
  into o_versions
  from kms.branch_keys as k
  where k.branch_key_id = any (v_ids) and k.type like 'branch:version:%';

  perform set_config('kms.erasing_owner', p_owner_id::text, true);
  delete from kms.branch_keys where branch_key_id = any (v_ids);
  get diagnostics o_records = row_count;
  perform set_config('kms.erasing_owner', '', true);
end
$$;
comment on function kms.destroy_branch_keys(uuid) is
  'Removes every record of the branch keys that are one owner''s alone, which makes all messages under '
  'them unreadable for ever, wherever copies of those are; the versions, and how many records.';

create function kms.erase_owner(p_owner_id uuid, p_actor jsonb, p_purpose text, p_always boolean)
returns uuid
language plpgsql volatile set search_path = ''
as $$
declare
  v_erased jsonb;
  v_legacy bigint;
  v_answers bigint;
  v_keys record;
  v_id uuid;
begin
  -- Locked parents get no ciphertext any more: what is counted is what goes.
  perform from public.payment_methods where user_id = p_owner_id order by id for update;
  perform from public.encrypted_records where user_id = p_owner_id order by id for update;
  v_erased := jsonb_build_object(
    'payment_methods',
    (select count(*) from public.payment_methods where user_id = p_owner_id),
    'records',
    (select count(*) from public.encrypted_records where user_id = p_owner_id),
    'ciphertexts', (
      select count(*) from public.payment_methods as p
      join kms.ciphertexts as c on c.payment_method_id = p.id and c.owner_id = p.user_id
      where p.user_id = p_owner_id
    ) + (
      select count(*) from public.encrypted_records as r
      join kms.ciphertexts as c on c.encrypted_record_id = r.id and c.owner_id = r.user_id
        and c.data_class = r.data_class
      where r.user_id = p_owner_id
    ),
    'card_fingerprints', (select count(*) from kms.card_fingerprints where owner_id = p_owner_id)
  );
  delete from public.payment_methods where user_id = p_owner_id;
  delete from public.encrypted_records where user_id = p_owner_id;
  delete from kms.legacy_rows where user_id = p_owner_id;
  get diagnostics v_legacy = row_count;
  v_answers := kms.forget_answers(p_owner_id);
  select * into v_keys from kms.destroy_branch_keys(p_owner_id);
  v_erased := v_erased || jsonb_build_object(
    'legacy_rows', v_legacy, 'idempotency_answers', v_answers,
    'branch_key_records', v_keys.o_records
  );

  if not p_always and not exists (
    select from jsonb_each_text(v_erased) as e (name, count) where e.count <> '0'
  ) then
    return null;
  end if;
  insert into kms.erasures (owner_id, actor, purpose, erased, branch_keys)
  values (p_owner_id, p_actor, p_purpose, v_erased, v_keys.o_versions)
  returning id into v_id;
  return v_id;
end
$$;
comment on function kms.erase_owner(uuid, jsonb, text, boolean) is
  'Deletes all that is stored of an owner and destroys the owner''s branch keys: the erasure, or null '
  'if there was nothing to erase and that is not to be recorded always. Its audit entry is appended by '
  'kms.audit_erasure, at the latest when the transaction commits.';

create function kms.audit_erasure(p_id uuid) returns void
language plpgsql volatile set search_path = ''
as $$
declare
  v_row kms.erasures;
  v_entry kms.audit_log;
begin
  select * into strict v_row from kms.erasures where id = p_id for update;
  if v_row.audit_seq is not null then
    return;
  end if;
  if v_row.branch_keys <> '[]' then
    update kms.key_epoch set epoch = epoch + 1;
  end if;
  perform kms.audit_append(v_row.actor, coalesce((
    select jsonb_agg(k.value || jsonb_build_object(
      'action', 'branch_key.destroy', 'outcome', 'success', 'owner_id', v_row.owner_id
    ) order by k.n)
    from jsonb_array_elements(v_row.branch_keys) with ordinality as k (value, n)
  ), '[]') || jsonb_build_object(
    'action', 'user.erase', 'outcome', 'success', 'table_name', 'erasures',
    'record_id', v_row.id, 'owner_id', v_row.owner_id, 'purpose', v_row.purpose
  ));
  select * into strict v_entry from kms.audit_log order by chain_day desc, seq desc limit 1;
  update kms.erasures
  set audit_day = v_entry.chain_day, audit_seq = v_entry.seq, audit_hash = v_entry.hash
  where id = p_id;
end
$$;
comment on function kms.audit_erasure(uuid) is
  'Appends the audit entries of an erasure, a branch_key.destroy for each version and the user.erase, '
  'and notes the latter with it; nothing if that was done. Call it last in a transaction.';

create function kms.audit_erasure_at_commit() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform kms.audit_erasure(new.id);
  return null;
end
$$;
comment on function kms.audit_erasure_at_commit() is 'kms.audit_erasure of a new erasure.';

-- At the commit, when no lock on rows will be asked for any more: many users may be deleted at once.
create constraint trigger erasures_audit after insert on kms.erasures
  deferrable initially deferred
  for each row execute function kms.audit_erasure_at_commit();
comment on trigger erasures_audit on kms.erasures is 'No erasure without its audit entry.';

-- ── When a user is deleted ─────────────────────────────────────────────────────────────────────
create function kms.erase_deleted_user() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform kms.erase_owner(old.id, jsonb_build_object(
    'actor_type', 'system', 'actor_id', session_user, 'request_id', gen_random_uuid(),
    'function', 'auth'
  ), null, false);
  return null;
end
$$;
comment on function kms.erase_deleted_user() is
  'Erases what a deleted user leaves, in the same transaction, and with the privileges of its owner: '
  'whoever may delete a user needs none on this schema.';

-- The name comes before RI_ConstraintTrigger, hence before the cascade, which leaves nothing to count.
-- Hosted Supabase lets its role postgres make triggers on auth.users, but not comment on them.
do $$
begin
  if has_table_privilege('auth.users', 'TRIGGER') then
    create trigger "Erase what a deleted user leaves" after delete on auth.users
      for each row execute function kms.erase_deleted_user();
  else
    raise warning 'No privilege to make a trigger on auth.users: deleting a user deletes the data, '
      'but destroys no branch key and leaves no proof. Call kms_user_erase first.';
  end if;
end
$$;

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
