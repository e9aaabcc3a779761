-- Idempotency keys: lease, replay, mismatch, takeover, fencing, purge.
begin;
\ir support/personas.psql
select plan(38);

create function pg_temp.begin_key(p_key text, p_request text default 'r') returns jsonb
language sql as $$
  select public.kms_idempotency_begin('user|route', repeat(p_key, 64), repeat(p_request, 64), 60, 86400)
$$;
create function pg_temp.claim(p_key text, p_token text) returns text
language sql as $$
  select jsonb_build_object('scope', 'user|route', 'key_hash', repeat(p_key, 64), 'token', p_token)::text
$$;
-- Time passes for one key.
create function pg_temp.age(p_key text, p_by interval) returns void
language sql security definer as $$
  update kms.idempotency_keys
  set lease_expires_at = lease_expires_at - p_by, expires_at = expires_at - p_by,
    created_at = created_at - p_by
  where key_hash = repeat(p_key, 64)
$$;

-- ── Begin ──────────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select pg_temp.begin_key('a') as begun \gset
select is((:'begun'::jsonb) ->> 'state', 'started', 'a new key starts');
select :'begun'::jsonb ->> 'token' as token \gset
select matches(:'token'::text, '^[0-9a-f-]{36}$', 'with a token');
select is(
  pg_temp.begin_key('a') ->> 'state', 'in_flight', 'the same request meanwhile is in flight'
);
select ok(
  (pg_temp.begin_key('a') ->> 'retry_after')::integer between 1 and 60,
  'and told to come back within the lease'
);
select is(
  pg_temp.begin_key('a', 'q'), '{"state": "mismatch"}', 'another request under the key is a mismatch'
);
select is(
  public.kms_idempotency_begin('other|route', repeat('a', 64), repeat('q', 64), 60, 86400)
    ->> 'state', 'started', 'another scope knows nothing of it'
);

-- ── Complete and replay ────────────────────────────────────────────────────────────────────────
select public.kms_store(
  pg_temp.actor(), jsonb_build_array(
    pg_temp.card(1, :owner),
    '{"kind": "problem", "problem": {"code": "card_expired", "pointer": "/items/1"}}'::jsonb
  )::text, pg_temp.claim('a', :'token')
) as stored \gset
select is(
  pg_temp.begin_key('a'),
  jsonb_build_object('state', 'replay', 'response', :'stored'::jsonb),
  'a completed key replays its answer, problems included'
);
select is(
  public.kms_store(
    pg_temp.actor(), jsonb_build_array(pg_temp.card(2, :owner))::text, pg_temp.claim('a', :'token')
  ), :'stored'::jsonb,
  'the same claim again, as after a lost answer, gets the first answer'
);
select is(
  public.kms_payment_method_get(:owner, pg_temp.nth(2)), null, 'and stores nothing more'
);
select is(
  pg_temp.begin_key('a', 'q'), '{"state": "mismatch"}', 'another request is still a mismatch'
);
select is(
  public.kms_idempotency_abandon('user|route', repeat('a', 64), :'token'), false,
  'a completed key cannot be abandoned'
);
select pg_temp.age('a', '2 hours');
select is(pg_temp.begin_key('a') ->> 'state', 'replay', 'it replays long after the lease');
reset role;
select pg_temp.age('a', '1 day');
select :as_service_role;
select pg_temp.begin_key('a', 'q') as begun \gset
select is(
  :'begun'::jsonb ->> 'state', 'started', 'and is forgotten, request and all, after the retention'
);
select isnt(:'begun'::jsonb ->> 'token', :'token'::text, 'under another token');
select is(
  pg_temp.fault_of(format(
    'select public.kms_store(pg_temp.actor(), %L, %L)',
    jsonb_build_array(pg_temp.card(3, :owner)), pg_temp.claim('a', :'token')
  )),
  'KM409 idempotency_lease_lost: The lease was taken over, abandoned or purged; nothing was stored.',
  'so that the former holder stores nothing'
);
select is(
  public.kms_payment_method_get(:owner, pg_temp.nth(3)), null, 'nothing at all'
);

-- ── Takeover and fencing ───────────────────────────────────────────────────────────────────────
select pg_temp.begin_key('b') ->> 'token' as first_token \gset
reset role;
select pg_temp.age('b', '61 seconds');
select :as_service_role;
select is(
  pg_temp.begin_key('b', 'q'), '{"state": "mismatch"}',
  'an expired lease is not taken over by another request'
);
select pg_temp.begin_key('b') as begun \gset
select is((:'begun'::jsonb) ->> 'state', 'started', 'but by the same request');
select is(
  left(pg_temp.fault_of(format(
    'select public.kms_store(pg_temp.actor(), %L, %L)',
    jsonb_build_array(pg_temp.card(4, :owner)), pg_temp.claim('b', :'first_token')
  )), 28), 'KM409 idempotency_lease_lost', 'the first holder is fenced off'
);
select is(
  public.kms_idempotency_abandon('user|route', repeat('b', 64), :'first_token'), false,
  'and can no longer abandon the key'
);
select lives_ok(
  format(
    'select public.kms_store(pg_temp.actor(), %L, %L)',
    jsonb_build_array(pg_temp.card(4, :owner)), pg_temp.claim('b', :'begun'::jsonb ->> 'token')
  ), 'the second holder stores'
);

