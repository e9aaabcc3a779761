-- The audit trail that proves itself: anchors of days, verification page by page, and retention by
-- whole days that keeps the chain provable. What readers get is in the next migration.

-- ── Anchors ────────────────────────────────────────────────────────────────────────────────────
create table kms.audit_anchors (
  chain_day date primary key,
  entries bigint not null constraint audit_anchors_day_is_not_empty check (entries > 0),
  prev_hash text not null
    constraint audit_anchors_prev_hash_is_sha256 check (prev_hash ~ '^[0-9a-f]{64}$'),
  last_seq bigint not null,
  last_hash text not null
    constraint audit_anchors_last_hash_is_sha256 check (last_hash ~ '^[0-9a-f]{64}$'),
  signed_at timestamptz not null,
  signature text not null
    constraint audit_anchors_signature_is_hmac_sha256 check (signature ~ '^[0-9a-f]{64}$'),
  pruned_at timestamptz not null default clock_timestamp(),
  constraint audit_anchors_day_has_no_gap check (entries = last_seq)
);

comment on table kms.audit_anchors is
  'What is left of a day of kms.audit_log whose entries were pruned: where it began and ended in the '
  'chain. The first day that is kept links to the last anchor. Append-only.';
comment on column kms.audit_anchors.chain_day is 'The day.';
comment on column kms.audit_anchors.entries is 'How many entries it had.';
comment on column kms.audit_anchors.prev_hash is
  'Hash that its first entry followed: the last_hash of the anchor before it.';
comment on column kms.audit_anchors.last_seq is 'Sequence number of its last entry.';
comment on column kms.audit_anchors.last_hash is 'Hash of its last entry.';
comment on column kms.audit_anchors.signed_at is 'When the anchor was signed.';
comment on column kms.audit_anchors.signature is
  'HMAC-SHA256, hex, under a key that is not in the database: who can write here cannot forge one.';
comment on column kms.audit_anchors.pruned_at is 'When the day''s entries were removed. Set by trigger.';

create function kms.audit_anchors_check() returns trigger
language plpgsql set search_path = ''
as $$
declare
  v_first kms.audit_log;
  v_last kms.audit_log;
  v_next kms.audit_log;
begin
  select * into v_first from kms.audit_log order by chain_day, seq limit 1;
  select * into v_last from kms.audit_log
  where chain_day = new.chain_day order by seq desc limit 1;
  select * into v_next from kms.audit_log
  where chain_day > new.chain_day order by chain_day, seq limit 1;
  if current_setting('kms.pruning_audit_day', true) = to_char(new.chain_day, 'YYYY-MM-DD')
    -- The floor under KMS_AUDIT_RETENTION_DAYS: a stolen secret key cannot prune what is recent.
    and new.chain_day < (clock_timestamp() at time zone 'UTC')::date - 90
    and (v_first.chain_day, v_first.seq) = (new.chain_day, 1)
    and (v_last.seq, v_last.hash) = (new.last_seq, new.last_hash)
    and v_first.prev_hash = new.prev_hash
    and new.prev_hash = coalesce(
      (select last_hash from kms.audit_anchors order by chain_day desc limit 1), repeat('0', 64))
    and (v_next.seq, v_next.prev_hash) = (1, new.last_hash)
    and new.entries = (select count(*) from kms.audit_log where chain_day = new.chain_day)
  then
    new.pruned_at := clock_timestamp();
    return new;
  end if;
  raise exception 'audit_anchor_refused' using errcode = 'KM403', detail =
    'An anchor is stored by public.kms_audit_prune, for the first day of kms.audit_log, as that day '
    'stands and links to its neighbours, once it is older than 90 days.';
end
$$;
comment on function kms.audit_anchors_check() is
  'Raises KM403 audit_anchor_refused unless the anchor is true of the oldest day, which is being pruned.';

create function kms.audit_anchors_refuse_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  raise exception 'audit_anchors_append_only'
    using errcode = 'KM403', detail = 'Rows of kms.audit_anchors cannot be changed or removed.';
