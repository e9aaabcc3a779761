-- Ciphertext and what protects it. Row level security is on with no policy: even a mistaken grant
-- shows nothing. The owner, as whom the RPCs run, is not subject to it.

-- ── kms.ciphertexts ────────────────────────────────────────────────────────────────────────────
-- One row a field. The parent is a payment method or a record; two generated columns, one of them
-- null, give each kind a real foreign key, so that a ciphertext without its parent, or with another
-- owner than its parent's, cannot exist and goes with it, however it goes.
create table kms.ciphertexts (
  table_name text not null
    constraint ciphertexts_table_is_known
      check (table_name in ('payment_methods', 'encrypted_records')),
  record_id uuid not null,
  field text not null,
  owner_id uuid not null,
  data_class text not null,
  message kms.encrypted_message not null,
  kms_key_arn text
    constraint ciphertexts_kms_key_arn_is_short check (length(kms_key_arn) between 1 and 2048),
  branch_key_id text
    constraint ciphertexts_branch_key_id_is_short check (length(branch_key_id) between 1 and 256),
  branch_key_version text
    constraint ciphertexts_branch_key_version_is_short
      check (length(branch_key_version) between 1 and 64),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  payment_method_id uuid
    generated always as (case when table_name = 'payment_methods' then record_id end) stored,
  encrypted_record_id uuid
    generated always as (case when table_name = 'encrypted_records' then record_id end) stored,
  primary key (table_name, record_id, field),
  constraint ciphertexts_field_belongs_to_its_table check (
    case table_name
      when 'payment_methods' then field in ('number', 'cardholder_name', 'billing_address')
      else field = 'data'
    end
  ),
  constraint ciphertexts_data_class_belongs_to_its_table check (
    case table_name
      when 'payment_methods' then data_class = 'payment'
      else data_class in ('pii', 'general')
    end
  ),
  constraint ciphertexts_payment_method_fkey
    foreign key (payment_method_id, owner_id)
    references public.payment_methods (id, user_id) on delete cascade,
  constraint ciphertexts_encrypted_record_fkey
    foreign key (encrypted_record_id, owner_id, data_class)
    references public.encrypted_records (id, user_id, data_class) on delete cascade
);

comment on table kms.ciphertexts is
  'AWS Encryption SDK messages, one per field of a row. Deleted with the row in every way it can go.';
comment on column kms.ciphertexts.table_name is 'Parent''s table, as in the encryption context.';
comment on column kms.ciphertexts.record_id is 'Parent''s id, as in the encryption context.';
comment on column kms.ciphertexts.field is
  'number, cardholder_name or billing_address of a payment method; data of a record.';
comment on column kms.ciphertexts.owner_id is 'Parent''s owner, as in the encryption context.';
comment on column kms.ciphertexts.data_class is 'Parent''s class, as in the encryption context.';
comment on column kms.ciphertexts.message is 'The message, canonical base64.';
comment on column kms.ciphertexts.kms_key_arn is 'KMS key the message''s data key hangs on, if any.';
comment on column kms.ciphertexts.branch_key_id is 'Branch key, null in direct mode.';
comment on column kms.ciphertexts.branch_key_version is 'Its version, null in direct mode.';
comment on column kms.ciphertexts.created_at is 'When the field was first stored.';
comment on column kms.ciphertexts.updated_at is 'When its ciphertext last changed.';
comment on column kms.ciphertexts.payment_method_id is 'Generated, for the foreign key.';
comment on column kms.ciphertexts.encrypted_record_id is 'Generated, for the foreign key.';
comment on constraint ciphertexts_payment_method_fkey on kms.ciphertexts is
  'The parent exists, has this owner, and takes its ciphertext with it.';
comment on constraint ciphertexts_encrypted_record_fkey on kms.ciphertexts is
  'The parent exists, has this owner and class, and takes its ciphertext with it.';

create index ciphertexts_by_payment_method
  on kms.ciphertexts (payment_method_id, owner_id) where payment_method_id is not null;
comment on index kms.ciphertexts_by_payment_method is 'Serves the cascade.';
create index ciphertexts_by_encrypted_record
  on kms.ciphertexts (encrypted_record_id, owner_id, data_class)
  where encrypted_record_id is not null;
