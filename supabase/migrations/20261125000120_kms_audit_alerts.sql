-- Alerts by query: what of the audit log and of the keys' ages somebody should look at.

create index branch_keys_active_by_age on kms.branch_keys
  (split_part(branch_key_id, ':', 1), (record ->> 'create-time')) where type = 'branch:ACTIVE';
comment on index kms.branch_keys_active_by_age is 'The oldest active versions of each data class.';

-- ── Parts ──────────────────────────────────────────────────────────────────────────────────────
create function kms.reveal_alerts(p_since timestamptz, p_per_hour integer) returns setof jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'name', 'reveals_above_threshold', 'severity', 'critical',
    'subject', r.actor_type || ':' || r.actor_id,
    'numbers', jsonb_build_object(
      'most_in_an_hour', max(r.in_hour), 'threshold', p_per_hour, 'total', count(*)),
    'first_at', kms.iso_time(min(r.occurred_at) filter (where r.in_hour > p_per_hour))
  )
  from (
    -- Any sixty minutes, not those of the clock: a burst over the full hour counts as one.
    select actor_type, actor_id, occurred_at,
      count(*) over (
        partition by actor_type, actor_id order by occurred_at
        range between interval '1 hour' preceding and current row
      ) as in_hour
    from kms.audit_log
    where chain_day >= (p_since at time zone 'UTC')::date and occurred_at >= p_since
      and action in ('payment_method.reveal', 'record.reveal') and outcome = 'success'
  ) as r
  group by r.actor_type, r.actor_id
  having max(r.in_hour) > p_per_hour
  order by max(r.in_hour) desc, r.actor_type, r.actor_id limit 100
$$;
comment on function kms.reveal_alerts(timestamptz, integer) is
  'Actors who decrypted more records within some hour than they should.';

create function kms.failure_alerts(p_since timestamptz, p_refusals integer) returns setof jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'name', case when f.grave then f.error_code else 'refusals_above_threshold' end,
    'severity', case when f.grave then 'critical' else 'warning' end,
    'subject', f.error_code,
    'numbers', jsonb_build_object(
      'count', count(*), 'actors', count(distinct (f.actor_type, f.actor_id)),
      'threshold', case when f.grave then 0 else p_refusals end),
    'first_at', kms.iso_time(min(f.occurred_at))
  )
  from (
    select *, error_code in ('decryption_failed', 'audit_chain_broken') as grave
    from kms.audit_log
    where chain_day >= (p_since at time zone 'UTC')::date and occurred_at >= p_since
      and outcome = 'failure'
      and error_code in (
        'decryption_failed', 'audit_chain_broken', 'reveal_not_allowed', 'admin_required')
  ) as f
  group by f.error_code, f.grave
  having f.grave or count(*) > p_refusals
  order by f.grave desc, f.error_code
$$;
comment on function kms.failure_alerts(timestamptz, integer) is
  'Any message that did not decrypt, any audit trail that did not verify, and many refused accesses.';

create function kms.rotation_alert(p_data_class text, p_days integer) returns setof jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'name', 'rotation_overdue', 'severity', 'warning', 'subject', p_data_class,
    'numbers', jsonb_build_object(
      'branch_keys', count(*), 'cryptoperiod_days', p_days),
    'first_at', kms.iso_milliseconds(min(record ->> 'create-time'))
  )
  from kms.branch_keys
  where type = 'branch:ACTIVE' and split_part(branch_key_id, ':', 1) = p_data_class
    -- As text, which sorts as time does in this form.
    and record ->> 'create-time'
      < to_char((now() - make_interval(days => p_days)) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
  having count(*) > 0
$$;
comment on function kms.rotation_alert(text, integer) is
  'Branch keys of a class whose active version is older than its cryptoperiod; first_at is the oldest.';

create function kms.administrative_changes(p_since timestamptz) returns setof jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'action', action, 'actor_type', actor_type, 'actor_id', actor_id, 'count', count(*),
    'first_at', kms.iso_time(min(occurred_at)), 'last_at', kms.iso_time(max(occurred_at))
  )
  from kms.audit_log
  where action = any (array[
      'config.update', 'config.rollback', 'provider.prepare', 'provider.switch', 'provider.swap',
      'provider.back', 'provider.finish', 'provider.end', 'branch_key.retire', 'legacy_key.destroy',
      'user.erase', 'audit.prune'
    ])
    and chain_day >= (p_since at time zone 'UTC')::date and occurred_at >= p_since
    and outcome = 'success'
  group by action, actor_type, actor_id
  order by max(occurred_at) desc, action, actor_type, actor_id limit 100
$$;
comment on function kms.administrative_changes(timestamptz) is
  'Who changed what the suite runs on, or destroyed something for good, and how often, the last one '
  'first: no alert, for such changes are planned, but whoever planned none wants to know.';

-- ── RPC ────────────────────────────────────────────────────────────────────────────────────────
create function public.kms_audit_alerts(
  p_hours integer, p_reveals_per_hour integer, p_refusals integer, p_cryptoperiods text
) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_periods jsonb := kms.parse_json(p_cryptoperiods, 'p_cryptoperiods', 'object');
  v_since timestamptz;
  v_alerts jsonb;
begin
  if p_hours is null or p_hours not between 1 and 168 then
    perform kms.refuse('p_hours must be 1 to 168');
  end if;
  if p_reveals_per_hour is null or p_reveals_per_hour < 0 or p_refusals is null or p_refusals < 0 then
    perform kms.refuse('p_reveals_per_hour and p_refusals must be 0 or more');
  end if;
  perform kms.check_object(v_periods, 'p_cryptoperiods', array['payment', 'pii', 'general']);
  v_since := now() - make_interval(hours => p_hours);
  select coalesce(jsonb_agg(a.alert order by a.part, a.n), '[]') into v_alerts from (
    select 1 as part, r.* from kms.reveal_alerts(v_since, p_reveals_per_hour)
      with ordinality as r (alert, n)
    union all
    select 2, f.* from kms.failure_alerts(v_since, p_refusals) with ordinality as f (alert, n)
    union all
    select 3, k.alert, c.n
    from unnest(array['payment', 'pii', 'general']) with ordinality as c (data_class, n)
    cross join lateral kms.rotation_alert(
      c.data_class,
      kms.read_integer(v_periods, c.data_class, 'p_cryptoperiods', 1, 36500, true)
    ) as k (alert)
    union all
    select 4, e.* from kms.erasure_alerts() with ordinality as e (alert, n)
  ) as a;
  return jsonb_build_object(
    'since', kms.iso_time(v_since), 'alerts', v_alerts,
    'changes', (
      select coalesce(jsonb_agg(c.change order by c.n), '[]')
      from kms.administrative_changes(v_since) with ordinality as c (change, n)
    )
  );
end
$$;
comment on function public.kms_audit_alerts(integer, integer, integer, text) is
  'What of the last 1 to 168 hours, of the active branch keys'' ages against {"payment", "pii", '
  '"general"} (days), and of erasures without a proof, somebody should look at, and who changed what: '
  '{"since", "alerts": [{"name", "severity", "subject", "numbers", "first_at"}], "changes": [{"action", '
  '"actor_type", "actor_id", "count", "first_at", "last_at"}]}. Not audited here. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_audit_alerts(integer, integer, integer, text)
from public, anon, authenticated;
grant execute on function public.kms_audit_alerts(integer, integer, integer, text) to service_role;