end
$$;
comment on function kms.audit_anchors_refuse_change() is 'Raises KM403 audit_anchors_append_only.';

create trigger audit_anchors_check before insert on kms.audit_anchors
  for each row execute function kms.audit_anchors_check();
comment on trigger audit_anchors_check on kms.audit_anchors is 'Only true anchors, by pruning only.';
create trigger audit_anchors_no_change before update or delete on kms.audit_anchors
  for each row execute function kms.audit_anchors_refuse_change();
comment on trigger audit_anchors_no_change on kms.audit_anchors is 'Anchors are for ever.';
create trigger audit_anchors_no_truncate before truncate on kms.audit_anchors
  for each statement execute function kms.audit_anchors_refuse_change();
comment on trigger audit_anchors_no_truncate on kms.audit_anchors is 'Anchors are for ever.';

alter table kms.audit_anchors enable row level security;
alter table kms.audit_anchors force row level security;
create policy "The owner's functions append anchors"
  on kms.audit_anchors for insert to current_user with check (entries > 0);
comment on policy "The owner's functions append anchors" on kms.audit_anchors is
  'The owner is the role that ran this migration and as which the RPCs run.';
create policy "The owner's functions read anchors"
  on kms.audit_anchors for select to current_user using (entries > 0);
comment on policy "The owner's functions read anchors" on kms.audit_anchors is
  'The owner is the role that ran this migration and as which the RPCs run.';
revoke all on table kms.audit_anchors from public, anon, authenticated, service_role;
revoke update, delete, truncate, references, trigger on table kms.audit_anchors from current_user;

-- ── Verification ───────────────────────────────────────────────────────────────────────────────
create function kms.audit_predecessor(p_day date, out o_day date, out o_hash text)
language plpgsql stable set search_path = ''
as $$
declare
  v_anchor kms.audit_anchors;
begin
  select * into v_anchor from kms.audit_anchors order by chain_day desc limit 1;
  select chain_day, hash into o_day, o_hash from kms.audit_log
  where chain_day < p_day and chain_day > coalesce(v_anchor.chain_day, '-infinity')
  order by chain_day desc, seq desc limit 1;
  if not found then
    o_day := v_anchor.chain_day;
    o_hash := coalesce(v_anchor.last_hash, repeat('0', 64));
  end if;
end
$$;
comment on function kms.audit_predecessor(date) is
  'Day and hash of what the first entry from this day on must follow: the entry before it, the last '
  'anchor, or, for the very first, no day and 64 zeros.';

create function kms.audit_page(
  p_from date, p_to date, p_day date, p_seq bigint, p_hash text, p_limit integer
) returns table (
  chain_day date, seq bigint, prev_hash text, hash text, expected_seq bigint, kind text
)
language sql stable set search_path = ''
as $$
  select e.chain_day, e.seq, e.prev_hash, e.hash, e.expected_seq,
    case
      when e.seq < e.expected_seq then 'inserted'
      when not e.intact and not e.linked then 'moved'
      when not e.intact then 'changed'
      when not e.linked then 'broken_link'
    end
  from (
    select p.chain_day, p.seq, p.prev_hash, p.hash, p.intact, x.expected_seq,
      -- Behind a gap the predecessor is not known.
      p.seq > x.expected_seq or p.prev_hash = coalesce(p.before_hash, p_hash) as linked
    from (
      select a.chain_day, a.seq, a.prev_hash, a.hash, a.intact,
        lag(a.chain_day) over w as before_day, lag(a.seq) over w as before_seq,
        lag(a.hash) over w as before_hash
      from (
        select l.chain_day, l.seq, l.prev_hash, l.hash, kms.audit_hash(l) = l.hash as intact
        from kms.audit_log as l
        where (l.chain_day, l.seq) > (p_day, p_seq) and l.chain_day between p_from and p_to
        order by l.chain_day, l.seq limit p_limit
      ) as a
      window w as (order by a.chain_day, a.seq)
    ) as p
    cross join lateral (
      select case when coalesce(p.before_day, p_day) = p.chain_day
        then coalesce(p.before_seq, p_seq) + 1 else 1 end as expected_seq
    ) as x
  ) as e
