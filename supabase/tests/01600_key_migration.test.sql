-- The end of a branch key's version, and one rotation of a wrapping key at a time.
begin;
\ir support/personas.psql
select plan(34);

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
    'version', pg_temp.nth(1), 'created_at', '2026-11-21T00:00:00.000000Z', 'versions', 1,
    'old_versions', '[]'::jsonb
  ), 'of a new one its version'
);
select is(pg_temp.rotate('pii', n), 'true', 'rotated') from generate_series(2, 3) as n;
select is(
  public.kms_branch_key_info('pii'), jsonb_build_object(
    'version', pg_temp.nth(3), 'created_at', '2026-11-23T00:00:00.000000Z', 'versions', 3,
    'old_versions', jsonb_build_array(
      jsonb_build_object('version', pg_temp.nth(2), 'created_at', '2026-11-22T00:00:00.000000Z',
        'in_use', false),
      jsonb_build_object('version', pg_temp.nth(1), 'created_at', '2026-11-21T00:00:00.000000Z',
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

select * from finish();
rollback;
