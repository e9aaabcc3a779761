-- The end of a branch key's version, one rotation of a wrapping key at a time, and the migration of branch
-- keys between providers.
begin;
\ir support/personas.psql
select plan(150);

create function pg_temp.version(p_n integer) returns text
language sql as $$ select 'branch:version:' || pg_temp.nth(p_n) $$;

-- Records of the nth version of a branch key; the first one comes with its beacon key.
create function pg_temp.records(p_id text, p_n integer, p_overrides jsonb default '{}') returns text
language sql as $$
  select jsonb_agg(jsonb_build_object(
    'branch-key-id', p_id, 'enc', rpad('k' || p_n, 88, 'A'),
    'kms-arn', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
    'create-time', '2026-11-2' || p_n || 'T00:00:00.000000Z', 'hierarchy-version', '1'
  ) || t.type::jsonb || p_overrides)::text
  from (
    select format('{"type": "branch:ACTIVE", "version": %s}', to_json(pg_temp.version(p_n)))
    union all select format('{"type": %s}', to_json(pg_temp.version(p_n)))
    union all select '{"type": "beacon:ACTIVE"}' where p_n = 1
  ) as t (type)
$$;
create function pg_temp.rotate(p_id text, p_n integer) returns jsonb
language sql as $$
  select public.kms_branch_key_rotate(
    pg_temp.actor(), pg_temp.records(p_id, p_n), pg_temp.version(p_n - 1)) -> 'rotated'
$$;
create function pg_temp.retire(p_id text, p_n integer) returns jsonb
language sql as $$
  select public.kms_branch_key_retire(pg_temp.actor(), p_id, pg_temp.nth(p_n)::text)
$$;
create function pg_temp.record_under(p_n integer, p_owner text, p_id text, p_version integer)
returns jsonb
language sql as $$
  select pg_temp.record(p_n, p_owner, jsonb_build_object('ciphertexts', jsonb_build_array(
    jsonb_build_object('field', 'data', 'message', pg_temp.message(p_n), 'branch_key_id', p_id,
      'branch_key_version', pg_temp.nth(p_version)))))
$$;

select :as_service_role;
select public.kms_branch_key_create(pg_temp.records('pii', 1));
select public.kms_branch_key_create(pg_temp.records('payment', 1));

-- ── A message hangs on a version that is there ─────────────────────────────────────────────────
select is(
  pg_temp.store(pg_temp.record_under(1, :owner, 'pii', 1)) -> 0 ->> 'outcome', 'created',
  'a message is stored under a version that exists'
);
select throws_ok(
  format('select pg_temp.store(pg_temp.record_under(2, %L, %L, %s))', :owner, r.id, r.version),
  '23503', 'insert or update on table "ciphertexts" violates foreign key constraint '
    '"ciphertexts_branch_key_version_fkey"', r.what
) from (values
  ('pii', 2, 'not under one that does not'), ('general', 1, 'nor under another branch key''s')
) as r (id, version, what);
select throws_ok(
  $$ select public.kms_canary_put('pii', pg_temp.message(1), 'arn', 'pii', pg_temp.nth(2)::text) $$,
  '23503', null, 'nor is a canary'
);

-- ── What stands of a branch key ────────────────────────────────────────────────────────────────
select is(public.kms_branch_key_info('general'), null, 'of no branch key nothing stands');
select is(
  public.kms_branch_key_info('pii'), jsonb_build_object(
    'version', pg_temp.nth(1), 'created_at', '2026-11-21T00:00:00.000Z', 'versions', 1,
    'old_versions', '[]'::jsonb
  ), 'of a new one its version'
);
select is(pg_temp.rotate('pii', n), 'true', 'rotated') from generate_series(2, 3) as n;
select is(
  public.kms_branch_key_info('pii'), jsonb_build_object(
    'version', pg_temp.nth(3), 'created_at', '2026-11-23T00:00:00.000Z', 'versions', 3,
    'old_versions', jsonb_build_array(
      jsonb_build_object('version', pg_temp.nth(2), 'created_at', '2026-11-22T00:00:00.000Z',
        'in_use', false),
      jsonb_build_object('version', pg_temp.nth(1), 'created_at', '2026-11-21T00:00:00.000Z',
        'in_use', true)
    )
  ), 'of a rotated one the old versions as well, and whether a message needs them'
);

