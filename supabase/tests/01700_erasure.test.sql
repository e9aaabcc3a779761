-- Erasing a person: all of theirs goes, nothing of others, by request and with the user; keys that are
-- theirs alone are destroyed by nothing else; what happened is recorded once and never changes.
begin;
\ir support/personas.psql
select plan(66);

create function pg_temp.eraser() returns text
language sql as $$
  select '{"actor_type": "admin", "actor_id": "cccccccc-0000-4000-8000-00000000000c", '
    '"request_id": "eeeeeeee-0000-4000-8000-00000000000e", "function": "kms-admin", '
    '"address_hash": "' || repeat('a', 43) || '"}'
$$;
create function pg_temp.erase(p_user_id text, p_purpose text default 'gdpr') returns jsonb
language sql as $$
  select public.kms_user_erase(pg_temp.eraser(), p_user_id::uuid, p_purpose)
$$;
create function pg_temp.version(p_n integer) returns text
language sql as $$ select 'branch:version:' || pg_temp.nth(p_n) $$;
-- The three records of a branch key, or the two of a new version of it.
create function pg_temp.branch_key(p_id text, p_n integer, p_types text[]) returns text
language sql as $$
  select jsonb_agg(jsonb_build_object(
    'branch-key-id', p_id, 'enc', rpad('k', 88, 'A'), 'kms-arn', 'arn:aws:kms:us-east-1:0:key/k',
    'create-time', format('2026-11-22T00:00:00.%sZ', lpad(p_n::text, 6, '0')),
    'hierarchy-version', '1'
  ) || case t
    when 'active' then
      jsonb_build_object('type', 'branch:ACTIVE', 'version', pg_temp.version(p_n))
    when 'version' then jsonb_build_object('type', pg_temp.version(p_n))
    else '{"type": "beacon:ACTIVE"}'
  end)::text
  from unnest(p_types) as t
$$;
create function pg_temp.new_key(p_id text, p_n integer) returns jsonb
language sql as $$
  select public.kms_branch_key_create(
    pg_temp.branch_key(p_id, p_n, array['active', 'version', 'beacon']))
$$;
create function pg_temp.under(p_field text, p_key text, p_n integer) returns jsonb
language sql as $$
  select jsonb_build_object('ciphertexts', jsonb_build_array(jsonb_build_object(
    'field', p_field, 'message', pg_temp.message(p_n), 'branch_key_id', p_key,
    'branch_key_version', pg_temp.nth(p_n)
  )))
$$;
create function pg_temp.epoch() returns bigint
language sql security definer as $$ select epoch from kms.key_epoch $$;
create function pg_temp.claim(p_key text) returns text
language sql security definer as $$
  select jsonb_build_object('scope', scope, 'key_hash', key_hash, 'token', token)::text
  from kms.idempotency_keys where key_hash = repeat(p_key, 64)
$$;
create temporary table before (epoch bigint);
create temporary table done (answer jsonb);
create temporary table unsigned (list jsonb);
grant all on before, done, unsigned to service_role;

-- ── What there is ──────────────────────────────────────────────────────────────────────────────
\set owner_key    '''payment:aaaaaaaa-0000-4000-8000-00000000000a'''
\set owner_pii    '''pii:aaaaaaaa-0000-4000-8000-00000000000a'''
\set stranger_key '''payment:bbbbbbbb-0000-4000-8000-00000000000b'''

select :as_service_role;
select isnt(pg_temp.new_key(k.id, k.n), null, format('there is a branch key %s', k.id))
from (values ('payment', 1), (:owner_key, 2), (:owner_pii, 4), (:stranger_key, 5)) as k (id, n);
select is(
  public.kms_branch_key_rotate(
    pg_temp.actor(), pg_temp.branch_key(:owner_key, 3, array['version', 'active']),
    pg_temp.version(2)) -> 'rotated', 'true', 'one of them with two versions'
);
select is(
  public.kms_idempotency_begin('scope', repeat(k, 64), repeat('r', 64), 60, 86400) ->> 'state',
  'started', 'a request begins'
) from unnest(array['a', 'b']) as k;
select is(
  jsonb_array_length(public.kms_store(pg_temp.actor(), jsonb_build_array(
    pg_temp.card(11, :owner, pg_temp.under('number', :owner_key, 2) || '{"nickname": "mine"}'),
    pg_temp.card(12, :stranger, pg_temp.under('number', :stranger_key, 5)),
    pg_temp.record(13, :owner, pg_temp.under('data', :owner_pii, 4))
  )::text, pg_temp.claim('a')) -> 'results'), 3, 'two owners'' data come in one request'
);
select is(
  jsonb_array_length(public.kms_store(pg_temp.actor(), jsonb_build_array(
    pg_temp.card(14, :stranger, pg_temp.under('number', 'payment', 1)),
    pg_temp.card(15, :owner, pg_temp.under('number', 'payment', 1))
  )::text, pg_temp.claim('b')) -> 'results'), 2, 'and in another, under the key of the class'
);
insert into before select pg_temp.epoch();

