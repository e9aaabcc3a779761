-- The audit trail's proof and its readers: verification by pages, anchors, pruning by whole days that
-- nothing else can do, filters, exports and alerts.
begin;
\ir support/personas.psql
select plan(86);

create function pg_temp.ago(p_days integer) returns date
language sql as $$ select (clock_timestamp() at time zone 'UTC')::date - p_days $$;

-- Days of the past, by hand, since the trigger knows today only.
alter table kms.audit_log disable trigger audit_log_no_change;
alter table kms.audit_log disable trigger audit_log_chain;
grant update on kms.audit_log to current_user;
create function pg_temp.forge(p_day date, p_seq bigint, p_overrides jsonb default '{}') returns void
language plpgsql as $$
declare
  v_entry kms.audit_log;
begin
  v_entry := jsonb_populate_record(null::kms.audit_log, jsonb_build_object(
    'chain_day', p_day, 'seq', p_seq, 'occurred_at', p_day + interval '1 hour',
    'actor_type', 'secret_key', 'actor_id', 'default', 'request_id', pg_temp.nth(9),
    'function_name', 'test', 'action', 'test.append', 'outcome', 'success'
  ) || p_overrides);
  v_entry.prev_hash := coalesce((
    select hash from kms.audit_log where (chain_day, seq) < (p_day, p_seq)
    order by chain_day desc, seq desc limit 1
  ), repeat('0', 64));
  v_entry.hash := kms.audit_hash(v_entry);
  insert into kms.audit_log select v_entry.*;
end
$$;
select pg_temp.forge(pg_temp.ago(d), s)
from unnest(array[500, 400, 80]) as d, generate_series(1, 3) as s;

create function pg_temp.verify(
  p_from date default null, p_to date default null, p_after text default null,
  p_limit integer default 100
) returns jsonb
language sql as $$ select public.kms_audit_verify_page(p_from, p_to, p_after, p_limit) $$;
create function pg_temp.faults(p_from date default null, p_to date default null) returns text
language sql as $$
  select coalesce(string_agg(
    format('%s/%s %s', (pg_temp.ago(0) - (f ->> 'day')::date), f ->> 'seq', f ->> 'kind')
      || coalesce(' through ' || (f ->> 'through'), ''), ', '), 'none')
  from jsonb_array_elements(pg_temp.verify(p_from, p_to) -> 'faults') as f
$$;
-- Without the detail of refusals that have but one.
create function pg_temp.refusal_of(p_statement text) returns text
language sql as $$
  select regexp_replace(pg_temp.fault_of(p_statement), '^(KM403 [a-z_]+): .*', '\1')
$$;
create function pg_temp.anchor_of(p_day date, p_overrides jsonb default '{}') returns text
language sql as $$
  select (kms.audit_day_anchor(p_day) - 'finished' - 'pruned' || jsonb_build_object(
    'signed_at', '2026-11-25T00:00:00.000Z', 'signature', repeat('a', 64)
  ) || p_overrides)::text
$$;
create function pg_temp.prune(p_day date, p_overrides jsonb default '{}') returns jsonb
language sql as $$ select public.kms_audit_prune(pg_temp.actor(), pg_temp.anchor_of(p_day, p_overrides)) $$;

-- ── Verification ───────────────────────────────────────────────────────────────────────────────
select is(pg_temp.faults(), 'none', 'three untouched days have no fault');
select is(
  pg_temp.verify() - 'days', '{"entries": 9, "faults": [], "fault_count": 0, "next": null}',
  'and every entry was looked at'
);
select is(
  (select string_agg((d ->> 'entries') || d.ordinality || (d ->> 'last_seq'), ' ')
   from jsonb_array_elements(pg_temp.verify() -> 'days') with ordinality as d (d, ordinality)),
  '313 323 333', 'each day is summed up'
);
select is(
  pg_temp.verify(p_limit => 2) ->> 'next',
  (select to_char(chain_day, 'YYYY-MM-DD') || '|2|' || hash from kms.audit_log
   where chain_day = pg_temp.ago(500) and seq = 2),
  'a page names the place where it ended'
);
create function pg_temp.pages(p_limit integer) returns integer
language plpgsql as $$
declare
  v_page jsonb;
  v_pages integer := 0;