comment on index kms.ciphertexts_by_encrypted_record is 'Serves the cascade.';

alter table kms.ciphertexts enable row level security;

-- ── kms.card_fingerprints ──────────────────────────────────────────────────────────────────────
create table kms.card_fingerprints (
  payment_method_id uuid not null,
  owner_id uuid not null,
  fingerprint text not null
    constraint card_fingerprints_fingerprint_is_a_mac
      check (fingerprint ~ '^[A-Za-z0-9+/=_-]{43,128}$'),
  created_at timestamptz not null default clock_timestamp(),
  primary key (payment_method_id, owner_id),
  constraint card_fingerprints_one_per_owner unique (owner_id, fingerprint),
  constraint card_fingerprints_payment_method_fkey
    foreign key (payment_method_id, owner_id)
    references public.payment_methods (id, user_id) on delete cascade
);

comment on table kms.card_fingerprints is
  'HMAC of each card number under the beacon key: tells that an owner already has this card.';
comment on column kms.card_fingerprints.payment_method_id is 'The card.';
comment on column kms.card_fingerprints.owner_id is 'Its owner.';
comment on column kms.card_fingerprints.fingerprint is
  'Keyed hash, base64 or hex, 43 to 128 characters: too long to be a card number.';
comment on column kms.card_fingerprints.created_at is 'When the card was stored.';
comment on constraint card_fingerprints_one_per_owner on kms.card_fingerprints is
  'The database''s own word that an owner has a card once, whatever races.';

alter table kms.card_fingerprints enable row level security;

-- ── kms.branch_keys ────────────────────────────────────────────────────────────────────────────
create function kms.provider_of(p_kms_key_arn text) returns text
language sql immutable set search_path = ''
as $$
  select case
    when starts_with(p_kms_key_arn, 'arn:') then 'aws'
    when starts_with(p_kms_key_arn, 'projects/') then 'gcp'
    when starts_with(p_kms_key_arn, 'vault:') then 'vault'
    when starts_with(p_kms_key_arn, 'env:') then 'env'
  end
$$;
comment on function kms.provider_of(text) is 'Whose key that is, by its name; null for nobody''s.';

create table kms.branch_keys (
  branch_key_id text not null
    constraint branch_keys_id_is_short check (length(branch_key_id) between 1 and 256),
  type text not null
    constraint branch_keys_type_is_known check (
      type ~ '^(branch:ACTIVE|beacon:ACTIVE|branch:version:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$'
    ),
  record jsonb not null,
  version text generated always as (
    case when type like 'branch:version:%' then substr(type, 16) end
  ) stored,
  created_at timestamptz not null default clock_timestamp(),
  copy jsonb,
  confirmed_at timestamptz,
  provider text generated always as (kms.provider_of(record ->> 'kms-arn')) stored,
  stage text generated always as (
    case when copy is null then 'single' when confirmed_at is null then 'copied' else 'confirmed' end
  ) stored,
  primary key (branch_key_id, type),
  constraint branch_keys_one_record_per_version unique (version, branch_key_id),
  constraint branch_keys_record_is_this_one check (
    jsonb_typeof(record) = 'object'
    and record ->> 'branch-key-id' = branch_key_id
    and record ->> 'type' = type
  ),
  constraint branch_keys_active_names_its_version
    check ((type = 'branch:ACTIVE') = (record ->> 'version' is not null)),
  constraint branch_keys_record_is_small check (octet_length(record::text) <= 16384),
  constraint branch_keys_copy_is_the_same_key
    check (copy - array['kms-arn', 'enc'] = record - array['kms-arn', 'enc']),
  constraint branch_keys_copy_is_small check (octet_length(copy::text) <= 16384),
  constraint branch_keys_confirmed_has_a_copy check (confirmed_at is null or copy is not null)
);

comment on table kms.branch_keys is
  'The key store of AWS''s hierarchical keyring: branch keys, their versions and beacon keys, each '
  'wrapped by KMS, as the specification''s framework/branch-key-store.md lays them out. A rotation '
  'replaces the branch:ACTIVE record, a retirement removes a version that nothing hangs on, the keys of '
  'an owner go with an erasure, and a migration of providers moves a record by way of its copy; nothing '
  'else ever changes.';
