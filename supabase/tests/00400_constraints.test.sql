-- The tables' own rules, against a writer who goes past the RPCs: here the owner of the tables.
begin;
\ir support/personas.psql
select plan(78);

-- ── public.payment_methods ─────────────────────────────────────────────────────────────────────
create function pg_temp.payment_method(p_overrides jsonb default '{}') returns void
language sql as $$
  insert into public.payment_methods
  select (jsonb_populate_record(null::public.payment_methods, jsonb_build_object(
    'id', pg_temp.nth(1), 'user_id', 'aaaaaaaa-0000-4000-8000-00000000000a',
    'data_class', 'payment', 'brand', 'visa', 'last4', '4242', 'exp_month', 12, 'exp_year', 2030,
    'is_default', false, 'created_at', now(), 'updated_at', now()
  ) || p_overrides)).*
$$;

select throws_ok(
  format('select pg_temp.payment_method(%L)', o.overrides), o.code, null,
  format('a payment method with %s is refused with %s', o.overrides, o.code)
) from (values
  ('{"user_id": "dddddddd-0000-4000-8000-00000000000d"}', '23503'),
  ('{"user_id": null}', '23502'),
  ('{"data_class": "pii"}', '23514'),
  ('{"brand": "VISA"}', '23514'),
  ('{"brand": ""}', '23514'),
  ('{"brand": "4242424242424242"}', '23514'),
  ('{"last4": "424"}', '23514'),
  ('{"last4": "42424"}', '23514'),
  ('{"last4": "424a"}', '23514'),
  ('{"last4": "4242\n"}', '23514'),
  ('{"exp_month": 0}', '23514'),
  ('{"exp_month": 13}', '23514'),
  ('{"exp_year": 2019}', '23514'),
  ('{"exp_year": 2100}', '23514'),
  ('{"exp_year": 30}', '23514'),
  ('{"nickname": ""}', '23514'),
  ('{"nickname": "two\nlines"}', '23514'),
  ('{"nickname": "4242424242424242"}', '23514'),
  ('{"nickname": "my 4242 4242 4242 4242"}', '23514'),
  ('{"nickname": "3782-822463-10005"}', '23514'),
  ('{"nickname": "4222222222222"}', '23514')
) as o (overrides, code);
select throws_ok(
  format('select pg_temp.payment_method(%L)', jsonb_build_object('nickname', repeat('n', 101))),
  '23514', null, 'a nickname of 101 characters is refused'
);
select lives_ok(
  format('select pg_temp.payment_method(%L)', jsonb_build_object(
    'id', pg_temp.nth(11), 'nickname', repeat('n', 88) || '123456789012'
  )),
  'a nickname of 100 characters with a run of 12 digits is accepted'
);

select lives_ok(
  format('select pg_temp.payment_method(%L)', jsonb_build_object('is_default', true)),
  'a first default is accepted'
);
select throws_ok(
  format('select pg_temp.payment_method(%L)', jsonb_build_object(
    'id', pg_temp.nth(2), 'is_default', true
  )), '23505',
  'duplicate key value violates unique constraint "payment_methods_one_default_per_owner"',
  'a second default of one owner is refused'
);
select lives_ok(
  format('select pg_temp.payment_method(%L)', jsonb_build_object(
    'id', pg_temp.nth(3), 'user_id', :stranger, 'is_default', true
  )),
  'a default of another owner is accepted'
);

-- ── public.encrypted_records ───────────────────────────────────────────────────────────────────
create function pg_temp.encrypted_record(p_overrides jsonb default '{}') returns void
language sql as $$
  insert into public.encrypted_records
  select (jsonb_populate_record(null::public.encrypted_records, jsonb_build_object(
    'id', pg_temp.nth(5), 'user_id', 'aaaaaaaa-0000-4000-8000-00000000000a', 'data_class', 'pii',
    'created_at', now(), 'updated_at', now()
  ) || p_overrides)).*
$$;

