-- The re-encryption job: which rows do not yet hang on the key that their class is written under now,
-- and handing them out in chunks. The edge function says how each class is written; the versions of
-- branch keys are known here.

create index ciphertexts_by_branch_key on kms.ciphertexts (branch_key_id, branch_key_version);
comment on index kms.ciphertexts_by_branch_key is 'Which rows a branch key version still holds.';

-- ── What is stale ──────────────────────────────────────────────────────────────────────────────
create function kms.message_hash(p_message text) returns text
language sql immutable set search_path = ''
as $$
  select encode(sha256(convert_to(p_message, 'UTF8')), 'hex')
$$;
comment on function kms.message_hash(text) is
  'SHA-256, lower-case hex: stands for a message where it need not travel twice.';

create function kms.parse_targets(p_targets text, p_data_class text) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_targets jsonb := kms.parse_json(p_targets, 'p_targets', 'object');
  v_class text;
  v_path text;
begin
  perform kms.check_object(v_targets, 'p_targets', array['payment', 'pii', 'general']);
  foreach v_class in array
    case when p_data_class is null then array['payment', 'pii', 'general']
      else array[p_data_class] end
  loop
    v_path := 'p_targets.' || v_class;
    perform kms.check_object(v_targets -> v_class, v_path, array['keyring', 'scope', 'key_id']);
    if kms.read_text(v_targets -> v_class, 'keyring', v_path, '^(hierarchical|direct)$', true)
      = 'direct'
    then
      perform kms.read_text(v_targets -> v_class, 'key_id', v_path, '', true, 2048);
    else
      perform kms.read_text(v_targets -> v_class, 'scope', v_path, '^(class|owner)$', true);
    end if;
  end loop;
  return case when p_data_class is null then v_targets
    else jsonb_build_object(p_data_class, v_targets -> p_data_class) end;
end
$$;
comment on function kms.parse_targets(text, text) is
  'How the class of a job, or every class, is written now: {class: {"keyring": "hierarchical", '
  '"scope": "class"|"owner"} or {"keyring": "direct", "key_id"}}; otherwise 22023.';

create function kms.reencrypt_scan(
  p_job_id uuid, p_targets jsonb, p_after text[], p_upto text[], p_window integer
) returns table (
  o_table_name text, o_record_id uuid, o_field text, o_owner_id uuid, o_data_class text,
  o_message text, o_in_scope boolean, o_stale boolean
)
language sql stable set search_path = ''
as $$
  select
    c.table_name, c.record_id, c.field, c.owner_id, c.data_class, c.message,
    t.key is not null,
    t.key is not null
    and case t.value ->> 'keyring'
      when 'direct' then
        c.branch_key_id is not null
        or c.kms_key_arn is null
        -- A multi-region key is one key, whichever region was called.
        or regexp_replace(c.kms_key_arn, r.region, '\1\2')
          <> regexp_replace(t.value ->> 'key_id', r.region, '\1\2')
      else
        c.branch_key_id is distinct from i.branch_key_id
        or 'branch:version:' || c.branch_key_version is distinct from (
          select b.record ->> 'version' from kms.branch_keys as b
          where b.branch_key_id = i.branch_key_id and b.type = 'branch:ACTIVE'
        )
    end
    and (f.message_hash is null or f.message_hash <> kms.message_hash(c.message))
  from (
    -- The inner limit is for the planner, which knows nothing of the outer one.
    select * from (
      select * from kms.ciphertexts
      where (table_name, record_id, field) > (p_after[1], p_after[2]::uuid, p_after[3])
        and (table_name, record_id, field) <= (p_upto[1], p_upto[2]::uuid, p_upto[3])
      order by table_name, record_id, field limit 2000
    ) as w
    order by table_name, record_id, field limit p_window
  ) as c
  cross join (values ('^(arn:aws[a-z-]*:kms:)[a-z0-9-]+(:[0-9]{12}:key/mrk-)')) as r (region)
  left join jsonb_each(p_targets) as t on t.key = c.data_class
  cross join lateral (
    select t.key || case t.value ->> 'scope' when 'owner' then ':' || c.owner_id else '' end
  ) as i (branch_key_id)
  cross join lateral (
    select (
      select message_hash from kms.job_failures where job_id = p_job_id
        and (table_name, record_id, field) = (c.table_name, c.record_id, c.field)
    )
  ) as f (message_hash)
  order by c.table_name, c.record_id, c.field
$$;
comment on function kms.reencrypt_scan(uuid, jsonb, text[], text[], integer) is
  'The next ciphertexts of a range of keys (after, up to), 2000 at most, whether the targets speak of '
  'their class, and whether each is stale: under another keyring, branch key, version or key than it '
  'would be written under now, and not known to fail as it is.';

-- ── Claim ──────────────────────────────────────────────────────────────────────────────────────
create function kms.reencrypt_range(p_data_class text, out o_after text[], out o_upto text[])
language sql stable set search_path = ''
as $$
  select
    array[t.first, '00000000-0000-0000-0000-000000000000', ''],
    -- Behind the last field of the last record, in any collation.
    array[t.last, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'zzzz']
  from (values (
    case when p_data_class = 'payment' then 'payment_methods' else 'encrypted_records' end,
    case when coalesce(p_data_class, 'payment') = 'payment'
      then 'payment_methods' else 'encrypted_records' end
  )) as t (first, last)
