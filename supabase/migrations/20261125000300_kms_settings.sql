-- Settings of the key services that administrators store through kms-admin. They come as messages that
-- the functions sealed under keys of their own environment, so that neither a dump nor a writer of this
-- database can read a credential or point the functions at a key service of his own. Where Supabase
-- Vault exists it holds the messages, under its own key besides.

-- ── kms.settings ───────────────────────────────────────────────────────────────────────────────
create table kms.settings (
  revision integer primary key
    constraint settings_revision_is_positive check (revision > 0),
  provider text not null
    constraint settings_provider_is_known check (provider in ('aws', 'gcp', 'vault', 'env')),
  message kms.encrypted_message,
  secret_id uuid,
  restores integer
    constraint settings_restores_an_older_revision check (restores >= 0 and restores < revision),
  reason text
    constraint settings_reason_is_short check (length(reason) between 1 and 200),
  actor_type text not null,
  actor_id text not null,
  request_id uuid not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint settings_message_is_in_one_place check (message is null or secret_id is null)
);

comment on table kms.settings is
  'Every revision of the stored settings; the newest one counts. The messages of all but the newest 20 '
  'are forgotten, their history stays.';
comment on column kms.settings.revision is 'Counts up by one; bound into the message.';
comment on column kms.settings.provider is 'Who wraps new keys under this revision.';
comment on column kms.settings.message is
  'The sealed settings, where there is no Supabase Vault; null when they are there or forgotten.';
comment on column kms.settings.secret_id is 'Secret of Supabase Vault that holds the message.';
comment on column kms.settings.restores is
  'Revision that a rollback went back to, 0 being the environment alone; null for an update.';
comment on column kms.settings.reason is 'Why, in the administrator''s own words.';
comment on column kms.settings.actor_type is 'Who stored it, as in the audit.';
comment on column kms.settings.actor_id is 'User id, or the name of the secret key.';
comment on column kms.settings.request_id is 'Request that stored it, as in the audit.';
comment on column kms.settings.created_at is 'When it was stored.';

alter table kms.settings enable row level security;
revoke all on table kms.settings from public, anon, authenticated, service_role;

-- ── Which keys are in use (public.kms_keys_in_use asks) ────────────────────────────────────────
create index branch_keys_by_wrapping_key on kms.branch_keys
  ((record ->> 'kms-arn'), (coalesce(copy ->> 'kms-arn', '')));
comment on index kms.branch_keys_by_wrapping_key is
  'Finds the few wrapping keys, and pairs of them, among many records.';
create index ciphertexts_by_wrapping_key on kms.ciphertexts (kms_key_arn)
  where branch_key_id is null and kms_key_arn is not null;
comment on index kms.ciphertexts_by_wrapping_key is
  'Finds the few wrapping keys of messages in direct mode.';

-- ── Supabase Vault ─────────────────────────────────────────────────────────────────────────────
-- Asked of the catalog and called by name, because there is none on plain Postgres: to_regclass() would
-- fail where the schema is there and may not be used.
create function kms.vault_schema() returns name
language sql stable set search_path = ''
as $$
  select n.nspname
  from pg_catalog.pg_namespace as n
  join pg_catalog.pg_class as s on s.relnamespace = n.oid and s.relname = 'secrets'
  join pg_catalog.pg_class as d on d.relnamespace = n.oid and d.relname = 'decrypted_secrets'
  join pg_catalog.pg_proc as p on p.pronamespace = n.oid and p.proname = 'create_secret'
  where n.nspname = 'vault' and has_schema_privilege(n.oid, 'USAGE')
    and has_table_privilege(s.oid, 'DELETE') and has_table_privilege(d.oid, 'SELECT')
    and has_function_privilege(p.oid, 'EXECUTE')
  limit 1
$$;
comment on function kms.vault_schema() is
  'The schema of a Supabase Vault that these functions may write, read and clean up; null without one.';

create function kms.settings_message(p_row kms.settings) returns text
language plpgsql stable set search_path = ''
as $$
declare
  v_vault constant name := kms.vault_schema();
  v_message text := p_row.message;
begin
  if p_row.secret_id is not null and v_vault is not null then
    execute format('select decrypted_secret from %I.decrypted_secrets where id = $1', v_vault)
    into v_message using p_row.secret_id;
  end if;
  return v_message;
end
$$;
comment on function kms.settings_message(kms.settings) is
  'The sealed settings of a revision from wherever they are; null when they are gone.';

create function kms.forget_old_settings() returns void
language plpgsql volatile set search_path = ''
as $$
declare
  v_horizon constant integer := (select max(s.revision) from kms.settings as s) - 20;
  v_vault constant name := kms.vault_schema();
  v_secrets uuid[];
begin
  select array_agg(s.secret_id) into v_secrets
  from kms.settings as s where s.revision <= v_horizon and s.secret_id is not null;
  if v_secrets is not null and v_vault is not null then
    execute format('delete from %I.secrets where id = any ($1)', v_vault) using v_secrets;
  end if;
  update kms.settings as s set message = null, secret_id = null
  where s.revision <= v_horizon and (s.message is not null or s.secret_id is not null);
end
$$;
comment on function kms.forget_old_settings() is
  'Forgets the sealed settings of all but the newest 20 revisions.';