select throws_ok(
  format('select pg_temp.encrypted_record(%L)', o.overrides), o.code, null,
  format('a record with %s is refused with %s', o.overrides, o.code)
) from (values
  ('{"user_id": "dddddddd-0000-4000-8000-00000000000d"}', '23503'),
  ('{"data_class": "payment"}', '23514'),
  ('{"data_class": "other"}', '23514'),
  ('{"label": ""}', '23514'),
  ('{"label": "a\tb"}', '23514'),
  ('{"label": "5555 5555 5555 4444"}', '23514')
) as o (overrides, code);
select lives_ok('select pg_temp.encrypted_record()', 'a record without a label is accepted');

-- ── kms.encrypted_message ──────────────────────────────────────────────────────────────────────
select throws_ok(
  format('select %L::kms.encrypted_message', m.message), '23514',
  'value for domain kms.encrypted_message violates check constraint '
    '"encrypted_message_is_an_aws_esdk_v2_message"',
  format('%s is no message', m.what)
) from (values
  ('', 'nothing'),
  ('4242424242424242', 'a card number'),
  ('AgR4' || repeat('A', 168), 'one shorter than any header'),
  ('AgV4' || repeat('A', 176), 'one of another suite'),
  ('AQR4' || repeat('A', 176), 'one of version 1'),
  ('AgR4' || repeat('A', 177), 'base64 of no whole number of groups'),
  ('AgR4' || repeat('A', 173) || '===', 'base64 with three pads'),
  ('AgR4' || repeat('A', 174) || 'B=', 'base64 with a stray bit before one pad'),
  ('AgR4' || repeat('A', 173) || 'B==', 'base64 with a stray bit before two pads'),
  ('AgR4' || repeat('A', 100) || E'\n' || repeat('A', 75), 'base64 with a line break'),
  ('AgR4' || repeat('A', 175) || '_', 'base64 of the URL alphabet'),
  (' AgR4' || repeat('A', 175), 'base64 after a space'),
  ('AgR4' || repeat('A', 176) || E'\n', 'base64 before a line break'),
  ('AgR4' || repeat('A', 131072), 'one over 96 KiB')
) as m (message, what);
select lives_ok(
  format('select %L::kms.encrypted_message', m.message), format('%s is a message', m.what)
) from (values
  ('AgR4' || repeat('A', 172), 'the shortest'),
  ('AgR4' || repeat('A', 131068), 'the longest'),
  ('AgR4' || repeat('A', 175) || '=', 'one with one pad'),
  ('AgR4' || repeat('+/9z', 43) || 'AQ==', 'one with two pads')
) as m (message, what);

-- ── kms.ciphertexts ────────────────────────────────────────────────────────────────────────────
create function pg_temp.ciphertext(
  p_table text, p_record integer, p_field text, p_owner text, p_class text
) returns void
language sql as $$
  insert into kms.ciphertexts (table_name, record_id, field, owner_id, data_class, message)
  values (p_table, pg_temp.nth(p_record), p_field, p_owner::uuid, p_class, pg_temp.message(1))
$$;

