-- Idempotency-Key: one lease per key, fenced by a token. The answer is stored in the transaction
-- that stores the data, so that a replay and the data never disagree.

-- ── kms.idempotency_keys ───────────────────────────────────────────────────────────────────────
create table kms.idempotency_keys (
  scope text not null
    constraint idempotency_keys_scope_is_short check (length(scope) between 1 and 256),
  key_hash text not null
    constraint idempotency_keys_key_hash_is_a_hash
      check (key_hash ~ '^[A-Za-z0-9+/=_-]{43,128}$'),
  request_hash text not null
    constraint idempotency_keys_request_hash_is_a_hash
      check (request_hash ~ '^[A-Za-z0-9+/=_-]{43,128}$'),
  token uuid not null,
  lease_expires_at timestamptz not null,
  response jsonb,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (scope, key_hash),
  constraint idempotency_keys_outlive_their_lease check (expires_at >= lease_expires_at)
);

comment on table kms.idempotency_keys is
  'One row per Idempotency-Key of a caller and route, for as long as answers are replayed.';
comment on column kms.idempotency_keys.scope is 'Caller and route.';
comment on column kms.idempotency_keys.key_hash is 'Hash of the key; the key itself is not kept.';
comment on column kms.idempotency_keys.request_hash is
  'Keyed hash of the request, which may hold a card number: tells another payload under this key.';
comment on column kms.idempotency_keys.token is
  'Fencing token of the current holder. A takeover changes it, and the former holder stores nothing.';
comment on column kms.idempotency_keys.lease_expires_at is
  'When a request in flight is given up for dead and may be taken over.';
comment on column kms.idempotency_keys.response is 'The answer, masked; null while in flight.';
comment on column kms.idempotency_keys.created_at is 'When the current holder began.';
comment on column kms.idempotency_keys.expires_at is 'When the key is forgotten.';

create index idempotency_keys_by_expiry on kms.idempotency_keys (expires_at);
comment on index kms.idempotency_keys_by_expiry is 'Serves the purge.';

alter table kms.idempotency_keys enable row level security;
revoke all on table kms.idempotency_keys from public, anon, authenticated, service_role;

-- ── What may still be told ─────────────────────────────────────────────────────────────────────
create function kms.standing_response(p_response jsonb) returns jsonb
language sql stable set search_path = ''
as $$
  select case when jsonb_typeof(p_response -> 'results') = 'array' then
    p_response || jsonb_build_object('results', coalesce((
      select jsonb_agg(
        case
          when r.value ? 'payment_method' and not exists (
            select from public.payment_methods as p
            where p.id = (r.value -> 'payment_method' ->> 'id')::uuid
          ) or r.value ? 'record' and not exists (
            select from public.encrypted_records as e
            where e.id = (r.value -> 'record' ->> 'id')::uuid
          ) then jsonb_build_object('outcome', 'gone')
          else r.value
        end order by r.n
      )
      from jsonb_array_elements(p_response -> 'results') with ordinality as r (value, n)
    ), '[]'::jsonb))
  else p_response end
$$;
comment on function kms.standing_response(jsonb) is
  'A stored answer without what it says of rows that were deleted since, alone or with their owner: '
  'each such result is {"outcome": "gone"}.';