-- ── Erasing on request ─────────────────────────────────────────────────────────────────────────
insert into done select pg_temp.erase(:owner);
select is(answer -> 'proof', 'null', 'a new erasure is not signed yet') from done;
select is(
  answer -> 'erasure' -> 'erased',
  '{"payment_methods": 2, "records": 1, "ciphertexts": 3, "card_fingerprints": 2,
    "idempotency_answers": 2, "branch_key_records": 7, "legacy_rows": 0}', 'it counts what went'
) from done;
select is(
  answer -> 'erasure' -> 'branch_keys', jsonb_build_array(
    jsonb_build_object('id', :owner_key, 'versions', array[pg_temp.nth(2), pg_temp.nth(3)]),
    jsonb_build_object('id', :owner_pii, 'versions', array[pg_temp.nth(4)])
  ), 'and names each key and version destroyed'
) from done;
select is(
  answer -> 'erasure' -> 'actor', pg_temp.eraser()::jsonb - 'address_hash',
  'and who did it, without the address'
) from done;
select is(
  array[answer -> 'erasure' ->> 'user_id', answer -> 'erasure' ->> 'purpose'],
  array[:owner, 'gdpr'], 'to whom, and why'
) from done;
reset role;
select results_eq(
  $$ select (select count(*) from public.payment_methods where user_id = o.id)
       + (select count(*) from public.encrypted_records where user_id = o.id)
       + (select count(*) from kms.ciphertexts where owner_id = o.id)
       + (select count(*) from kms.card_fingerprints where owner_id = o.id)
     from (values (1, '$$ || :owner || $$'::uuid), (2, '$$ || :stranger || $$')) as o (n, id)
     order by n $$,
  array[0, 6]::bigint[], 'nothing is left of the one, and everything of the other'
);
select set_eq(
  'select branch_key_id, count(*) from kms.branch_keys group by 1',
  $$ values ('payment', 3::bigint), ('$$ || :stranger_key || $$', 3) $$,
  'the keys of the class and of others are there, whole'
);
select is(pg_temp.epoch() - epoch, 1::bigint, 'the epoch tells every worker') from before;
select results_eq(
  $$ select jsonb_path_query_array(response, '$.results[*].outcome')
     from kms.idempotency_keys order by key_hash $$,
  array['["gone", "created", "gone"]', '["created", "gone"]']::jsonb[],
  'stored answers tell of others'' rows only'
);
select is_empty(
  $$ select from kms.idempotency_keys where response::text ~ 'mine|aaaaaaaa' $$,
  'and hold no word of the one erased'
);
select results_eq(
  $$ select action, branch_key_id, branch_key_version, kms_region, record_id, purpose
     from kms.audit_log where action = 'branch_key.destroy' or action like 'user.%' order by seq $$,
  $$ select * from (values
       ('branch_key.destroy', '$$ || :owner_key || $$', pg_temp.nth(2)::text, 'us-east-1',
         null::uuid, null),
       ('branch_key.destroy', '$$ || :owner_key || $$', pg_temp.nth(3)::text, 'us-east-1', null, null),
       ('branch_key.destroy', '$$ || :owner_pii || $$', pg_temp.nth(4)::text, 'us-east-1', null, null),
       ('user.erase', null, null, null, (select id from kms.erasures), 'gdpr')
     ) as e $$,
  'the audit has each key, and the erasure by its id'
);
select is(
  answer -> 'erasure' -> 'audit', (
    select jsonb_build_object('day', chain_day, 'seq', seq, 'hash', hash)
    from kms.audit_log where action = 'user.erase'
  ), 'and the erasure has its place in the audit'
) from done;
select is(kms.audit_verify(max(chain_day)), null, 'which is a whole chain') from kms.audit_log;
select is(current_setting('kms.erasing_owner'), '', 'the door is closed behind it');

