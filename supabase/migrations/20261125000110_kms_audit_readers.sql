-- What auditors and operators get to see of the audit log: entries, whole days to recompute, anchors,
-- and alerts. None of it is audited here: the function appends its entry before it reads.

-- ── Entries ────────────────────────────────────────────────────────────────────────────────────
create function kms.audit_entry_json(p_entry kms.audit_log) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'day', p_entry.chain_day, 'seq', p_entry.seq,
    'prev_hash', p_entry.prev_hash, 'hash', p_entry.hash,
    'occurred_at', to_char(p_entry.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'actor_type', p_entry.actor_type, 'actor_id', p_entry.actor_id,
    'request_id', p_entry.request_id, 'function', p_entry.function_name,
    'address_hash', p_entry.address_hash,
    'action', p_entry.action, 'outcome', p_entry.outcome, 'error_code', p_entry.error_code,
    'data_class', p_entry.data_class, 'table_name', p_entry.table_name,
    'record_id', p_entry.record_id, 'owner_id', p_entry.owner_id, 'purpose', p_entry.purpose,
    'kms_key_arn', p_entry.kms_key_arn, 'kms_region', p_entry.kms_region,
    'branch_key_id', p_entry.branch_key_id, 'branch_key_version', p_entry.branch_key_version
  )
$$;
comment on function kms.audit_entry_json(kms.audit_log) is
  'An entry with every field that kms.audit_canonical hashes, in the very form it is hashed in.';

create function public.kms_audit_entries(p_filter text, p_limit integer, p_before text)
returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_filter jsonb := kms.parse_json(coalesce(p_filter, '{}'), 'p_filter', 'object');
  v_day date := date 'infinity';
  v_seq bigint := 0;
  v_record_id uuid := kms.read_uuid(v_filter, 'record_id', 'p_filter', false);
  v_owner_id uuid := kms.read_uuid(v_filter, 'owner_id', 'p_filter', false);
  v_actor_id text := kms.read_text(v_filter, 'actor_id', 'p_filter', '', false, 128);
  v_action text := kms.read_text(v_filter, 'action', 'p_filter', '', false, 64);
  v_outcome text := kms.read_text(v_filter, 'outcome', 'p_filter', '^(success|failure)$', false);
  v_from date := date '-infinity';
  v_to date := date 'infinity';
  v_entries kms.audit_log[];
  v_last kms.audit_log;
begin
  perform kms.check_object(v_filter, 'p_filter',
    array['action', 'actor_id', 'owner_id', 'record_id', 'outcome', 'from', 'to']);
  perform kms.check_limit(p_limit);
  if v_filter ->> 'from' is not null then
    v_from := kms.read_day(v_filter ->> 'from', 'p_filter.from');
  end if;
  if v_filter ->> 'to' is not null then
    v_to := kms.read_day(v_filter ->> 'to', 'p_filter.to');
  end if;
  if p_before ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[|][0-9]{1,18}$' then
    v_day := kms.read_day(split_part(p_before, '|', 1), 'p_before');
    v_seq := split_part(p_before, '|', 2)::bigint;
  elsif p_before is not null then
    perform kms.refuse('p_before is not a cursor');
  end if;

  -- Only the conditions that are asked for, so that each filter is planned for itself.
  execute
    'select array(
       select a from kms.audit_log as a
       where (a.chain_day, a.seq) < ($1, $2) and a.chain_day between $3 and $4'
    || case when v_record_id is null then '' else ' and a.record_id = $5' end
    || case when v_owner_id is null then '' else ' and a.owner_id = $6' end
    || case when v_actor_id is null then '' else ' and a.actor_id = $7' end
    || case when v_action is null then '' else ' and a.action = $8' end
    || case v_outcome
      when 'failure' then ' and a.outcome = ''failure'''
      when 'success' then ' and a.outcome = ''success'''
      else '' end
    || ' order by a.chain_day desc, a.seq desc limit $9)'
  into v_entries
  using v_day, v_seq, v_from, v_to, v_record_id, v_owner_id, v_actor_id, v_action, p_limit + 1;

  if cardinality(v_entries) > p_limit then
    v_entries := trim_array(v_entries, 1);
    v_last := v_entries[p_limit];
  end if;
  return jsonb_build_object(
    'entries', (
      select coalesce(jsonb_agg(kms.audit_entry_json(e) order by e.chain_day desc, e.seq desc), '[]')
      from unnest(v_entries) as e
    ),
    'next', to_char(v_last.chain_day, 'YYYY-MM-DD') || '|' || v_last.seq
  );
end
$$;
comment on function public.kms_audit_entries(text, integer, text) is
  'A page of 1 to 100 entries, newest first, and the cursor of the next. Filter: {"action", "actor_id", '
  '"owner_id", "record_id", "outcome", "from", "to"} (days of the chain, both included), each optional. '
  'Not audited here. For service_role.';