select throws_ok(
  format('select pg_temp.ciphertext(%L, %L, %L, %L, %L)', c.t, c.r, c.f, c.o, c.d),
  c.code, null, format('%s is refused with %s', c.what, c.code)
) from (values
  ('payment_methods', 404, 'number', :owner, 'payment', '23503', 'a ciphertext of no row'),
  ('encrypted_records', 404, 'data', :owner, 'pii', '23503', 'a ciphertext of no record'),
  ('payment_methods', 1, 'number', :stranger, 'payment', '23503',
    'a ciphertext of another owner''s row'),
  ('encrypted_records', 5, 'data', :stranger, 'pii', '23503',
    'a ciphertext of another owner''s record'),
  ('encrypted_records', 5, 'data', :owner, 'general', '23503',
    'a ciphertext of another class than its record'),
  ('encrypted_records', 1, 'data', :owner, 'pii', '23503',
    'a ciphertext of a payment method as a record'),
  ('payment_methods', 5, 'number', :owner, 'payment', '23503',
    'a ciphertext of a record as a payment method'),
  ('payment_methods', 1, 'number', :owner, 'pii', '23514', 'a card of class pii'),
  ('encrypted_records', 5, 'data', :owner, 'payment', '23514', 'a record of class payment'),
  ('payment_methods', 1, 'cvv', :owner, 'payment', '23514', 'a CVV'),
  ('payment_methods', 1, 'data', :owner, 'payment', '23514', 'a record''s field of a card'),
  ('encrypted_records', 5, 'number', :owner, 'pii', '23514', 'a card''s field of a record'),
  ('other', 1, 'data', :owner, 'pii', '23514', 'another table')
) as c (t, r, f, o, d, code, what);
select lives_ok(
  format('select pg_temp.ciphertext(%L, 1, %L, %L, %L)', 'payment_methods', 'number', :owner, 'payment'),
  'a ciphertext of its owner''s row is accepted'
);
select throws_ok(
  format('select pg_temp.ciphertext(%L, 1, %L, %L, %L)', 'payment_methods', 'number', :owner, 'payment'),
  '23505', null, 'a second ciphertext of one field is refused'
);
select throws_ok(
  $$ update kms.ciphertexts set owner_id = 'bbbbbbbb-0000-4000-8000-00000000000b' $$,
  '23503', null, 'a ciphertext cannot change to another owner'
);

-- ── kms.card_fingerprints ──────────────────────────────────────────────────────────────────────
select throws_ok(
  format(
    'insert into kms.card_fingerprints (payment_method_id, owner_id, fingerprint)
     values (%L, %L, %L)', f.id, f.owner, f.fingerprint
  ), f.code, null, format('%s is refused with %s', f.what, f.code)
) from (values
  (pg_temp.nth(1), :owner, '4242424242424242', '23514', 'a card number as a fingerprint'),
  (pg_temp.nth(1), :owner, repeat('f', 42), '23514', 'a short fingerprint'),
  (pg_temp.nth(1), :stranger, repeat('f', 44), '23503', 'a fingerprint of another owner''s card'),
  (pg_temp.nth(5), :owner, repeat('f', 44), '23503', 'a fingerprint of no card')
) as f (id, owner, fingerprint, code, what);
insert into kms.card_fingerprints (payment_method_id, owner_id, fingerprint)
values (pg_temp.nth(1), :owner, repeat('f', 44)), (pg_temp.nth(3), :stranger, repeat('f', 44));
select throws_ok(
  format(
    'insert into kms.card_fingerprints (payment_method_id, owner_id, fingerprint)
     values (%L, %L, %L)', pg_temp.nth(11), :owner, repeat('f', 44)
  ), '23505', 'duplicate key value violates unique constraint "card_fingerprints_one_per_owner"',
  'an owner has a card once; another owner may have it too'
);

-- ── What goes with a row, however it goes ──────────────────────────────────────────────────────
select pg_temp.ciphertext('encrypted_records', 5, 'data', :owner, 'pii');
delete from public.payment_methods where id = pg_temp.nth(1);
select is_empty(
  format('select from kms.ciphertexts where record_id = %L', pg_temp.nth(1)),
  'a payment method takes its ciphertext with it'
);
select is_empty(
  format('select from kms.card_fingerprints where payment_method_id = %L', pg_temp.nth(1)),
  'and its fingerprint'
);
delete from auth.users where id = :owner;
select is_empty(
  format('select from public.payment_methods where user_id = %L', :owner),
  'a user takes their payment methods with them'
);
select is_empty(
  format('select from public.encrypted_records where user_id = %L', :owner),
  'and their records'
);
select is_empty(
  format('select from kms.ciphertexts where owner_id = %L', :owner), 'and every ciphertext'
);
select isnt_empty(
  format('select from kms.card_fingerprints where owner_id = %L', :stranger),
  'and nothing of anybody else'
);

select * from finish();
rollback;
