-- The branch key store, the epoch, the regions and the canaries: first writer wins, only the
-- specification's shapes, and nothing that old messages need ever changes.
begin;
\ir support/personas.psql
select plan(89);

create function pg_temp.version(p_n integer) returns text
language sql as $$ select 'branch:version:' || pg_temp.nth(p_n) $$;

-- A record of the branch key's nth version, of the kind active, version or beacon.
create function pg_temp.branch_key(p_n integer, p_kind text, p_overrides jsonb default '{}')
returns jsonb
language sql as $$
  select jsonb_build_object(
    'branch-key-id', 'payment', 'enc', rpad(left(p_kind, 1) || p_n, 88, 'A'),
    'kms-arn', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
    'create-time', '2026-11-22T00:00:00.000000Z', 'hierarchy-version', '1',
    'aws-crypto-ec:app', 'parker-flight', 'aws-crypto-ec:emoji', '\u2713 "quoted" é'
  ) || case p_kind
    when 'active' then
      jsonb_build_object('type', 'branch:ACTIVE', 'version', pg_temp.version(p_n))
    when 'version' then jsonb_build_object('type', pg_temp.version(p_n))
    else '{"type": "beacon:ACTIVE"}'
  end || p_overrides
$$;
-- The overrides go into every record.
create function pg_temp.new_key(p_n integer, p_overrides jsonb default '{}') returns text
language sql as $$
  select jsonb_build_array(
    pg_temp.branch_key(p_n, 'active', p_overrides), pg_temp.branch_key(p_n, 'version', p_overrides),
    pg_temp.branch_key(p_n, 'beacon', p_overrides)
  )::text
$$;
create function pg_temp.new_version(p_n integer, p_overrides jsonb default '{}') returns text
language sql as $$
  select jsonb_build_array(
    pg_temp.branch_key(p_n, 'version', p_overrides), pg_temp.branch_key(p_n, 'active', p_overrides)
  )::text
$$;
create function pg_temp.rotate(p_n integer, p_expected integer) returns jsonb
language sql as $$
  select public.kms_branch_key_rotate(
    pg_temp.actor(), pg_temp.new_version(p_n), pg_temp.version(p_expected))
$$;

-- ── Creation ───────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  public.kms_branch_key_get('payment', 'branch:ACTIVE'),
  '{"record": null, "epoch": 1, "dead_regions": []}', 'there is no branch key at first'
);
select is(
  public.kms_branch_key_create(pg_temp.new_key(1)),
  jsonb_build_object(
    'active', pg_temp.branch_key(1, 'active'), 'beacon', pg_temp.branch_key(1, 'beacon')
  ), 'a branch key is stored as it came, attribute by attribute'
);
select is(
  public.kms_branch_key_create(pg_temp.new_key(2)),
  jsonb_build_object(
    'active', pg_temp.branch_key(1, 'active'), 'beacon', pg_temp.branch_key(1, 'beacon')
  ), 'a second creator gets the first one''s'
);
select is(
  public.kms_branch_key_get('payment', k.type) -> 'record', k.record,
  format('a reader finds %s', k.type)
) from (values
  ('branch:ACTIVE', pg_temp.branch_key(1, 'active')),
  ('beacon:ACTIVE', pg_temp.branch_key(1, 'beacon')),
  (pg_temp.version(1), pg_temp.branch_key(1, 'version')),
  (pg_temp.version(2), 'null')
) as k (type, record);
select isnt(
  public.kms_branch_key_create(
    pg_temp.new_key(3, '{"branch-key-id": "pii", "hierarchy-version": 1}'), pg_temp.nth(7)
  ) -> 'active', null,
  'each branch key has a place of its own; the hierarchy version may be a number'
);
select is(
  public.kms_branch_key_get('pii', 'branch:ACTIVE') -> 'epoch', '1', 'a creation counts no epoch'
);
reset role;
select results_eq(
  $$ select branch_key_id, request_id = pg_temp.nth(7) from kms.audit_log
     where action = 'branch_key.create' order by seq $$,
  $$ values ('payment', false), ('pii', true) $$,
  'it is audited by the request that needed it first, when that is told'
);
select :as_service_role;

