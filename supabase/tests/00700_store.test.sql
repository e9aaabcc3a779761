-- kms_store: what it stores, recognises, answers, audits and refuses.
begin;
\ir support/personas.psql
select plan(69);

-- ── Cards ──────────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select pg_temp.store(pg_temp.card(1, :owner, '{"nickname": "work", "set_default": true}')) -> 0
  as stored \gset
select is(:'stored'::jsonb ->> 'outcome', 'created', 'a card is created');
select is(
  (:'stored'::jsonb -> 'payment_method') - 'created_at' - 'updated_at',
  jsonb_build_object(
    'id', pg_temp.nth(1), 'user_id', :owner, 'data_class', 'payment', 'brand', 'visa',
    'last4', '4242', 'exp_month', 12, 'exp_year', 2030, 'nickname', 'work', 'is_default', true
  ), 'and answered masked'
);
select matches(
  :'stored'::jsonb -> 'payment_method' ->> t.name,
  '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$',
  t.name || ' is ISO 8601 in UTC with milliseconds'
) from (values ('created_at'), ('updated_at')) as t (name);
reset role;
select results_eq(
  $$ select table_name, record_id, field, owner_id, data_class, message::text, kms_key_arn
     from kms.ciphertexts $$,
  $$ values ('payment_methods', pg_temp.nth(1), 'number',
       'aaaaaaaa-0000-4000-8000-00000000000a'::uuid, 'payment', pg_temp.message(1),
       'arn:aws:kms:us-east-1:000000000000:key/mrk-1') $$,
  'its ciphertext is stored beside it'
);
select results_eq(
  $$ select action, outcome, error_code, data_class, table_name, record_id, owner_id, kms_key_arn,
       kms_region from kms.audit_log $$,
  $$ values ('payment_method.create', 'success', null, 'payment', 'payment_methods',
       pg_temp.nth(1), 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid,
       'arn:aws:kms:us-east-1:000000000000:key/mrk-1', 'us-east-1') $$,
  'and its audit entry'
);

-- ── The same card again ────────────────────────────────────────────────────────────────────────
select :as_service_role;
create function pg_temp.again(p_overrides jsonb) returns jsonb
language sql as $$
  select pg_temp.card(2, 'aaaaaaaa-0000-4000-8000-00000000000a', jsonb_build_object(
    'fingerprint', rpad('fingerprint1', 44, 'x')
  ) || p_overrides)
$$;
select pg_temp.store(pg_temp.again('{"exp_month": 1, "exp_year": 2035, "nickname": "new"}')) -> 0
  as again \gset
select is(:'again'::jsonb ->> 'outcome', 'existing', 'the same card of one owner exists');
select is(
  (:'again'::jsonb -> 'payment_method') - 'updated_at',
  (:'stored'::jsonb -> 'payment_method') - 'updated_at'
    || '{"exp_month": 1, "exp_year": 2035}',
  'keeps its id, nickname and default, and takes the new expiry'
);
select is(
  pg_temp.store(pg_temp.card(3, :stranger, jsonb_build_object(
    'fingerprint', rpad('fingerprint1', 44, 'x')))) #>> '{0,outcome}',
  'created', 'the same card of another owner is created'
);
select pg_temp.store(pg_temp.card(4, :owner, '{"set_default": true}'));
select is(
  (public.kms_payment_method_get(:owner, pg_temp.nth(1)) ->> 'is_default')::boolean, false,
  'a new default takes the place of the old'
);
select is(
  pg_temp.store(pg_temp.again('{"set_default": true}')) #>> '{0,payment_method,is_default}',
  'true', 'set_default holds for an existing card too'
);
select is(
  (public.kms_payment_method_get(:owner, pg_temp.nth(4)) ->> 'is_default')::boolean, false,
  'and unsets the other'
);
reset role;
select is(
  (select count(*)::integer from kms.ciphertexts where owner_id = :owner), 2,
  'no second ciphertext was stored'
);
select is(
  (select array_agg(action order by seq) from kms.audit_log where record_id = pg_temp.nth(1)),
  array['payment_method.create', 'payment_method.update', 'payment_method.update'],
  'and the audit says what happened'
);

