-- Starting, watching, cancelling jobs, whatever their kind, and giving chunks back.

-- ── Jobs as JSON ───────────────────────────────────────────────────────────────────────────────
create function kms.job_json(p_job kms.jobs) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'id', p_job.id, 'kind', p_job.kind, 'status', p_job.status, 'dry_run', p_job.dry_run,
    'data_class', p_job.data_class,
    'total', greatest(p_job.total, p_job.done + p_job.unchanged + p_job.failed),
    'done', p_job.done, 'unchanged', p_job.unchanged, 'failed', p_job.failed,
    'created_by', p_job.created_by,
    'created_at', kms.iso_time(p_job.created_at), 'updated_at', kms.iso_time(p_job.updated_at),
    'finished_at', kms.iso_time(p_job.finished_at)
  )
$$;
comment on function kms.job_json(kms.jobs) is
  'A job as the functions answer it. Its total is never below what was looked at.';

create function kms.job_entry(p_action text, p_job kms.jobs) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'action', p_action, 'outcome', 'success', 'data_class', p_job.data_class,
    'table_name', 'jobs', 'record_id', p_job.id,
    'purpose', p_job.kind || case when p_job.dry_run then ' (dry run)' else '' end
      || case when p_action = 'job.start' then '' else format(
        ': %s done, %s unchanged, %s failed', p_job.done, p_job.unchanged, p_job.failed
      ) end
  )
$$;
comment on function kms.job_entry(text, kms.jobs) is
  'Audit entry of a job; its purpose says what and how far.';

-- ── Start and end ──────────────────────────────────────────────────────────────────────────────
create function kms.job_total(p_data_class text) returns bigint
language sql stable set search_path = ''
as $$
  -- Each in the words of an index, which then answers without the rows.
  select
    case when coalesce(p_data_class, 'payment') = 'payment' then (
      select count(*) from kms.ciphertexts where table_name = 'payment_methods'
    ) else 0 end
    + case when p_data_class is null then (
      select count(*) from kms.ciphertexts where table_name = 'encrypted_records'
    ) when p_data_class <> 'payment' then (
      select count(*) from kms.ciphertexts
      where encrypted_record_id is not null and data_class = p_data_class
    ) else 0 end
$$;
comment on function kms.job_total(text) is 'How many ciphertexts a class has, or all of them.';

create function kms.job_complete(p_actor jsonb, p_job kms.jobs) returns jsonb
language plpgsql volatile set search_path = ''
as $$
declare
  v_job kms.jobs;
begin
  update kms.jobs
  set status = 'completed', total = done + unchanged + failed,
    updated_at = clock_timestamp(), finished_at = clock_timestamp()
  where id = p_job.id returning * into v_job;
  if not v_job.dry_run and v_job.failed = 0 then
    -- No row hangs on an older wrapping key now. A canary that did would keep that key in use for ever;
    -- the next health check writes a new one.
    delete from kms.health_canaries
    where branch_key_id is null and data_class = coalesce(v_job.data_class, data_class);
  end if;
  perform kms.audit_append(p_actor, jsonb_build_array(kms.job_entry('job.complete', v_job)));
  return kms.job_json(v_job);
end
$$;
comment on function kms.job_complete(jsonb, kms.jobs) is
  'Ends a job, which must be locked, and audits it; canaries in direct mode are written anew after it. '
  'The job as it then is.';

