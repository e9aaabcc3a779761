-- Listing, reading, changing and deleting payment methods, by their owner and by others.
begin;
\ir support/personas.psql
select plan(55);

create function pg_temp.ids(p_page jsonb) returns uuid[]
language sql as $$
  select array_agg((r.value ->> 'id')::uuid order by r.n)
  from jsonb_array_elements(p_page -> 'payment_methods') with ordinality as r (value, n)
$$;

-- As the owner of the tables.
create function pg_temp.messages(p_n integer) returns jsonb
language sql security definer as $$
  select jsonb_object_agg(field, message) from kms.ciphertexts where record_id = pg_temp.nth(p_n)
$$;

select :as_service_role;
select pg_temp.store(
  pg_temp.card(1, :owner), pg_temp.card(2, :owner), pg_temp.card(3, :owner),
  pg_temp.card(4, :stranger)
);

-- ── List ───────────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.ids(public.kms_payment_methods_list(:owner, 100, null)),
  array[pg_temp.nth(3), pg_temp.nth(2), pg_temp.nth(1)], 'the list is the owner''s, newest first'
);
select is(
  public.kms_payment_methods_list(:owner, 100, null) -> 'next', 'null', 'a last page has no cursor'
);
select is(
  public.kms_payment_methods_list(:owner, 3, null) -> 'next', 'null',
  'nor has a page that is exactly full'
);
select public.kms_payment_methods_list(:owner, 2, null) as page \gset
select is(
  pg_temp.ids(:'page'), array[pg_temp.nth(3), pg_temp.nth(2)], 'a page has as many as asked for'
);
select matches(
  :'page'::jsonb ->> 'next',
  '^[0-9-]{10}T[0-9:]{8}[.][0-9]{6}Z[|]00000000-0000-4000-8000-000000000002$',
  'and the cursor of its last'
);
select is(
  pg_temp.ids(public.kms_payment_methods_list(:owner, 2, :'page'::jsonb ->> 'next')),
  array[pg_temp.nth(1)], 'from which the next page goes on'
);
select is(
  public.kms_payment_methods_list(:nobody, 10, null), '{"next": null, "payment_methods": []}',
  'who has none gets an empty list'
);
select is(
  public.kms_payment_methods_list(null, 10, null), '{"next": null, "payment_methods": []}',
  'and so does nobody'
);
reset role;
update public.payment_methods set created_at = '2026-01-02 03:04:05.678901+00'
where user_id = :owner;
select :as_service_role;
select public.kms_payment_methods_list(:owner, 1, null) as page \gset
select is(
  pg_temp.ids(:'page')
    || pg_temp.ids(public.kms_payment_methods_list(:owner, 2, :'page'::jsonb ->> 'next')),
  array[pg_temp.nth(3), pg_temp.nth(2), pg_temp.nth(1)],
  'rows of one moment are neither lost nor repeated between pages'
);
select is(
  pg_temp.fault_of(format('select public.kms_payment_methods_list(%L, %s)', :owner, l.arguments)),
  '22023 invalid_argument: ' || l.detail, format('a list of %s is refused', l.arguments)
) from (values
  ('0, null', 'p_limit must be 1 to 100'),
  ('101, null', 'p_limit must be 1 to 100'),
  ('null, null', 'p_limit must be 1 to 100'),
  ('1, ''''', 'p_before is not a cursor'),
  ('1, ''4242424242424242''', 'p_before is not a cursor'),
  ('1, ''2026-13-01T00:00:00.000000Z|00000000-0000-4000-8000-000000000002''',
    'p_before is not a cursor'),
  ('1, ''2026-01-01T00:00:00.000000Z|00000000-0000-4000-8000-00000000000;''',
    'p_before is not a cursor')
) as l (arguments, detail);

-- ── Get ────────────────────────────────────────────────────────────────────────────────────────
select is(
  public.kms_payment_method_get(:owner, pg_temp.nth(1)) ->> 'created_at', '2026-01-02T03:04:05.678Z',
  'the owner''s card is found'
);
select is(
  public.kms_payment_method_get(:stranger, pg_temp.nth(1)), null, 'a stranger''s is not'
);
select is(public.kms_payment_method_get(null, pg_temp.nth(1)), null, 'nor is one of nobody');
select is(public.kms_payment_method_get(:owner, pg_temp.nth(404)), null, 'nor one that is not');

-- ── Update ─────────────────────────────────────────────────────────────────────────────────────
create function pg_temp.change(p_owner text, p_n integer, p_patch text, p_ciphertexts text)
returns jsonb
language sql as $$
  select public.kms_payment_method_update(
    pg_temp.actor(), p_owner::uuid, pg_temp.nth(p_n), p_patch, p_ciphertexts)
