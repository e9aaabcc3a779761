-- The re-encryption job: new messages take the place of old ones, if those are still there.

-- ── One row ────────────────────────────────────────────────────────────────────────────────────
create function kms.reencrypt_put(
  p_job kms.jobs, p_item jsonb, p_path text, out o_outcome text, out o_entry jsonb
)
language plpgsql volatile set search_path = ''
as $$
declare
  v_row kms.ciphertexts;
  v_new jsonb := p_item -> 'ciphertext';
  v_error text;
  v_known boolean;
begin
  perform kms.check_object(p_item, p_path,
    array['table_name', 'record_id', 'field', 'hash', 'error_code', 'ciphertext']);
  v_error := kms.read_text(p_item, 'error_code', p_path, '^[a-z][a-z0-9_]{0,63}$', false);
  if (v_new is not null) <> (v_error is null and not p_job.dry_run) then
    perform kms.refuse(p_path || ' must hold a ciphertext, an error_code, or nothing in a dry run');
  end if;

  -- Never waits: whoever holds the row is changing it, and that is what counts.
  select * into v_row from kms.ciphertexts
  where table_name = kms.read_text(p_item, 'table_name', p_path, '', true)
    and record_id = kms.read_uuid(p_item, 'record_id', p_path, true)
    and field = kms.read_text(p_item, 'field', p_path, '', true)
  for update skip locked;
  if not found or kms.message_hash(v_row.message)
    <> kms.read_text(p_item, 'hash', p_path, '^[0-9a-f]{64}$', true)
  then
    o_outcome := 'superseded';
    return;
  end if;

  if v_error is not null then
    o_outcome := 'failed';
    o_entry := jsonb_build_object(
      'action', 'job.row', 'outcome', 'failure', 'error_code', v_error,
      'data_class', v_row.data_class, 'table_name', v_row.table_name,
      'record_id', v_row.record_id, 'owner_id', v_row.owner_id, 'kms_key_arn', v_row.kms_key_arn,
      'branch_key_id', v_row.branch_key_id, 'branch_key_version', v_row.branch_key_version
    );
    delete from kms.job_failures where job_id = p_job.id
      and (table_name, record_id, field) = (v_row.table_name, v_row.record_id, v_row.field);
    v_known := found;
    insert into kms.job_failures (
      job_id, table_name, record_id, field, data_class, error_code, message_hash
    ) values (
      p_job.id, v_row.table_name, v_row.record_id, v_row.field, v_row.data_class, v_error,
      kms.message_hash(v_row.message)
    );
    -- Counted when it first failed.
    o_outcome := case when v_known then 'superseded' else 'failed' end;
    return;
  end if;

  o_outcome := 'done';
  if p_job.dry_run then
    return;
  end if;
  p_path := p_path || '.ciphertext';
  perform kms.check_object(v_new, p_path,
    array['field', 'message', 'kms_key_arn', 'kms_region', 'branch_key_id', 'branch_key_version']);
  update kms.ciphertexts
  set message = kms.read_text(v_new, 'message', p_path, '', true, 131072),
    kms_key_arn = kms.read_text(v_new, 'kms_key_arn', p_path, '', false, 2048),
    branch_key_id = kms.read_text(v_new, 'branch_key_id', p_path, '', false),
    branch_key_version = kms.read_text(v_new, 'branch_key_version', p_path, '', false, 64),
    updated_at = clock_timestamp()
  where (table_name, record_id, field) = (v_row.table_name, v_row.record_id, v_row.field);
  delete from kms.job_failures where job_id = p_job.id
    and (table_name, record_id, field) = (v_row.table_name, v_row.record_id, v_row.field);
  if found then
    o_outcome := 'mended';
  end if;
end
$$;
comment on function kms.reencrypt_put(kms.jobs, jsonb, text) is
  'The result of one row, if it still is what was read: done, mended (done, after it had failed), or '
  'failed with its audit entry; else superseded.';

-- ── Commit ─────────────────────────────────────────────────────────────────────────────────────
create function public.kms_reencrypt_commit(
  p_actor text, p_chunk_id uuid, p_token uuid, p_results text
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_results jsonb := kms.parse_list(p_results, 'p_results', 0, 1000);
  v_chunk kms.job_chunks;
  v_job kms.jobs;
  v_item jsonb;
  v_count integer := 0;
  v_outcome text;
  v_entry jsonb;
  v_entries jsonb[] := array[]::jsonb[];
  v_done integer := 0;
  v_mended integer := 0;
  v_failed integer := 0;
begin
  select * into v_chunk from kms.job_chunks
  where id = p_chunk_id and token = p_token and finished_at is null for update;
  if not found then
    return jsonb_build_object('state', 'lost');
  end if;
  select * into strict v_job from kms.jobs where id = v_chunk.job_id;

  for v_item in
    select e.value from jsonb_array_elements(v_results) with ordinality as e (value, n) order by e.n
  loop
    select o_outcome, o_entry into v_outcome, v_entry
    from kms.reencrypt_put(v_job, v_item, format('p_results[%s]', v_count));
    v_count := v_count + 1;
    v_done := v_done + (v_outcome in ('done', 'mended'))::integer;
    v_mended := v_mended + (v_outcome = 'mended')::integer;
    v_failed := v_failed + (v_outcome = 'failed')::integer;
    if v_entry is not null then
      v_entries := v_entries || v_entry;
    end if;
  end loop;

  update kms.job_chunks
  set done = v_done, failed = v_failed, unchanged = greatest(0, rows - v_done - v_failed),
    finished_at = clock_timestamp()
  where id = p_chunk_id returning * into v_chunk;
  -- A row that had failed was counted so once; now that look at it came to nothing.
  update kms.jobs
  set done = done + v_chunk.done, unchanged = unchanged + v_chunk.unchanged + v_mended,
    failed = failed + v_failed - v_mended, updated_at = clock_timestamp()
  where id = v_job.id returning * into v_job;
  perform kms.audit_append(v_actor, jsonb_build_array(
    jsonb_build_object(
      'action', 'job.chunk', 'outcome', 'success', 'data_class', v_job.data_class,
      'table_name', 'job_chunks', 'record_id', p_chunk_id,
      'purpose', format('%s%s: %s done, %s unchanged, %s failed', v_job.kind,
        case when v_job.dry_run then ' (dry run)' else '' end,
        v_chunk.done, v_chunk.unchanged, v_chunk.failed)
    ) || kms.audit_keys(jsonb_path_query_array(v_results, '$[*].ciphertext'))
  ) || to_jsonb(v_entries));
  return jsonb_build_object('state', 'stored', 'job', kms.job_json(v_job));
end
$$;
comment on function public.kms_reencrypt_commit(text, uuid, uuid, text) is
  'Stores the results of a chunk, its counts and its audit entries, and one for each failure, all or '
  'none: [{"table_name", "record_id", "field", "hash" (of the message that was read), "ciphertext" or '
  '"error_code" or, in a dry run, neither}]. A row whose message has changed since, or that somebody '
  'is changing, stays as it is. {"state": "stored", "job"}, or {"state": "lost"} when the lease was '
  'taken over: then nothing is stored. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_reencrypt_commit(text, uuid, uuid, text)
  from public, anon, authenticated;
grant execute on function public.kms_reencrypt_commit(text, uuid, uuid, text) to service_role;
