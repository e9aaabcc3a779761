-- Stored settings: sealed, one revision after the other, in Supabase Vault where there is one, and the
-- newest 20 of them for a way back.
begin;
\ir support/personas.psql
select plan(46);

create function pg_temp.sealed(p_n integer, p_overrides jsonb default '{}') returns text
language sql as $$
  select (jsonb_build_object('provider', 'aws', 'message', pg_temp.message(p_n)) || p_overrides)::text
$$;
create function pg_temp.put(p_n integer, p_expected integer, p_overrides jsonb default '{}')
returns jsonb
language sql as $$
  select public.kms_settings_put(pg_temp.actor(), pg_temp.sealed(p_n, p_overrides), p_expected)
$$;
create function pg_temp.revisions(p_page jsonb) returns text
language sql as $$
  select string_agg(r.value ->> 'revision', ' ' order by r.n)
  from jsonb_array_elements(p_page -> 'revisions') with ordinality as r (value, n)
$$;

-- ── Without a Vault ────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  public.kms_settings_get(null),
  '{"revision": 0, "message": null, "epoch": 1, "dead_regions": []}', 'nothing is stored at first'
);
select is(public.kms_settings_read(null), null, 'so there is nothing to read');
select is(
  public.kms_settings_history(10, null), '{"revisions": [], "next": null}', 'and no history'
);
select is(pg_temp.put(1, 0, '{"reason": "first"}'), '{"saved": true}', 'the first revision is stored');
select is(pg_temp.put(2, 0), '{"saved": false}', 'a writer who did not know of it is told');
select is(pg_temp.put(2, 2), '{"saved": false}', 'and one who knows too much');
select is(
  public.kms_settings_get(null) - array['epoch', 'dead_regions'],
  jsonb_build_object('revision', 1, 'message', pg_temp.message(1)), 'a worker gets the message'
);
select is(
  public.kms_settings_get(1) - array['epoch', 'dead_regions'],
  '{"revision": 1, "message": null}', 'unless it has it'
);
select is(
  public.kms_settings_get(0) ->> 'message', pg_temp.message(1), 'having another is not having it'
);
select is(
  public.kms_settings_read(1) - 'created_at', jsonb_build_object(
    'revision', 1, 'provider', 'aws', 'restores', null, 'reason', 'first', 'actor_type', 'user',
    'actor_id', 'aaaaaaaa-0000-4000-8000-00000000000a', 'in_vault', false, 'restorable', true,
    'message', pg_temp.message(1)
  ), 'an administrator sees who stored it and why'
);
select matches(
  public.kms_settings_read(null) ->> 'created_at', '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$', 'and when'
);
select is(public.kms_settings_read(7), null, 'a revision that is not there is none');
select is(
  pg_temp.put(2, 1, '{"restores": 0, "provider": "vault"}'), '{"saved": true}',
  'a rollback is a revision of its own'
);
reset role;
select is(
  (select jsonb_agg(jsonb_build_array(action, outcome, actor_id, purpose) order by seq)
   from kms.audit_log where action like 'config.%'),
  '[["config.update", "success", "aaaaaaaa-0000-4000-8000-00000000000a", "revision:1"],
    ["config.rollback", "success", "aaaaaaaa-0000-4000-8000-00000000000a", "revision:2"]]',
  'both are in the audit, and what was not stored is not'
);