$$;
comment on function kms.reencrypt_range(text) is
  'Before the first and behind the last key of a class''s table, or of both.';

create function kms.reencrypt_chunk(
  p_job_id uuid, p_targets jsonb, p_after text[], p_upto text[], p_window integer, p_limits jsonb,
  out o_rows jsonb[], out o_fresh integer, out o_last text[]
)
language plpgsql stable set search_path = ''
as $$
declare
  v_item record;
  v_bytes bigint := 0;
begin
  o_rows := array[]::jsonb[];
  o_fresh := 0;
  for v_item in
    select * from kms.reencrypt_scan(p_job_id, p_targets, p_after, p_upto, p_window)
  loop
    if v_item.o_stale then
      v_bytes := v_bytes + length(v_item.o_message);
      exit when cardinality(o_rows) >= (p_limits ->> 'rows')::integer
        or cardinality(o_rows) > 0 and v_bytes > (p_limits ->> 'bytes')::integer;
      o_rows := o_rows || jsonb_build_object(
        'table_name', v_item.o_table_name, 'record_id', v_item.o_record_id,
        'field', v_item.o_field, 'owner_id', v_item.o_owner_id, 'data_class', v_item.o_data_class,
        'message', v_item.o_message, 'hash', kms.message_hash(v_item.o_message)
      );
    elsif v_item.o_in_scope then
      o_fresh := o_fresh + 1;
    end if;
    o_last := array[v_item.o_table_name, v_item.o_record_id::text, v_item.o_field];
  end loop;
end
$$;
comment on function kms.reencrypt_chunk(uuid, jsonb, text[], text[], integer, jsonb) is
  'The stale ones among the next rows of a range, as many as the limits allow, how many fresh ones '
  'were passed, and the key of the last of either; that is null when there are none.';

create function kms.reencrypt_give_up(p_actor jsonb, p_job kms.jobs, p_rows jsonb[]) returns void
language plpgsql volatile set search_path = ''
as $$
declare
  v_entries jsonb;
begin
  with stale as (
    select * from jsonb_to_recordset(to_jsonb(p_rows)) as s (
      table_name text, record_id uuid, field text, owner_id uuid, data_class text, hash text
    )
  ), known as (
    delete from kms.job_failures as f using stale as s
    where f.job_id = p_job.id
      and (f.table_name, f.record_id, f.field) = (s.table_name, s.record_id, s.field)
    returning f.id
  ), counted as (
    update kms.jobs
    set failed = failed + cardinality(p_rows) - (select count(*) from known),
      unchanged = unchanged + (select count(*) from known)
    where id = p_job.id
  )
  select jsonb_agg(jsonb_build_object(
    'action', 'job.row', 'outcome', 'failure', 'error_code', 'still_stale',
    'data_class', s.data_class, 'table_name', s.table_name, 'record_id', s.record_id,
    'owner_id', s.owner_id
  )) into v_entries from stale as s;
  insert into kms.job_failures (
    job_id, table_name, record_id, field, data_class, error_code, message_hash
  )
  select p_job.id, s.table_name, s.record_id, s.field, s.data_class, 'still_stale', s.hash
  from jsonb_to_recordset(to_jsonb(p_rows)) as s (
    table_name text, record_id uuid, field text, data_class text, hash text
  );
  perform kms.audit_append(p_actor, v_entries);
end
$$;
comment on function kms.reencrypt_give_up(jsonb, kms.jobs, jsonb[]) is
  'Lists rows that became stale again and again as failures of a job, which must be locked.';

