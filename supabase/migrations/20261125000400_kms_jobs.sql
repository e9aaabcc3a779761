-- Jobs: long work in chunks that any number of workers hold by lease, so that each may die at any
-- moment. What a chunk does is its kind's own business (20261125000410_kms_reencrypt.sql).
-- Locks in one order: chunk, rows, job, audit chain. Whoever holds a job skips chunks that are locked.

-- ── kms.jobs ───────────────────────────────────────────────────────────────────────────────────
create table kms.jobs (
  id uuid primary key default gen_random_uuid(),
  kind text not null constraint jobs_kind_is_a_slug check (kind ~ '^[a-z][a-z_]{0,31}$'),
  status text not null default 'running'
    constraint jobs_status_is_known check (status in ('running', 'completed', 'cancelled')),
  data_class text
    constraint jobs_data_class_is_known check (data_class in ('payment', 'pii', 'general')),
  dry_run boolean not null,
  total bigint not null constraint jobs_total_is_a_count check (total >= 0),
  done bigint not null default 0 constraint jobs_done_is_a_count check (done >= 0),
  unchanged bigint not null default 0 constraint jobs_unchanged_is_a_count check (unchanged >= 0),
  failed bigint not null default 0 constraint jobs_failed_is_a_count check (failed >= 0),
  pass integer not null default 1 constraint jobs_pass_is_positive check (pass > 0),
  pass_found bigint not null default 0
    constraint jobs_pass_found_is_a_count check (pass_found >= 0),
  position text[],
  created_by text not null
    constraint jobs_created_by_is_short check (length(created_by) between 1 and 128),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint jobs_finished_at_says_when check ((status = 'running') = (finished_at is null))
);

comment on table kms.jobs is 'Work over many rows, its progress and how it ended.';
comment on column kms.jobs.id is 'The job.';
comment on column kms.jobs.kind is 'What is done, such as reencrypt.';
comment on column kms.jobs.status is 'running, completed or cancelled.';
comment on column kms.jobs.data_class is 'payment, pii or general; null for all.';
comment on column kms.jobs.dry_run is 'Everything is tried and nothing changed.';
comment on column kms.jobs.total is
  'Rows to look at: counted at the start, more when they are seen again, exact at the end.';
comment on column kms.jobs.done is 'Rows that were brought to where the job wants them.';
comment on column kms.jobs.unchanged is
  'Rows that needed nothing, or that somebody else changed or deleted in the meantime.';
comment on column kms.jobs.failed is 'Rows that could not be done: those of kms.job_failures.';
comment on column kms.jobs.pass is
  'How many times the rows are gone through by now: until nothing is left to do.';
comment on column kms.jobs.pass_found is 'Rows handed out in this pass.';
comment on column kms.jobs.position is
  'Key of the last row handed out in this pass, in the form of the job''s kind; null at its start.';
comment on column kms.jobs.created_by is 'User id, or name of the secret key.';
comment on column kms.jobs.created_at is 'When it was started.';
comment on column kms.jobs.updated_at is 'When a worker last asked for work or brought results.';
comment on column kms.jobs.finished_at is 'When it completed or was cancelled.';

create index jobs_newest_first on kms.jobs (created_at desc, id desc);
comment on index kms.jobs_newest_first is 'The order of the list.';
create index jobs_running on kms.jobs (kind, created_at) where status = 'running';
comment on index kms.jobs_running is 'What workers look for, and what must not overlap.';

alter table kms.jobs enable row level security;

-- ── kms.job_chunks ─────────────────────────────────────────────────────────────────────────────
create table kms.job_chunks (
  id uuid primary key default gen_random_uuid(),
  job_id uuid not null
    constraint job_chunks_job_fkey references kms.jobs (id) on delete cascade,
  pass integer not null,
  after text[],
  upto text[] not null,
  rows integer not null constraint job_chunks_rows_is_a_count check (rows >= 0),
  token uuid not null,
  lease_expires_at timestamptz not null,
  attempts integer not null default 1
    constraint job_chunks_attempts_is_positive check (attempts > 0),
  worker text not null
    constraint job_chunks_worker_is_short check (length(worker) between 1 and 128),
  request_id uuid not null,
  done integer,
  unchanged integer,
  failed integer,
  created_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint job_chunks_results_are_whole check (
    (finished_at is null) = (done is null)
    and (finished_at is null) = (unchanged is null)
    and (finished_at is null) = (failed is null)
  )
);