-- ── Begin, hold, complete, abandon ─────────────────────────────────────────────────────────────
create function public.kms_idempotency_begin(
  p_scope text, p_key_hash text, p_request_hash text,
  p_lease_seconds integer, p_retention_seconds integer
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_arguments jsonb := jsonb_build_object(
    'p_scope', p_scope, 'p_key_hash', p_key_hash, 'p_request_hash', p_request_hash,
    'p_lease_seconds', p_lease_seconds, 'p_retention_seconds', p_retention_seconds
  );
  v_lease interval;
  v_retention interval;
  v_now timestamptz;
  v_row kms.idempotency_keys;
  v_token uuid := gen_random_uuid();
begin
  perform kms.read_text(v_arguments, 'p_scope', 'arguments', '', true);
  perform kms.read_text(
    v_arguments, 'p_key_hash', 'arguments', '^[A-Za-z0-9+/=_-]{43,128}$', true);
  perform kms.read_text(
    v_arguments, 'p_request_hash', 'arguments', '^[A-Za-z0-9+/=_-]{43,128}$', true);
  v_lease := make_interval(
    secs => kms.read_integer(v_arguments, 'p_lease_seconds', 'arguments', 1, 600, true));
  v_retention := make_interval(
    secs => kms.read_integer(v_arguments, 'p_retention_seconds', 'arguments', 600, 2592000, true));

  loop
    -- The clock, not the transaction's start: another holder may have been waited for.
    v_now := clock_timestamp();
    insert into kms.idempotency_keys (
      scope, key_hash, request_hash, token, lease_expires_at, created_at, expires_at
    ) values (
      p_scope, p_key_hash, p_request_hash, v_token, v_now + v_lease, v_now, v_now + v_retention
    ) on conflict (scope, key_hash) do nothing;
    if found then
      return jsonb_build_object('state', 'started', 'token', v_token);
    end if;

    select * into v_row from kms.idempotency_keys
    where scope = p_scope and key_hash = p_key_hash for update;
    exit when found; -- otherwise purged or abandoned since: try again
  end loop;

  v_now := clock_timestamp();
  if v_row.expires_at > v_now then
    if v_row.request_hash <> p_request_hash then
      return jsonb_build_object('state', 'mismatch');
    elsif v_row.response is not null then
      -- What was deleted is not answered again, nor kept here for another repeat.
      v_row.response := kms.standing_response(v_row.response);
      update kms.idempotency_keys set response = v_row.response
      where scope = p_scope and key_hash = p_key_hash and response <> v_row.response;
      return jsonb_build_object('state', 'replay', 'response', v_row.response);
    elsif v_row.lease_expires_at > v_now then
      return jsonb_build_object(
        'state', 'in_flight',
        'retry_after', greatest(1, ceil(extract(epoch from v_row.lease_expires_at - v_now))::integer)
      );
    end if;
  end if;

  update kms.idempotency_keys
  set request_hash = p_request_hash, token = v_token, response = null,
    lease_expires_at = v_now + v_lease, created_at = v_now, expires_at = v_now + v_retention
  where scope = p_scope and key_hash = p_key_hash;
  return jsonb_build_object('state', 'started', 'token', v_token);
end
$$;
comment on function public.kms_idempotency_begin(text, text, text, integer, integer) is
  'Claims a key for a lease of 1 to 600 s and a retention of 600 s to 30 days: started with a token, '
  'replay with the response (of rows deleted since only that they are gone), mismatch (another '
  'payload), or in_flight with retry_after in seconds. '
  'An expired lease or row is taken over. For service_role.';

create function kms.idempotency_hold(p_claim jsonb) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_row kms.idempotency_keys;
begin
  perform kms.check_object(p_claim, 'p_idempotency', array['scope', 'key_hash', 'token']);
  select * into v_row from kms.idempotency_keys
  where scope = kms.read_text(p_claim, 'scope', 'p_idempotency', '', true)
    and key_hash = kms.read_text(p_claim, 'key_hash', 'p_idempotency', '', true)
  for update;
  if not found
    or v_row.token <> kms.read_uuid(p_claim, 'token', 'p_idempotency', true)
  then
    raise exception 'idempotency_lease_lost' using errcode = 'KM409',
      detail = 'The lease was taken over, abandoned or purged; nothing was stored.';
  end if;
  return v_row.response;
end
$$;
comment on function kms.idempotency_hold(jsonb) is
  'Locks the claimed key until the commit, so that nobody takes it over meanwhile. Its response if '
  'this very claim already completed, else null. Raises KM409 idempotency_lease_lost.';

create function kms.idempotency_complete(p_claim jsonb, p_response jsonb) returns void
language sql volatile set search_path = ''
as $$
  update kms.idempotency_keys set response = p_response
  where scope = p_claim ->> 'scope' and key_hash = p_claim ->> 'key_hash'
$$;
comment on function kms.idempotency_complete(jsonb, jsonb) is
  'Stores the answer of a claim that kms.idempotency_hold locked.';

create function public.kms_idempotency_abandon(p_scope text, p_key_hash text, p_token uuid)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  delete from kms.idempotency_keys
  where scope = p_scope and key_hash = p_key_hash and token = p_token and response is null;
  return found;
end
$$;
comment on function public.kms_idempotency_abandon(text, text, uuid) is
  'Frees a key whose request failed before it stored anything, so that a retry need not wait for the '
  'lease: true if this token still held it. For service_role.';

-- ── Purge ──────────────────────────────────────────────────────────────────────────────────────
create function kms.purge_idempotency_keys() returns bigint
language plpgsql volatile set search_path = ''
as $$
declare
  -- Held, since no index serves a comparison with a clock that runs on.
  v_now constant timestamptz := clock_timestamp();
  v_count bigint;
begin
  delete from kms.idempotency_keys where ctid = any (array(
    select ctid from kms.idempotency_keys
    where expires_at <= v_now
    order by expires_at limit 10000 for update skip locked
  ));
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function kms.purge_idempotency_keys() is
  'Deletes expired idempotency keys that nobody is using, up to 10,000 a call; how many.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_idempotency_begin(text, text, text, integer, integer),
  public.kms_idempotency_abandon(text, text, uuid)
from public, anon, authenticated;
grant execute on function
  public.kms_idempotency_begin(text, text, text, integer, integer),
  public.kms_idempotency_abandon(text, text, uuid)
to service_role;