select pg_temp.begin_key('c') ->> 'token' as late_token \gset
reset role;
select pg_temp.age('c', '61 seconds');
select :as_service_role;
select lives_ok(
  format(
    'select public.kms_store(pg_temp.actor(), %L, %L)',
    jsonb_build_array(pg_temp.card(5, :owner)), pg_temp.claim('c', :'late_token')
  ), 'a late holder whom nobody replaced still stores'
);

-- ── Abandon ────────────────────────────────────────────────────────────────────────────────────
select pg_temp.begin_key('d') ->> 'token' as abandoned_token \gset
select is(
  public.kms_idempotency_abandon('user|route', repeat('d', 64), gen_random_uuid()), false,
  'another token cannot abandon a key'
);
select is(
  public.kms_idempotency_abandon('user|route', repeat('d', 64), :'abandoned_token'), true,
  'its holder can'
);
select is(
  left(pg_temp.fault_of(format(
    'select public.kms_store(pg_temp.actor(), %L, %L)',
    jsonb_build_array(pg_temp.card(6, :owner)), pg_temp.claim('d', :'abandoned_token')
  )), 28), 'KM409 idempotency_lease_lost', 'and then stores nothing under it'
);
select is(
  pg_temp.begin_key('d', 'q') ->> 'state', 'started', 'the key is free for any request at once'
);

-- ── A failed store leaves the claim as it was ──────────────────────────────────────────────────
select pg_temp.begin_key('e') ->> 'token' as failed_token \gset
select is(
  left(pg_temp.fault_of(format(
    'select public.kms_store(pg_temp.actor(), %L, %L)',
    '[{"kind": "wallet"}]', pg_temp.claim('e', :'failed_token')
  )), 5), '22023', 'a refused store'
);
select is(
  pg_temp.begin_key('e') ->> 'state', 'in_flight', 'does not complete the key'
);

-- ── What was deleted is not answered again ─────────────────────────────────────────────────────
select pg_temp.begin_key('f') ->> 'token' as gone_token \gset
select public.kms_store(
  pg_temp.actor(), jsonb_build_array(pg_temp.card(7, :owner), pg_temp.card(8, :owner))::text,
  pg_temp.claim('f', :'gone_token')
) -> 'results' as both \gset
select public.kms_payment_method_delete(
  pg_temp.actor(), :owner, (:'both'::jsonb -> 0 -> 'payment_method' ->> 'id')::uuid
);
select is(
  pg_temp.begin_key('f') -> 'response' -> 'results',
  jsonb_build_array('{"outcome": "gone"}'::jsonb, :'both'::jsonb -> 1),
  'a replay says of a deleted card that it is gone, and of others what it said'
);

-- ── Purge ──────────────────────────────────────────────────────────────────────────────────────
reset role;
-- Two have: this one, and the first key's namesake of the other scope, aged with it.
select count(*) - 2 as kept from kms.idempotency_keys \gset
select pg_temp.age('b', '2 days');
select :as_service_role;
select is(
  public.kms_purge_expired(), '{"idempotency_keys": 2, "health_history": 0, "rate_limits": 0, "jobs": 0}',
  'the purge deletes what has expired'
);
reset role;
select is((select count(*) from kms.idempotency_keys), :kept::bigint, 'and nothing else');

-- ── Refusing ───────────────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  pg_temp.fault_of(format('select public.kms_idempotency_begin(%s)', b.arguments)),
  '22023 invalid_argument: arguments.' || b.detail,
  format('begin with %s is refused', b.detail)
) from (values
  ($$ null, repeat('k', 64), repeat('r', 64), 60, 86400 $$, 'p_scope is required'),
  ($$ 's', 'the key itself', repeat('r', 64), 60, 86400 $$, 'p_key_hash has the wrong form'),
  ($$ 's', repeat('k', 64), null, 60, 86400 $$, 'p_request_hash is required'),
  ($$ 's', repeat('k', 64), repeat('r', 64), 0, 86400 $$,
    'p_lease_seconds must be an integer, 1 to 600'),
  ($$ 's', repeat('k', 64), repeat('r', 64), 60, 599 $$,
    'p_retention_seconds must be an integer, 600 to 2592000')
) as b (arguments, detail);
select is(
  pg_temp.fault_of(format(
    'select public.kms_store(pg_temp.actor(), %L, %L)',
    jsonb_build_array(pg_temp.card(7, :owner)), i.claim
  )), '22023 invalid_argument: ' || i.detail, format('the claim %s is refused', i.claim)
) from (values
  ('"token"', 'p_idempotency is not JSON of type object'),
  ('{"scope": "s", "key_hash": "k", "key": "the key itself"}',
    'p_idempotency has an unknown field key')
) as i (claim, detail);

select * from finish();
rollback;
