-- Keys and rows of older setups: what the RPCs take, what they refuse, and that no row is stored twice.
begin;
\ir support/personas.psql
select plan(62);

create function pg_temp.key(p_overrides jsonb default '{}') returns text
language sql as $$
  select (jsonb_build_object(
    'key_id', 'default', 'id', pg_temp.nth(900), 'message', pg_temp.message(900),
    'kms_key_arn', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
    'branch_key_id', null, 'branch_key_version', null,
    'fingerprint', repeat('a', 64), 'source', 'aws'
  ) || p_overrides)::text
$$;

create function pg_temp.row_of(p_source_id text, p_overrides jsonb default '{}') returns jsonb
language sql as $$
  select jsonb_build_object(
    'source_id', p_source_id, 'user_id', 'aaaaaaaa-0000-4000-8000-00000000000a',
    'ciphertext', 'v1:' || repeat('0', 32) || ':' || repeat('1', 32) || ':22',
    'target', '{"data_class": "pii"}'::jsonb
  ) || p_overrides
$$;

create function pg_temp.stage(variadic p_rows jsonb[]) returns text[]
language sql as $$
  select array_agg(r.value ->> 'outcome' order by r.n)
  from jsonb_array_elements(public.kms_legacy_rows_stage(
    pg_temp.actor(), 'default', 'v1_hex', to_jsonb(p_rows)::text
  ) -> 'results') with ordinality as r (value, n)
$$;

create function pg_temp.id_of(p_source_id text) returns uuid
language sql security definer as $$ select id from kms.legacy_rows where source_id = p_source_id $$;

-- Claims everything; the token goes into the setting test.token.
create function pg_temp.claim() returns integer
language plpgsql as $$
declare
  v_claim jsonb := public.kms_legacy_rows_claim(100, 120);
begin
  perform set_config('test.token', v_claim ->> 'token', true);
  return jsonb_array_length(v_claim -> 'rows');
end
$$;

create function pg_temp.token() returns uuid
language sql as $$ select current_setting('test.token')::uuid $$;

create function pg_temp.store_row(p_source_id text, p_item jsonb) returns jsonb
language sql as $$
  select public.kms_legacy_row_store(
    pg_temp.actor(), pg_temp.id_of(p_source_id), pg_temp.token(), p_item::text)
$$;

create function pg_temp.close_row(p_source_id text, p_code text default null) returns void
language sql as $$
  select public.kms_legacy_row_close(
    pg_temp.actor(), pg_temp.id_of(p_source_id), pg_temp.token(), p_code, null)
$$;

create function pg_temp.audited(p_action text) returns text[]
language sql security definer as $$
  select array_agg(outcome || coalesce(' ' || error_code, '') order by chain_day, seq)
  from kms.audit_log where action = p_action
$$;

-- ── Who may ────────────────────────────────────────────────────────────────────────────────────
select :as_anon;
select throws_ok(
  $$ select public.kms_legacy_keys_list() $$, '42501', null, 'anon may not list keys'
);
select :as_owner;
select throws_ok(
  $$ select public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key()) $$, '42501', null,
  'a user may not import a key'
);
select throws_ok(
  $$ select public.kms_legacy_rows_claim(1, 1) $$, '42501', null, 'a user may not claim rows'
);
select :as_admin;
select throws_ok(
  $$ select public.kms_legacy_rows_list(null, 1, null) $$, '42501', null,
  'nor may an administrator, but through the function'
);
select throws_ok(
  $$ select * from kms.legacy_keys $$, '42501', null, 'nobody reads the keys'
);
select :as_service_role;
select throws_ok(
  $$ select * from kms.legacy_rows $$, '42501', null, 'not even service_role reads the rows'
);

-- ── Keys ───────────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.fault_of($$ select public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key('{"key_id": "../x"}')) $$),
  '22023 invalid_argument: p_key.key_id has the wrong form', 'a key id is a name'
);
select is(
  pg_temp.fault_of($$ select public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key('{"source": "disk"}')) $$),
  '22023 invalid_argument: p_key.source has the wrong form', 'a source is a known one'
);
select is(
  pg_temp.fault_of($$ select public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key('{"key": "00"}')) $$),
  '22023 invalid_argument: p_key has an unknown field key', 'a key as it is has no place here'
);
select is(
  pg_temp.fault_of($$ select public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key('{"fingerprint": "00"}')) $$),
  '22023 invalid_argument: p_key.fingerprint has the wrong form', 'a fingerprint is a keyed hash'
);
select throws_ok(
  $$ select public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key('{"message": "00112233"}')) $$,
  '23514', null, 'only a message is kept'
);
select is(
  public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key()) - 'key', '{"outcome": "imported"}',
  'a key is imported'
);
select is(
  public.kms_legacy_key_put(pg_temp.actor(), pg_temp.key(jsonb_build_object('id', pg_temp.nth(901)))) - 'key',
  '{"outcome": "existing"}', 'the same key again is the one there is'
);
select is(
  public.kms_legacy_key_put(
    pg_temp.actor(), pg_temp.key(jsonb_build_object('fingerprint', repeat('b', 64)))
  ) - 'key',
  '{"outcome": "conflict"}', 'another key under its id is refused'
);
select is(
  public.kms_legacy_key_get('default'),
  jsonb_build_object('id', pg_temp.nth(900), 'message', pg_temp.message(900)),
  'the first one stands'
);
select is(public.kms_legacy_key_get('other'), null, 'there is no other');
select is(
  pg_temp.audited('legacy_key.import'),
  array['success', 'success', 'failure legacy_key_conflict'], 'every import is audited'
);
select is(
  (public.kms_legacy_keys_list() #> '{keys,0}') - 'created_at',
  '{"key_id": "default", "source": "aws", "fingerprint": "aaaaaaaaaaaaaaaa",
    "created_by": "aaaaaaaa-0000-4000-8000-00000000000a", "rows": {"pending": 0, "failed": 0}}',
  'the list tells everything but the key'
);

