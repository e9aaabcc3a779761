-- Erasing on request, and the signed proof. The key that signs is not in the database, so the edge
-- function signs once the erasure is committed; one that it did not come to sign waits for the next call.

-- ── RPC ────────────────────────────────────────────────────────────────────────────────────────
create function kms.erasure_json(p_row kms.erasures) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'id', p_row.id, 'user_id', p_row.owner_id, 'erased_at', kms.iso_time(p_row.erased_at),
    'actor', p_row.actor - 'address_hash', 'purpose', p_row.purpose, 'erased', p_row.erased,
    'branch_keys', (
      select coalesce(jsonb_agg(b.key order by b.id), '[]')
      from (
        select k.value ->> 'branch_key_id' as id, jsonb_build_object(
          'id', k.value ->> 'branch_key_id',
          'versions', jsonb_agg(k.value -> 'branch_key_version' order by k.n)
        ) as key
        from jsonb_array_elements(p_row.branch_keys) with ordinality as k (value, n)
        group by k.value ->> 'branch_key_id'
      ) as b
    ),
    'audit', jsonb_build_object(
      'day', p_row.audit_day, 'seq', p_row.audit_seq, 'hash', p_row.audit_hash
    )
  )
$$;
comment on function kms.erasure_json(kms.erasures) is 'What the proof of an erasure states.';

create function public.kms_user_erase(p_actor text, p_user_id uuid, p_purpose text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_purpose text := kms.read_free_text(
    jsonb_build_object('p_purpose', p_purpose), 'p_purpose', 'arguments', 200, true);
  v_id uuid;
  v_row kms.erasures;
begin
  if p_user_id is null then
    perform kms.refuse('p_user_id is required');
  end if;
  perform kms.lock_owner(p_user_id);
  v_id := kms.erase_owner(
    p_user_id, v_actor, v_purpose, not exists (select from kms.erasures where owner_id = p_user_id)
  );
  if v_id is not null then
    perform kms.audit_erasure(v_id);
    select * into strict v_row from kms.erasures where id = v_id;
  else
    select * into strict v_row from kms.erasures
    where owner_id = p_user_id order by erased_at desc limit 1;
    perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
      'action', 'user.erase.repeat', 'outcome', 'success', 'table_name', 'erasures',
      'record_id', v_row.id, 'owner_id', p_user_id, 'purpose', v_purpose
    )));
  end if;
  return jsonb_build_object('erasure', kms.erasure_json(v_row), 'proof', v_row.proof);
end
$$;
comment on function public.kms_user_erase(text, uuid, text) is
  'Deletes all that is stored of a user, who need not exist any more, and destroys the user''s branch '
  'keys: {"erasure", "proof" (null until signed)}. Again, with nothing new to erase, it is the last '
  'erasure. The user is not deleted. Workers notice by the epoch. Audited. For service_role.';

create function public.kms_erasures_unsigned(p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform kms.check_limit(p_limit);
  return (
    select jsonb_build_object('erasures', coalesce(
      jsonb_agg(kms.erasure_json(e) order by e.erased_at, e.id), '[]'
    ))
    from (
      select * from kms.erasures where proof is null and audit_seq is not null
      order by erased_at, id limit p_limit
    ) as e
  );
end
$$;
comment on function public.kms_erasures_unsigned(integer) is
  'The 1 to 100 oldest erasures without a proof, such as those of users deleted elsewhere: '
  '{"erasures": [...]}. For service_role.';

create function public.kms_erasures_sign(p_proofs text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_proofs jsonb := kms.parse_list(p_proofs, 'p_proofs', 1, 100);
  v_ids uuid[] := array[]::uuid[];
  v_path text;
  v_proof text;
begin
  for n in 0 .. jsonb_array_length(v_proofs) - 1 loop
    v_path := format('p_proofs[%s]', n);
    perform kms.check_object(v_proofs -> n, v_path, array['id', 'proof']);
    v_ids := v_ids || kms.read_uuid(v_proofs -> n, 'id', v_path, true);
    v_proof := kms.read_text(
      v_proofs -> n, 'proof', v_path,
      '^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$', true, 1048576);
    update kms.erasures set proof = v_proof where id = v_ids[n + 1] and proof is null;
  end loop;
  return jsonb_build_object('proofs', (
    select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'proof', e.proof)), '[]')
    from kms.erasures as e where e.id = any (v_ids)
  ));
end
$$;
comment on function public.kms_erasures_sign(text) is
  'Adds proofs, 1 to 100 of [{"id", "proof"}], to erasures that have none: {"proofs": [...]} of these '
  'erasures as they then stand, the first one always. For service_role.';

-- ── Watching ───────────────────────────────────────────────────────────────────────────────────
create function kms.erasure_alerts() returns setof jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'name', 'erasure_unsigned', 'severity', 'warning', 'subject', e.id,
    'numbers', jsonb_build_object(
      'minutes', floor(extract(epoch from now() - e.erased_at) / 60)::bigint, 'threshold', 10),
    'first_at', kms.iso_time(e.erased_at)
  )
  from kms.erasures as e
  where e.proof is null and e.erased_at < now() - interval '10 minutes'
  order by e.erased_at, e.id limit 100
$$;
comment on function kms.erasure_alerts() is
  'Erasures without a proof for more than ten minutes, the oldest hundred: two health checks on the '
  'schedule of the deployment guide should have signed them.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_user_erase(text, uuid, text),
  public.kms_erasures_unsigned(integer),
  public.kms_erasures_sign(text)
from public, anon, authenticated;
grant execute on function
  public.kms_user_erase(text, uuid, text),
  public.kms_erasures_unsigned(integer),
  public.kms_erasures_sign(text)
to service_role;