-- ── Refusing ───────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  pg_temp.fault_of(format('select pg_temp.put(3, 2, %L)', r.overrides)),
  '22023 invalid_argument: p_settings' || r.detail,
  format('settings with %s are refused', left(r.overrides, 60))
) from (values
  ('{"provider": "azure"}', '.provider has the wrong form'),
  ('{"message": null}', '.message is required'),
  ('{"message": "secret"}', '.message has the wrong form'),
  ('{"restores": 3}', '.restores must be an integer, 0 to 2'),
  ('{"reason": "4242 4242 4242 4242"}', '.reason may hold a card number'),
  ('{"credentials": {}}', ' has an unknown field credentials')
) as r (overrides, detail);
select is(
  pg_temp.fault_of('select pg_temp.put(3, 2, ''{"message": "AgR4-not-base64"}'')'),
  '23514 value for domain kms.encrypted_message violates check constraint '
    '"encrypted_message_is_an_aws_esdk_v2_message"', 'only a message is stored'
);
select is(
  pg_temp.fault_of('select pg_temp.put(3, null)'),
  '22023 invalid_argument: p_expected_revision is required', 'blindly nothing is stored'
);
select is(
  pg_temp.fault_of(format('select public.kms_settings_put(%s)', a.arguments)),
  '22023 invalid_argument: ' || a.detail, format('put(%s) is refused', a.arguments)
) from (values
  ('''{}'', pg_temp.sealed(3), 2', 'p_actor.actor_type is required'),
  ('pg_temp.actor(), ''[]'', 2', 'p_settings is not JSON of type object')
) as a (arguments, detail);
select is(
  pg_temp.fault_of('select public.kms_settings_history(101, null)'),
  '22023 invalid_argument: p_limit must be 1 to 100', 'a page has its limits'
);

-- ── With a Vault: as supabase_vault declares it, with a cipher that tests can undo ─────────────
reset role;
create schema vault;
create table vault.secrets (
  id uuid primary key default gen_random_uuid(), name text, description text not null default '',
  secret text not null, key_id uuid, nonce bytea,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now()
);
create unique index on vault.secrets (name) where name is not null;
create view vault.decrypted_secrets as
  select id, name, description, secret, reverse(secret) as decrypted_secret, key_id, nonce,
    created_at, updated_at
  from vault.secrets;
create function vault.create_secret(
  new_secret text, new_name text default null, new_description text default '',
  new_key_id uuid default null
) returns uuid
language sql security definer set search_path = '' as $$
  insert into vault.secrets (secret, name, description)
  values (reverse(new_secret), new_name, new_description) returning id
$$;
revoke all on function vault.create_secret(text, text, text, uuid) from public;

select :as_service_role;
select is(pg_temp.put(3, 2), '{"saved": true}', 'with a Vault a revision is stored as well');
select is(
  public.kms_settings_get(2) ->> 'message', pg_temp.message(3), 'and a worker gets its message'
);
select is(
  (public.kms_settings_read(3) ->> 'in_vault')::boolean, true, 'an administrator sees where it is'
);
select is(
  public.kms_settings_read(1) ->> 'message', pg_temp.message(1), 'one of before is where it was'
);
select throws_ok(
  'select * from vault.decrypted_secrets', '42501', null, 'service_role reads no secret of the Vault'
);
reset role;
select is(
  (select jsonb_agg(jsonb_build_array(s.message, v.secret, v.name, v.description))
   from kms.settings as s join vault.secrets as v on v.id = s.secret_id),
  jsonb_build_array(jsonb_build_array(
    null, reverse(pg_temp.message(3)), null, 'Settings of the KMS suite, revision 3'
  )), 'the table itself then holds no message'
);

-- ── Forgetting ─────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  (select count(*)::integer from generate_series(3, 23) as n
   where (pg_temp.put(n + 1, n) ->> 'saved')::boolean),
  21, 'revisions are stored one after the other'
);
select is(
  pg_temp.revisions(public.kms_settings_history(5, null)), '24 23 22 21 20', 'newest first'
);
select is(
  (public.kms_settings_history(5, null) ->> 'next')::integer, 20, 'page by page'
);
select is(
  pg_temp.revisions(public.kms_settings_history(100, 6)), '5 4 3 2 1', 'to the very first'
);
select is(public.kms_settings_history(100, 6) ->> 'next', null, 'which is the last page');
select is(
  public.kms_settings_read(4) - array['created_at', 'actor_id', 'actor_type', 'reason'],
  '{"revision": 4, "provider": "aws", "restores": null, "in_vault": false, "restorable": false,
    "message": null}', 'of the 21st revision back only the history is left'
);
select is(
  public.kms_settings_read(5) ->> 'message', pg_temp.message(5), 'of the 20th the settings are, too'
);
reset role;
select is((select count(*)::integer from vault.secrets), 20, 'the Vault forgets as well');
select is(
  (select count(*)::integer from kms.settings where message is not null), 0, 'and so does the table'
);
delete from vault.secrets;
select :as_service_role;
select is(
  public.kms_settings_get(null) - array['epoch', 'dead_regions'],
  '{"revision": 24, "message": null}', 'what was taken from the Vault is gone, and shows'
);

-- ── Which keys are in use ──────────────────────────────────────────────────────────────────────
select is(
  public.kms_keys_in_use(), '{"branch_keys": [], "messages": []}', 'at first no key is in use'
);
reset role;
insert into kms.branch_keys (branch_key_id, type, record)
select k, 'beacon:ACTIVE', jsonb_build_object('branch-key-id', k, 'type', 'beacon:ACTIVE', 'kms-arn', a)
from (values ('one', 'arn:b'), ('two', 'arn:b'), ('three', 'arn:a'), ('four', 'vault:c')) as r (k, a);
select :as_service_role;
select pg_temp.store(
  pg_temp.card(1, :owner), pg_temp.card(2, :owner), pg_temp.record(3, :owner));
select public.kms_canary_put('pii', pg_temp.message(9), null);
select is(
  (select jsonb_agg(r.value -> 0 ->> 'kms-arn') from jsonb_array_elements(
    public.kms_keys_in_use() -> 'branch_keys') as r (value)),
  '["arn:a", "arn:b", "vault:c"]', 'one record of each wrapping key is shown'
);
select ok(
  public.kms_keys_in_use() -> 'messages' in (
    jsonb_build_array(pg_temp.message(1), pg_temp.message(9)),
    jsonb_build_array(pg_temp.message(2), pg_temp.message(9))
  ), 'and one message of each in direct mode, and the canaries'
);

-- While keys move between providers either of two copies will do, but only where there are two.
reset role;
set local kms.moving_branch_keys = 'on';
update kms.branch_keys set copy = record || '{"kms-arn": "vault:d"}'
where branch_key_id in ('one', 'three');
set local kms.moving_branch_keys = '';
insert into kms.legacy_keys (key_id, id, message, fingerprint, source, created_by)
values ('default', pg_temp.nth(1), pg_temp.message(8), repeat('a', 64), 'inline', 'default');
select :as_service_role;
select results_eq(
  $$ select jsonb_path_query_array(r.value, '$[*]."kms-arn"')
     from jsonb_array_elements(public.kms_keys_in_use() -> 'branch_keys') as r (value) order by 1 $$,
  $$ values ('["arn:b"]'::jsonb), ('["vault:c"]'), ('["arn:a", "vault:d"]'), ('["arn:b", "vault:d"]') $$,
  'records without a copy are shown alone, the others with it'
);
select ok(
  public.kms_keys_in_use() -> 'messages' @> jsonb_build_array(pg_temp.message(8)),
  'an imported key in direct mode is in use as well'
);

select * from finish();
rollback;