$$;
comment on function kms.audit_page(date, date, date, bigint, text, integer) is
  'The next entries of the chain after day, seq and hash, each with the seq it should have and what is '
  'wrong with it: null, changed (its hash is not its own), broken_link (it follows another entry than '
  'the one before it), moved (both: reordered or inserted) or inserted (its place is taken).';

create function kms.audit_verify(p_day date) returns bigint
language sql stable set search_path = ''
as $$
  select least(min(p.seq) filter (where p.kind is not null),
    min(p.expected_seq) filter (where p.seq > p.expected_seq))
  from kms.audit_predecessor(p_day) as b
  cross join lateral kms.audit_page(
    p_day, p_day, coalesce(b.o_day, '-infinity'), 9223372036854775807, b.o_hash, null) as p
$$;
comment on function kms.audit_verify(date) is
  'Sequence number of the day''s first entry that was changed, inserted, reordered or removed; null '
  'when the day holds. Entries removed from a day''s end show in the first entry of the next.';

create function public.kms_audit_verify_page(
  p_from date, p_to date, p_after text, p_limit integer
) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_anchored date;
  v_from date;
  v_day date;
  v_seq bigint := 9223372036854775807;
  v_hash text;
  v_answer jsonb;
  v_returned jsonb := jsonb '[]';
begin
  if p_limit is null or p_limit not between 1 and 10000 then
    perform kms.refuse('p_limit must be 1 to 10000');
  end if;
  select max(chain_day) into v_anchored from kms.audit_anchors;
  v_from := greatest(coalesce(p_from, '-infinity'), v_anchored + 1);
  if p_after is null then
    select coalesce(o_day, '-infinity'), o_hash into v_day, v_hash
    from kms.audit_predecessor(v_from);
    select coalesce(jsonb_agg(jsonb_build_object(
      'day', r.chain_day, 'seq', r.seq, 'kind', 'inserted') order by r.chain_day, r.seq), '[]')
    into v_returned from (
      select chain_day, seq from kms.audit_log
      where chain_day between coalesce(p_from, '-infinity') and coalesce(p_to, 'infinity')
        and chain_day <= v_anchored
      order by chain_day, seq limit 100
    ) as r;
  elsif p_after ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[|][0-9]{1,18}[|][0-9a-f]{64}$' then
    v_day := kms.read_day(split_part(p_after, '|', 1), 'p_after');
    v_seq := split_part(p_after, '|', 2)::bigint;
    v_hash := split_part(p_after, '|', 3);
    if v_day <= v_anchored then
      -- That day was pruned since: what is left follows its anchor.
      v_seq := 9223372036854775807;
      select coalesce(o_day, '-infinity'), o_hash into v_day, v_hash
      from kms.audit_predecessor(v_from);
    end if;
  else
    perform kms.refuse('p_after is not a position');
  end if;

  with page as materialized (
    select * from kms.audit_page(v_from, coalesce(p_to, 'infinity'), v_day, v_seq, v_hash, p_limit)
  ), faults as (
    select chain_day, expected_seq as seq, seq - 1 as through, 'missing' as kind
    from page where seq > expected_seq
    union all
    select chain_day, seq, null, kind from page where kind is not null
  )
  select jsonb_build_object(
    'entries', (select count(*) from page),
    'days', (select coalesce(jsonb_agg(jsonb_build_object(
      'day', d.chain_day, 'entries', d.entries, 'prev_hash', d.prev_hash,
      'last_seq', d.last_seq, 'last_hash', d.last_hash) order by d.chain_day), '[]')
      from (
        select chain_day, count(*) as entries, max(seq) as last_seq,
          (array_agg(prev_hash order by seq))[1] as prev_hash,
          (array_agg(hash order by seq desc))[1] as last_hash
        from page group by chain_day
      ) as d),
    'fault_count', (select count(*) from faults) + jsonb_array_length(v_returned),
    'faults', v_returned || (select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'day', f.chain_day, 'seq', f.seq, 'through', f.through, 'kind', f.kind))
      order by f.chain_day, f.seq, f.through), '[]')
      from (select * from faults order by chain_day, seq limit 100) as f),
    'next', (select to_char(chain_day, 'YYYY-MM-DD') || '|' || seq || '|' || hash
      from page where (select count(*) from page) = p_limit
      order by chain_day desc, seq desc limit 1)
  ) into v_answer;
  return v_answer;
