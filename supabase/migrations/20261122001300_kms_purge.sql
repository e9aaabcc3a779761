-- Forgetting what has had its time, for a scheduled job.

create function kms.purge_expired(p_job_days integer default 365) returns jsonb
-- Not SQL, which would want every function to be there already: later migrations add some.
language plpgsql volatile set search_path = ''
as $$
begin
  return jsonb_build_object(
    'idempotency_keys', kms.purge_idempotency_keys(),
    'health_history', kms.purge_health_history(),
    'rate_limits', kms.purge_rate_limits(),
    'jobs', kms.purge_jobs(p_job_days)
  );
end
$$;
comment on function kms.purge_expired(integer) is
  'Deletes expired idempotency keys, outcomes of health checks older than 30 days, counters of rate '
  'limits whose window is over, up to 10,000 of each a call, and jobs that ended so many days ago, 90 to '
  '36500: {"idempotency_keys": n, "health_history": n, "rate_limits": n, "jobs": n}.';

create function public.kms_purge_expired(p_job_days integer default 365) returns jsonb
language sql volatile security definer set search_path = ''
as $$
  select kms.purge_expired(p_job_days)
$$;
comment on function public.kms_purge_expired(integer) is
  'kms.purge_expired(p_job_days). For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_purge_expired(integer) from public, anon, authenticated;
grant execute on function public.kms_purge_expired(integer) to service_role;