$$;

select public.kms_payment_method_get(:owner, pg_temp.nth(1)) as before \gset
select is(
  pg_temp.change(:owner, 1, '{"exp_month": 7, "exp_year": 2040, "nickname": "new"}', null)
    - 'updated_at',
  :'before'::jsonb - 'updated_at' || '{"exp_month": 7, "exp_year": 2040, "nickname": "new"}',
  'expiry and nickname change, and nothing else'
);
select isnt(
  public.kms_payment_method_get(:owner, pg_temp.nth(1)) ->> 'updated_at',
  :'before'::jsonb ->> 'updated_at', 'but the time of the change'
);
select is(
  pg_temp.change(:owner, 1, '{"exp_month": 8}', '[]') ->> 'nickname', 'new',
  'a nickname that is not given stays'
);
select is(
  pg_temp.change(:owner, 1, '{"nickname": null}', '[]') -> 'nickname', 'null',
  'a nickname of null is cleared'
);
reset role;
insert into kms.branch_keys (branch_key_id, type, record)
select 'b', v.type, jsonb_build_object('branch-key-id', 'b', 'type', v.type)
from (values ('branch:version:' || pg_temp.nth(9))) as v (type);
select :as_service_role;
select pg_temp.change(:owner, 1, '{}', jsonb_build_array(
  jsonb_build_object('field', 'cardholder_name', 'message', pg_temp.message(101),
    'kms_key_arn', 'arn:aws:kms:eu-west-1:000000000000:key/mrk-2', 'branch_key_id', 'b',
    'branch_key_version', pg_temp.nth(9)),
  jsonb_build_object('field', 'billing_address', 'message', pg_temp.message(102))
)::text);
select is(
  pg_temp.messages(1), jsonb_build_object(
    'number', pg_temp.message(1), 'cardholder_name', pg_temp.message(101),
    'billing_address', pg_temp.message(102)
  ), 'ciphertexts are added beside the number'
);
reset role;
select results_eq(
  'select action, record_id, kms_region, branch_key_id, branch_key_version
   from kms.audit_log order by seq desc limit 1',
  $$ values ('payment_method.update', pg_temp.nth(1), 'eu-west-1', 'b', pg_temp.nth(9)::text) $$,
  'with their keys in the audit'
);
select :as_service_role;
select pg_temp.change(:owner, 1, '{"clear": ["billing_address"]}', jsonb_build_array(
  jsonb_build_object('field', 'cardholder_name', 'message', pg_temp.message(103))
)::text);
select is(
  pg_temp.messages(1), jsonb_build_object(
    'number', pg_temp.message(1), 'cardholder_name', pg_temp.message(103)
  ), 'one is replaced and one is destroyed'
);
select is(
  pg_temp.change(:stranger, 1, '{"nickname": "mine", "clear": ["cardholder_name"]}', null), null,
  'a stranger changes nothing'
);
select is(
  pg_temp.messages(1) ? 'cardholder_name', true, 'and destroys nothing'
);
select is(
  pg_temp.fault_of(format('select pg_temp.change(%L, 1, %L, %L)', :owner, u.patch, u.ciphertexts)),
  '22023 invalid_argument: ' || u.detail, format('an update to %s %s is refused', u.patch, u.ciphertexts)
) from (values
  (null, null, 'p_patch is required'),
  ('[]', null, 'p_patch is not JSON of type object'),
  ('{"number": "4242424242424242"}', null, 'p_patch has an unknown field number'),
  ('{"is_default": true}', null, 'p_patch has an unknown field is_default'),
  ('{"exp_month": 0}', null, 'p_patch.exp_month must be an integer, 1 to 12'),
  ('{"exp_year": "2030"}', null, 'p_patch.exp_year must be an integer, 2020 to 2099'),
  ('{"nickname": "4242424242424242"}', null, 'p_patch.nickname may hold a card number'),
  ('{"clear": "billing_address"}', null,
    'p_patch.clear may name cardholder_name and billing_address only'),
  ('{"clear": ["number"]}', null,
    'p_patch.clear may name cardholder_name and billing_address only'),
  ('{}', '[{"field": "number", "message": "AgR4"}]',
    'p_ciphertexts[0].field is not one to store here, or is given twice'),
  ('{"clear": ["billing_address"]}', '[{"field": "billing_address", "message": "AgR4"}]',
    'p_patch.clear names a field of p_ciphertexts'),
  ('{}', '[1, 2, 3]', 'p_ciphertexts must have 0 to 2 elements')
) as u (patch, ciphertexts, detail);

