-- Who sees which rows of the public tables.
begin;
\ir support/personas.psql
select plan(11);

select :as_service_role;
select pg_temp.store(
  pg_temp.card(1, :owner), pg_temp.card(2, :owner), pg_temp.record(3, :owner),
  pg_temp.card(4, :stranger), pg_temp.record(5, :stranger)
);

select :as_owner;
select set_eq(
  'select id from public.payment_methods', array[pg_temp.nth(1), pg_temp.nth(2)],
  'the owner sees their own payment methods'
);
select set_eq(
  'select id from public.encrypted_records', array[pg_temp.nth(3)],
  'the owner sees their own records'
);
select is_empty(
  format('select id from public.payment_methods where id = %L', pg_temp.nth(4)),
  'the owner does not see a stranger''s payment method, not even by id'
);

select :as_stranger;
select set_eq(
  'select id from public.payment_methods', array[pg_temp.nth(4)],
  'the stranger sees their own payment methods'
);
select set_eq(
  'select id from public.encrypted_records', array[pg_temp.nth(5)],
  'the stranger sees their own records'
);

select :as_admin;
select is_empty(
  'select id from public.payment_methods', 'an admin user sees no payment method of others'
);
select is_empty('select id from public.encrypted_records', 'an admin user sees no record of others');

select pg_temp.act_as('authenticated', null, '{}');
select is_empty('select id from public.payment_methods', 'a token without a subject sees nothing');
select is_empty('select id from public.encrypted_records', 'nor any record');

reset role;
select policies_are(
  'public', 'payment_methods', array['Owners see their own payment methods'],
  'payment_methods has the one policy'
);
select policies_are(
  'public', 'encrypted_records', array['Owners see their own encrypted records'],
  'encrypted_records has the one policy'
);

select * from finish();
rollback;
