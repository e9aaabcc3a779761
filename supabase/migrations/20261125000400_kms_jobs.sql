-- Jobs: long work in chunks that any number of workers hold by lease, so that each may die at any
-- moment. What a chunk does is its kind's own business (20261125000420_kms_reencrypt.sql).
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
  pass_epoch bigint not null,
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
comment on column kms.jobs.pass_epoch is
  'The epoch of the keys when this pass began: after a rotation it has to be gone through again.';
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
create index jobs_by_end on kms.jobs (finished_at) where finished_at is not null;
comment on index kms.jobs_by_end is 'Serves the purge.';

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
  'Ranges of rows as they were handed out: to whom, and what came of it. Kept as long as their job, since '
  'the audit names chunks and not each of their rows.';
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
comment on index kms.job_chunks_by_job is 'Serves the purge and the cascade.';

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

revoke all on table kms.jobs, kms.job_chunks, kms.job_failures
  from public, anon, authenticated, service_role;