-- ── Retirement ─────────────────────────────────────────────────────────────────────────────────
select public.kms_canary_put('pii', pg_temp.message(1), 'arn', 'pii', pg_temp.nth(2)::text);
select is(
  pg_temp.retire(r.id, r.version), jsonb_build_object('outcome', r.outcome, 'rows', r.rows), r.what
) from (values
  ('pii', 3, 'active', 0, 'the active version is not retired'),
  ('pii', 1, 'in_use', 1, 'nor one that a message hangs on, and it is told how many'),
  ('payment', 1, 'active', 0, 'nor the only one'),
  ('pii', 4, 'not_found', 0, 'nor one that does not exist'),
  ('general', 1, 'not_found', 0, 'nor one of a branch key that does not exist'),
  ('pii', 2, 'retired', 0, 'an old one that nothing hangs on is'),
  ('pii', 2, 'not_found', 0, 'once')
) as r (id, version, outcome, rows, what);
select is(
  public.kms_branch_key_get('pii', pg_temp.version(2)),
  '{"record": null, "epoch": 4, "dead_regions": []}', 'it is gone, and the epoch tells'
);
select is(public.kms_canary_get('pii'), null, 'its canary went with it');
select is(
  public.kms_branch_key_info('pii') -> 'versions', '2', 'the others stay'
);
select throws_ok(
  format('select pg_temp.store(pg_temp.record_under(2, %L, %L, 2))', :owner, 'pii'),
  '23503', null, 'whoever has it cached can store nothing under it'
);
select public.kms_record_delete(pg_temp.actor(), :owner, pg_temp.nth(1));
select is(
  pg_temp.retire('pii', 1) ->> 'outcome', 'retired',
  'with its last message gone an old version can be retired'
);
select is(
  pg_temp.fault_of(format(
    'select public.kms_branch_key_retire(pg_temp.actor(), %L, %L)', r.id, r.version)),
  '22023 invalid_argument: ' || r.detail, format('%s %s is refused', r.id, r.version)
) from (values
  (null, pg_temp.nth(1)::text, 'p_branch_key_id is not a branch key id'),
  ('pii', null, 'p_version is not a version'),
  ('pii', pg_temp.version(1), 'p_version is not a version'),
  ('pii', '', 'p_version is not a version')
) as r (id, version, detail);
reset role;
select results_eq(
  'select branch_key_version, outcome, error_code from kms.audit_log
   where action = ''branch_key.retire'' order by chain_day, seq',
  $$ values (pg_temp.nth(3)::text, 'failure', 'branch_key_in_use'),
       (pg_temp.nth(1)::text, 'failure', 'branch_key_in_use'),
       (pg_temp.nth(1)::text, 'failure', 'branch_key_in_use'),
       (pg_temp.nth(2)::text, 'success', null), (pg_temp.nth(1)::text, 'success', null) $$,
  'each retirement is audited, and each that was refused'
);
set local kms.retiring_branch_key = 'pii';
select throws_ok(
  $$ delete from kms.branch_keys where branch_key_id = 'pii' $$, 'KM403',
  'branch_key_record_immutable', 'no setting lets the active record or the beacon key go'
);
set local kms.retiring_branch_key = '';

-- ── Rotations of wrapping keys ─────────────────────────────────────────────────────────────────
select :as_service_role;
create function pg_temp.begin_rotation(p_data_class text, p_seconds integer default 60) returns uuid
language sql as $$
  select (public.kms_key_rotation_begin(
    pg_temp.actor(), p_data_class, 'arn:aws:kms:us-east-1:000000000000:key/mrk-1', p_seconds
  ) ->> 'token')::uuid