begin
  loop
    v_page := pg_temp.verify(p_after => v_page ->> 'next', p_limit => p_limit);
    v_pages := v_pages + 1;
    if v_page -> 'faults' <> '[]' then
      raise exception 'page % has %', v_pages, v_page -> 'faults';
    end if;
    exit when v_page ->> 'next' is null;
  end loop;
  return v_pages;
end
$$;
select is(pg_temp.pages(l.size), l.pages, format('by %s it takes %s pages', l.size, l.pages))
from (values (1, 10), (2, 5), (3, 4), (4, 3), (10, 1)) as l (size, pages);
select is(
  pg_temp.verify(pg_temp.ago(450), pg_temp.ago(100)) -> 'entries', '3', 'a range holds its days alone'
);
select is(
  pg_temp.faults(pg_temp.ago(450), pg_temp.ago(100)), 'none',
  'and its first entry is compared with the one before the range'
);

-- pgTAP's own count is rolled back too, so each finding is carried over the rollback.
savepoint untouched;
update kms.audit_log set purpose = 'other' where seq = 2;
select pg_temp.faults() as found \gset
rollback to untouched;
select is(:'found'::text, '500/2 changed, 400/2 changed, 80/2 changed', 'changed entries are found');

update kms.audit_log set hash = repeat('f', 64) where chain_day = pg_temp.ago(500) and seq = 3;
select pg_temp.faults() as found \gset
rollback to untouched;
select is(
  :'found'::text, '500/3 changed, 400/1 broken_link', 'so is a changed hash, and that nothing follows it'
);

delete from kms.audit_log where chain_day = pg_temp.ago(400) and seq < 3;
select pg_temp.faults() as found \gset
rollback to untouched;
select is(:'found'::text, '400/1 missing through 2', 'removed entries are found');

delete from kms.audit_log where chain_day = pg_temp.ago(500) and seq = 3;
select pg_temp.faults() as found \gset
select pg_temp.faults(pg_temp.ago(400)) as part \gset
rollback to untouched;
select is(:'found'::text, '400/1 broken_link', 'entries removed from a day''s end are found by the next day');
select is(:'part'::text, '400/1 broken_link', 'by that day alone, too');

update kms.audit_log set seq = 9 where chain_day = pg_temp.ago(400) and seq = 2;
update kms.audit_log set seq = 2 where chain_day = pg_temp.ago(400) and seq = 3;
update kms.audit_log set seq = 3 where chain_day = pg_temp.ago(400) and seq = 9;
select pg_temp.faults() as found \gset
rollback to untouched;
select is(:'found'::text, '400/2 moved, 400/3 moved, 80/1 broken_link', 'reordered entries are found');

select pg_temp.forge(pg_temp.ago(450), 1);
select pg_temp.faults() as found \gset
rollback to untouched;
select is(:'found'::text, '400/1 broken_link', 'a day that was put between is found');

select is(
  pg_temp.fault_of(format('select pg_temp.verify(p_after => %L, p_limit => %s)', p.after, p.size)),
  '22023 invalid_argument: ' || p.detail, format('%s is refused', p.what)
) from (values
  (null, '0', 'p_limit must be 1 to 10000', 'a page of none'),
  (null, '10001', 'p_limit must be 1 to 10000', 'a page of 10001'),
  ('x', '1', 'p_after is not a position', 'a position that is none'),
  ('2026-02-30|1|' || repeat('0', 64), '1', 'p_after is not a day', 'a day that is none')
) as p (after, size, detail, what);

-- ── Anchors and points ─────────────────────────────────────────────────────────────────────────
create function pg_temp.anchors(p_from date, p_to date, p_limit integer default 100) returns text
language sql as $$
  select coalesce(string_agg(
    (pg_temp.ago(0) - (a ->> 'day')::date) || ':' || (a ->> 'entries')
      || case when (a ->> 'pruned')::boolean then ' pruned' else '' end, ', '), 'none')
  from jsonb_array_elements(
    public.kms_audit_anchors(p_from, p_to, p_limit, false) -> 'anchors') as a