comment on column kms.branch_keys.branch_key_id is 'Attribute branch-key-id.';
comment on column kms.branch_keys.type is
  'Attribute type: branch:ACTIVE, branch:version:<uuid> or beacon:ACTIVE.';
comment on column kms.branch_keys.record is
  'Every attribute under the specification''s own name; enc is base64. Values are kept exactly, '
  'since all but enc are KMS encryption context.';
comment on column kms.branch_keys.version is
  'Generated, for foreign keys: the uuid of a branch:version record, null of the others.';
comment on column kms.branch_keys.created_at is
  'When this row was first written; the record''s own create-time tells when its key was made.';
comment on column kms.branch_keys.copy is
  'While keys move from one provider to another: the record once more, the same but for kms-arn and enc, '
  'wrapped by the other one, so that either can serve. In the row itself: nothing comes between them.';
comment on column kms.branch_keys.confirmed_at is
  'When the record was last opened by its provider, so that its copy can go.';
comment on column kms.branch_keys.provider is 'Generated: who wrapped the record; null for nobody known.';
comment on column kms.branch_keys.stage is
  'Generated, of a migration: single without a copy, copied, or confirmed.';

-- Of few distinct values, hence small, and entries of one value lie together: what a migration has to do
-- next is found without looking at what it has done.
create index branch_keys_by_stage on kms.branch_keys (provider, stage);
comment on index kms.branch_keys_by_stage is 'Finds what a migration of providers has yet to do.';

alter table kms.branch_keys enable row level security;

-- Whatever writes a message, with whatever key in its cache: the version it hangs on is there, and stays
-- while it is.
alter table kms.ciphertexts add constraint ciphertexts_branch_key_version_fkey
  foreign key (branch_key_id, branch_key_version)
  references kms.branch_keys (branch_key_id, version);
comment on constraint ciphertexts_branch_key_version_fkey on kms.ciphertexts is
  'A message under a version that was retired cannot be stored, nor a version with messages be retired.';

-- A lost or altered record is lost data: every message under it is then ciphertext for ever. So even
-- the owner's mistake is refused.
create function kms.branch_keys_check_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if (new.branch_key_id, new.type) = (old.branch_key_id, old.type) then
    if old.type = 'branch:ACTIVE'
      and current_setting('kms.rotating_branch_key', true) = old.branch_key_id
    then
      return new;
    end if;
    -- The copy comes and goes, or the two change places: no wrapped key is lost between them.
    if current_setting('kms.moving_branch_keys', true) = 'on'
      and (new.record = old.record or (new.record, new.copy) = (old.copy, old.record))
    then
      return new;
    end if;
  end if;
  raise exception 'branch_key_record_immutable' using errcode = 'KM403',
    detail = 'Only a rotation may replace a record of kms.branch_keys, and only branch:ACTIVE.';
end
$$;
comment on function kms.branch_keys_check_change() is
  'Lets public.kms_branch_key_rotate, which says so by the setting kms.rotating_branch_key, replace '
  'the active record, and a migration of providers, by kms.moving_branch_keys, write and drop a copy or '
  'exchange it with its record; '
  'raises KM403 branch_key_record_immutable for all else.';

create function kms.owner_branch_key_ids(p_owner_id text) returns text[]
language sql immutable set search_path = ''
as $$
  select array['general:' || p_owner_id, 'payment:' || p_owner_id, 'pii:' || p_owner_id]
$$;
comment on function kms.owner_branch_key_ids(text) is
  'The branch keys that are one owner''s alone, whichever of them exist.';

create function kms.branch_keys_check_removal() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    if old.branch_key_id = any (
      kms.owner_branch_key_ids(current_setting('kms.erasing_owner', true))
    ) or current_setting('kms.retiring_branch_key', true)
      = old.branch_key_id || ' ' || old.version
    then
      return old;
    end if;
  end if;
  raise exception 'branch_key_record_immutable' using errcode = 'KM403',
    detail = 'Records of kms.branch_keys cannot be removed: messages under them would be lost.';
end
$$;
comment on function kms.branch_keys_check_removal() is
  'Lets kms.erase_owner, which says so by the setting kms.erasing_owner, destroy the keys of that owner, '
  'and public.kms_branch_key_retire, by kms.retiring_branch_key, remove one version; raises KM403 '
  'branch_key_record_immutable for all else.';