-- ── Staging ────────────────────────────────────────────────────────────────────────────────────
select is(
  public.kms_legacy_rows_stage(
    pg_temp.actor(), 'other', 'v1_hex', jsonb_build_array(pg_temp.row_of('x'))::text
  ), null, 'nothing is staged under a key that is not there'
);
select is(
  pg_temp.fault_of($$ select public.kms_legacy_rows_stage(
    pg_temp.actor(), 'default', 'rot13', jsonb_build_array(pg_temp.row_of('x'))::text) $$),
  '22023 invalid_argument: arguments.p_encoding has the wrong form', 'an encoding is a known one'
);
select is(
  pg_temp.fault_of($$ select pg_temp.stage(pg_temp.row_of('a b')) $$),
  '22023 invalid_argument: p_rows[0].source_id has the wrong form', 'a source id is a name'
);
select is(
  pg_temp.fault_of($$ select pg_temp.stage(pg_temp.row_of('x', '{"target": {"data_class": "pan"}}')) $$),
  '22023 invalid_argument: p_rows[0].target.data_class has the wrong form', 'a target has a class'
);
select is(
  pg_temp.fault_of($$ select pg_temp.stage(pg_temp.row_of('x', '{"target": {"data_class": "payment"}}')) $$),
  '22023 invalid_argument: p_rows[0].target.exp_month is required', 'a card has an expiry'
);
select is(
  pg_temp.fault_of($$ select pg_temp.stage(pg_temp.row_of(
    'x', '{"target": {"data_class": "pii", "label": "4242 4242 4242 4242"}}')) $$),
  '22023 invalid_argument: p_rows[0].target.label may hold a card number', 'a label holds no card number'
);
select is(
  pg_temp.fault_of($$ select pg_temp.stage(pg_temp.row_of(
    'x', '{"target": {"data_class": "pii", "exp_month": 1}}')) $$),
  '22023 invalid_argument: p_rows[0].target has an unknown field exp_month', 'a record has none'
);
select is(
  pg_temp.stage(
    pg_temp.row_of('b'), pg_temp.row_of('a'),
    pg_temp.row_of('card', '{"target": {"data_class": "payment", "exp_month": 1, "exp_year": 2030}}')
  ), array['staged', 'staged', 'staged'], 'rows are staged, each told in its place'
);
select is(pg_temp.stage(pg_temp.row_of('a')), array['known'], 'the same again is known');
select is(
  pg_temp.stage(pg_temp.row_of('a', '{"ciphertext": "v1:other"}')), array['conflict'],
  'other ciphertext under a source id is refused'
);
select is(
  pg_temp.stage(pg_temp.row_of('a', '{"user_id": "bbbbbbbb-0000-4000-8000-00000000000b"}')),
  array['conflict'], 'and so is another owner'
);
select is(
  pg_temp.stage(pg_temp.row_of('a', '{"target": {"data_class": "general"}}')), array['conflict'],
  'and another target'
);
select is(
  pg_temp.stage(pg_temp.row_of('z', '{"user_id": "dddddddd-0000-4000-8000-00000000000d"}')),
  array['owner_not_found'], 'a row needs its user'
);
select is(
  pg_temp.audited('legacy_row.stage'),
  array['success', 'success', 'success', 'failure conflict', 'failure conflict', 'failure conflict',
    'failure owner_not_found'], 'staging and its refusals are audited'
);
select is(
  public.kms_legacy_progress(), '{"pending": 3, "failed": 0, "imported": 0}', 'three rows are pending'
);
select is(
  public.kms_legacy_key_destroy(pg_temp.actor(), 'default'), 'in_use', 'a key that is needed stays'
);