$$;
select is(pg_temp.anchors(null, null), '500:3, 400:3', 'finished days have anchors; the last day is not');
select is(
  pg_temp.anchors(pg_temp.ago(450), pg_temp.ago(100)), '400:3', 'those of a range are its days alone'
);
select is(
  public.kms_audit_anchors(null, null, 1, false) ->> 'next', pg_temp.ago(499)::text,
  'a page names the day to go on with'
);
select is(
  public.kms_audit_anchors(pg_temp.ago(399), null, 1, false), '{"anchors": [], "next": null}',
  'and the last one does not'
);
select is(
  public.kms_audit_points(jsonb_build_array(
    jsonb_build_object('day', pg_temp.ago(400), 'seq', 2),
    jsonb_build_object('day', pg_temp.ago(400), 'seq', 4),
    jsonb_build_object('day', pg_temp.ago(399), 'seq', 1))::text) -> 'points',
  jsonb_build_array(
    jsonb_build_object('last_seq', 3, 'pruned', false, 'hash', (
      select hash from kms.audit_log where chain_day = pg_temp.ago(400) and seq = 2)),
    '{"last_seq": 3, "pruned": false, "hash": null}'::jsonb,
    '{"last_seq": null, "pruned": false, "hash": null}'::jsonb
  ), 'points say what stands where'
);

-- ── Pruning ────────────────────────────────────────────────────────────────────────────────────
alter table kms.audit_log enable trigger audit_log_no_change;
alter table kms.audit_log enable trigger audit_log_chain;
select is(
  pg_temp.refusal_of(format('select pg_temp.prune(pg_temp.ago(%s), %L)', p.ago, p.overrides)),
  p.fault, format('%s is refused', p.what)
) from (values
  (400, '{}', 'KM403 audit_anchor_refused', 'a day that is not the oldest'),
  (500, '{"last_seq": 2, "entries": 2}', 'KM403 audit_anchor_refused', 'an anchor with fewer entries'),
  (500, '{"last_hash": "0"}', '22023 invalid_argument: p_anchor.last_hash has the wrong form',
    'an anchor with no hash'),
  (500, jsonb_build_object('last_hash', repeat('0', 64))::text, 'KM403 audit_anchor_refused',
    'an anchor with another end'),
  (500, jsonb_build_object('prev_hash', repeat('1', 64))::text, 'KM403 audit_anchor_refused',
    'an anchor with another beginning'),
  (500, '{"signature": null}', '22023 invalid_argument: p_anchor.signature is required',
    'an anchor without a signature'),
  (500, '{"signed_at": "2026-02-30T00:00:00.000Z"}',
    '22023 invalid_argument: p_anchor.signed_at has the wrong form', 'an anchor of no time'),
  (500, '{"day": "today"}', '22023 invalid_argument: p_anchor.day is not a day', 'an anchor of no day'),
  (500, '{"more": 1}', '22023 invalid_argument: p_anchor has an unknown field more',
    'an anchor with more to say')
) as p (ago, overrides, fault, what);
select is(
  (select count(*)::integer from kms.audit_log), 9, 'and leaves neither a gap nor an entry'
);

select is(
  pg_temp.refusal_of(s.statement), s.fault, format('nobody may %s', s.statement)
) from (values
  ('insert into kms.audit_anchors select chain_day, 3, prev_hash, 3, hash, now(), '
    || quote_literal(repeat('a', 64)) || ' from kms.audit_log where seq = 3 limit 1',
    'KM403 audit_anchor_refused'),
  ('delete from kms.audit_log where seq = 3', 'KM403 audit_log_append_only')
) as s (statement, fault);
select set_config('kms.pruning_audit_day', pg_temp.ago(500)::text, true);
select is(
  pg_temp.refusal_of('delete from kms.audit_log where seq = 3'), 'KM403 audit_log_append_only',
  'not even who sets the setting, without the anchor'
);
select set_config('kms.pruning_audit_day', '', true);

