-- Forgetting what has had its time, for a scheduled job.

create function kms.purge_expired() returns jsonb
language sql volatile set search_path = ''
as $$
  select jsonb_build_object(
    'idempotency_keys', kms.purge_idempotency_keys(),
    'health_history', kms.purge_health_history()
  )
$$;
comment on function kms.purge_expired() is
  'Deletes expired idempotency keys and outcomes of health checks older than 30 days, up to 10,000 of '
  'each a call: {"idempotency_keys": n, "health_history": n}.';

create function public.kms_purge_expired() returns jsonb
language sql volatile security definer set search_path = ''
as $$
  select kms.purge_expired()
$$;
comment on function public.kms_purge_expired() is 'kms.purge_expired(). For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_purge_expired() from public, anon, authenticated;
grant execute on function public.kms_purge_expired() to service_role;