end
$$;
comment on function public.kms_audit_verify_page(date, date, text, integer) is
  'Recomputes the next 1 to 10000 entries of the days p_from to p_to (null: all): {"entries", "days": '
  '[{"day", "entries", "prev_hash", "last_seq", "last_hash"}], "fault_count", "faults": [{"day", "seq", '
  '"kind"[, "through"]}] (100 at most), "next": the p_after of the next page or null}. An entry of a day '
  'that was pruned is inserted. For service_role.';

-- ── Retention ──────────────────────────────────────────────────────────────────────────────────
create function public.kms_audit_prune(p_actor text, p_anchor text) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_anchor jsonb := kms.parse_json(p_anchor, 'p_anchor', 'object');
  v_day date;
  v_entries integer;
  v_signed_at timestamptz;
begin
  perform kms.check_object(v_anchor, 'p_anchor',
    array['day', 'entries', 'prev_hash', 'last_seq', 'last_hash', 'signed_at', 'signature']);
  v_day := kms.read_day(v_anchor ->> 'day', 'p_anchor.day');
  v_entries := kms.read_integer(v_anchor, 'entries', 'p_anchor', 1, 999999999, true);
  begin
    v_signed_at := kms.read_text(v_anchor, 'signed_at', 'p_anchor',
      '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$', true)::timestamptz;
  exception when datetime_field_overflow then
    perform kms.refuse('p_anchor.signed_at has the wrong form');
  end;

  -- Of two at once the second finds the day gone. Nobody else waits: the chain grows at its other end,
  -- and is held for the entry at the end only.
  perform pg_advisory_xact_lock(hashtextextended('kms.audit_prune', 0));
  if exists (select from kms.audit_anchors where chain_day = v_day) then
    return jsonb_build_object('pruned', false);
  end if;
  perform set_config('kms.pruning_audit_day', to_char(v_day, 'YYYY-MM-DD'), true);
  insert into kms.audit_anchors (
    chain_day, entries, prev_hash, last_seq, last_hash, signed_at, signature
  ) values (
    v_day, v_entries,
    kms.read_text(v_anchor, 'prev_hash', 'p_anchor', '^[0-9a-f]{64}$', true),
    kms.read_integer(v_anchor, 'last_seq', 'p_anchor', 1, 999999999, true),
    kms.read_text(v_anchor, 'last_hash', 'p_anchor', '^[0-9a-f]{64}$', true),
    v_signed_at,
    kms.read_text(v_anchor, 'signature', 'p_anchor', '^[0-9a-f]{64}$', true)
  );
  delete from kms.audit_log where chain_day = v_day;
  perform set_config('kms.pruning_audit_day', '', true);
  perform kms.audit_append(v_actor, jsonb_build_array(jsonb_build_object(
    'action', 'audit.prune', 'outcome', 'success',
    'purpose', format('day:%s entries:%s', to_char(v_day, 'YYYY-MM-DD'), v_entries)
  )));
  return jsonb_build_object('pruned', true);
end
$$;
comment on function public.kms_audit_prune(text, text) is
  'Removes the oldest day of the audit log, which must be older than 90 days, and keeps its signed '
  'anchor {"day", "entries", "prev_hash", "last_seq", "last_hash", "signed_at", "signature"}: '
  '{"pruned"}, false when it was pruned before. Raises KM403 audit_anchor_refused when the anchor is '
  'not true of the day. Audited. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_audit_verify_page(date, date, text, integer),
  public.kms_audit_prune(text, text)
from public, anon, authenticated;
grant execute on function
  public.kms_audit_verify_page(date, date, text, integer),
  public.kms_audit_prune(text, text)
to service_role;