select pg_temp.anchor_of(pg_temp.ago(500)) as oldest \gset
select :as_service_role;
select is(
  public.kms_audit_prune(pg_temp.actor(), :'oldest'), '{"pruned": true}', 'the oldest day is pruned'
);
select is(
  public.kms_audit_prune(pg_temp.actor(), :'oldest'), '{"pruned": false}', 'once'
);
reset role;
select is(
  (select string_agg(distinct (pg_temp.ago(0) - chain_day)::text, ' ') from kms.audit_log),
  '0 400 80', 'its entries are gone, the others are there'
);
select results_eq(
  $$ select action, outcome, purpose from kms.audit_log where chain_day = pg_temp.ago(0) $$,
  $$ values ('audit.prune', 'success', format('day:%s entries:3', pg_temp.ago(500))) $$,
  'and so is an entry about it'
);
select is(pg_temp.anchors(null, null), '500:3 pruned, 400:3, 80:3', 'the day has its anchor still');
select is(pg_temp.faults(), 'none', 'the first day that is kept follows it');
select is(kms.audit_verify(pg_temp.ago(400)), null, 'and verifies alone');
select is(current_setting('kms.pruning_audit_day', true), '', 'the door is closed again');
select is(
  pg_temp.refusal_of('delete from kms.audit_log where seq = 3'), 'KM403 audit_log_append_only',
  'nobody may delete entries now'
);
select throws_ok(
  s.statement, '42501', 'permission denied for table audit_anchors',
  format('not even the owner may %s', s.statement)
) from (values
  ('update kms.audit_anchors set entries = entries'), ('delete from kms.audit_anchors'),
  ('truncate kms.audit_anchors')
) as s (statement);
grant update, delete, truncate on kms.audit_anchors to current_user;
select throws_ok(
  s.statement, 'KM403', 'audit_anchors_append_only',
  format('nor with the privilege for it may they %s', s.statement)
) from (values
  ('update kms.audit_anchors set entries = entries'), ('delete from kms.audit_anchors'),
  ('truncate kms.audit_anchors')
) as s (statement);
select is(
  public.kms_audit_points(jsonb_build_array(
    jsonb_build_object('day', pg_temp.ago(500), 'seq', 3),
    jsonb_build_object('day', pg_temp.ago(500), 'seq', 2))::text) -> 'points' #>> '{1,hash}',
  null, 'of a pruned day the end alone is known'
);
select pg_temp.anchor_of(pg_temp.ago(400)) as oldest \gset
select is(
  public.kms_audit_prune(pg_temp.actor(), :'oldest'), '{"pruned": true}', 'the next day follows'
);
select is(
  pg_temp.refusal_of('select pg_temp.prune(pg_temp.ago(80))'), 'KM403 audit_anchor_refused',
  'but no day of the last 90, whoever asks'
);

alter table kms.audit_log disable trigger audit_log_no_change;
alter table kms.audit_log disable trigger audit_log_chain;
savepoint pruned;
select pg_temp.forge(pg_temp.ago(500), 2);
select pg_temp.faults() as found \gset
rollback to pruned;
select is(:'found'::text, '500/2 inserted', 'an entry put into a pruned day is found');
delete from kms.audit_log where chain_day = pg_temp.ago(80) and seq = 1;
select pg_temp.faults() as found \gset
rollback to pruned;
select is(:'found'::text, '80/1 missing through 1', 'as is one removed from the first day that is kept');

-- ── Entries and exports ────────────────────────────────────────────────────────────────────────
select pg_temp.forge(pg_temp.ago(10), n, jsonb_build_object(
  'action', case when n % 2 = 0 then 'record.reveal' else 'record.create' end,
  'actor_id', 'actor' || n, 'owner_id', pg_temp.nth(n), 'record_id', pg_temp.nth(100 + n)
) || case when n = 4 then '{"outcome": "failure", "error_code": "decryption_failed"}' else '{}' end::jsonb)
from generate_series(1, 5) as n;
create function pg_temp.entries(p_filter jsonb, p_limit integer default 100, p_before text default null)
returns text
language sql as $$
  select coalesce(string_agg(
    (pg_temp.ago(0) - (e.value ->> 'day')::date) || '/' || (e.value ->> 'seq'), ' ' order by e.n), 'none')
  from jsonb_array_elements(
    public.kms_audit_entries(p_filter::text, p_limit, p_before) -> 'entries'
  ) with ordinality as e (value, n)