comment on table kms.job_chunks is
  'Ranges of rows as they were handed out: to whom, and what came of it. Kept, since the audit names '
  'chunks and not each of their rows.';
comment on column kms.job_chunks.id is 'The chunk.';
comment on column kms.job_chunks.job_id is 'Its job.';
comment on column kms.job_chunks.pass is 'The job''s pass.';
comment on column kms.job_chunks.after is 'Key before the range; null for the very beginning.';
comment on column kms.job_chunks.upto is 'Key of its last row.';
comment on column kms.job_chunks.rows is 'Rows in it that had to be worked on.';
comment on column kms.job_chunks.token is
  'Fencing token of the present holder. A takeover changes it, and the former holder stores nothing.';
comment on column kms.job_chunks.lease_expires_at is
  'When the holder is given up for dead and another may take over.';
comment on column kms.job_chunks.attempts is 'How many workers have held it.';
comment on column kms.job_chunks.worker is 'The holder: user id, or name of the secret key.';
comment on column kms.job_chunks.request_id is 'The holder''s request, as in the logs and the audit.';
comment on column kms.job_chunks.done is 'Rows done; null until the results are in.';
comment on column kms.job_chunks.unchanged is 'Rows unchanged; null until then.';
comment on column kms.job_chunks.failed is 'Rows failed; null until then.';
comment on column kms.job_chunks.created_at is 'When it was first handed out.';
comment on column kms.job_chunks.finished_at is 'When its results were stored.';

create index job_chunks_open on kms.job_chunks (job_id, lease_expires_at) where finished_at is null;
comment on index kms.job_chunks_open is 'Leases that ran out, and whether a pass is over.';
create index job_chunks_by_job on kms.job_chunks (job_id);
comment on index kms.job_chunks_by_job is 'Serves the cascade.';

alter table kms.job_chunks enable row level security;

-- ── kms.job_failures ───────────────────────────────────────────────────────────────────────────
create table kms.job_failures (
  id uuid primary key default gen_random_uuid(),
  job_id uuid not null
    constraint job_failures_job_fkey references kms.jobs (id) on delete cascade,
  table_name text not null
    constraint job_failures_table_name_is_a_name check (table_name ~ '^[a-z][a-z0-9_]{0,62}$'),
  record_id uuid not null,
  field text not null
    constraint job_failures_field_is_a_name check (field ~ '^[a-z][a-z0-9_]{0,62}$'),
  data_class text not null
    constraint job_failures_data_class_is_known
      check (data_class in ('payment', 'pii', 'general')),
  error_code text not null
    constraint job_failures_error_code_is_a_code check (error_code ~ '^[a-z][a-z0-9_]{0,63}$'),
  message_hash text not null
    constraint job_failures_message_hash_is_sha256 check (message_hash ~ '^[0-9a-f]{64}$'),
  created_at timestamptz not null default clock_timestamp(),
  constraint job_failures_one_per_row unique (job_id, table_name, record_id, field)
);

comment on table kms.job_failures is 'Rows that a job could not do, and why. Ids and codes only.';
comment on column kms.job_failures.id is 'Tells apart failures of one moment.';
comment on column kms.job_failures.job_id is 'The job.';
comment on column kms.job_failures.table_name is 'Table of the record.';
comment on column kms.job_failures.record_id is 'The record.';
comment on column kms.job_failures.field is 'Its field.';
comment on column kms.job_failures.data_class is 'Its class.';
comment on column kms.job_failures.error_code is 'Why.';
comment on column kms.job_failures.message_hash is
  'SHA-256 of the message that failed: another one deserves another try.';