-- After, not before: with a trigger before it every generated column counts as changed, version among
-- them, and each update would lock out whoever stores a message under the key.
create trigger branch_keys_check_change after update on kms.branch_keys
  for each row execute function kms.branch_keys_check_change();
comment on trigger branch_keys_check_change on kms.branch_keys is
  'Only a rotation replaces a record, and only the active one.';
create trigger branch_keys_no_delete before delete on kms.branch_keys
  for each row execute function kms.branch_keys_check_removal();
comment on trigger branch_keys_no_delete on kms.branch_keys is
  'Old versions decrypt old messages, for as long as there is one.';
create trigger branch_keys_no_truncate before truncate on kms.branch_keys
  for each statement execute function kms.branch_keys_check_removal();
comment on trigger branch_keys_no_truncate on kms.branch_keys is
  'Old versions decrypt old messages, for as long as there is one.';

-- ── kms.branch_key_counts ──────────────────────────────────────────────────────────────────────
-- There may be millions of records, of which a migration of providers wants to know how many are where.
-- Nobody is to count them, and nobody to wait for a counter that another transaction holds: so each
-- statement adds what it changed, and now and then these are summed.
create table kms.branch_key_counts (
  id bigint generated always as identity,
  token uuid not null default gen_random_uuid(),
  provider text,
  stage text not null,
  is_active boolean not null,
  records bigint not null,
  primary key (id, token)
);

comment on table kms.branch_key_counts is
  'How many records kms.branch_keys has: the sum of these changes, exact in every snapshot.';
comment on column kms.branch_key_counts.id is 'In the order of writing.';
comment on column kms.branch_key_counts.token is
  'Tells rows of one id apart: a restore of data alone loads these rows, and then counts what else it loads.';
comment on column kms.branch_key_counts.provider is 'Of the records.';
comment on column kms.branch_key_counts.stage is 'Of the records.';
comment on column kms.branch_key_counts.is_active is
  'Whether they are of type branch:ACTIVE, of which each branch key has one.';
comment on column kms.branch_key_counts.records is 'How many more; below 0, how many fewer.';

alter table kms.branch_key_counts enable row level security;

create function kms.count_branch_keys() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    insert into kms.branch_key_counts (provider, stage, is_active, records)
    select provider, stage, type = 'branch:ACTIVE', count(*) from new_rows group by 1, 2, 3;
  elsif tg_op = 'DELETE' then
    insert into kms.branch_key_counts (provider, stage, is_active, records)
    select provider, stage, type = 'branch:ACTIVE', -count(*) from old_rows group by 1, 2, 3;
  else
    insert into kms.branch_key_counts (provider, stage, is_active, records)
    select c.provider, c.stage, c.type = 'branch:ACTIVE', sum(c.n) from (
      select provider, stage, type, 1 as n from new_rows
      union all
      select provider, stage, type, -1 from old_rows
    ) as c
    group by 1, 2, 3 having sum(c.n) <> 0;
  end if;
  return null;
end
$$;
comment on function kms.count_branch_keys() is 'Adds what a statement changed to kms.branch_key_counts.';

create trigger branch_keys_count_insert after insert on kms.branch_keys
  referencing new table as new_rows for each statement execute function kms.count_branch_keys();
comment on trigger branch_keys_count_insert on kms.branch_keys is 'Counts what comes.';
create trigger branch_keys_count_update after update on kms.branch_keys
  referencing old table as old_rows new table as new_rows
  for each statement execute function kms.count_branch_keys();
comment on trigger branch_keys_count_update on kms.branch_keys is 'Counts what moves.';
create trigger branch_keys_count_delete after delete on kms.branch_keys
  referencing old table as old_rows for each statement execute function kms.count_branch_keys();
comment on trigger branch_keys_count_delete on kms.branch_keys is 'Counts what goes.';

create function kms.sum_branch_key_counts() returns trigger
language plpgsql set search_path = ''
as $$
begin
  -- Under a stricter isolation what another transaction has summed would be an error.
  if current_setting('transaction_isolation') = 'read committed' then
    with summed as (
      delete from kms.branch_key_counts where (id, token) in (
        select id, token from kms.branch_key_counts order by id limit 1000 for update skip locked
      )
      returning provider, stage, is_active, records
    )
    insert into kms.branch_key_counts (provider, stage, is_active, records)
    select provider, stage, is_active, sum(records) from summed
    group by 1, 2, 3 having sum(records) <> 0;
  end if;
  return null;
