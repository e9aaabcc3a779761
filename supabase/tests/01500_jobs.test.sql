-- Jobs: one at a time, leased and fenced chunks, compare-and-swap, sweeps, failures, cancelling.
begin;
\ir support/personas.psql
select plan(86);

create function pg_temp.branch_key(p_id text, p_n integer, p_beacon boolean) returns text
language sql as $$
  select jsonb_agg(k.common || k.own)::text from (
    select jsonb_build_object(
      'branch-key-id', p_id, 'enc', rpad('e' || p_n, 88, 'A'),
      'kms-arn', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
      'create-time', '2026-11-22T00:00:00.000000Z', 'hierarchy-version', '1'
    ) as common, own
    from (values
      (jsonb_build_object('type', 'branch:version:' || pg_temp.nth(p_n))),
      (jsonb_build_object('type', 'branch:ACTIVE', 'version', 'branch:version:' || pg_temp.nth(p_n))),
      (case when p_beacon then jsonb_build_object('type', 'beacon:ACTIVE') end)
    ) as o (own) where own is not null
  ) as k
$$;
create function pg_temp.rotate(p_id text, p_n integer, p_old integer) returns jsonb
language sql as $$
  select public.kms_branch_key_rotate(pg_temp.actor(), pg_temp.branch_key(p_id, p_n, false),
    'branch:version:' || pg_temp.nth(p_old)) -> 'rotated'
$$;

-- A record whose message hangs on a version of a branch key.
create function pg_temp.sealed(p_n integer, p_class text, p_branch_key text, p_version integer)
returns jsonb
language sql as $$
  select pg_temp.record(p_n, 'aaaaaaaa-0000-4000-8000-00000000000a', jsonb_build_object(
    'data_class', p_class,
    'ciphertexts', jsonb_build_array(jsonb_build_object(
      'field', 'data', 'message', pg_temp.message(p_n),
      'kms_key_arn', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
      'branch_key_id', p_branch_key, 'branch_key_version', pg_temp.nth(p_version)
    ))
  ))
$$;

create function pg_temp.start(p_options jsonb) returns jsonb
language sql as $$
  select public.kms_job_start(pg_temp.actor(), 'reencrypt', p_options::text)
$$;
create function pg_temp.targets() returns text
language sql as $$
  select '{"payment": {"keyring": "hierarchical", "scope": "class"},
    "pii": {"keyring": "hierarchical", "scope": "class"},
    "general": {"keyring": "hierarchical", "scope": "owner"}}'
$$;
create function pg_temp.claim(
  p_job jsonb, p_limits jsonb default '{}', p_targets text default pg_temp.targets()
) returns jsonb
language sql as $$
  select public.kms_reencrypt_claim(pg_temp.actor(), (p_job ->> 'id')::uuid, p_targets,
    ('{"rows": 10, "bytes": 100000, "lease_seconds": 60}'::jsonb || p_limits)::text)