comment on column kms.job_failures.created_at is 'When it last failed.';

create index job_failures_newest_first on kms.job_failures (job_id, created_at desc, id desc);
comment on index kms.job_failures_newest_first is 'The order of the list.';

alter table kms.job_failures enable row level security;

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

create function public.kms_job_start(p_actor text, p_kind text, p_options text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_options jsonb := kms.parse_json(p_options, 'p_options', 'object');
  v_class text :=
    kms.read_text(v_options, 'data_class', 'p_options', '^(payment|pii|general)$', false);
  v_job kms.jobs;
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

  insert into kms.jobs (kind, data_class, dry_run, total, created_by)
  values (
    p_kind, v_class, kms.read_boolean(v_options, 'dry_run', 'p_options', false),
    kms.job_total(v_class), v_actor ->> 'actor_id'
  ) returning * into v_job;
  if v_job.total = 0 then
    update kms.jobs set status = 'completed', finished_at = clock_timestamp()
    where id = v_job.id returning * into v_job;
  end if;
  perform kms.audit_append(v_actor, jsonb_build_array(kms.job_entry('job.start', v_job))
    || case when v_job.status = 'completed'
      then jsonb_build_array(kms.job_entry('job.complete', v_job)) else '[]' end);
  return jsonb_build_object('state', 'started', 'job', kms.job_json(v_job));
end
$$;
comment on function public.kms_job_start(text, text, text) is
  'Starts a job of kind reencrypt with {"data_class", "dry_run"}: {"state": "started", "job"}, or '
  '{"state": "conflict", "job"} with the running one that it would overlap. One without rows is '
  'completed at once. Audited. For service_role.';

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
  perform kms.audit_append(p_actor, jsonb_build_array(kms.job_entry('job.complete', v_job)));
  return kms.job_json(v_job);
end
$$;
comment on function kms.job_complete(jsonb, kms.jobs) is
  'Ends a job, which must be locked, and audits it; the job as it then is.';

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
  v_row kms.jobs;
  v_last kms.jobs;
  v_rows jsonb[] := array[]::jsonb[];
  v_next text;
begin
  perform kms.check_limit(p_limit);
  select * into v_time, v_id from kms.read_cursor(p_before);
  for v_row in
    select * from kms.jobs where (created_at, id) < (v_time, v_id)
    order by created_at desc, id desc limit p_limit + 1
  loop
    if cardinality(v_rows) = p_limit then
      v_next := kms.make_cursor(v_last.created_at, v_last.id);
    else
      v_rows := v_rows || kms.job_json(v_row);
      v_last := v_row;
    end if;
  end loop;
  return jsonb_build_object('jobs', to_jsonb(v_rows), 'next', v_next);
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
  v_row kms.job_failures;
  v_last kms.job_failures;
  v_rows jsonb[] := array[]::jsonb[];
  v_next text;
begin
  perform kms.check_limit(p_limit);
  select * into v_time, v_id from kms.read_cursor(p_before);
  if not exists (select from kms.jobs where id = p_job_id) then
    return null;
  end if;
  for v_row in
    select * from kms.job_failures where job_id = p_job_id and (created_at, id) < (v_time, v_id)
    order by created_at desc, id desc limit p_limit + 1
  loop
    if cardinality(v_rows) = p_limit then
      v_next := kms.make_cursor(v_last.created_at, v_last.id);
    else
      v_rows := v_rows || jsonb_build_object(
        'table', v_row.table_name, 'record_id', v_row.record_id, 'field', v_row.field,
        'data_class', v_row.data_class, 'error_code', v_row.error_code,
        'created_at', kms.iso_time(v_row.created_at)
      );
      v_last := v_row;
    end if;
  end loop;
  return jsonb_build_object('failures', to_jsonb(v_rows), 'next', v_next);
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

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on table kms.jobs, kms.job_chunks, kms.job_failures
  from public, anon, authenticated, service_role;
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