end
$$;
comment on function kms.sum_branch_key_counts() is
  'Replaces changes by their sum: up to 1000 that no other transaction is summing.';

create function kms.recount_branch_keys() returns void
language sql volatile set search_path = ''
as $$
  lock table kms.branch_keys in share row exclusive mode;
  delete from kms.branch_key_counts;
  insert into kms.branch_key_counts (provider, stage, is_active, records)
  select provider, stage, type = 'branch:ACTIVE', count(*) from kms.branch_keys group by 1, 2, 3;
$$;
comment on function kms.recount_branch_keys() is
  'Counts anew, for after a restore that wrote kms.branch_keys without its triggers, or its counts twice.';

create trigger branch_key_counts_sum after insert on kms.branch_key_counts
  for each row when (new.id % 100 = 0) execute function kms.sum_branch_key_counts();
comment on trigger branch_key_counts_sum on kms.branch_key_counts is 'Keeps the changes few.';

-- ── kms.key_epoch ──────────────────────────────────────────────────────────────────────────────
create table kms.key_epoch (
  only_row boolean primary key default true constraint key_epoch_has_one_row check (only_row),
  epoch bigint not null default 1
    constraint key_epoch_epoch_is_positive check (epoch > 0)
);
insert into kms.key_epoch default values;

comment on table kms.key_epoch is
  'Counts rotations and erasures of branch keys: a worker that sees a new number forgets every key it '
  'has cached. '
  'Whoever revokes a key by hand adds one by hand.';
comment on column kms.key_epoch.only_row is 'True: there is one row.';
comment on column kms.key_epoch.epoch is 'The count.';

alter table kms.key_epoch enable row level security;

-- ── kms.region_health ──────────────────────────────────────────────────────────────────────────
create table kms.region_health (
  region text primary key
    constraint region_health_region_is_one check (region ~ '^[a-z]{2}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$'),
  dead_until timestamptz not null,
  reported_at timestamptz not null default clock_timestamp()
);

comment on table kms.region_health is
  'AWS regions that some worker found dead, so that others need not find out for themselves. A row '
  'means nothing after its time.';
comment on column kms.region_health.region is 'The region.';
comment on column kms.region_health.dead_until is 'When somebody may try it again.';
comment on column kms.region_health.reported_at is 'When it was last reported.';

alter table kms.region_health enable row level security;

-- ── kms.health_canaries ────────────────────────────────────────────────────────────────────────
create table kms.health_canaries (
  data_class text primary key
    constraint health_canaries_data_class_is_known
      check (data_class in ('payment', 'pii', 'general')),
  message kms.encrypted_message not null,
  kms_key_arn text
    constraint health_canaries_kms_key_arn_is_short check (length(kms_key_arn) between 1 and 2048),
  branch_key_id text,
  branch_key_version text,
  created_at timestamptz not null default clock_timestamp(),
  constraint health_canaries_branch_key_version_fkey
    foreign key (branch_key_id, branch_key_version)
    references kms.branch_keys (branch_key_id, version) on delete cascade
);

comment on table kms.health_canaries is
  'One known message per data class, that the health check decrypts for real.';
comment on column kms.health_canaries.data_class is 'payment, pii or general.';
comment on column kms.health_canaries.message is 'The message, canonical base64.';
comment on column kms.health_canaries.kms_key_arn is 'KMS key it was encrypted under, if any.';
comment on column kms.health_canaries.branch_key_id is 'Branch key, null in direct mode.';
comment on column kms.health_canaries.branch_key_version is 'Its version, null in direct mode.';
comment on column kms.health_canaries.created_at is 'When it was written; the first writer wins.';

comment on constraint health_canaries_branch_key_version_fkey on kms.health_canaries is
  'A canary goes with the version it hangs on; the next health check writes a new one.';

create index health_canaries_by_branch_key
  on kms.health_canaries (branch_key_id, branch_key_version);
comment on index kms.health_canaries_by_branch_key is 'Serves the cascade.';

alter table kms.health_canaries enable row level security;

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all tables in schema kms from public, anon, authenticated, service_role;
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