-- ── Batches ────────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select pg_temp.store(
  pg_temp.card(10, :owner, '{"set_default": true}'),
  pg_temp.record(11, :owner, '{"label": "passport"}'),
  '{"kind": "problem", "problem": {"code": "card_expired", "status": 422}, "data_class": "payment"}',
  pg_temp.record(12, :nobody),
  pg_temp.card(13, :nobody),
  pg_temp.card(14, :owner, jsonb_build_object('fingerprint', rpad('fingerprint10', 44, 'x'))),
  pg_temp.record(15, :stranger, '{"data_class": "general"}'),
  pg_temp.card(16, :owner, '{"set_default": true}')
) as batch \gset
select is(
  (select array_agg(r.value ->> 'outcome' order by r.n)
   from jsonb_array_elements(:'batch'::jsonb) with ordinality as r (value, n)),
  array['created', 'created', 'problem', 'owner_not_found', 'owner_not_found', 'existing', 'created',
    'created'],
  'each item has its outcome, in the items'' order'
);
select is(
  :'batch'::jsonb #>> '{5,payment_method,id}', pg_temp.nth(10)::text,
  'a card twice in one batch is stored once'
);
select is(
  (:'batch'::jsonb #> '{1,record}') - 'created_at' - 'updated_at',
  jsonb_build_object(
    'id', pg_temp.nth(11), 'user_id', :owner, 'data_class', 'pii', 'label', 'passport'
  ), 'a record is answered without its data'
);
select is(
  :'batch'::jsonb -> 2,
  '{"outcome": "problem", "problem": {"code": "card_expired", "status": 422}}',
  'a problem is passed on as it came'
);
select is(:'batch'::jsonb -> 3, '{"outcome": "owner_not_found"}', 'a missing owner is a result');
reset role;
select results_eq(
  format('select id from public.payment_methods where user_id = %L and is_default', :owner),
  array[pg_temp.nth(16)], 'the last default of a batch is the one'
);
select is_empty(
  format('select from kms.ciphertexts where owner_id = %L', :nobody),
  'nothing is stored for a missing owner'
);
select results_eq(
  $$ select action, outcome, error_code, data_class from kms.audit_log
     where seq > (select max(seq) - 8 from kms.audit_log) order by seq $$,
  $$ values
       ('payment_method.create', 'success', null, 'payment'),
       ('record.create', 'success', null, 'pii'),
       ('item.refuse', 'failure', 'card_expired', 'payment'),
       ('record.create', 'failure', 'owner_not_found', 'pii'),
       ('payment_method.create', 'failure', 'owner_not_found', 'payment'),
       ('payment_method.update', 'success', null, 'payment'),
       ('record.create', 'success', null, 'general'),
       ('payment_method.create', 'success', null, 'payment') $$,
  'and every item is audited'
);

-- ── Refusing ───────────────────────────────────────────────────────────────────────────────────
create temporary table counts as
select (select count(*) from public.payment_methods) as payment_methods,
  (select count(*) from public.encrypted_records) as records,
  (select count(*) from kms.ciphertexts) as ciphertexts,
  (select count(*) from kms.audit_log) as entries;

select :as_service_role;
-- A good item first, to see that nothing of the batch stays.
create function pg_temp.refusal(p_item jsonb) returns text
language sql as $$
  select pg_temp.fault_of(format(
    'select public.kms_store(pg_temp.actor(), %L, null)',
    jsonb_build_array(pg_temp.card(20, 'aaaaaaaa-0000-4000-8000-00000000000a'), p_item)
  ))
$$;
select is(
  pg_temp.refusal(i.item::jsonb), '22023 invalid_argument: p_items[1]' || i.detail,
  format('the item %s is refused', left(i.item, 60))
) from (values
  ('1', '.kind must be payment_method, record or problem'),
  ('{}', '.kind must be payment_method, record or problem'),
  ('{"kind": "wallet"}', '.kind must be payment_method, record or problem'),
  ('{"kind": "problem"}', '.problem is not an object'),
  ('{"kind": "problem", "problem": "card_expired"}', '.problem is not an object'),
  ('{"kind": "problem", "problem": {}, "number": "4242424242424242"}',
    ' has an unknown field number')
) as i (item, detail);
select is(
  pg_temp.refusal(pg_temp.card(21, :owner, c.overrides::jsonb)),
  '22023 invalid_argument: p_items[1]' || c.detail,
  format('a card with %s is refused', c.overrides)
) from (values
  ('{"cvv": "123"}', ' has an unknown field cvv'),
  ('{"id": null}', '.id is required'),
  ('{"id": "21"}', '.id has the wrong form'),
  ('{"fingerprint": null}', '.fingerprint is required'),
  ('{"fingerprint": "4242424242424242"}', '.fingerprint has the wrong form'),
  ('{"brand": "Visa"}', '.brand has the wrong form'),
  ('{"last4": 4242}', '.last4 has the wrong form'),
  ('{"last4": "04242"}', '.last4 has the wrong form'),
  ('{"exp_month": 13}', '.exp_month must be an integer, 1 to 12'),
  ('{"exp_month": 1.5}', '.exp_month must be an integer, 1 to 12'),
  ('{"exp_month": "12"}', '.exp_month must be an integer, 1 to 12'),
  ('{"exp_year": 30}', '.exp_year must be an integer, 2020 to 2099'),
  ('{"exp_year": 4242424242424242}', '.exp_year must be an integer, 2020 to 2099'),
  ('{"nickname": ""}', '.nickname has the wrong form'),
  ('{"nickname": "4242 4242 4242 4242"}', '.nickname may hold a card number'),
  ('{"nickname": "a\u0007"}', '.nickname has a control character'),
  ('{"set_default": "yes"}', '.set_default must be true or false'),
  ('{"ciphertexts": null}', '.ciphertexts is not an array'),
  ('{"ciphertexts": []}', '.ciphertexts must hold the field number'),
  ('{"ciphertexts": [1]}', '.ciphertexts[0] is not an object'),
  ('{"ciphertexts": [{"field": "cvv", "message": "AgR4"}]}',
    '.ciphertexts[0].field is not one to store here, or is given twice'),
  ('{"ciphertexts": [{"field": "number"}]}', '.ciphertexts[0].message is required'),
  ('{"ciphertexts": [{"field": "number", "message": "AgR4", "data_key": "k"}]}',
    '.ciphertexts[0] has an unknown field data_key')
) as c (overrides, detail);
select is(
  pg_temp.refusal(pg_temp.card(21, :owner, jsonb_build_object(
    'ciphertexts', (pg_temp.card(21, :owner) -> 'ciphertexts')
      || (pg_temp.card(21, :owner) -> 'ciphertexts')))),
  '22023 invalid_argument: p_items[1].ciphertexts[1].field is not one to store here, or is given twice',
  'a card with two numbers is refused'
);
select is(
  pg_temp.refusal(pg_temp.card(21, :owner) || '{"owner_id": "4242424242424242"}'),
  '22023 invalid_argument: p_items[].owner_id has the wrong form', 'a bad owner is refused'
);
select is(
  pg_temp.refusal(pg_temp.card(21, :owner) - 'owner_id'),
  '22023 invalid_argument: p_items[1].owner_id is required', 'a card of nobody is refused'
);
select is(
  pg_temp.refusal(pg_temp.card(21, :owner,
    '{"ciphertexts": [{"field": "number", "message": "4242424242424242"}]}')),
  '23514 value for domain kms.encrypted_message violates check constraint '
    '"encrypted_message_is_an_aws_esdk_v2_message"',
  'plaintext for a ciphertext is refused, and not repeated'
);
select is(
  pg_temp.refusal(pg_temp.record(21, :owner, r.overrides::jsonb)),
  '22023 invalid_argument: p_items[1]' || r.detail,
  format('a record with %s is refused', r.overrides)
) from (values
  ('{"data_class": "payment"}', '.data_class has the wrong form'),
  ('{"label": "4242-4242-4242-4242"}', '.label may hold a card number'),
  ('{"fingerprint": "f"}', ' has an unknown field fingerprint'),
  ('{"ciphertexts": []}', '.ciphertexts must hold the field data'),
  ('{"ciphertexts": [{"field": "number", "message": "AgR4"}]}',
    '.ciphertexts[0].field is not one to store here, or is given twice')
) as r (overrides, detail);
select is(
  pg_temp.refusal(pg_temp.card(1, :stranger, jsonb_build_object('fingerprint', repeat('n', 44)))),
  '23505 duplicate key value violates unique constraint "payment_methods_pkey": '
    'Key (id)=(00000000-0000-4000-8000-000000000001) already exists.',
  'an id that is taken is refused, whoever has it'
);
select is(
  pg_temp.fault_of(format('select public.kms_store(pg_temp.actor(), %L, null)', i.items)),
  '22023 invalid_argument: ' || i.detail, format('%s is refused', i.what)
) from (values
  (null, 'p_items is required', 'a null for items'),
  ('[{"kind": "payment_method", "number": "4242424242424242"', 'p_items is not JSON', 'broken JSON'),
  ('{}', 'p_items is not JSON of type array', 'an object for items'),
  ('[]', 'p_items must have 1 to 100 elements', 'an empty batch'),
  ((select jsonb_agg(1) from generate_series(1, 101))::text,
    'p_items must have 1 to 100 elements', 'a batch of 101')
) as i (items, detail, what);

reset role;
select results_eq(
  $$ select (select count(*) from public.payment_methods),
       (select count(*) from public.encrypted_records),
       (select count(*) from kms.ciphertexts), (select count(*) from kms.audit_log) $$,
  'select * from counts', 'of all these nothing was stored, not even the good item beside'
);

-- ── Which region was called ────────────────────────────────────────────────────────────────────
select :as_service_role;
select pg_temp.store(pg_temp.record(90, :owner, jsonb_build_object('ciphertexts', jsonb_build_array(
  jsonb_build_object('field', 'data', 'message', pg_temp.message(90), 'kms_region', 'us-west-2',
    'kms_key_arn', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1')
))));
reset role;
select is(
  (select kms_region from kms.audit_log where record_id = pg_temp.nth(90)), 'us-west-2',
  'the audit has the region that was called, when it is told'
);
select is(
  pg_temp.fault_of(format('select pg_temp.store(%L)', pg_temp.record(91, :owner, jsonb_build_object(
    'ciphertexts', jsonb_build_array(jsonb_build_object(
      'field', 'data', 'message', pg_temp.message(91), 'kms_region', 'not a region')))))),
  '22023 invalid_argument: p_entries[0].kms_region has the wrong form', 'and nothing that is none'
);

select * from finish();
rollback;