-- ── RPC: for workers ───────────────────────────────────────────────────────────────────────────
create function public.kms_settings_get(p_known_revision integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_row kms.settings;
begin
  select * into v_row from kms.settings as s order by s.revision desc limit 1;
  return kms.worker_news() || jsonb_build_object(
    'revision', coalesce(v_row.revision, 0),
    'message', case
      when v_row.revision is distinct from p_known_revision then kms.settings_message(v_row)
    end
  );
end
$$;
comment on function public.kms_settings_get(integer) is
  'The revision that counts (0 when nothing was ever stored), its sealed settings unless it is the one '
  'known already, and the news of kms.worker_news(): {"revision", "message", "epoch", "dead_regions"}. '
  'For service_role.';

-- ── RPC: for administrators ────────────────────────────────────────────────────────────────────
create function kms.settings_json(p_row kms.settings) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'revision', p_row.revision, 'provider', p_row.provider, 'restores', p_row.restores,
    'reason', p_row.reason, 'actor_type', p_row.actor_type, 'actor_id', p_row.actor_id,
    'created_at', kms.iso_time(p_row.created_at), 'in_vault', p_row.secret_id is not null,
    'restorable', p_row.message is not null or p_row.secret_id is not null
  )
$$;
comment on function kms.settings_json(kms.settings) is 'A revision without its settings.';

create function public.kms_settings_read(p_revision integer) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select kms.settings_json(s) || jsonb_build_object('message', kms.settings_message(s))
  from kms.settings as s
  where p_revision is null or s.revision = p_revision
  order by s.revision desc limit 1
$$;
comment on function public.kms_settings_read(integer) is
  'One revision, the newest for null, with its sealed settings: {"revision", "provider", "restores", '
  '"reason", "actor_type", "actor_id", "created_at", "in_vault", "restorable", "message"}; null when '
  'there is none. For service_role.';

create function public.kms_settings_history(p_limit integer, p_before integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_row kms.settings;
  v_rows jsonb[] := array[]::jsonb[];
  v_last integer;
  v_next integer;
begin
  perform kms.check_limit(p_limit);
  for v_row in
    select * from kms.settings as s
    where p_before is null or s.revision < p_before
    order by s.revision desc limit p_limit + 1
  loop
    if cardinality(v_rows) = p_limit then
      v_next := v_last;
    else
      v_rows := v_rows || kms.settings_json(v_row);
      v_last := v_row.revision;
    end if;
  end loop;
  return jsonb_build_object('revisions', to_jsonb(v_rows), 'next', v_next);
end
$$;
comment on function public.kms_settings_history(integer, integer) is
  'A page of 1 to 100 revisions before one (null: from the newest), newest first, and before which one '
  'the next begins: {"revisions": [...], "next"}. For service_role.';

create function public.kms_settings_put(
  p_actor text, p_settings text, p_expected_revision integer
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_settings jsonb := kms.parse_json(p_settings, 'p_settings', 'object');
  v_message kms.encrypted_message;
  v_vault constant name := kms.vault_schema();
  v_new kms.settings;
begin
  if p_expected_revision is null or p_expected_revision not between 0 and 999999999 then
    perform kms.refuse('p_expected_revision is required');
  end if;
  perform kms.check_object(
    v_settings, 'p_settings', array['provider', 'message', 'restores', 'reason']);
  v_message := kms.read_text(v_settings, 'message', 'p_settings', '^AgR4', true, 131072);
  v_new.revision := p_expected_revision + 1;
  v_new.provider :=
    kms.read_text(v_settings, 'provider', 'p_settings', '^(aws|gcp|vault|env)$', true);
  v_new.restores :=
    kms.read_integer(v_settings, 'restores', 'p_settings', 0, p_expected_revision, false);
  v_new.reason := kms.read_free_text(v_settings, 'reason', 'p_settings', 200, false);

  -- Locks in one order: the settings, the audit chain.
  perform pg_advisory_xact_lock(hashtextextended('kms.settings', 0));
  if p_expected_revision
    is distinct from (select coalesce(max(s.revision), 0) from kms.settings as s)
  then
    return jsonb_build_object('saved', false);
  end if;
  if v_vault is not null then
    execute format('select %I.create_secret($1, null, $2)', v_vault) into v_new.secret_id
    using v_message::text, format('Settings of the KMS suite, revision %s', v_new.revision);
  else
    v_new.message := v_message;
  end if;
  insert into kms.settings (
    revision, provider, message, secret_id, restores, reason, actor_type, actor_id, request_id
  ) values (
    v_new.revision, v_new.provider, v_new.message, v_new.secret_id, v_new.restores, v_new.reason,
    v_actor ->> 'actor_type', v_actor ->> 'actor_id', (v_actor ->> 'request_id')::uuid
  );
  perform kms.forget_old_settings();
  perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
    'action', case when v_new.restores is null then 'config.update' else 'config.rollback' end,
    'outcome', 'success', 'purpose', format('revision:%s', v_new.revision)
  )));
  return jsonb_build_object('saved', true);
end
$$;
comment on function public.kms_settings_put(text, text, integer) is
  'Stores the revision after the one expected, {"provider", "message", "restores", "reason"}, unless '
  'another came in between: {"saved"}. Supabase Vault keeps the message where there is one. Audited as '
  'config.update, or as config.rollback when it restores a revision. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_settings_get(integer),
  public.kms_settings_read(integer),
  public.kms_settings_history(integer, integer),
  public.kms_settings_put(text, text, integer)
from public, anon, authenticated;
grant execute on function
  public.kms_settings_get(integer),
  public.kms_settings_read(integer),
  public.kms_settings_history(integer, integer),
  public.kms_settings_put(text, text, integer)
to service_role;