$$;
-- Ids of the rows of a claim, by their numbers.
create function pg_temp.rows(p_claim jsonb) returns text
language sql as $$
  select string_agg(right(r.value ->> 'record_id', 3)::integer::text, ' ' order by r.n)
  from jsonb_array_elements(p_claim #> '{chunk,rows}') with ordinality as r (value, n)
$$;
-- Results for all rows of a claim: new messages under a version, or whatever else is given.
create function pg_temp.results(p_claim jsonb, p_version integer, p_instead jsonb default null)
returns jsonb
language sql as $$
  select coalesce(jsonb_agg(
    (r.value - array['owner_id', 'data_class', 'message']) || coalesce(p_instead,
      jsonb_build_object('ciphertext', jsonb_build_object(
        'field', r.value ->> 'field', 'message', replace(r.value ->> 'message', 'AAAA', 'BBBB'),
        'kms_key_arn', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
        'branch_key_id', r.value ->> 'data_class', 'branch_key_version', pg_temp.nth(p_version)
      ))
    ) order by r.n), '[]')
  from jsonb_array_elements(p_claim #> '{chunk,rows}') with ordinality as r (value, n)
$$;
create function pg_temp.commit(p_claim jsonb, p_results jsonb) returns jsonb
language sql as $$
  select public.kms_reencrypt_commit(pg_temp.actor(), (p_claim #>> '{chunk,id}')::uuid,
    (p_claim #>> '{chunk,token}')::uuid, p_results::text)
$$;
create function pg_temp.counts(p_job jsonb) returns text
language sql as $$
  select format('%s %s: %s %s %s', p_job ->> 'status', p_job ->> 'total', p_job ->> 'done',
    p_job ->> 'unchanged', p_job ->> 'failed')
$$;
create function pg_temp.expire() returns void
language sql security definer as $$
  update kms.job_chunks set lease_expires_at = clock_timestamp() where finished_at is null
$$;
create function pg_temp.version_of(p_n integer) returns text
language sql security definer as $$
  select branch_key_id || ' ' || right(branch_key_version, 3)::integer
  from kms.ciphertexts where record_id = pg_temp.nth(p_n)
$$;
create function pg_temp.rewrite(p_n integer, p_message integer) returns void
language sql security definer as $$
  update kms.ciphertexts set message = pg_temp.message(p_message) where record_id = pg_temp.nth(p_n)
$$;
create function pg_temp.fresh(p_version integer) returns void
language sql security definer as $$
  update kms.ciphertexts set branch_key_version = pg_temp.nth(p_version) where data_class = 'pii'
$$;
create function pg_temp.to_pass(p_pass integer) returns void
language sql security definer as $$
  update kms.jobs set pass = p_pass where status = 'running'
$$;
create function pg_temp.audit(p_action text) returns text
language sql security definer as $$
  select string_agg(coalesce(purpose, error_code), '; ' order by chain_day, seq)
  from kms.audit_log where action = p_action
$$;

-- Error codes of a job's failures, page by page.
create function pg_temp.page_of(p_job jsonb, p_limit integer) returns text
language sql as $$
  with recursive page as (
    select public.kms_job_failures((p_job ->> 'id')::uuid, p_limit, null) as value
    union all
    select public.kms_job_failures((p_job ->> 'id')::uuid, p_limit, value ->> 'next')
    from page where value ->> 'next' is not null
  )
  select string_agg((
    select string_agg(f.value ->> 'error_code', ' ')
    from jsonb_array_elements(page.value -> 'failures') as f (value)
  ), ', ') from page
$$;
-- Rows of the class payment that are stale for a target.
create function pg_temp.stale_card(p_target jsonb) returns text
language plpgsql as $$
declare
  v_job jsonb := pg_temp.start('{"data_class": "payment"}') -> 'job';
  v_claim jsonb := pg_temp.claim(v_job, '{}', jsonb_build_object('payment', p_target)::text);
begin
  perform public.kms_job_cancel(pg_temp.actor(), (v_job ->> 'id')::uuid);
  return pg_temp.rows(v_claim);
end
$$;

-- ── One job at a time ──────────────────────────────────────────────────────────────────────────
select :as_service_role;
select is(
  public.kms_jobs_list(10, null), '{"jobs": [], "next": null}', 'there is no job at first'
);
select is(public.kms_job_next('reencrypt'), null, 'and none to work on');
select pg_temp.start('{"data_class": "pii"}') as started \gset
select is(
  (:'started'::jsonb -> 'job') - array['id', 'created_at', 'updated_at', 'finished_at'],
  '{"kind": "reencrypt", "status": "completed", "dry_run": false, "data_class": "pii", "total": 0,
    "done": 0, "unchanged": 0, "failed": 0, "created_by": "aaaaaaaa-0000-4000-8000-00000000000a"}',
  'a class without rows is done at once'
);
select isnt(:'started'::jsonb #>> '{job,finished_at}', null, 'and says when');
select is(
  pg_temp.audit('job.start') || ' | ' || pg_temp.audit('job.complete'),
  'reencrypt | reencrypt: 0 done, 0 unchanged, 0 failed', 'both is audited'
);

-- A canary in direct mode hangs on the wrapping key that its class had then.
select public.kms_canary_put(c, pg_temp.message(1), 'arn') from unnest(array['pii', 'general']) as c;
select pg_temp.start('{"data_class": "pii", "dry_run": true}');
select isnt(public.kms_canary_get('pii'), null, 'a dry run leaves the canary in direct mode');
select pg_temp.start('{"data_class": "pii"}');
select is(public.kms_canary_get('pii'), null, 'a job lets it be written anew');
select isnt(public.kms_canary_get('general'), null, 'and leaves that of another class');

select public.kms_branch_key_create(pg_temp.branch_key(k.id, k.n, true))
from (values ('pii', 1), ('general', 1), ('general:aaaaaaaa-0000-4000-8000-00000000000a', 2)) as k (id, n);
select pg_temp.rotate('general', 2, 1);
select pg_temp.store(
  pg_temp.sealed(11, 'pii', 'pii', 1), pg_temp.sealed(12, 'pii', 'pii', 1),
  pg_temp.sealed(13, 'pii', 'pii', 1),
  pg_temp.sealed(21, 'general', 'general:aaaaaaaa-0000-4000-8000-00000000000a', 2),
  pg_temp.sealed(22, 'general', 'general', 1),
  pg_temp.card(31, :owner)
);

select pg_temp.start('{"data_class": "pii"}') as started \gset
select :'started'::jsonb -> 'job' as pii \gset
select is(:'started'::jsonb ->> 'state', 'started', 'a class with rows runs');
select is(
  pg_temp.start(o.options) -> 'job', :'pii'::jsonb, format('%s is told of it', o.options)
) from (values
  ('{"data_class": "pii"}'::jsonb), ('{}'), ('{"data_class": null, "dry_run": true}')
) as o (options);
select is(
  pg_temp.start('{"data_class": "pii"}') ->> 'state', 'conflict', 'as a conflict'
);
select is(
  public.kms_job_cancel(pg_temp.actor(), (pg_temp.start('{"data_class": "general"}')
    #>> '{job,id}')::uuid) ->> 'status', 'cancelled', 'another class may run beside it'
);
select is(public.kms_job_next('reencrypt') ->> 'id', :'pii'::jsonb ->> 'id', 'workers find it');
select is(
  public.kms_job_get((:'pii'::jsonb ->> 'id')::uuid), :'pii'::jsonb, 'and whoever watches it'
);
select is(public.kms_job_get(pg_temp.nth(99)), null, 'where there is one');
select is(public.kms_job_cancel(pg_temp.actor(), pg_temp.nth(99)), null, 'to be cancelled too');

-- ── What is stale ──────────────────────────────────────────────────────────────────────────────
select pg_temp.claim(:'pii') as claim \gset
select is(
  pg_temp.counts(:'claim'::jsonb -> 'job'), 'completed 3: 0 3 0',
  'rows at the active version are passed over'
);
select is(:'claim'::jsonb ->> 'state', 'ended', 'and that was all');
select is(pg_temp.claim(:'pii') ->> 'state', 'ended', 'as everybody hears who asks');
select is(pg_temp.claim('{"id": "00000000-0000-4000-8000-000000000099"}'), null, 'of a job there is');

select is(pg_temp.rotate('pii', 3, 1), 'true', 'after a rotation');
select pg_temp.start('{"data_class": "pii"}') -> 'job' as pii \gset
select pg_temp.claim(:'pii', '{"rows": 2}') as first \gset
select pg_temp.claim(:'pii', '{"rows": 2}') as second \gset
select is(
  array[pg_temp.rows(:'first'), pg_temp.rows(:'second')], array['11 12', '13'],
  'the rows are stale, and each is handed out once'
);
select is(:'first'::jsonb -> 'epoch', '3', 'with the epoch of the keys');
select is(
  (:'first'::jsonb #> '{chunk,rows,0}') - 'hash', jsonb_build_object(
    'table_name', 'encrypted_records', 'record_id', pg_temp.nth(11), 'field', 'data',
    'owner_id', :owner, 'data_class', 'pii', 'message', pg_temp.message(11)
  ), 'and all that is needed to read them'
);
select is(pg_temp.claim(:'pii') ->> 'state', 'busy', 'then there is only waiting');

-- ── Leases ─────────────────────────────────────────────────────────────────────────────────────
select pg_temp.commit(:'first', pg_temp.results(:'first', 3)) as stored \gset
select is(
  (:'stored'::jsonb ->> 'state') || ' ' || pg_temp.counts(:'stored'::jsonb -> 'job'),
  'stored running 3: 2 0 0', 'results are stored'
);
select is(pg_temp.version_of(11), 'pii 3', 'in the place of what was there');
select is(
  pg_temp.audit('job.chunk'), 'reencrypt: 2 done, 0 unchanged, 0 failed', 'and audited'
);
select is(
  pg_temp.commit(:'first', pg_temp.results(:'first', 3)), '{"state": "lost"}', 'once'
);
select pg_temp.expire();
select pg_temp.claim(:'pii') as third \gset
select is(pg_temp.rows(:'third'), '13', 'a lease that ran out is taken over');
select is(
  pg_temp.commit(:'second', pg_temp.results(:'second', 3)), '{"state": "lost"}',
  'and its former holder stores nothing'
);
select is(pg_temp.version_of(13), 'pii 1', 'at all');
select is(
  public.kms_job_release((:'second'::jsonb #>> '{chunk,id}')::uuid,
    (:'second'::jsonb #>> '{chunk,token}')::uuid), false, 'nor gives it back'
);
select is(
  public.kms_job_release((:'third'::jsonb #>> '{chunk,id}')::uuid,
    (:'third'::jsonb #>> '{chunk,token}')::uuid), true, 'as its holder may'
);
select pg_temp.claim(:'pii') as third \gset
select is(pg_temp.rows(:'third'), '13', 'for the next to have it at once');

-- ── Compare and swap, and sweeps ───────────────────────────────────────────────────────────────
select pg_temp.rewrite(13, 14);
select is(
  pg_temp.counts(pg_temp.commit(:'third', pg_temp.results(:'third', 3)) -> 'job'),
  'running 3: 2 1 0', 'a row that changed meanwhile stays as it is'
);
select is(pg_temp.version_of(13), 'pii 1', 'under whatever key');
select is(
  pg_temp.claim(:'pii') ->> 'state', 'again', 'so that the rows are gone through once more'
);
select pg_temp.claim(:'pii') as fourth \gset
select is(
  pg_temp.rows(:'fourth') || ', ' || pg_temp.counts(:'fourth'::jsonb -> 'job'),
  '13, running 4: 2 1 0', 'and what is still stale is handed out again'
);

-- ── Failures ───────────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.counts(pg_temp.commit(
    :'fourth', pg_temp.results(:'fourth', 3, '{"error_code": "decryption_failed"}')) -> 'job'),
  'running 4: 2 1 1', 'a row can fail'
);
select is(pg_temp.audit('job.row'), 'decryption_failed', 'which is audited by itself');
select is(
  (public.kms_job_failures((:'pii'::jsonb ->> 'id')::uuid, 10, null) #> '{failures,0}')
    - 'created_at', jsonb_build_object(
    'table', 'encrypted_records', 'record_id', pg_temp.nth(13), 'field', 'data',
    'data_class', 'pii', 'error_code', 'decryption_failed'
  ), 'and listed'
);
select is(
  public.kms_job_failures(pg_temp.nth(99), 10, null), null, 'for the job that it is of'
);
select is(pg_temp.claim(:'pii') ->> 'state', 'again', 'the next sweep');
select is(
  pg_temp.counts(pg_temp.claim(:'pii') -> 'job'), 'completed 4: 2 1 1',
  'does not try what failed again, finds nothing, and the job ends'
);
select is(
  pg_temp.audit('job.complete'),
  'reencrypt: 0 done, 0 unchanged, 0 failed; reencrypt (dry run): 0 done, 0 unchanged, 0 failed; '
  'reencrypt: 0 done, 0 unchanged, 0 failed; reencrypt: 0 done, 3 unchanged, 0 failed; '
  'reencrypt: 2 done, 1 unchanged, 1 failed', 'which is audited'
);

select pg_temp.start('{"data_class": "pii"}') -> 'job' as pii \gset
select pg_temp.claim(:'pii') as claim \gset
select is(pg_temp.rows(:'claim'), '13', 'another job tries it again');
select pg_temp.commit(
  :'claim', pg_temp.results(:'claim', 3, '{"error_code": "decryption_failed"}'));
select pg_temp.rewrite(13, 15);
select pg_temp.claim(:'pii');
select pg_temp.claim(:'pii') as claim \gset
select is(pg_temp.rows(:'claim'), '13', 'and the same job when its message is another');
select is(
  pg_temp.counts(pg_temp.commit(:'claim', pg_temp.results(:'claim', 3)) -> 'job'),
  'running 4: 1 3 0', 'which may well succeed'
);
select is(
  public.kms_job_failures((:'pii'::jsonb ->> 'id')::uuid, 10, null),
  '{"failures": [], "next": null}', 'and is no failure any more'
);
select pg_temp.claim(:'pii');
select is(pg_temp.counts(pg_temp.claim(:'pii') -> 'job'), 'completed 4: 1 3 0', 'at the end');

select pg_temp.start('{"data_class": "pii"}') -> 'job' as pii \gset
select is(
  pg_temp.rotate('pii', 4, 3), 'true', 'a rotation while the rows are gone through'
);
select pg_temp.fresh(4);
select is(
  pg_temp.claim(:'pii') ->> 'state', 'again', 'makes what was seen before it worth another look'
);
select is(pg_temp.claim(:'pii') ->> 'state', 'ended', 'and nothing else');
select is(pg_temp.rotate('pii', 5, 4), 'true', 'after the next rotation');
select pg_temp.start('{"data_class": "pii"}') -> 'job' as pii \gset
select pg_temp.to_pass(21);
select pg_temp.claim(:'pii') -> 'job' as pii \gset
select is(
  pg_temp.page_of(:'pii', 2), 'still_stale still_stale, still_stale',
  'what is stale after twenty passes is listed, page by page'
);
select is((:'pii'::jsonb ->> 'status') || (:'pii'::jsonb ->> 'failed'), 'completed3', 'as failed');

-- ── Keyrings and scopes ────────────────────────────────────────────────────────────────────────
select pg_temp.start('{"data_class": "general"}') -> 'job' as general \gset
select pg_temp.claim(:'general') as claim \gset
select is(pg_temp.rows(:'claim'), '22', 'a branch key of another scope is another branch key');
select is(
  public.kms_job_cancel(pg_temp.actor(), (:'general'::jsonb ->> 'id')::uuid) ->> 'status',
  'cancelled', 'a job can be cancelled'
);
select is(pg_temp.claim(:'general') ->> 'state', 'ended', 'then no more is handed out');
select is(
  pg_temp.counts(pg_temp.commit(:'claim', pg_temp.results(:'claim', 2)) -> 'job'),
  'cancelled 2: 1 1 0', 'and what was under way is stored'
);
select is(
  pg_temp.audit('job.cancel'),
  'reencrypt: 0 done, 0 unchanged, 0 failed; reencrypt: 0 done, 1 unchanged, 0 failed', 'all audited'
);
select is(
  pg_temp.stale_card(c.target), c.rows, format('a message of KMS itself, %s', c.criterion)
) from (values
  ('{"keyring": "direct", "key_id": "arn:aws:kms:us-east-1:000000000000:key/mrk-1"}'::jsonb, null,
    'under the key wanted'),
  ('{"keyring": "direct", "key_id": "arn:aws:kms:eu-west-1:000000000000:key/mrk-1"}', null,
    'under its replica'),
  ('{"keyring": "direct", "key_id": "arn:aws:kms:us-east-1:000000000000:key/mrk-2"}', '31',
    'under another key'),
  ('{"keyring": "direct", "key_id": "vault:transit/keys/payment"}', '31', 'of another provider'),
  ('{"keyring": "hierarchical", "scope": "class"}', '31', 'not under a branch key'),
  ('{"keyring": "hierarchical", "scope": "owner"}', '31', 'not under one of its owner')
) as c (target, rows, criterion);

-- ── Dry run ────────────────────────────────────────────────────────────────────────────────────
select pg_temp.start('{"data_class": "general", "dry_run": true}') -> 'job' as dry \gset
select pg_temp.claim(:'dry') as claim \gset
select is(pg_temp.rows(:'claim'), '22', 'a dry run is handed the same rows');
select is(
  pg_temp.fault_of(format('select pg_temp.commit(%L, %L)', :'claim', pg_temp.results(:'claim', 2))),
  '22023 invalid_argument: p_results[0] must hold a ciphertext, an error_code, or nothing in a dry run',
  'but takes no message'
);
select is(
  pg_temp.counts(pg_temp.commit(:'claim', pg_temp.results(:'claim', 2, '{}')) -> 'job'),
  'running 2: 1 1 0', 'and counts them the same'
);
select is(pg_temp.version_of(22), 'general 2', 'without changing them');
select is(pg_temp.counts(pg_temp.claim(:'dry') -> 'job'), 'completed 2: 1 1 0', 'and ends at once');

-- ── Limits and refusals ────────────────────────────────────────────────────────────────────────
select pg_temp.start('{"data_class": "pii"}') -> 'job' as pii \gset
select is(
  pg_temp.rows(pg_temp.claim(:'pii', '{"bytes": 200}')), '11', 'chunks are bounded in bytes'
);
select is(
  pg_temp.fault_of(format(r.statement, :'pii')), '22023 invalid_argument: ' || r.detail, r.detail
) from (values
  ('select public.kms_job_start(pg_temp.actor(), ''import'', ''{}'')', 'p_kind must be reencrypt'),
  ('select pg_temp.start(''{"data_class": "cards"}'')', 'p_options.data_class has the wrong form'),
  ('select pg_temp.start(''{"class": "pii"}'')', 'p_options has an unknown field class'),
  ('select pg_temp.claim(%L, ''{"rows": 0}'')', 'p_limits.rows must be an integer, 1 to 1000'),
  ('select pg_temp.claim(%L, ''{"lease_seconds": 601}'')',
    'p_limits.lease_seconds must be an integer, 1 to 600'),
  ('select pg_temp.claim(%L, ''{}'', ''{"payment": {}}'')', 'p_targets.pii is not an object'),
  ('select pg_temp.claim(%L, ''{}'', ''{"pii": {"keyring": "none"}}'')',
    'p_targets.pii.keyring has the wrong form'),
  ('select pg_temp.claim(%L, ''{}'', ''{"pii": {"keyring": "direct"}}'')',
    'p_targets.pii.key_id is required'),
  ('select public.kms_jobs_list(101, null)', 'p_limit must be 1 to 100'),
  ('select public.kms_job_failures(pg_temp.nth(1), 1, ''x'')', 'p_before is not a cursor')
) as r (statement, detail);

select * from finish();
rollback;