$$;
select pg_temp.begin_rotation('pii') as token \gset
select is(pg_temp.begin_rotation('pii'), null, 'a second caller has to wait');
select isnt(pg_temp.begin_rotation('payment'), null, 'but not for another class');
select public.kms_key_rotation_end(pg_temp.actor(), 'pii', pg_temp.nth(1), 'arn', null);
select is(pg_temp.begin_rotation('pii'), null, 'nobody ends what another began');
select public.kms_key_rotation_end(
  pg_temp.actor(), 'pii', :'token', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1', 'kms_unavailable');
select isnt(pg_temp.begin_rotation('pii'), null, 'who began it does');
reset role;
update kms.key_rotations set expires_at = clock_timestamp();
select :as_service_role;
select isnt(pg_temp.begin_rotation('pii'), null, 'or time does');
select is(
  pg_temp.fault_of(format('select pg_temp.begin_rotation(%s)', r.arguments)),
  '22023 invalid_argument: ' || r.detail, format('%s is refused', r.arguments)
) from (values
  ('null', 'p_data_class must be payment, pii or general'),
  ('''pii'', 0', 'p_lease_seconds must be 1 to 600')
) as r (arguments, detail);

-- ── Migration between providers ────────────────────────────────────────────────────────────────
create function pg_temp.step(p_step text, p_from text default 'aws', p_to text default 'vault')
returns text
language sql as $$
  select (j ->> 'outcome') || ' ' || (j ->> 'remaining') || '/' || (j ->> 'branch_keys')
  from public.kms_migration_step(pg_temp.actor(), p_from, p_to, p_step) as j
$$;
create function pg_temp.under(p_record jsonb, p_kms_arn text) returns jsonb
language sql as $$
  select p_record || jsonb_build_object('kms-arn', p_kms_arn, 'enc', rpad('copy', 88, 'A'))
$$;
-- Copies of all that need one, as a worker makes them; how many were stored.
create function pg_temp.copy_all(
  p_kms_arn text default 'vault:transit/keys/k', p_limit integer default 100
) returns integer
language sql as $$
  select (public.kms_migration_copy(pg_temp.actor(), 'aws', 'vault', (
    select jsonb_agg(jsonb_build_object('record', r, 'copy', pg_temp.under(r, p_kms_arn)))
    from jsonb_array_elements(public.kms_migration_work('aws', 'vault', 'copy', p_limit)) as r
  )::text) ->> 'stored')::integer
$$;
create function pg_temp.confirm_all() returns integer
language sql as $$
  select (public.kms_migration_confirm(
    'aws', 'vault', public.kms_migration_work('aws', 'vault', 'confirm', 100)::text
  ) ->> 'confirmed')::integer
$$;
create function pg_temp.swap() returns text
language sql as $$
  select public.kms_migration_swap(pg_temp.actor(), 'aws', 'vault', 100) ->> 'swapped' $$;
create function pg_temp.end_of(p_step text) returns text
language sql as $$
  select public.kms_migration_end(pg_temp.actor(), 'aws', 'vault', p_step) ->> 'ended'
$$;
-- Whose record and whose copy.
create function pg_temp.holder(p_id text, p_type text) returns text
language sql as $$
  select concat_ws(' ', split_part(j -> 'record' ->> 'kms-arn', ':', 1),
    split_part(j -> 'copy' ->> 'kms-arn', ':', 1))
  from public.kms_branch_key_get(p_id, p_type) as j
$$;

select :as_service_role;
select is(public.kms_migration_status(null), null, 'no migration is under way at first');
select is(pg_temp.step(s.step), s.outcome, format('%s: %s', s.step, s.what)) from (values
  ('switch', 'conflict 2/2', 'nothing was prepared'),
  ('finish', 'conflict 2/2', 'nor switched'),
  ('back', 'ended 0/2', 'and there is nothing to undo'),
  ('prepare', 'ok 2/2', 'begins one'),
  ('finish', 'conflict 2/2', 'does not follow'),
  ('switch', 'incomplete 2/2', 'no record has a copy')
) as s (step, outcome, what);
select is(
  split_part(pg_temp.step('prepare', p.p_from, p.p_to), ' ', 1), 'conflict',
  'another migration has to wait'
) from (values ('aws', 'gcp'), ('vault', 'aws')) as p (p_from, p_to);
select is(pg_temp.copy_all(p_limit => 2), 2, 'a part of the work is done in one call');
select is(pg_temp.copy_all(), 4, 'and the rest in the next');
select is(
  public.kms_migration_status(null),
  '{"from": "aws", "to": "vault", "step": "prepare", "branch_keys": 2, "remaining": 0,
    "operations": 0, "direct_rows": 0}', 'then every record has a copy'
);
select is(pg_temp.holder('pii', 'beacon:ACTIVE'), 'arn vault', 'which readers get with it');
select is(
  pg_temp.fault_of(format('select public.kms_migration_copy(pg_temp.actor(), %L, %L, %L)', 'aws',
    'vault', jsonb_build_array(jsonb_build_object('record', r.record, 'copy', c.copy)))),
  '22023 invalid_argument: p_items[0].copy is not the same key under the other provider', c.what
)
from (select public.kms_branch_key_get('pii', 'beacon:ACTIVE') -> 'record') as r (record)
cross join lateral (values
  (pg_temp.under(r.record, 'env:pii-00000000'), 'a copy of a third provider is refused'),
  (pg_temp.under(r.record, r.record ->> 'kms-arn'), 'and one of the same provider'),
  (pg_temp.under(r.record, 'vault:k') || '{"create-time": "2026"}', 'and one that says another thing')
) as c (copy, what);

-- A rotation in the midst of it.
select is(pg_temp.rotate('pii', 4), 'true', 'a branch key is rotated meanwhile');
select is(pg_temp.holder('pii', 'branch:ACTIVE'), 'arn', 'and no copy of the version before is left');
select is(pg_temp.step('switch'), 'incomplete 1/2', 'which a switch waits for');
select public.kms_branch_key_get('pii', 'branch:ACTIVE') -> 'record' as stale \gset
select is(pg_temp.rotate('pii', 5), 'true', 'it is rotated once more');
select is(
  public.kms_migration_copy(pg_temp.actor(), 'aws', 'vault', jsonb_build_array(jsonb_build_object(
    'record', :'stale'::jsonb, 'copy', pg_temp.under(:'stale'::jsonb, 'vault:k')))::text),
  '{"stored": 0}', 'a copy of what has changed since it was read is not stored'
);
select is(pg_temp.copy_all(), 3, 'of what stands it is');
select is(pg_temp.swap(), '0', 'nothing changes places before the switch');
select is(pg_temp.step('switch'), 'ok 2/2', 'the switch');
select is(pg_temp.swap(), '8', 'records and copies change places');
select is(pg_temp.swap(), '0', 'once');
select is(pg_temp.holder(k.id, k.type), 'vault arn', format('%s of %s did', k.type, k.id))
from (values ('pii', 'branch:ACTIVE'), ('pii', pg_temp.version(5)), ('payment', 'beacon:ACTIVE'))
  as k (id, type);

-- A worker that still wraps by the old provider.
select is(pg_temp.rotate('pii', 6), 'true', 'a worker with the old provider rotates');
select is(pg_temp.step('finish'), 'incomplete 2/2', 'then the end has to wait');
select is(pg_temp.copy_all(), 2, 'the switch again');
select is(pg_temp.swap(), '2', 'moves that as well');
select is(pg_temp.step('finish'), 'ok 2/2', 'the end may begin');
select is(pg_temp.end_of('finish'), 'false', 'not before each record was opened');
select is(pg_temp.confirm_all(), 9, 'they are');
select is(pg_temp.end_of('back'), 'false', 'it is no way back');
select is(pg_temp.end_of('finish'), 'true', 'then the copies go');
select is(pg_temp.holder('payment', 'branch:ACTIVE'), 'vault', 'and the new records stay');
select is(pg_temp.step('finish'), 'ended 0/2', 'once more is no harm');
select is(
  public.kms_migration_copy(pg_temp.actor(), 'aws', 'vault', jsonb_build_array(jsonb_build_object(
    'record', r.record, 'copy', pg_temp.under(r.record, 'arn:aws:kms:us-east-1:000000000000:key/1')
  ))::text), '{"stored": 0}', 'a late worker stores no copy when it is over'
) from (select public.kms_branch_key_get('pii', 'beacon:ACTIVE') -> 'record') as r (record);

-- The way back.
select is(pg_temp.step('prepare'), 'ok 2/2', 'a migration of what is there already');
select is(
  pg_temp.copy_all('arn:aws:kms:us-east-1:000000000000:key/mrk-1'), 9,
  'makes copies of the old provider'
);
select is(pg_temp.step('back'), 'ok 2/2', 'and is taken back');
select is(pg_temp.end_of('back'), 'false', 'not before all records are the old provider''s');
select is(pg_temp.swap(), '9', 'they are');
select is(pg_temp.end_of('back'), 'false', 'nor before each was opened: its copy may be the only one left');
select is(pg_temp.confirm_all(), 9, 'they are');
select is(pg_temp.end_of('back'), 'true', 'and that was it');
select is(
  pg_temp.holder('pii', 'branch:ACTIVE') || coalesce(public.kms_migration_status(null)::text, '.'),
  'arn.', 'everything is as it was'
);
select is(
  pg_temp.fault_of(format('select public.kms_migration_step(pg_temp.actor(), %s)', r.arguments)),
  '22023 invalid_argument: ' || r.detail, format('%s is refused', r.arguments)
) from (values
  ('''aws'', ''aws'', ''prepare''', 'p_from and p_to must be two of aws, gcp, vault, env'),
  ('''aws'', ''azure'', ''prepare''', 'p_from and p_to must be two of aws, gcp, vault, env'),
  ('null, ''aws'', ''prepare''', 'p_from and p_to must be two of aws, gcp, vault, env'),
  ('''aws'', ''gcp'', ''undo''', 'p_step must be prepare, switch, finish or back')
) as r (arguments, detail);
reset role;
select results_eq(
  'select outcome, error_code, count(*)::integer from kms.audit_log where action like ''provider.%''
   group by 1, 2 order by 1, 2',
  $$ values ('failure', 'migration_conflict', 5), ('failure', 'migration_incomplete', 3),
       ('success', null, 12) $$, 'each step and exchange is audited, and each that was refused'
);

-- ── An end in pieces ───────────────────────────────────────────────────────────────────────────
-- Whether it ended, whether anything remains, and how many operations: which records come first is left
-- open.
create function pg_temp.end_some(p_limit integer) returns text
language sql as $$
  select (j ->> 'ended') || ' ' || (j -> 'remaining' <> '0') || ' ' || (j ->> 'operations')
  from public.kms_migration_end(pg_temp.actor(), 'aws', 'vault', 'finish', p_limit) as j
$$;
select :as_service_role;
select is(pg_temp.step('prepare'), 'ok 2/2', 'there once more');
select is(pg_temp.copy_all(), 9, 'with copies');
select is(pg_temp.step('switch'), 'ok 2/2', 'as far as the switch');
select is(pg_temp.swap(), '9', 'of all records');
select public.kms_settings_put(pg_temp.actor(), jsonb_build_object(
  'provider', s.provider, 'message', pg_temp.message(s.n))::text, s.n - 1)
from (values (1, 'vault'), (2, 'aws')) as s (n, provider);
select alike(pg_temp.step('finish'), 'conflict %', 'no end while settings wrap by the old provider');
select public.kms_settings_put(pg_temp.actor(), jsonb_build_object(
  'provider', 'vault', 'message', pg_temp.message(3))::text, 2);
select alike(pg_temp.step('finish'), 'ok %', 'but under those of the new one');
select is(pg_temp.end_some(4), 'false true 18', 'no copy goes while no record was opened');
select is(
  public.kms_migration_confirm('aws', 'vault', jsonb_build_array(r.record)::text),
  '{"confirmed": 1}', 'one is'
) from (select public.kms_branch_key_get('pii', 'beacon:ACTIVE') -> 'record') as r (record);
select is(pg_temp.end_some(4), 'false true 17', 'nor while one record was not');
select is(pg_temp.step('back'), 'ok 2/2', 'until then there is a way back');
select is(pg_temp.swap(), '9', 'for all of them');
select is(pg_temp.step('switch'), 'ok 2/2', 'and forth');
select is(pg_temp.swap(), '9', 'again');
select is(pg_temp.confirm_all(), 9, 'after which each has to be opened anew');
select is(pg_temp.end_some(4), 'false true 5', 'then some of the copies go');
select is(
  public.kms_migration_status(null) - array['branch_keys', 'remaining', 'direct_rows'],
  '{"from": "aws", "to": "vault", "step": "finish", "operations": 5}',
  'and the migration is ending, not over'
);
select is(split_part(pg_temp.step(s.step, s.p_from, s.p_to), ' ', 1), 'conflict', s.what) from (values
  ('back', 'aws', 'vault', 'there is no way back from here'),
  ('prepare', 'aws', 'vault', 'nor another beginning'),
  ('prepare', 'vault', 'aws', 'nor any other migration')
) as s (step, p_from, p_to, what);
select is(pg_temp.end_of('back'), 'false', 'nor another end');

-- A worker that still wraps by the old provider.
select public.kms_branch_key_create(pg_temp.records('general', 1));
select alike(pg_temp.step('finish'), 'incomplete %', 'a branch key that the old provider made');
select is(pg_temp.end_some(100), 'false true 12', 'is not left behind');
select is(pg_temp.step('switch'), 'ok 1/3', 'the switch');
select is(pg_temp.copy_all(), 3, 'copies it, and nothing else again');
select is(pg_temp.swap(), '3', 'and moves it');
select is(pg_temp.step('finish'), 'ok 1/3', 'then the end goes on');
select is(pg_temp.confirm_all(), 3, 'as for all others');
select is(pg_temp.end_some(2), 'false true 1', 'to the last copy');
select is(pg_temp.end_some(2), 'true false 0', 'and is over');
select is(public.kms_migration_status(null), null, 'then no migration is under way');
select is(pg_temp.end_some(2), 'false false 0', 'and it does not end twice');
reset role;
select results_eq(
  'select split_part(action, ''.'', 2), purpose from kms.audit_log
   where action in (''provider.drop'', ''provider.end'') order by chain_day, seq offset 2',
  $$ values ('drop', 'finish from aws to vault, 4 copies dropped'),
       ('drop', 'finish from aws to vault, 5 copies dropped'),
       ('drop', 'finish from aws to vault, 2 copies dropped'),
       ('end', 'finish from aws to vault, 12 copies dropped') $$,
  'each piece is audited, and all of them at the end'
);

-- A way back from half of a beginning asks nothing of the provider that was to come, and of the old one that
-- it opens what loses its copy.
select :as_service_role;
select public.kms_migration_step(pg_temp.actor(), 'vault', 'gcp', 'prepare');
select is(
  public.kms_migration_copy(pg_temp.actor(), 'vault', 'gcp', jsonb_build_array(jsonb_build_object(
    'record', r.record, 'copy', pg_temp.under(r.record, 'projects/p')))::text),
  '{"stored": 1}', 'one copy is made'
) from (select public.kms_branch_key_get('pii', 'beacon:ACTIVE') -> 'record') as r (record);
select is(
  public.kms_migration_step(pg_temp.actor(), 'vault', 'gcp', 'back') ->> 'operations', '2',
  'back has that one to open, and its copy to drop'
);
select is(public.kms_migration_work('vault', 'gcp', 'copy', 100), '[]', 'and nothing to copy');
select is(
  public.kms_migration_end(pg_temp.actor(), 'vault', 'gcp', 'back') ->> 'ended', 'false', 'once it is opened'
);
select is(
  public.kms_migration_confirm(
    'vault', 'gcp', public.kms_migration_work('vault', 'gcp', 'confirm', 100)::text),
  '{"confirmed": 1}', 'it is'
);
select is(
  public.kms_migration_end(pg_temp.actor(), 'vault', 'gcp', 'back') ->> 'ended', 'true', 'and is over'
);
select is(
  pg_temp.fault_of(format(
    'select public.kms_migration_end(pg_temp.actor(), ''aws'', ''vault'', %s)', r.arguments)),
  '22023 invalid_argument: ' || r.detail, format('an end with %s is refused', r.arguments)
) from (values
  ('''switch'', 1', 'p_step must be finish or back'), ('null, 1', 'p_step must be finish or back'),
  ('''back'', 0', 'p_limit must be 1 to 10000'), ('''back'', 10001', 'p_limit must be 1 to 10000'),
  ('''back'', null', 'p_limit must be 1 to 10000')
) as r (arguments, detail);

-- ── How many there are ─────────────────────────────────────────────────────────────────────────
reset role;
create view pg_temp.miscounted as
select provider, stage, is_active, sum(records) as records from (
  select provider, stage, is_active, records from kms.branch_key_counts
  union all
  select provider, stage, type = 'branch:ACTIVE', -1 from kms.branch_keys
) as c
group by 1, 2, 3 having sum(records) <> 0;
select is_empty('select * from pg_temp.miscounted', 'after all this the counts are what there is');
insert into kms.branch_keys (branch_key_id, type, record)
select o.id, t.type, jsonb_strip_nulls(jsonb_build_object('branch-key-id', o.id, 'type', t.type,
  'kms-arn', 'env:pii', 'version', case t.type when 'branch:ACTIVE' then pg_temp.version(o.n) end))
from (select n, 'pii:' || pg_temp.nth(n) as id from generate_series(1, 600) as n) as o
cross join lateral (values ('branch:ACTIVE'), (pg_temp.version(o.n))) as t (type);
select :as_service_role;
select is(pg_temp.step('prepare', 'env', 'gcp'), 'ok 600/600', 'of many records the share is told');
reset role;
set local kms.moving_branch_keys = 'on';
update kms.branch_keys set copy = record || '{"kms-arn": "projects/p"}'
where branch_key_id between 'pii:' || pg_temp.nth(1) and 'pii:' || pg_temp.nth(75);
set local kms.moving_branch_keys = '';
select is(public.kms_migration_status(null) ->> 'remaining', '525', 'and falls with what is done');
set local kms.erasing_owner = '00000000-0000-4000-8000-000000000600';
delete from kms.branch_keys where branch_key_id = 'pii:' || pg_temp.nth(600);
set local kms.erasing_owner = '';
select is(public.kms_migration_status(null) ->> 'branch_keys', '599', 'who is erased counts no more');
insert into kms.branch_key_counts (provider, stage, is_active, records)
select provider, stage, is_active, -sum(records) from kms.branch_key_counts group by 1, 2, 3;
select isnt(
  public.kms_migration_status(null) ->> n.name, '0',
  format('no wrong count hides what there is to do: %s', n.name)
) from (values ('remaining'), ('operations'), ('branch_keys')) as n (name);
insert into kms.branch_key_counts (provider, stage, is_active, records)
select provider, stage, type = 'branch:ACTIVE', count(*) from kms.branch_keys group by 1, 2, 3;
alter table kms.branch_key_counts alter column id restart with 100;
insert into kms.branch_key_counts (provider, stage, is_active, records) values ('env', 'single', true, 0);
select is(
  (select count(*) from kms.branch_key_counts),
  (select count(distinct (provider, stage, type = 'branch:ACTIVE')) from kms.branch_keys),
  'now and then the changes are summed'
);
select is_empty('select * from pg_temp.miscounted', 'and still say what there is');

-- After a restore that wrote the records without their triggers, or the changes twice.
insert into kms.branch_key_counts (provider, stage, is_active, records) values ('gcp', 'copied', true, 7);
select kms.recount_branch_keys();
select set_eq(
  'select provider, stage, is_active, records from kms.branch_key_counts',
  $$ select provider, stage, type = 'branch:ACTIVE', count(*) from kms.branch_keys group by 1, 2, 3 $$,
  'a recount leaves what there is'
);

-- ── What never changes otherwise ───────────────────────────────────────────────────────────────
set local kms.moving_branch_keys = 'on';
update kms.branch_keys set copy = pg_temp.under(record, 'vault:k') where type = 'beacon:ACTIVE';
set local kms.moving_branch_keys = '';
select throws_ok(s.statement, 'KM403', 'branch_key_record_immutable', s.statement) from (values
  ('update kms.branch_keys set copy = null where copy is not null'),
  ('update kms.branch_keys set confirmed_at = now() where copy is not null'),
  ('update kms.branch_keys set (record, copy) = (copy, record) where copy is not null')
) as s (statement);
set local kms.moving_branch_keys = 'on';
select throws_ok(s.statement, 'KM403', 'branch_key_record_immutable', s.what) from (values
  ($$ update kms.branch_keys set record = record || '{"create-time": "x"}' where copy is null $$,
    'a migration changes nothing of a record but who wraps it'),
  ($$ update kms.branch_keys set record = copy, copy = null where copy is not null $$,
    'loses none of two wrapped keys that change places'),
  ('delete from kms.branch_keys', 'nor removes one')
) as s (statement, what);
select throws_ok(s.statement, '23514', null, s.what) from (values
  ($$ update kms.branch_keys set copy = record || '{"create-time": "x"}' $$,
    'a copy is of the same key'),
  ('update kms.branch_keys set copy = null, confirmed_at = now() where copy is not null',
    'and what has none is not confirmed')
) as s (statement, what);
set local kms.moving_branch_keys = '';

select * from finish();
rollback;