-- ── Default ────────────────────────────────────────────────────────────────────────────────────
select is(
  public.kms_payment_method_set_default(pg_temp.actor(), :owner, pg_temp.nth(1)) ->> 'is_default',
  'true', 'a card is made default'
);
select is(
  public.kms_payment_method_set_default(pg_temp.actor(), :owner, pg_temp.nth(2)) ->> 'is_default',
  'true', 'then another'
);
select is(
  public.kms_payment_method_set_default(pg_temp.actor(), :stranger, pg_temp.nth(1)), null,
  'a stranger makes nothing default'
);
select is(
  public.kms_payment_method_set_default(pg_temp.actor(), :owner, pg_temp.nth(404)), null,
  'nor does the owner a card that is not'
);
select is(
  public.kms_payment_method_set_default(pg_temp.actor(), null, pg_temp.nth(1)), null,
  'nor does nobody'
);
reset role;
select results_eq(
  'select id from public.payment_methods where is_default', array[pg_temp.nth(2)],
  'one default remains, the last'
);

-- ── Delete ─────────────────────────────────────────────────────────────────────────────────────
select count(*) as entries from kms.audit_log \gset
select :as_service_role;
select is(
  public.kms_payment_method_delete(pg_temp.actor(), :stranger, pg_temp.nth(1)), false,
  'a stranger deletes nothing'
);
select is(
  public.kms_payment_method_delete(pg_temp.actor(), null, pg_temp.nth(1)), false,
  'nor does nobody'
);
select is(
  public.kms_payment_method_delete(pg_temp.actor(), :owner, pg_temp.nth(1)), true,
  'the owner deletes'
);
select is(
  public.kms_payment_method_delete(pg_temp.actor(), :owner, pg_temp.nth(1)), false,
  'once'
);
select is(pg_temp.messages(1), null, 'the ciphertexts are gone');
select is(
  pg_temp.store(pg_temp.card(1, :owner)) #>> '{0,outcome}', 'created',
  'and the fingerprint: the card can be stored anew'
);
reset role;
select is(
  (select array_agg(action order by seq) from kms.audit_log
   where seq > :entries and record_id = pg_temp.nth(1)),
  array['payment_method.delete', 'payment_method.create'], 'the audit stays and grows'
);

-- ── Keys in the audit ──────────────────────────────────────────────────────────────────────────
create function pg_temp.key_record(p_type text, p_more jsonb) returns jsonb
language sql as $$
  select jsonb_build_object(
    'branch-key-id', 'payment', 'type', p_type, 'enc', repeat('A', 88), 'kms-arn', 'arn:now',
    'create-time', '2026-11-22T00:00:00.000000Z', 'hierarchy-version', '1') || p_more
$$;
select :as_service_role;
select public.kms_branch_key_create(jsonb_build_array(
  pg_temp.key_record('branch:version:' || pg_temp.nth(7), '{}'),
  pg_temp.key_record('branch:ACTIVE', jsonb_build_object('version', 'branch:version:' || pg_temp.nth(7))),
  pg_temp.key_record('beacon:ACTIVE', '{}'))::text);
-- The number in direct mode, the name under a branch key whose wrapping key is another one by now.
select pg_temp.store(pg_temp.card(31, :owner, jsonb_build_object('ciphertexts', jsonb_build_array(
  jsonb_build_object('field', 'billing_address', 'message', pg_temp.message(1)),
  jsonb_build_object('field', 'cardholder_name', 'message', pg_temp.message(2),
    'kms_key_arn', 'arn:then', 'branch_key_id', 'payment', 'branch_key_version', pg_temp.nth(7)),
  jsonb_build_object('field', 'number', 'message', pg_temp.message(3), 'kms_key_arn', 'arn:direct')
))));
select pg_temp.change(:owner, 31, '{"nickname": "x"}', null);
select public.kms_payment_method_set_default(pg_temp.actor(), :owner, pg_temp.nth(31));
select pg_temp.change(:owner, 31, '{"clear": ["cardholder_name"]}', null);
select public.kms_payment_method_delete(pg_temp.actor(), :owner, pg_temp.nth(31));
reset role;
select results_eq(
  $$ select action, kms_key_arn, branch_key_id, branch_key_version from kms.audit_log
     where record_id = pg_temp.nth(31) and action <> 'payment_method.create' order by seq $$,
  $$ values ('payment_method.update', null, null, null),
       ('payment_method.set_default', null, null, null),
       ('payment_method.update', 'arn:now', 'payment', pg_temp.nth(7)::text),
       ('payment_method.delete', 'arn:direct', null, null) $$,
  'what destroys ciphertext names its keys, a deletion those of the number; the rest names none'
);

select * from finish();
rollback;