create function public.kms_job_start(p_actor text, p_kind text, p_options text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_options jsonb := kms.parse_json(p_options, 'p_options', 'object');
  v_class text :=
    kms.read_text(v_options, 'data_class', 'p_options', '^(payment|pii|general)$', false);
  v_job kms.jobs;
  v_answer jsonb;
begin
  if p_kind is null or p_kind <> 'reencrypt' then
    perform kms.refuse('p_kind must be reencrypt');
  end if;
  perform kms.check_object(v_options, 'p_options', array['data_class', 'dry_run']);

  -- Of several starts at once one is first, and the others see it.
  perform pg_advisory_xact_lock(hashtextextended('kms.jobs:' || p_kind, 0));
  select * into v_job from kms.jobs
  where kind = p_kind and status = 'running'
    and (data_class is null or v_class is null or data_class = v_class)
  order by created_at limit 1;
  if found then
    return jsonb_build_object('state', 'conflict', 'job', kms.job_json(v_job));
  end if;

  insert into kms.jobs (kind, data_class, dry_run, total, pass_epoch, created_by)
  select p_kind, v_class, kms.read_boolean(v_options, 'dry_run', 'p_options', false),
    kms.job_total(v_class), e.epoch, v_actor ->> 'actor_id'
  from kms.key_epoch as e
  returning * into v_job;
  v_answer := kms.job_json(v_job);
  perform kms.audit_append(v_actor, jsonb_build_array(kms.job_entry('job.start', v_job)));
  if v_job.total = 0 then
    v_answer := kms.job_complete(v_actor, v_job);
  end if;
  return jsonb_build_object('state', 'started', 'job', v_answer);
end
$$;
comment on function public.kms_job_start(text, text, text) is
  'Starts a job of kind reencrypt with {"data_class", "dry_run"}: {"state": "started", "job"}, or '
  '{"state": "conflict", "job"} with the running one that it would overlap. One without rows is '
  'completed at once. Audited. For service_role.';

create function public.kms_job_cancel(p_actor text, p_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_job kms.jobs;
begin
  update kms.jobs set status = 'cancelled', updated_at = clock_timestamp(),
    finished_at = clock_timestamp()
  where id = p_id and status = 'running' returning * into v_job;
  if found then
    perform kms.audit_append(v_actor, jsonb_build_array(kms.job_entry('job.cancel', v_job)));
  else
    select * into v_job from kms.jobs where id = p_id;
  end if;
  return case when v_job.id is not null then kms.job_json(v_job) end;
end
$$;
comment on function public.kms_job_cancel(text, uuid) is
  'Cancels a job that is running: no chunk is handed out any more, those under way may finish. The '
  'job as it then is, or null. Audited. For service_role.';

-- ── Read ───────────────────────────────────────────────────────────────────────────────────────
create function public.kms_job_get(p_id uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select kms.job_json(j) from kms.jobs as j where j.id = p_id
$$;
comment on function public.kms_job_get(uuid) is 'A job, or null. For service_role.';

create function public.kms_job_next(p_kind text) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select kms.job_json(j) from kms.jobs as j where j.kind = p_kind and j.status = 'running'
  order by j.updated_at, j.id limit 1
$$;
comment on function public.kms_job_next(text) is
  'The running job of a kind that was longest without a worker, or null. For service_role.';

create function public.kms_jobs_list(p_limit integer, p_before text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_time timestamptz;
  v_id uuid;
begin
  perform kms.check_limit(p_limit);
  select * into v_time, v_id from kms.read_cursor(p_before);
  return kms.page('jobs', p_limit, array(
    select kms.page_row(kms.job_json(j), j.created_at, j.id)
    from kms.jobs as j where (created_at, id) < (v_time, v_id)
    order by created_at desc, id desc limit p_limit + 1
  ));
end
$$;
comment on function public.kms_jobs_list(integer, text) is
  'A page of 1 to 100 jobs, newest first, and the cursor of the next. For service_role.';

create function public.kms_job_failures(p_job_id uuid, p_limit integer, p_before text)
returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_time timestamptz;
  v_id uuid;
begin
  perform kms.check_limit(p_limit);
  select * into v_time, v_id from kms.read_cursor(p_before);
  if not exists (select from kms.jobs where id = p_job_id) then
    return null;
  end if;
  return kms.page('failures', p_limit, array(
    select kms.page_row(
      jsonb_build_object(
        'table', f.table_name, 'record_id', f.record_id, 'field', f.field,
        'data_class', f.data_class, 'error_code', f.error_code,
        'created_at', kms.iso_time(f.created_at)
      ), f.created_at, f.id)
    from kms.job_failures as f where job_id = p_job_id and (created_at, id) < (v_time, v_id)
    order by created_at desc, id desc limit p_limit + 1
  ));
end
$$;
comment on function public.kms_job_failures(uuid, integer, text) is
  'A page of 1 to 100 rows that a job could not do, newest first, and the cursor of the next: '
  '{"failures": [...], "next"}, or null if there is no such job. For service_role.';

-- ── Leases ─────────────────────────────────────────────────────────────────────────────────────
create function public.kms_job_release(p_chunk_id uuid, p_token uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update kms.job_chunks set lease_expires_at = clock_timestamp()
  where id = p_chunk_id and token = p_token and finished_at is null;
  return found;
end
$$;
comment on function public.kms_job_release(uuid, uuid) is
  'Gives a chunk back undone, so that nobody need wait for its lease to run out: true if this token '
  'still held it. For service_role.';

-- ── Purge ──────────────────────────────────────────────────────────────────────────────────────
create function kms.job_is_superseded(p_job kms.jobs) returns boolean
language sql stable set search_path = ''
as $$
  select not exists (
    select from unnest(array['payment', 'pii', 'general']) as c (data_class)
    where exists (
      select from kms.job_failures as f
      where f.job_id = p_job.id and f.data_class = c.data_class
    ) and p_job.created_at >= coalesce((
      select later.created_at from kms.jobs as later
      where later.kind = p_job.kind and later.status = 'completed' and not later.dry_run
        and coalesce(later.data_class, c.data_class) = c.data_class
      order by later.created_at desc, later.id desc limit 1
    ), '-infinity')
  )
$$;
comment on function kms.job_is_superseded(kms.jobs) is
  'Whether nothing is to be learnt from a job''s failures any more: it had none, or a later one went '
  'through the same classes to the end, and what still fails is listed there.';

create function kms.purge_jobs(p_days integer) returns bigint
language plpgsql volatile set search_path = ''
as $$
declare
  v_ids uuid[];
  v_count bigint;
begin
  -- As the audit: chunks say which rows its entries are about.
  if p_days is null or p_days not between 90 and 36500 then
    perform kms.refuse('p_job_days must be 90 to 36500');
  end if;
  v_ids := array(
    select j.id from kms.jobs as j
    where j.finished_at < clock_timestamp() - make_interval(days => p_days)
      and kms.job_is_superseded(j)
    order by j.finished_at limit 100
  );
  delete from kms.job_chunks where ctid = any (array(
    select ctid from kms.job_chunks where job_id = any (v_ids) limit 10000 for update skip locked
  ));
  delete from kms.job_failures where ctid = any (array(
    select ctid from kms.job_failures where job_id = any (v_ids) limit 10000 for update skip locked
  ));
  delete from kms.jobs as j
  where j.id = any (v_ids)
    and not exists (select from kms.job_chunks where job_id = j.id)
    and not exists (select from kms.job_failures where job_id = j.id);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function kms.purge_jobs(integer) is
  'Deletes jobs that ended so many days ago, 90 to 36500, with their chunks and failures, up to 100 jobs '
  'and 10,000 of each a call; how many jobs. One that runs stays, and one with failures until '
  'kms.job_is_superseded.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_job_start(text, text, text),
  public.kms_job_cancel(text, uuid),
  public.kms_job_get(uuid),
  public.kms_job_next(text),
  public.kms_jobs_list(integer, text),
  public.kms_job_failures(uuid, integer, text),
  public.kms_job_release(uuid, uuid)
from public, anon, authenticated;
grant execute on function
  public.kms_job_start(text, text, text),
  public.kms_job_cancel(text, uuid),
  public.kms_job_get(uuid),
  public.kms_job_next(text),
  public.kms_jobs_list(integer, text),
  public.kms_job_failures(uuid, integer, text),
  public.kms_job_release(uuid, uuid)
to service_role;
