-- The audit log: what it refuses, that it cannot be changed, and that its chain tells if it was.
begin;
\ir support/personas.psql
select plan(56);

create function pg_temp.append(p_entry jsonb) returns jsonb
language sql as $$
  select public.kms_audit_append(pg_temp.actor(), jsonb_build_array(p_entry)::text)
$$;
create function pg_temp.today() returns date
language sql as $$ select (clock_timestamp() at time zone 'UTC')::date $$;

-- ── Appending ──────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  public.kms_audit_append(pg_temp.actor(), '[
    {"action": "payment_method.reveal", "outcome": "success", "data_class": "payment",
     "table_name": "payment_methods", "record_id": "00000000-0000-4000-8000-000000000001",
     "owner_id": "aaaaaaaa-0000-4000-8000-00000000000a", "purpose": "refund of order 7",
     "kms_key_arn": "arn:aws:kms:eu-west-1:000000000000:key/mrk-1", "kms_region": "eu-west-1",
     "branch_key_id": "b", "branch_key_version": "v"},
    {"action": "payment_method.reveal", "outcome": "failure", "error_code": "decryption_failed",
     "kms_key_arn": "arn:aws:kms:us-west-2:000000000000:key/mrk-1"}
  ]'),
  '{"appended": 2}', 'two entries are appended'
);
reset role;
select results_eq(
  $$ select seq, action, outcome, error_code, purpose, kms_region, actor_type, actor_id,
       function_name, request_id
     from kms.audit_log order by seq $$,
  $$ values
       (1::bigint, 'payment_method.reveal', 'success', null, 'refund of order 7', 'eu-west-1', 'user',
         'aaaaaaaa-0000-4000-8000-00000000000a', 'encrypt-payment-data',
         'eeeeeeee-0000-4000-8000-00000000000e'::uuid),
       (2, 'payment_method.reveal', 'failure', 'decryption_failed', null, 'us-west-2', 'user',
         'aaaaaaaa-0000-4000-8000-00000000000a', 'encrypt-payment-data',
         'eeeeeeee-0000-4000-8000-00000000000e') $$,
  'they say who did what, how it ended, and in which region, which is the key''s unless given'
);
select is(kms.region_of(a.arn), a.region, format('the region of %s is %s', a.arn, a.region))
from (values
  ('arn:aws-us-gov:kms:us-gov-west-1:000000000000:key/mrk-1', 'us-gov-west-1'),
  ('env:payment', null),
  ('arn:aws:kms:-:000000000000:key/mrk-1', null),
  ('arn:aws:kms:' || repeat('r', 65) || ':000000000000:key/mrk-1', null)
) as a (arn, region);
select is(
  (select prev_hash from kms.audit_log where seq = 1), repeat('0', 64),
  'the very first entry follows 64 zeros'
);
select is(
  (select prev_hash from kms.audit_log where seq = 2),
  (select hash from kms.audit_log where seq = 1),
  'the second follows the first'
);
select is(
  (select kms.audit_canonical(a) from kms.audit_log a where seq = 2),
  (select '12:kms-audit-v1,10:' || chain_day || ',1:2,64:' || prev_hash || ',27:'
     || to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
     || ',4:user,36:aaaaaaaa-0000-4000-8000-00000000000a'
     || ',36:eeeeeeee-0000-4000-8000-00000000000e,20:encrypt-payment-data,-'
     || ',21:payment_method.reveal,7:failure,17:decryption_failed,-,-,-,-,-,44:arn:aws:kms:us-west-2:000000000000:key/mrk-1'
     || ',9:us-west-2,-,-'
   from kms.audit_log where seq = 2),
  'an entry is hashed in a form that any language can rebuild'
);
select is(
  (select hash from kms.audit_log where seq = 2),
  (select encode(sha256(convert_to(kms.audit_canonical(a), 'UTF8')), 'hex')
   from kms.audit_log a where seq = 2),
  'by SHA-256'
);

-- ── Refusing ───────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  pg_temp.fault_of(format(
    'select pg_temp.append(%L)',
    '{"action": "a.b", "outcome": "success"}'::jsonb || r.entry::jsonb
  )),
  '22023 invalid_argument: p_entries[0]' || r.detail,
  format('an entry with %s is refused', r.entry)
) from (values
  ('{"action": null}', '.action is required'),
  ('{"action": "A"}', '.action has the wrong form'),
  ('{"action": "a..b"}', '.action has the wrong form'),
  ('{"action": "4242424242424242"}', '.action has the wrong form'),
  ('{"outcome": "maybe"}', '.outcome has the wrong form'),
  ('{"outcome": "failure"}', '.error_code is required for a failure'),
  ('{"error_code": "Not A Code"}', '.error_code has the wrong form'),
  ('{"data_class": "secret"}', '.data_class has the wrong form'),
  ('{"table_name": "4242424242424242"}', '.table_name has the wrong form'),
  ('{"record_id": "4242424242424242"}', '.record_id has the wrong form'),
  ('{"owner_id": 7}', '.owner_id has the wrong form'),
  ('{"purpose": ""}', '.purpose has the wrong form'),
  ('{"purpose": "a\nb"}', '.purpose has a control character'),
  ('{"purpose": "for 4242 4242 4242 4242"}', '.purpose may hold a card number'),
  ('{"kms_region": "EU West"}', '.kms_region has the wrong form'),
  ('{"number": "4242424242424242"}', ' has an unknown field number'),
  ('{"4242424242424242": 1}', ' has an unknown field')
) as r (entry, detail);
select is(
  pg_temp.fault_of(format(
    'select pg_temp.append(%L)', jsonb_build_object(
      'action', 'a.b', 'outcome', 'success', 'purpose', repeat('p', 201)))),
  '22023 invalid_argument: p_entries[0].purpose has the wrong form',
  'a purpose of 201 characters is refused'
);
select is(
  pg_temp.fault_of(format('select public.kms_audit_append(%L, %L)', a.actor, '[]')),
  '22023 invalid_argument: ' || a.detail, format('the actor %s is refused', a.actor)
) from (values
  (null, 'p_actor is required'),
  ('{', 'p_actor is not JSON'),
  ('[]', 'p_actor is not JSON of type object'),
  ('{}', 'p_actor.actor_type is required'),
  ('{"actor_type": "root"}', 'p_actor.actor_type has the wrong form'),
  ('{"actor_type": "user"}', 'p_actor.actor_id is required'),
  ('{"actor_type": "user", "actor_id": "u"}', 'p_actor.request_id is required'),
  ('{"actor_type": "user", "actor_id": "u", "email": "e"}',
    'p_actor has an unknown field email'),
  ((pg_temp.actor()::jsonb || '{"address_hash": "127.0.0.1"}')::text,
    'p_actor.address_hash has the wrong form')
) as a (actor, detail);
select is(
  pg_temp.fault_of(format('select public.kms_audit_append(pg_temp.actor(), %L)', e.entries)),
  '22023 invalid_argument: ' || e.detail, format('%s is refused', e.what)
) from (values
  (null, 'p_entries is required', 'a null for entries'),
  ('{}', 'p_entries is not JSON of type array', 'an object for entries'),
  ('[]', 'p_entries must have 1 to 1000 elements', 'an empty list of entries'),
  ('[1]', 'p_entries[0] is not an object', 'a number for an entry')
) as e (entries, detail, what);
reset role;
select is((select count(*)::integer from kms.audit_log), 2, 'of all these nothing was appended');