create function public.kms_reencrypt_claim(
  p_actor text, p_job_id uuid, p_targets text, p_limits text
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_started constant timestamptz := clock_timestamp();
  v_last_pass constant integer := 20;
  -- Rows looked at in one go: few when all are stale, many when none is.
  v_window constant integer := 2000;
  v_look integer;
  v_actor jsonb := kms.parse_actor(p_actor);
  v_limits jsonb := kms.parse_json(p_limits, 'p_limits', 'object');
  v_lease interval;
  v_targets jsonb;
  v_job kms.jobs;
  v_chunk kms.job_chunks;
  v_after text[];
  v_upto text[];
  v_rows jsonb[];
  v_fresh integer;
  v_last text[];
  v_epoch bigint := (select e.epoch from kms.key_epoch as e);
  v_answer jsonb := jsonb_build_object('epoch', v_epoch);
begin
  perform kms.check_object(v_limits, 'p_limits', array['rows', 'bytes', 'lease_seconds']);
  v_look := kms.read_integer(v_limits, 'rows', 'p_limits', 1, 1000, true);
  perform kms.read_integer(v_limits, 'bytes', 'p_limits', 1, 16777216, true);
  v_lease := make_interval(
    secs => kms.read_integer(v_limits, 'lease_seconds', 'p_limits', 1, 600, true));

  update kms.jobs set updated_at = v_started
  where id = p_job_id and kind = 'reencrypt' and status = 'running' returning * into v_job;
  if not found then
    select * into v_job from kms.jobs where id = p_job_id and kind = 'reencrypt';
    return case when found
      then v_answer || jsonb_build_object('state', 'ended', 'job', kms.job_json(v_job)) end;
  end if;
  v_targets := kms.parse_targets(p_targets, v_job.data_class);

  select o_after, o_upto into v_after, v_upto from kms.reencrypt_range(v_job.data_class);

  -- First what somebody left behind.
  select * into v_chunk from kms.job_chunks
  where job_id = p_job_id and finished_at is null and lease_expires_at <= v_started
  order by lease_expires_at limit 1 for update skip locked;
  if found then
    select o_rows into v_rows from kms.reencrypt_chunk(
      p_job_id, v_targets, coalesce(v_chunk.after, v_after), v_chunk.upto, v_window, v_limits);
    update kms.job_chunks
    set token = gen_random_uuid(), lease_expires_at = clock_timestamp() + v_lease,
      attempts = attempts + 1, worker = v_actor ->> 'actor_id',
      request_id = (v_actor ->> 'request_id')::uuid
    where id = v_chunk.id returning * into v_chunk;
    return v_answer || jsonb_build_object('state', 'chunk', 'job', kms.job_json(v_job),
      'chunk', jsonb_build_object(
        'id', v_chunk.id, 'token', v_chunk.token, 'rows', to_jsonb(v_rows)));
  end if;

  -- Then what nobody has had in this pass.
  loop
    v_after := coalesce(v_job.position, v_after);
    select o_rows, o_fresh, o_last into v_rows, v_fresh, v_last
    from kms.reencrypt_chunk(p_job_id, v_targets, v_after, v_upto, v_look, v_limits);
    exit when v_last is null;
    update kms.jobs
    set position = v_last, pass_found = pass_found + cardinality(v_rows),
      unchanged = unchanged + case when pass = 1 then v_fresh else 0 end,
      total = total + case when pass = 1 then 0 else cardinality(v_rows) end
    where id = p_job_id returning * into v_job;
    if cardinality(v_rows) > 0 and v_job.pass > v_last_pass then
      -- Some worker writes them so, faster than they can be mended: for people to look at.
      perform kms.reencrypt_give_up(v_actor, v_job, v_rows);
    elsif cardinality(v_rows) > 0 then
      insert into kms.job_chunks (
        job_id, pass, after, upto, rows, token, lease_expires_at, worker, request_id
      ) values (
        p_job_id, v_job.pass, v_after, v_last, cardinality(v_rows), gen_random_uuid(),
        clock_timestamp() + v_lease, v_actor ->> 'actor_id', (v_actor ->> 'request_id')::uuid
      ) returning * into v_chunk;
      return v_answer || jsonb_build_object('state', 'chunk', 'job', kms.job_json(v_job),
        'chunk', jsonb_build_object(
          'id', v_chunk.id, 'token', v_chunk.token, 'rows', to_jsonb(v_rows)));
    end if;
    v_look := v_window;
    -- Others wait for the job meanwhile.
    if clock_timestamp() - v_started > interval '1 second' then
      return v_answer || jsonb_build_object('state', 'again', 'job', kms.job_json(v_job));
    end if;
  end loop;

  -- Then the end of the pass, once all of its chunks are in.
  if exists (select from kms.job_chunks where job_id = p_job_id and finished_at is null) then
    return v_answer || jsonb_build_object('state', 'busy', 'job', kms.job_json(v_job));
  end if;
  select e.epoch into v_epoch from kms.key_epoch as e;
  if v_job.dry_run or v_job.pass > v_last_pass
    or v_job.pass_found = 0 and v_job.pass_epoch = v_epoch
  then
    return v_answer || jsonb_build_object('state', 'ended', 'job', kms.job_complete(v_actor, v_job));
  end if;
  update kms.jobs set pass = pass + 1, pass_found = 0, pass_epoch = v_epoch, position = null
  where id = p_job_id returning * into v_job;
  return v_answer || jsonb_build_object('state', 'again', 'job', kms.job_json(v_job));
end
$$;
comment on function public.kms_reencrypt_claim(text, uuid, text, text) is
  'Hands out work of a re-encryption job, to be returned by kms_reencrypt_commit before the lease of 1 '
  'to 600 s runs out: {"state": "chunk", "job", "chunk": {"id", "token", "rows"}}; "again" when none '
  'was found yet, "busy" when others hold the rest, "ended" when the job has; null if there is no '
  'such job. It is completed, and that audited, when a pass over all rows found none that is stale; a '
  'dry run after its only pass. What is stale after twenty passes is listed as failed. "epoch" counts '
  'rotations of branch keys. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function public.kms_reencrypt_claim(text, uuid, text, text)
  from public, anon, authenticated;
grant execute on function public.kms_reencrypt_claim(text, uuid, text, text) to service_role;