create function public.kms_audit_export(p_day date, p_after bigint, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_answer jsonb;
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    perform kms.refuse('p_limit must be 1 to 1000');
  end if;
  select jsonb_build_object(
    'entries', coalesce(jsonb_agg(kms.audit_entry_json(e) order by e.seq), '[]'),
    'next', case when count(*) = p_limit then max(e.seq) end
  ) into v_answer from (
    select * from kms.audit_log
    where chain_day = p_day and seq > coalesce(p_after, 0) order by seq limit p_limit
  ) as e;
  return v_answer;
end
$$;
comment on function public.kms_audit_export(date, bigint, integer) is
  'The next 1 to 1000 entries of a day after p_after (null: from the first), in the chain''s order, and '
  'the p_after of the next page or null. Not audited here. For service_role.';

-- ── Anchors ────────────────────────────────────────────────────────────────────────────────────
create function kms.audit_stored_anchors(p_from date, p_to date, p_limit integer)
returns setof jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'day', chain_day, 'entries', entries, 'prev_hash', prev_hash, 'last_seq', last_seq,
    'last_hash', last_hash, 'finished', true, 'pruned', true,
    'signed_at', kms.iso_time(signed_at), 'signature', signature
  )
  from kms.audit_anchors where chain_day between p_from and p_to order by chain_day limit p_limit
$$;
comment on function kms.audit_stored_anchors(date, date, integer) is
  'Anchors of pruned days with their signatures, oldest first.';

create function kms.audit_day_anchor(p_day date) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'day', p_day,
    'entries', (select count(*) from kms.audit_log where chain_day = p_day),
    'prev_hash', (
      select prev_hash from kms.audit_log where chain_day = p_day order by seq limit 1),
    'last_seq', l.seq, 'last_hash', l.hash, 'finished', true, 'pruned', false
  )
  from kms.audit_log as l where l.chain_day = p_day order by l.seq desc limit 1
$$;
comment on function kms.audit_day_anchor(date) is 'The anchor of a day whose entries are there.';

create function public.kms_audit_anchors(
  p_from date, p_to date, p_limit integer, p_pruned boolean
) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_to date := coalesce(p_to, date 'infinity');
  v_anchors jsonb[];
  v_newest date;
  v_day date;
  v_entries bigint := 0;
begin
  perform kms.check_limit(p_limit);
  select array_agg(a) into v_anchors
  from kms.audit_stored_anchors(coalesce(p_from, '-infinity'), v_to, p_limit) as a;
  v_anchors := coalesce(v_anchors, '{}');
  if p_pruned is distinct from true then
    -- A day is finished once a later one has begun: the chain's day never goes back.
    select max(chain_day) into v_newest from kms.audit_log;
    select greatest(p_from, max(chain_day) + 1) into v_day from kms.audit_anchors;
    v_day := coalesce(v_day, '-infinity');
    while cardinality(v_anchors) < p_limit and v_entries < 1000000 loop
      select min(chain_day) into v_day from kms.audit_log
      where chain_day >= v_day and chain_day <= v_to and chain_day < v_newest;
      exit when v_day is null;
      v_anchors := v_anchors || kms.audit_day_anchor(v_day);
      v_entries := v_entries + (v_anchors[cardinality(v_anchors)] ->> 'entries')::bigint;
      v_day := v_day + 1;
    end loop;
  end if;
  return jsonb_build_object(
    'anchors', to_jsonb(v_anchors),
    'next', case when cardinality(v_anchors) = p_limit or v_day is not null
      then ((v_anchors[cardinality(v_anchors)] ->> 'day')::date + 1) end
  );
end
$$;
comment on function public.kms_audit_anchors(date, date, integer, boolean) is
  'Anchors of 1 to 100 finished days (with p_pruned: of pruned ones only), oldest first: {"anchors": '
  '[{"day", "entries", "prev_hash", "last_seq", "last_hash", "finished", "pruned"[, "signed_at", '
  '"signature"]}], "next": the p_from of the next page or null}. A page ends after about a million '
  'entries. For service_role.';

create function public.kms_audit_points(p_points text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_points jsonb := kms.parse_list(p_points, 'p_points', 1, 200);
  v_point jsonb;
  v_day date;
  v_seq integer;
  v_answers jsonb[] := array[]::jsonb[];
begin
  for v_point in
    select e.value from jsonb_array_elements(v_points) with ordinality as e (value, n) order by e.n
  loop
    perform kms.check_object(v_point, 'p_points[]', array['day', 'seq']);
    v_day := kms.read_day(v_point ->> 'day', 'p_points[].day');
    v_seq := kms.read_integer(v_point, 'seq', 'p_points[]', 1, 999999999, true);
    v_answers := v_answers || coalesce(
      (
        select jsonb_build_object('last_seq', last_seq,
          'hash', case when last_seq = v_seq then last_hash end, 'pruned', true)
        from kms.audit_anchors where chain_day = v_day
      ),
      jsonb_build_object(
        'last_seq', (
          select seq from kms.audit_log where chain_day = v_day order by seq desc limit 1),
        'hash', (select hash from kms.audit_log where chain_day = v_day and seq = v_seq),
        'pruned', false
      )
    );
  end loop;
  return jsonb_build_object('points', to_jsonb(v_answers));
end
$$;
comment on function public.kms_audit_points(text) is
  'What stands at 1 to 200 places [{"day", "seq"}] of the chain: {"points": [{"last_seq" of the day or '
  'null, "hash" or null, "pruned"}]} in that order; of a pruned day the end only. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_audit_entries(text, integer, text),
  public.kms_audit_export(date, bigint, integer),
  public.kms_audit_anchors(date, date, integer, boolean),
  public.kms_audit_points(text)
from public, anon, authenticated;
grant execute on function
  public.kms_audit_entries(text, integer, text),
  public.kms_audit_export(date, bigint, integer),
  public.kms_audit_anchors(date, date, integer, boolean),
  public.kms_audit_points(text)
to service_role;
