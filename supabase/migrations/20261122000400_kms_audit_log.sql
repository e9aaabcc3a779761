-- The audit log: append-only, and one hash chain over all entries, numbered per UTC day.

-- ── kms.audit_log ──────────────────────────────────────────────────────────────────────────────
create table kms.audit_log (
  chain_day date not null,
  seq bigint not null constraint audit_log_seq_is_positive check (seq > 0),
  prev_hash text not null
    constraint audit_log_prev_hash_is_sha256 check (prev_hash ~ '^[0-9a-f]{64}$'),
  hash text not null
    constraint audit_log_hash_is_sha256 check (hash ~ '^[0-9a-f]{64}$'),
  occurred_at timestamptz not null,
  actor_type text not null
    constraint audit_log_actor_type_is_known
      check (actor_type in ('user', 'admin', 'secret_key', 'system')),
  actor_id text not null
    constraint audit_log_actor_id_is_short check (length(actor_id) between 1 and 128),
  request_id uuid not null,
  function_name text not null
    constraint audit_log_function_name_is_a_slug
      check (function_name ~ '^[a-z][a-z0-9_-]{0,63}$'),
  address_hash text
    constraint audit_log_address_hash_is_a_hash
      check (address_hash ~ '^[A-Za-z0-9+/=_-]{43,128}$'),
  action text not null
    constraint audit_log_action_is_dotted
      check (action ~ '^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*){0,3}$' and length(action) <= 64),
  outcome text not null
    constraint audit_log_outcome_is_known check (outcome in ('success', 'failure')),
  error_code text
    constraint audit_log_error_code_is_a_code check (error_code ~ '^[a-z][a-z0-9_]{0,63}$'),
  data_class text
    constraint audit_log_data_class_is_known
      check (data_class in ('payment', 'pii', 'general')),
  table_name text
    constraint audit_log_table_name_is_a_name check (table_name ~ '^[a-z][a-z0-9_]{0,62}$'),
  record_id uuid,
  owner_id uuid,
  purpose text
    constraint audit_log_purpose_is_short check (length(purpose) between 1 and 200)
    constraint audit_log_purpose_is_printable check (purpose !~ '[[:cntrl:]]')
    constraint audit_log_purpose_holds_no_card_number
      check (purpose !~ '[0-9]([ -]?[0-9]){12}'),
  kms_key_arn text
    constraint audit_log_kms_key_arn_is_short check (length(kms_key_arn) between 1 and 2048),
  kms_region text
    constraint audit_log_kms_region_is_a_slug check (kms_region ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
  branch_key_id text
    constraint audit_log_branch_key_id_is_short check (length(branch_key_id) between 1 and 256),
  branch_key_version text
    constraint audit_log_branch_key_version_is_short
      check (length(branch_key_version) between 1 and 64),
  primary key (chain_day, seq),
  constraint audit_log_failures_say_why check (outcome = 'success' or error_code is not null)
);

comment on table kms.audit_log is
  'Who did what to which record, with which key, and how it ended. Append-only and hash-chained; '
  'never any card data. Entries outlive the rows and users they are about, hence no foreign keys.';
comment on column kms.audit_log.chain_day is 'UTC day of the entry. Never goes back. Set by trigger.';
comment on column kms.audit_log.seq is '1, 2, 3... within the day, without gaps. Set by trigger.';
comment on column kms.audit_log.prev_hash is
  'Hash of the entry before it, of an earlier day if it is a day''s first; 64 zeros for the very '
  'first. Set by trigger.';
comment on column kms.audit_log.hash is
  'SHA-256, hex, of kms.audit_canonical(entry). Set by trigger.';
comment on column kms.audit_log.occurred_at is 'Clock of the database, UTC. Set by trigger.';
comment on column kms.audit_log.actor_type is 'user, admin, secret_key or system.';
comment on column kms.audit_log.actor_id is 'User id, name of the secret key, or name of the job.';
comment on column kms.audit_log.request_id is 'Request id, as in the answer and the logs.';
comment on column kms.audit_log.function_name is 'Edge function.';
comment on column kms.audit_log.address_hash is 'Keyed hash of the caller''s address, if recorded.';
comment on column kms.audit_log.action is 'Noun and verb, such as payment_method.create.';
comment on column kms.audit_log.outcome is 'success or failure.';
comment on column kms.audit_log.error_code is 'Error code of a failure.';
comment on column kms.audit_log.data_class is 'payment, pii or general.';
comment on column kms.audit_log.table_name is 'Table of the record.';
comment on column kms.audit_log.record_id is 'The record.';
comment on column kms.audit_log.owner_id is 'Whose record it is.';
comment on column kms.audit_log.purpose is 'Why a card was revealed, in the caller''s words.';
comment on column kms.audit_log.kms_key_arn is 'KMS key involved.';
comment on column kms.audit_log.kms_region is 'Region called for the key: for a message''s, or, in hierarchical mode, when the worker last fetched the '
  'branch key; where none was called, or nobody told, the one that the ARN names.';
comment on column kms.audit_log.branch_key_id is 'Branch key involved.';
comment on column kms.audit_log.branch_key_version is 'Its version.';

-- Each ends in the place in the chain: whichever serves a filter also gives the newest first.
create index audit_log_by_record on kms.audit_log (record_id, chain_day, seq)
  where record_id is not null;
comment on index kms.audit_log_by_record is 'The history of one record.';
create index audit_log_by_owner on kms.audit_log (owner_id, chain_day, seq)
  where owner_id is not null;
comment on index kms.audit_log_by_owner is 'All that happened to one person''s data.';
create index audit_log_by_actor on kms.audit_log (actor_id, chain_day, seq);
comment on index kms.audit_log_by_actor is 'All that one actor did.';
create index audit_log_by_action on kms.audit_log (action, chain_day, seq);
comment on index kms.audit_log_by_action is 'All of one kind, however rare.';
create index audit_log_failures on kms.audit_log (chain_day, seq) where outcome = 'failure';
comment on index kms.audit_log_failures is 'What was refused or went wrong.';

-- ── The chain ──────────────────────────────────────────────────────────────────────────────────
create function kms.audit_canonical(p_entry kms.audit_log) returns text
language sql stable set search_path = ''
as $$
  select string_agg(
    coalesce(octet_length(convert_to(f.value, 'UTF8')) || ':' || f.value, '-'), ',' order by f.n
  )
  from unnest(array[
    'kms-audit-v1',
    to_char(p_entry.chain_day, 'YYYY-MM-DD'),
    p_entry.seq::text,
    p_entry.prev_hash,
    to_char(p_entry.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    p_entry.actor_type,
    p_entry.actor_id,
    p_entry.request_id::text,
    p_entry.function_name,
    p_entry.address_hash,
    p_entry.action,
    p_entry.outcome,
    p_entry.error_code,
    p_entry.data_class,
    p_entry.table_name,
    p_entry.record_id::text,
    p_entry.owner_id::text,
    p_entry.purpose,
    p_entry.kms_key_arn,
    p_entry.kms_region,
    p_entry.branch_key_id,
    p_entry.branch_key_version
  ]) with ordinality as f (value, n)
$$;
comment on function kms.audit_canonical(kms.audit_log) is
  'The entry as hashed: each field as <bytes in UTF-8>:<text>, null as -, joined by commas, in this '
  'order. No two entries share one, and any language can recompute it.';

create function kms.audit_hash(p_entry kms.audit_log) returns text
language sql stable set search_path = ''
as $$
  select encode(sha256(convert_to(kms.audit_canonical(p_entry), 'UTF8')), 'hex')
$$;
comment on function kms.audit_hash(kms.audit_log) is 'SHA-256 of the canonical entry, lower-case hex.';

create function kms.lock_audit_chain() returns void
language sql volatile set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('kms.audit_log', 0))
$$;
comment on function kms.lock_audit_chain() is
  'One writer at a time until its commit: entries are numbered in the order they commit.';

create function kms.audit_chain() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_last kms.audit_log;
begin
  perform kms.lock_audit_chain();
  select * into v_last from kms.audit_log order by chain_day desc, seq desc limit 1;

  new.occurred_at := clock_timestamp();
  -- A clock that steps back over midnight must not reopen a day.
  new.chain_day := greatest((new.occurred_at at time zone 'UTC')::date, v_last.chain_day);
  new.seq := case when v_last.chain_day = new.chain_day then v_last.seq + 1 else 1 end;
  new.prev_hash := coalesce(v_last.hash, repeat('0', 64));
  new.hash := kms.audit_hash(new);
  return new;
end
$$;
comment on function kms.audit_chain() is
  'Numbers, dates and chains a new entry, whatever the insert says.';

create trigger audit_log_chain before insert on kms.audit_log
  for each row execute function kms.audit_chain();
comment on trigger audit_log_chain on kms.audit_log is 'Chains each entry to the one before it.';

-- ── Append-only: four locks on one door ────────────────────────────────────────────────────────
-- A day that is pruned (public.kms_audit_prune) leaves by this door alone: it is named by the setting
-- kms.pruning_audit_day, which only that function sets, and its anchor is already stored.

-- 1. Row level security that binds the owner too; only insert, select and pruning have a policy.
alter table kms.audit_log enable row level security;
alter table kms.audit_log force row level security;

create policy "The owner's functions append entries"
  on kms.audit_log for insert to current_user with check (hash is not null);
comment on policy "The owner's functions append entries" on kms.audit_log is
  'The owner is the role that ran this migration and as which the RPCs run.';
create policy "The owner's functions read entries"
  on kms.audit_log for select to current_user using (hash is not null);
comment on policy "The owner's functions read entries" on kms.audit_log is
  'The owner is the role that ran this migration and as which the RPCs run.';

create policy "The owner's functions prune the day they have anchored"
  on kms.audit_log for delete to current_user
  using (
    to_char(chain_day, 'YYYY-MM-DD') = (select current_setting('kms.pruning_audit_day', true))
  );
comment on policy "The owner's functions prune the day they have anchored" on kms.audit_log is
  'public.kms_audit_prune names the day by the setting; for anybody else there is nothing to delete.';

-- 2 and 3. Triggers, which bind superusers and roles that bypass policies.
create function kms.audit_refuse_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    if to_char(old.chain_day, 'YYYY-MM-DD') = current_setting('kms.pruning_audit_day', true)
      and exists (select from kms.audit_anchors as a where a.chain_day = old.chain_day)
    then
      return old;
    end if;
  end if;
  raise exception 'audit_log_append_only'
    using errcode = 'KM403', detail = 'Entries of kms.audit_log cannot be changed or removed.';
end
$$;
comment on function kms.audit_refuse_change() is
  'Raises KM403 audit_log_append_only, except for the entries of a day that is being pruned and whose '
  'anchor is stored.';

create trigger audit_log_no_change before update or delete on kms.audit_log
  for each row execute function kms.audit_refuse_change();
comment on trigger audit_log_no_change on kms.audit_log is
  'Entries never change, and leave by whole days only.';

create trigger audit_log_no_truncate before truncate on kms.audit_log
  for each statement execute function kms.audit_refuse_change();
comment on trigger audit_log_no_truncate on kms.audit_log is 'Entries never leave all at once.';

-- 4. Grants, last since a trigger takes the privilege: nobody but the owner may do anything, and not
-- even the owner may change. It keeps the privilege to delete for the pruning of a day.
revoke all on table kms.audit_log from public, anon, authenticated, service_role;
revoke update, truncate, references, trigger on table kms.audit_log from current_user;

revoke all on all functions in schema kms from public, anon, authenticated, service_role;