-- ── Rotation ───────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.rotate(4, 1),
  jsonb_build_object('rotated', true, 'active', pg_temp.branch_key(4, 'active')),
  'a new version takes the place of the one expected'
);
select is(
  public.kms_branch_key_get('payment', 'branch:ACTIVE'),
  jsonb_build_object(
    'record', pg_temp.branch_key(4, 'active'), 'epoch', 2, 'dead_regions', '[]'::jsonb
  ), 'every reader sees it, and that the epoch is another'
);
select is(
  pg_temp.rotate(5, 1),
  jsonb_build_object('rotated', false, 'active', pg_temp.branch_key(4, 'active')),
  'who expects an older version changes nothing and gets the active one'
);
reset role;
select results_eq(
  $$ select actor_type || ' ' || action, outcome, error_code, branch_key_version from kms.audit_log
     where branch_key_id = 'payment' order by chain_day, seq $$,
  $$ values ('system branch_key.create', 'success', null, pg_temp.nth(1)::text),
       ('user branch_key.rotate', 'success', null, pg_temp.nth(4)::text),
       ('user branch_key.rotate', 'failure', 'rotation_conflict', pg_temp.nth(4)::text) $$,
  'the audit has the creation once, the rotation, and that another came too late'
);
select :as_service_role;
select is(
  pg_temp.rotate(4, 1),
  jsonb_build_object('rotated', true, 'active', pg_temp.branch_key(4, 'active')),
  'the same rotation again, as after a lost answer, has rotated'
);
select is(
  public.kms_branch_key_get('payment', 'branch:ACTIVE') -> 'epoch', '2', 'neither counts an epoch'
);
select is(pg_temp.rotate(6, 4) -> 'rotated', 'true', 'the next rotation expects the last one');
select is(
  public.kms_branch_key_get('payment', k.type) -> 'record', k.record,
  format('%s stays what it was', k.type)
) from (values
  ('beacon:ACTIVE', pg_temp.branch_key(1, 'beacon')),
  (pg_temp.version(1), pg_temp.branch_key(1, 'version')),
  (pg_temp.version(4), pg_temp.branch_key(4, 'version'))
) as k (type, record);
select is(
  public.kms_branch_key_get('payment', pg_temp.version(5)) -> 'record', 'null',
  'of a rotation that lost nothing is stored'
);
select is(
  public.kms_branch_key_get('pii', 'branch:ACTIVE') -> 'record' ->> 'version', pg_temp.version(3),
  'and no other branch key has changed'
);
select is(
  public.kms_branch_key_rotate(
    pg_temp.actor(), pg_temp.new_version(7, '{"branch-key-id": "general"}'), pg_temp.version(1)),
  '{"rotated": false, "active": null}', 'a branch key that does not exist is not rotated'
);
select is(
  pg_temp.fault_of(format('select pg_temp.rotate(%s)', r.arguments)),
  '22023 invalid_argument: ' || r.detail, format('a rotation with %s is refused', r.what)
) from (values
  ('8, null', 'p_expected_version is required', 'no version to expect'),
  ('1, 6', 'p_records'' version exists already', 'an old version as the new one')
) as r (arguments, detail, what);
select is(
  pg_temp.fault_of(format(
    'select public.kms_branch_key_rotate(null, %L, %L)', pg_temp.new_version(8), pg_temp.version(6))),
  '22023 invalid_argument: p_actor is required', 'a rotation by nobody is refused'
);
reset role;
select results_eq(
  'select action, outcome, actor_type, kms_key_arn, kms_region, branch_key_id, branch_key_version,
     data_class
   from kms.audit_log where action = ''branch_key.rotate'' and outcome = ''success'' order by seq',
  $$ select 'branch_key.rotate', 'success', 'user', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
       'us-east-1', 'payment', pg_temp.nth(n)::text, 'payment'
     from (values (4), (6)) as v (n) $$,
  'each rotation is audited, once'
);

-- ── Records that are refused ───────────────────────────────────────────────────────────────────
select :as_service_role;
create function pg_temp.create_with(p_overrides jsonb) returns jsonb
language sql as $$
  select public.kms_branch_key_create(jsonb_build_array(
    pg_temp.branch_key(9, 'active', '{"branch-key-id": "other"}' || p_overrides)
  )::text)