-- ── Again ──────────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(pg_temp.erase(:owner, 'again'), answer, 'the same again is the same erasure') from done;
select is(
  pg_temp.erase(:nobody) -> 'erasure' -> 'erased',
  '{"payment_methods": 0, "records": 0, "ciphertexts": 0, "card_fingerprints": 0,
    "idempotency_answers": 0, "branch_key_records": 0, "legacy_rows": 0}', 'of nobody it is recorded that there is nothing'
);
reset role;
select is(pg_temp.epoch() - epoch, 1::bigint, 'neither counts an epoch') from before;
select results_eq(
  $$ select action, purpose, owner_id::text from kms.audit_log where action like 'user.%' order by seq $$,
  $$ values ('user.erase', 'gdpr', '$$ || :owner || $$'),
       ('user.erase.repeat', 'again', '$$ || :owner || $$'),
       ('user.erase', 'gdpr', '$$ || :nobody || $$') $$, 'and both are audited'
);

-- ── Keys that are gone ─────────────────────────────────────────────────────────────────────────
select :as_service_role;
create function pg_temp.late(p_key text, p_n integer, p_owner text) returns text
language sql as $$
  select pg_temp.fault_of(format('select pg_temp.store(%L::jsonb)',
    pg_temp.card(20 + p_n, p_owner, pg_temp.under('number', p_key, p_n))))
$$;
select matches(
  pg_temp.late(:owner_key, n, :owner), '^23503 .*"ciphertexts_branch_key_version_fkey"',
  format('a message under the destroyed version %s is not stored', n)
) from unnest(array[2, 3]) as n;
select isnt(pg_temp.new_key(:owner_key, 6), null, 'the owner gets a new key');
select is(
  left(pg_temp.late(:owner_key, 2, :owner), 5), '23503', 'under which the old version is as gone'
);
select is(pg_temp.late(:owner_key, 6, :owner), null, 'and a message under the new one is stored');
select is(
  public.kms_payment_method_get(:owner, pg_temp.nth(26)) ->> 'id', pg_temp.nth(26)::text,
  'it is there'
);
select is(
  left(pg_temp.fault_of(format(
    'select public.kms_payment_method_update(pg_temp.actor(), %L, pg_temp.nth(26), ''{}'', %L)',
    :owner, pg_temp.under('cardholder_name', :owner_key, 3) -> 'ciphertexts'
  )), 5), '23503', 'no change of it is stored under an old version either'
);

-- ── What nobody may ────────────────────────────────────────────────────────────────────────────
select is(pg_temp.fault_of(s.statement), '42501 permission denied for schema kms', s.what)
from (values
  ('select * from kms.erasures', 'service_role reads no erasure by itself'),
  ('select kms.erase_owner(gen_random_uuid(), ''{}'', null, true)', 'nor erases by itself')
) as s (statement, what);
select :as_admin;
select is(
  left(pg_temp.fault_of('select pg_temp.erase(gen_random_uuid()::text)'), 5), '42501',
  'an administrator of the application may not call the RPC'
);
reset role;
set constraints all immediate;
select throws_ok(s.statement, 'KM403', 'erasure_immutable', s.what)
from (values
  ('delete from kms.erasures', 'not even the owner removes an erasure'),
  ('truncate kms.erasures', 'nor all of them'),
  ($$ update kms.erasures set erased = '{}' $$, 'nor changes what it counts'),
  ($$ update kms.erasures set purpose = null where purpose is not null $$, 'nor why it was done'),
  ($$ update kms.erasures set audit_seq = audit_seq + 1 $$, 'nor its place in the audit')
) as s (statement, what);
select set_config('kms.erasing_owner', :owner, true);
select throws_ok(
  format('delete from kms.branch_keys where branch_key_id = %L', k), 'KM403',
  'branch_key_record_immutable', format('an erasure opens no other key: %s', k)
) from unnest(array['payment', :stranger_key]) as k;
select throws_ok(
  'truncate kms.branch_keys cascade', 'KM403', 'branch_key_record_immutable', 'nor lets the table be emptied'
);
select set_config('kms.erasing_owner', '', true);
select throws_ok(
  format('delete from kms.branch_keys where branch_key_id = %L', :owner_key), 'KM403',
  'branch_key_record_immutable', 'without one an owner''s key stays, too'
);
select is(
  pg_temp.fault_of(format('select public.kms_user_erase(%s)', a.arguments)),
  '22023 invalid_argument: ' || a.detail, format('erasing with %s is refused', a.arguments)
) from (values
  ('null, gen_random_uuid(), ''x''', 'p_actor is required'),
  ('pg_temp.eraser(), null, ''x''', 'p_user_id is required'),
  ('pg_temp.eraser(), gen_random_uuid(), null', 'arguments.p_purpose is required'),
  ('pg_temp.eraser(), gen_random_uuid(), ''4242 4242 4242 4242''',
    'arguments.p_purpose may hold a card number')
) as a (arguments, detail);