$$;
select is(
  pg_temp.entries('{}'), '0/2 0/1 10/5 10/4 10/3 10/2 10/1 80/3 80/2 80/1', 'entries are newest first'
);
select is(pg_temp.entries(f.filter::jsonb), f.found, format('%s finds its own', f.filter))
from (values
  ('{"action": "record.reveal"}', '10/4 10/2'),
  ('{"actor_id": "actor3"}', '10/3'),
  ('{"owner_id": "00000000-0000-4000-8000-000000000002"}', '10/2'),
  ('{"record_id": "00000000-0000-4000-8000-000000000105"}', '10/5'),
  ('{"outcome": "failure"}', '10/4'),
  ('{"action": "record.create", "outcome": "failure"}', 'none')
) as f (filter, found);
select is(
  pg_temp.entries(jsonb_build_object('from', pg_temp.ago(80), 'to', pg_temp.ago(11))),
  '80/3 80/2 80/1', 'from and to are days, both included'
);
select is(
  pg_temp.entries('{"action": "record.create"}', 2) || ', ' || pg_temp.entries(
    '{"action": "record.create"}', 2,
    public.kms_audit_entries('{"action": "record.create"}', 2, null) ->> 'next'),
  '10/5 10/3, 10/1', 'pages follow each other'
);
select is(
  public.kms_audit_entries('{"action": "record.create"}', 3, null) -> 'next', 'null',
  'the last one names no other'
);
select is(
  pg_temp.fault_of(format('select public.kms_audit_entries(%L, %s, %L)', e.filter, e.size, e.before)),
  '22023 invalid_argument: ' || e.detail, format('%s is refused', e.what)
) from (values
  ('{"number": "4"}', 1, null, 'p_filter has an unknown field number', 'an unknown filter'),
  ('{"from": "2026-02-30"}', 1, null, 'p_filter.from is not a day', 'a day that is none'),
  ('{}', 101, null, 'p_limit must be 1 to 100', 'a page of 101'),
  ('{}', 1, 'x', 'p_before is not a cursor', 'a cursor that is none')
) as e (filter, size, before, detail, what);
select is(
  public.kms_audit_export(pg_temp.ago(10), 1, 2) #>> '{entries,0,seq}'
    || (public.kms_audit_export(pg_temp.ago(10), 1, 2) ->> 'next'), '23',
  'an export goes on where it is told to, in the chain''s order'
);
select is(
  public.kms_audit_export(pg_temp.ago(10), 5, 2), '{"entries": [], "next": null}', 'to its end'
);
select set_eq(
  $$ select jsonb_object_keys(
       public.kms_audit_export(pg_temp.ago(10), 0, 1) -> 'entries' -> 0) $$,
  $$ select case attname
       when 'chain_day' then 'day' when 'function_name' then 'function' else attname::text end
     from pg_attribute where attrelid = 'kms.audit_log'::regclass and attnum > 0 $$,
  'with every field that there is'
);

-- ── Alerts ─────────────────────────────────────────────────────────────────────────────────────
select pg_temp.forge(pg_temp.ago(0), 10 + n, jsonb_build_object(
  'action', 'record.reveal', 'actor_id', case when n <= 5 then 'busy' else 'slow' end,
  'occurred_at', clock_timestamp() - case when n <= 5 then n * interval '10 minutes'
    else (n - 5) * interval '61 minutes' end))
from generate_series(1, 10) as n;
select pg_temp.forge(pg_temp.ago(0), 30 + n, jsonb_build_object(
  'outcome', 'failure', 'occurred_at', clock_timestamp() - n * interval '1 minute',
  'actor_id', 'actor' || n, 'error_code',
  case when n <= 3 then 'reveal_not_allowed' when n = 4 then 'decryption_failed' else 'not_found' end))