$$;
select is(
  pg_temp.fault_of(format('select pg_temp.create_with(%L)', r.overrides)),
  '22023 invalid_argument: p_records[0]' || r.detail,
  format('a record with %s is refused', left(r.overrides, 60))
) from (values
  ('{"branch-key-id": null}', '.branch-key-id is required'),
  ('{"branch-key-id": ""}', '.branch-key-id has the wrong form'),
  ('{"type": "branch"}', '.type has the wrong form'),
  ('{"type": "branch:version:1"}', '.type has the wrong form'),
  ('{"enc": "plain key"}', '.enc has the wrong form'),
  ('{"enc": null}', '.enc is required'),
  ('{"kms-arn": null}', '.kms-arn is required'),
  ('{"create-time": null}', '.create-time is required'),
  ('{"hierarchy-version": null}', '.hierarchy-version is required'),
  ('{"hierarchy-version": true}', '.hierarchy-version is required'),
  ('{"version": null}', '.version is required'),
  ('{"version": "1"}', '.version has the wrong form'),
  ('{"type": "beacon:ACTIVE"}', ' has an attribute that the specification does not know here'),
  ('{"plaintext": "k"}', ' has an attribute that the specification does not know here'),
  ('{"aws-crypto-ec:n": 1}', ' has an attribute that the specification does not know here'),
  (format('{"aws-crypto-ec:n": "%s"}', repeat('n', 16384)), ' is larger than 16384 bytes')
) as r (overrides, detail);
select is(
  pg_temp.fault_of(format('select public.kms_branch_key_create(%L)', r.records)),
  '22023 invalid_argument: p_records' || r.detail, format('%s are refused', r.what)
) from (values
  (null, ' is required', 'records of null'),
  ('{}', ' is not JSON of type array', 'records in an object'),
  ('[]', ' must have 1 to 3 elements', 'no records'),
  ('[1]', '[0] is not an object', 'numbers'),
  (pg_temp.new_version(9), ' must be one each of branch:ACTIVE, beacon:ACTIVE, version',
    'records without a beacon key'),
  (jsonb_build_array(
      pg_temp.branch_key(9, 'active'), pg_temp.branch_key(9, 'version'),
      pg_temp.branch_key(10, 'version'))::text,
    ' must be one each of branch:ACTIVE, beacon:ACTIVE, version', 'records of two versions'),
  (jsonb_build_array(
      pg_temp.branch_key(9, 'active'), pg_temp.branch_key(10, 'version'),
      pg_temp.branch_key(9, 'beacon'))::text,
    ''' active record must be of the version given with it', 'records of another version'),
  (jsonb_build_array(
      pg_temp.branch_key(9, 'active'), pg_temp.branch_key(9, 'version'),
      pg_temp.branch_key(9, 'beacon', '{"branch-key-id": "other"}'))::text,
    ' must agree in everything but type, version and enc', 'records of two branch keys'),
  (jsonb_build_array(
      pg_temp.branch_key(9, 'active'), pg_temp.branch_key(9, 'version'),
      pg_temp.branch_key(9, 'beacon', '{"aws-crypto-ec:app": "other"}'))::text,
    ' must agree in everything but type, version and enc', 'records of two contexts')
) as r (records, detail, what);
select is(
  pg_temp.fault_of(format(
    'select public.kms_branch_key_rotate(pg_temp.actor(), %L, %L)',
    pg_temp.new_key(9), pg_temp.version(6))),
  '22023 invalid_argument: p_records must be one each of branch:ACTIVE, version',
  'a rotation with another beacon key is refused'
);
reset role;
select is((select count(*)::integer from kms.branch_keys), 8, 'of all these nothing was stored');

-- ── What never changes ─────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.fault_of(s.statement),
  'KM403 branch_key_record_immutable: Only a rotation may replace a record of kms.branch_keys, and '
    'only branch:ACTIVE.', format('not even the owner may %s', s.statement)
) from (values
  ($$ update kms.branch_keys set record = record where type like 'branch:version:%' $$),
  ($$ update kms.branch_keys set record = record where type = 'beacon:ACTIVE' $$),
  ($$ update kms.branch_keys set record = record where type = 'branch:ACTIVE' $$),
  ($$ update kms.branch_keys set branch_key_id = 'x', record = record || '{"branch-key-id": "x"}'
      where branch_key_id = 'payment' and type = 'beacon:ACTIVE' $$)
) as s (statement);
select is(
  pg_temp.fault_of(s.statement),
  'KM403 branch_key_record_immutable: Records of kms.branch_keys cannot be removed: messages under '
    'them would be lost.', format('not even the owner may %s', s.statement)
) from (values ('delete from kms.branch_keys'), ('truncate kms.branch_keys cascade')) as s (statement);
set local kms.rotating_branch_key = 'payment';
select throws_ok(s.statement, 'KM403', 'branch_key_record_immutable', s.what)
from (values
  ($$ update kms.branch_keys set record = record
      where branch_key_id = 'payment' and type <> 'branch:ACTIVE' $$,
    'no setting lets a version or a beacon key change'),
  ($$ update kms.branch_keys set record = record where branch_key_id = 'pii' $$,
    'nor another branch key''s active record'),
  ($$ update kms.branch_keys set type = pg_temp.version(9),
        record = record - 'version' || jsonb_build_object('type', pg_temp.version(9))
      where branch_key_id = 'payment' and type = 'branch:ACTIVE' $$,
    'nor the active record become another'),
  ($$ delete from kms.branch_keys where branch_key_id = 'payment' $$, 'nor any record go')
) as s (statement, what);
set local kms.rotating_branch_key = '';
select throws_ok(
  format(
    'insert into kms.branch_keys (branch_key_id, type, record) values (%L, %L, %L)',
    'x', r.record ->> 'type', r.record || '{"branch-key-id": "x"}'
  ), '23514', null, r.what
) from (values
  (pg_temp.branch_key(1, 'active') - 'version', 'an active record without its version is refused'),
  (pg_temp.branch_key(1, 'beacon') || '{"version": "1"}', 'a beacon record with one is refused')
) as r (record, what);
select throws_ok(
  'insert into kms.key_epoch (only_row) values (false)', '23514', null, 'there is one epoch'
);

-- ── Regions ────────────────────────────────────────────────────────────────────────────────────
-- Name and seconds left of each dead region.
create function pg_temp.dead_regions() returns text
language sql as $$
  select string_agg(
    (r.value ->> 'region') || ' '
      || round((r.value ->> 'for_ms')::numeric / 1000),
    ', ' order by r.n)
  from jsonb_array_elements(
    public.kms_branch_key_get('payment', 'branch:ACTIVE') -> 'dead_regions'
  ) with ordinality as r (value, n)
$$;
select :as_service_role;
select is(
  public.kms_region_report(r.region, 300000), 'true', format('%s is reported dead', r.region)
) from (values ('us-west-2'), ('us-gov-west-1'), ('us-east-1')) as r (region);
select is(
  pg_temp.dead_regions(), 'us-east-1 300, us-gov-west-1 300, us-west-2 300',
  'everybody who reads a key hears of them, by name'
);
select public.kms_region_report('us-east-1', 200000), public.kms_region_report('us-west-2', 400000);
select is(
  pg_temp.dead_regions(), 'us-east-1 300, us-gov-west-1 300, us-west-2 400',
  'of several reports the latest time stands'
);
select is(public.kms_region_report('us-gov-west-1', null), 'true', 'a region is well again');
select is(public.kms_region_report('eu-west-1', null), 'true', 'so is one that nobody reported');
select is(
  pg_temp.dead_regions(), 'us-east-1 300, us-west-2 400', 'and nobody hears of it any more'
);
reset role;
update kms.region_health set dead_until = clock_timestamp() - interval '1 second'
where region = 'us-east-1';
select :as_service_role;
select is(pg_temp.dead_regions(), 'us-west-2 400', 'nor of one whose time has passed');
select public.kms_region_report('us-east-1', 100000);
select is(
  pg_temp.dead_regions(), 'us-east-1 100, us-west-2 400', 'until it is reported again'
);
select is(
  pg_temp.fault_of(format('select public.kms_region_report(%s)', r.arguments)),
  '22023 invalid_argument: ' || r.detail, format('a report of %s is refused', r.arguments)
) from (values
  ('null, 1', 'p_region is not a region'),
  ('''US-EAST-1'', 1', 'p_region is not a region'),
  ('''us-east'', null', 'p_region is not a region'),
  ('''4242424242424242'', 1', 'p_region is not a region'),
  ('''us-east-1'', 0', 'p_dead_for_ms must be 1 to 600000'),
  ('''us-east-1'', 600001', 'p_dead_for_ms must be 1 to 600000')
) as r (arguments, detail);

-- ── Canaries ───────────────────────────────────────────────────────────────────────────────────
select is(public.kms_canary_get('payment'), null, 'there is no canary at first');
select is(
  public.kms_canary_put('payment', pg_temp.message(1), 'arn:aws:kms:us-east-1:000000000000:key/1'),
  jsonb_build_object(
    'message', pg_temp.message(1), 'kms_key_arn', 'arn:aws:kms:us-east-1:000000000000:key/1'
  ), 'a canary is stored'
);
select is(
  public.kms_canary_put('payment', pg_temp.message(2), null), public.kms_canary_get('payment'),
  'a second writer gets the first one''s'
);
select is(
  public.kms_canary_get('payment') ->> 'message', pg_temp.message(1), 'as does a reader'
);
select is(
  pg_temp.fault_of('select public.kms_canary_put(''other'', pg_temp.message(1), null)'),
  '22023 invalid_argument: p_data_class must be payment, pii or general', 'another class is refused'
);
select is(
  pg_temp.fault_of('select public.kms_canary_put(''pii'', ''4242424242424242'', null)'),
  '23514 value for domain kms.encrypted_message violates check constraint '
    '"encrypted_message_is_an_aws_esdk_v2_message"',
  'plaintext is refused, and not repeated'
);

select * from finish();
rollback;