-- ── Append-only ────────────────────────────────────────────────────────────────────────────────
select throws_ok(
  s.statement, '42501', 'permission denied for table audit_log',
  format('not even the owner may %s', s.statement)
) from (values
  ('update kms.audit_log set outcome = outcome'), ('truncate kms.audit_log')
) as s (statement);
grant update, delete, truncate on kms.audit_log to current_user;
select throws_ok(
  s.statement, 'KM403', 'audit_log_append_only',
  format('nor with the privilege for it may they %s', s.statement)
) from (values
  ('update kms.audit_log set outcome = outcome'), ('delete from kms.audit_log'),
  ('truncate kms.audit_log')
) as s (statement);

insert into kms.audit_log (
  chain_day, seq, prev_hash, hash, occurred_at, actor_type, actor_id, request_id, function_name,
  action, outcome
) values (
  '2000-01-01', 77, repeat('1', 64), repeat('2', 64), '2000-01-01', 'system', 'test',
  pg_temp.nth(1), 'test', 'test.forge', 'success'
);
select results_eq(
  $$ select seq, chain_day, prev_hash = (select hash from kms.audit_log where seq = 2),
       occurred_at > now() from kms.audit_log where action = 'test.forge' $$,
  $$ values (3::bigint, pg_temp.today(), true, true) $$,
  'a direct insert cannot choose its place in the chain, nor its time'
);

-- ── Verification ───────────────────────────────────────────────────────────────────────────────
-- A day before and a day after, by hand: the trigger knows today only.
alter table kms.audit_log disable trigger audit_log_no_change;
alter table kms.audit_log disable trigger audit_log_chain;
create function pg_temp.forge(p_day date, p_seq bigint, p_prev text) returns text
language plpgsql as $$
declare
  v_entry kms.audit_log;
begin
  select * into v_entry from kms.audit_log order by chain_day, seq limit 1;
  v_entry.chain_day := p_day;
  v_entry.seq := p_seq;
  v_entry.prev_hash := p_prev;
  v_entry.hash := kms.audit_hash(v_entry);
  insert into kms.audit_log select v_entry.*;
  return v_entry.hash;
end
$$;
select pg_temp.forge(
  pg_temp.today() + 1, 1, (select hash from kms.audit_log where seq = 3)
);

select is(kms.audit_verify(pg_temp.today()), null, 'an untouched day verifies');
select is(kms.audit_verify(pg_temp.today() + 1), null, 'and the day after it');
select is(kms.audit_verify(pg_temp.today() - 9), null, 'and a day without entries');

-- pgTAP's own count is rolled back too, so each finding is carried over the rollback.
savepoint untouched;
update kms.audit_log set actor_id = 'somebody else' where seq = 2;
select kms.audit_verify(pg_temp.today()) as found \gset
rollback to untouched;
select is(:found::bigint, 2::bigint, 'a changed entry is found');

delete from kms.audit_log where seq = 2;
select kms.audit_verify(pg_temp.today()) as found \gset
rollback to untouched;
select is(:found::bigint, 2::bigint, 'a removed entry is found');

delete from kms.audit_log where seq = 3;
select kms.audit_verify(pg_temp.today() + 1) as found \gset
rollback to untouched;
select is(:found::bigint, 1::bigint, 'an entry removed from the end of a day is found by the next day');

select pg_temp.forge(pg_temp.today(), 4, repeat('0', 64));
select kms.audit_verify(pg_temp.today()) as found \gset
rollback to untouched;
select is(:found::bigint, 4::bigint, 'an inserted entry is found');

update kms.audit_log set seq = 9 where chain_day = pg_temp.today() and seq = 2;
update kms.audit_log set seq = 2 where chain_day = pg_temp.today() and seq = 3;
update kms.audit_log set seq = 3 where chain_day = pg_temp.today() and seq = 9;
select kms.audit_verify(pg_temp.today()) as found \gset
rollback to untouched;
select is(:found::bigint, 2::bigint, 'reordered entries are found');

select * from finish();
rollback;