from generate_series(1, 5) as n;
insert into kms.branch_keys (branch_key_id, type, record)
select k.id, 'branch:ACTIVE', jsonb_build_object('branch-key-id', k.id, 'type', 'branch:ACTIVE',
  'version', 'v', 'create-time', to_char(
    (now() - k.age) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
from (values ('payment', interval '364 days'), ('pii', interval '400 days'),
  ('pii:' || :owner, interval '366 days'), ('general', interval '31 days')) as k (id, age);

create function pg_temp.alerts(
  p_hours integer, p_reveals integer, p_refusals integer, p_days integer default 365
) returns text
language sql as $$
  select coalesce(string_agg(format('%s %s %s', a.value ->> 'severity', a.value ->> 'name',
    a.value ->> 'subject') || ' ' || (a.value ->> 'numbers'), '; ' order by a.n), 'none')
  from jsonb_array_elements(public.kms_audit_alerts(p_hours, p_reveals, p_refusals, format(
    '{"payment": 365, "pii": %s, "general": 365}', p_days)) -> 'alerts') with ordinality as a (value, n)
$$;
select is(
  pg_temp.alerts(24, 4, 2),
  'critical reveals_above_threshold secret_key:busy '
  '{"total": 5, "threshold": 4, "most_in_an_hour": 5}; '
  'critical decryption_failed decryption_failed {"count": 1, "actors": 1, "threshold": 0}; '
  'warning refusals_above_threshold reveal_not_allowed {"count": 3, "actors": 3, "threshold": 2}; '
  'warning rotation_overdue pii {"branch_keys": 2, "cryptoperiod_days": 365}',
  'many decryptions within an hour, failures and old keys are alerts'
);
select is(
  pg_temp.alerts(24, 5, 3, 3650),
  'critical decryption_failed decryption_failed {"count": 1, "actors": 1, "threshold": 0}',
  'what is at a threshold is not above it'
);

-- What was changed is told of beside them.
create function pg_temp.changes(p_hours integer) returns text
language sql as $$
  select string_agg(format('%s by %s %s: %s', c.value ->> 'action', c.value ->> 'actor_type',
    c.value ->> 'actor_id', c.value ->> 'count'), '; ' order by c.n)
  from jsonb_array_elements(public.kms_audit_alerts(p_hours, 100, 100,
    '{"payment": 3650, "pii": 3650, "general": 3650}') -> 'changes') with ordinality as c (value, n)
  where c.value ->> 'actor_id' = 'a'
$$;
select pg_temp.forge(pg_temp.ago(0), 50 + c.n, jsonb_build_object(
  'action', c.action, 'actor_type', c.actor_type, 'actor_id', 'a',
  'occurred_at', clock_timestamp() - c.minutes * interval '1 minute'
) || coalesce(c.more, '{}'))
from (values
  (1, 'config.update', 'admin', 50, null::jsonb), (2, 'config.update', 'admin', 30, null),
  (3, 'config.update', 'secret_key', 20, null), (4, 'config.rollback', 'admin', 19, null),
  (5, 'provider.prepare', 'admin', 18, null), (6, 'provider.end', 'admin', 17, null),
  (7, 'branch_key.retire', 'secret_key', 16, null), (8, 'legacy_key.destroy', 'secret_key', 15, null),
  (9, 'user.erase', 'system', 14, null), (10, 'audit.prune', 'admin', 13, null),
  (11, 'branch_key.rotate', 'admin', 12, null), (12, 'user.erase.repeat', 'admin', 11, null),
  (13, 'branch_key.retire', 'admin', 10,
    '{"outcome": "failure", "error_code": "branch_key_in_use"}'),
  (14, 'config.update', 'admin', 61, null)
) as c (n, action, actor_type, minutes, more);
select is(
  pg_temp.changes(1),
  'audit.prune by admin a: 1; user.erase by system a: 1; legacy_key.destroy by secret_key a: 1; '
  'branch_key.retire by secret_key a: 1; provider.end by admin a: 1; provider.prepare by admin a: 1; '
  'config.rollback by admin a: 1; config.update by secret_key a: 1; config.update by admin a: 2',
  'administrative changes are told by action and actor, the last one first; refused ones are none'
);
select matches(
  pg_temp.changes(2), 'config.update by admin a: 3', 'those of the hours that were asked for'
);
select is(
  (select c ->> 'last_at' > c ->> 'first_at' from jsonb_array_elements(public.kms_audit_alerts(
     1, 100, 100, '{"payment": 3650, "pii": 3650, "general": 3650}') -> 'changes') as c
   where c ->> 'actor_id' = 'a' and c ->> 'count' = '2'),
  true, 'with the first and the last of them'
);
select is(
  pg_temp.fault_of(format('select public.kms_audit_alerts(%s)', a.arguments)),
  '22023 invalid_argument: ' || a.detail, format('alerts of %s are refused', a.arguments)
) from (values
  ('0, 1, 1, ''{}''', 'p_hours must be 1 to 168'), ('169, 1, 1, ''{}''', 'p_hours must be 1 to 168'),
  ('1, -1, 1, ''{}''', 'p_reveals_per_hour and p_refusals must be 0 or more'),
  ('1, 1, 1, ''{}''', 'p_cryptoperiods.payment is required')
) as a (arguments, detail);

select * from finish();
rollback;