-- ── Signing ────────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
insert into unsigned select public.kms_erasures_unsigned(100) -> 'erasures' as list;
select is(
  list -> 0, (select answer -> 'erasure' from done), 'what is unsigned is told, the oldest first'
) from unsigned;
select is(jsonb_array_length(list), 2, 'each erasure once') from unsigned;
create function pg_temp.sign(p_id jsonb, p_proof text) returns jsonb
language sql as $$
  select public.kms_erasures_sign(
    jsonb_build_array(jsonb_build_object('id', p_id, 'proof', p_proof))::text
  ) -> 'proofs' -> 0 -> 'proof'
$$;
select is(pg_temp.sign(list -> 0 -> 'id', 'a.b.c'), '"a.b.c"', 'a proof is added') from unsigned;
select is(pg_temp.sign(list -> 0 -> 'id', 'd.e.f'), '"a.b.c"', 'the first one stands') from unsigned;
select is(
  public.kms_erasures_sign('[{"id": "dddddddd-0000-4000-8000-00000000000d", "proof": "a.b.c"}]'),
  '{"proofs": []}', 'of an erasure that there is not, there is no proof'
);
select is(
  jsonb_array_length(public.kms_erasures_unsigned(100) -> 'erasures'), 1, 'what is signed is not told'
);
select is(pg_temp.erase(:owner) -> 'erasure' -> 'erased' -> 'payment_methods', '1',
  'what came since is erased for itself');
select is(
  pg_temp.fault_of(format('select public.kms_erasures_sign(%L)', p.proofs)),
  '22023 invalid_argument: p_proofs' || p.detail, format('signing with %s is refused', p.proofs)
) from (values
  ('[]', ' must have 1 to 100 elements'),
  ('[{"proof": "a.b.c"}]', '[0].id is required'),
  ('[{"id": "dddddddd-0000-4000-8000-00000000000d", "proof": "a b"}]', '[0].proof has the wrong form')
) as p (proofs, detail);

-- ── Watching ───────────────────────────────────────────────────────────────────────────────────
create function pg_temp.alerts() returns jsonb
language sql as $$
  select public.kms_audit_alerts(1, 100, 100, '{"payment": 365, "pii": 365, "general": 365}')
$$;
select is(pg_temp.alerts() -> 'alerts', '[]', 'an erasure may wait a while for its proof');
reset role;
insert into kms.erasures (id, owner_id, erased_at, actor, purpose, erased, branch_keys)
select pg_temp.nth(9), :nobody, now() - interval '25.5 hours', pg_temp.eraser()::jsonb, 'x', '{}', '[]';
set constraints all immediate;
select :as_service_role;
select is(
  pg_temp.alerts() -> 'alerts', jsonb_build_array(jsonb_build_object(
    'name', 'erasure_unsigned', 'severity', 'warning', 'subject', pg_temp.nth(9),
    'numbers', '{"minutes": 1530, "threshold": 10}'::jsonb,
    'first_at', kms_iso.at
  )), 'then it is an alert, however long ago it was'
) from (
  select to_char((now() - interval '25.5 hours') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at
) as kms_iso;
select pg_temp.sign(to_jsonb(pg_temp.nth(9)), 'a.b.c');
select is(pg_temp.alerts() -> 'alerts', '[]', 'until it is signed');

-- ── With the user ──────────────────────────────────────────────────────────────────────────────
reset role;
set constraints all deferred;
delete from auth.users where id in (:owner, :stranger, :admin);
select is_empty(
  format('select from kms.branch_keys where branch_key_id = %L', :stranger_key),
  'a user who is deleted takes the keys along'
);
select is(
  (select count(*)::integer from kms.erasures where audit_seq is null), 1,
  'no lock on the audit is held while a transaction may ask for others'
);
set constraints all immediate;
select results_eq(
  $$ select e.erased - 'idempotency_answers', e.purpose, a.action, a.actor_type, a.actor_id,
       a.function_name
     from kms.erasures e join kms.audit_log a on (a.chain_day, a.seq) = (e.audit_day, e.audit_seq)
     where e.purpose is null $$,
  $$ select '{"payment_methods": 2, "records": 0, "ciphertexts": 2, "card_fingerprints": 2,
         "branch_key_records": 3, "legacy_rows": 0}'::jsonb,
       null::text, 'user.erase', 'system', session_user::text collate "default", 'auth' $$,
  'with the counts, and an audit entry of its own; who had nothing leaves none'
);

select * from finish();
rollback;