-- ── Claiming ───────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.fault_of('select public.kms_legacy_rows_claim(0, 1)'),
  '22023 invalid_argument: p_limit must be 1 to 100', 'a claim has 1 to 100 rows'
);
select is(
  pg_temp.fault_of('select public.kms_legacy_rows_claim(1, 601)'),
  '22023 invalid_argument: p_lease_seconds must be 1 to 600', 'and a lease of up to ten minutes'
);
select is(
  pg_temp.fault_of($$ select public.kms_legacy_row_store(
    pg_temp.actor(), pg_temp.id_of('a'), gen_random_uuid(), '{}') $$),
  'KM409 legacy_lease_lost: The row was taken over, closed or deleted; nothing was changed.',
  'nothing is stored without a claim'
);
select is(pg_temp.claim(), 3, 'all pending rows are claimed');
select is(
  jsonb_array_length(public.kms_legacy_rows_claim(100, 120) -> 'rows'), 0, 'and by one worker only'
);
select is(
  public.kms_legacy_row_discard(pg_temp.actor(), pg_temp.id_of('a')), false,
  'what is being worked on is not discarded'
);
select is(public.kms_legacy_rows_release(pg_temp.token()), 3, 'a claim can be given back');
select is(pg_temp.claim(), 3, 'and taken by the next');

-- ── Storing ────────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.fault_of($$ select pg_temp.store_row('a', pg_temp.record(1, 'bbbbbbbb-0000-4000-8000-00000000000b')) $$),
  '22023 invalid_argument: p_item is not what the row was staged as', 'a row is stored for its owner only'
);
select is(
  pg_temp.fault_of($$ select pg_temp.store_row('a', pg_temp.record(
    1, 'aaaaaaaa-0000-4000-8000-00000000000a', '{"data_class": "general"}')) $$),
  '22023 invalid_argument: p_item is not what the row was staged as', 'and in its class only'
);
select is(
  pg_temp.fault_of($$ select pg_temp.store_row('a', pg_temp.card(1, 'aaaaaaaa-0000-4000-8000-00000000000a')) $$),
  '22023 invalid_argument: p_item is not what the row was staged as', 'and as what it is'
);
select is(
  pg_temp.store_row('a', pg_temp.record(1, 'aaaaaaaa-0000-4000-8000-00000000000a')) ->> 'outcome',
  'created', 'a record is stored'
);
select is(
  pg_temp.fault_of($$ select pg_temp.store_row('a', pg_temp.record(2, 'aaaaaaaa-0000-4000-8000-00000000000a')) $$),
  '22023 invalid_argument: p_id is stored already', 'once'
);
select throws_ok(
  $$ select pg_temp.close_row('b') $$, '23514', null, 'what was not stored is not imported'
);
select lives_ok($$ select pg_temp.close_row('a') $$, 'a stored row is closed');
select is(
  pg_temp.fault_of($$ select pg_temp.close_row('a') $$),
  'KM409 legacy_lease_lost: The row was taken over, closed or deleted; nothing was changed.', 'once'
);
reset role;
select row_eq(
  $$ select status, ciphertext, record_id, needed_key_id from kms.legacy_rows where source_id = 'a' $$,
  row('imported'::text, null::text, pg_temp.nth(1), null::text),
  'and keeps no ciphertext, but what became of it'
);
select :as_service_role;
select is(pg_temp.stage(pg_temp.row_of('a')), array['imported'], 'it is not staged again');
select is(
  pg_temp.stage(pg_temp.row_of('a', '{"ciphertext": "v1:other"}')), array['conflict'],
  'nor is other ciphertext in its name'
);

-- A card that its owner has, with a later expiry.
select pg_temp.store(pg_temp.card(10, 'aaaaaaaa-0000-4000-8000-00000000000a', '{"exp_year": 2035}'));
select is(
  pg_temp.store_row('card', pg_temp.card(
    11, 'aaaaaaaa-0000-4000-8000-00000000000a',
    jsonb_build_object('fingerprint', rpad('fingerprint10', 44, 'x'), 'exp_month', 1)
  )) #>> '{payment_method,exp_year}', '2035', 'a card that is there keeps a later expiry'
);
select lives_ok($$ select pg_temp.close_row('card') $$, 'and the row is imported as that card');

-- ── Failing, and another try ───────────────────────────────────────────────────────────────────
select lives_ok($$ select pg_temp.close_row('b', 'decryption_failed') $$, 'a row fails');
select is(
  public.kms_legacy_rows_list('failed', 100, null) #>> '{rows,0,error_code}', 'decryption_failed',
  'it is listed with why'
);
select is(
  pg_temp.audited('legacy_row.import'), array['success', 'success', 'failure decryption_failed'],
  'how each row ended is audited'
);
select is(
  pg_temp.stage(pg_temp.row_of('b', '{"target": {"data_class": "general"}}')), array['staged'],
  'a failed row has another try, as something else if need be'
);
select is(
  public.kms_legacy_row_discard(pg_temp.actor(), pg_temp.id_of('b')), true, 'or is given up'
);
select is(
  public.kms_legacy_row_discard(pg_temp.actor(), pg_temp.id_of('a')), false,
  'an imported one is not'
);

-- ── The end ────────────────────────────────────────────────────────────────────────────────────
select is(
  array[
    public.kms_legacy_key_destroy(pg_temp.actor(), 'default'),
    public.kms_legacy_key_destroy(pg_temp.actor(), 'default')
  ], array['destroyed', 'not_found'], 'a key that no row needs is destroyed, once'
);

select * from finish();
rollback;
