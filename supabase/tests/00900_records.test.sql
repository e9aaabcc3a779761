-- Personal and general records, and the ciphertext of any row.
begin;
\ir support/personas.psql
select plan(36);

create function pg_temp.ids(p_page jsonb) returns uuid[]
language sql as $$
  select array_agg((r.value ->> 'id')::uuid order by r.n)
  from jsonb_array_elements(p_page -> 'records') with ordinality as r (value, n)
$$;

select :as_service_role;
select pg_temp.store(
  pg_temp.record(1, :owner), pg_temp.record(2, :owner, '{"data_class": "general"}'),
  pg_temp.record(3, :owner), pg_temp.record(4, :stranger), pg_temp.card(5, :owner)
);

-- ── List and get ───────────────────────────────────────────────────────────────────────────────
select is(
  pg_temp.ids(public.kms_records_list(:owner, null, 10, null)),
  array[pg_temp.nth(3), pg_temp.nth(2), pg_temp.nth(1)], 'the list is the owner''s, newest first'
);
select is(
  pg_temp.ids(public.kms_records_list(:owner, 'pii', 10, null)),
  array[pg_temp.nth(3), pg_temp.nth(1)], 'or of one class'
);
select public.kms_records_list(:owner, 'pii', 1, null) as page \gset
select is(
  pg_temp.ids(:'page')
    || pg_temp.ids(public.kms_records_list(:owner, 'pii', 1, :'page'::jsonb ->> 'next')),
  array[pg_temp.nth(3), pg_temp.nth(1)], 'page by page'
);
select is(
  public.kms_records_list(:nobody, null, 10, null), '{"next": null, "records": []}',
  'who has none gets an empty list'
);
select is(
  pg_temp.fault_of(format('select public.kms_records_list(%L, %s)', :owner, l.arguments)),
  '22023 invalid_argument: ' || l.detail, format('a list of %s is refused', l.arguments)
) from (values
  ('''payment'', 10, null', 'p_data_class must be pii, general or null'),
  ('null, 0, null', 'p_limit must be 1 to 100'),
  ('null, 10, ''x''', 'p_before is not a cursor')
) as l (arguments, detail);
select is(
  public.kms_record_get(:owner, pg_temp.nth(2)) ->> 'data_class', 'general',
  'the owner''s record is found'
);
select is(public.kms_record_get(:stranger, pg_temp.nth(2)), null, 'a stranger''s is not');
select is(public.kms_record_get(:owner, pg_temp.nth(5)), null, 'nor is a card as a record');

-- ── Ciphertexts ────────────────────────────────────────────────────────────────────────────────
select is(
  public.kms_ciphertexts_read(:owner, 'encrypted_records', pg_temp.nth(1)),
  jsonb_build_object(
    'row', public.kms_record_get(:owner, pg_temp.nth(1)),
    'ciphertexts', jsonb_build_array(jsonb_build_object(
      'field', 'data', 'message', pg_temp.message(1), 'kms_key_arn', null, 'branch_key_id', null,
      'branch_key_version', null
    ))
  ), 'a record is read with its message'
);
select is(
  public.kms_ciphertexts_read(:owner, 'payment_methods', pg_temp.nth(5))
    #>> '{ciphertexts,0,kms_key_arn}', 'arn:aws:kms:us-east-1:000000000000:key/mrk-1',
  'a card with its key'
);
select is(
  public.kms_ciphertexts_read(:stranger, 'payment_methods', pg_temp.nth(5)), null,
  'a stranger reads nothing'
);
select is(
  public.kms_ciphertexts_read(:owner, 'encrypted_records', pg_temp.nth(5)), null,
  'nor does the owner by the wrong table'
);
select is(
  public.kms_ciphertexts_read(:owner, 'payment_methods', pg_temp.nth(404)), null,
  'nor a row that is not'
);
select is(
  pg_temp.fault_of(format('select public.kms_ciphertexts_read(%L, %L, %L)', :owner, t.name, :owner)),
  '22023 invalid_argument: p_table must be payment_methods or encrypted_records',
  format('the table %s is refused', t.name)
) from (values ('kms.branch_keys'), (null)) as t (name);

-- ── Many ciphertexts ───────────────────────────────────────────────────────────────────────────
select is(
  public.kms_ciphertexts_read_many(jsonb_build_array(
    jsonb_build_object('owner_id', :owner, 'table', 'payment_methods', 'id', pg_temp.nth(5)),
    jsonb_build_object('owner_id', :stranger, 'table', 'payment_methods', 'id', pg_temp.nth(5)),
    jsonb_build_object('owner_id', :stranger, 'table', 'encrypted_records', 'id', pg_temp.nth(4)),
    jsonb_build_object('owner_id', :owner, 'table', 'encrypted_records', 'id', pg_temp.nth(5)),
    jsonb_build_object('owner_id', :owner, 'table', 'encrypted_records', 'id', pg_temp.nth(404)),
    jsonb_build_object('owner_id', :owner, 'table', 'payment_methods', 'id', pg_temp.nth(5))
  )::text),
  jsonb_build_object('rows', jsonb_build_array(
    public.kms_ciphertexts_read(:owner, 'payment_methods', pg_temp.nth(5)), null,
    public.kms_ciphertexts_read(:stranger, 'encrypted_records', pg_temp.nth(4)), null, null,
    public.kms_ciphertexts_read(:owner, 'payment_methods', pg_temp.nth(5))
  )),
  'many rows are read in the order asked for, null for what is not there or not that owner''s'
);
create function pg_temp.refs(p_count integer) returns text
language sql as $$
  select jsonb_agg(jsonb_build_object(
    'owner_id', 'aaaaaaaa-0000-4000-8000-00000000000a', 'table', 'encrypted_records',
    'id', pg_temp.nth(1)
  ))::text from generate_series(1, p_count)
$$;
select is(
  jsonb_array_length(public.kms_ciphertexts_read_many(pg_temp.refs(100)) -> 'rows'), 100,
  'up to 100'
);
select is(
  pg_temp.fault_of(format('select public.kms_ciphertexts_read_many(%L)', r.refs)),
  '22023 invalid_argument: p_refs' || r.detail, format('reading many of %s is refused', r.what)
) from (values
  (null, ' is required', 'null'),
  ('{}', ' is not JSON of type array', 'an object'),
  ('[]', ' must have 1 to 100 elements', 'nothing'),
  (pg_temp.refs(101), ' must have 1 to 100 elements', '101'),
  ('["x"]', '[0] is not an object', 'text'),
  ('[{"table": "payment_methods", "id": "00000000-0000-4000-8000-000000000001"}]',
    '[0].owner_id is required', 'nobody''s'),
  ('[{"owner_id": "x"}]', '[0].owner_id has the wrong form', 'no uuid''s'),
  ('[{"owner_id": "aaaaaaaa-0000-4000-8000-00000000000a", "table": "branch_keys"}]',
    '[0].table has the wrong form', 'another table'),
  ('[{"owner_id": "aaaaaaaa-0000-4000-8000-00000000000a", "table": "payment_methods"}]',
    '[0].id is required', 'no id'),
  ('[{"owner_id": "aaaaaaaa-0000-4000-8000-00000000000a", "field": "number"}]',
    '[0] has an unknown field field', 'one field')
) as r (refs, detail, what);

-- ── Delete ─────────────────────────────────────────────────────────────────────────────────────
reset role;
update kms.ciphertexts set kms_key_arn = 'arn:of:it' where record_id = pg_temp.nth(1);
select :as_service_role;
select is(
  public.kms_record_delete(pg_temp.actor(), :stranger, pg_temp.nth(1)), false,
  'a stranger deletes nothing'
);
select is(
  public.kms_record_delete(pg_temp.actor(), :owner, pg_temp.nth(5)), false,
  'nor is a card deleted as a record'
);
select is(
  public.kms_record_delete(pg_temp.actor(), :owner, pg_temp.nth(1)), true, 'the owner deletes'
);
select is(
  public.kms_record_delete(pg_temp.actor(), :owner, pg_temp.nth(1)), false, 'once'
);
select is(
  public.kms_record_delete(pg_temp.actor(), :owner, null), false, 'and not what has no id'
);
reset role;
select is_empty(
  format('select from kms.ciphertexts where record_id = %L', pg_temp.nth(1)),
  'the ciphertext is gone'
);
select results_eq(
  'select action, outcome, data_class, table_name, record_id, kms_key_arn from kms.audit_log
   order by seq desc limit 1',
  $$ values ('record.delete', 'success', 'pii', 'encrypted_records', pg_temp.nth(1), 'arn:of:it') $$,
  'the audit stays, and names the key'
);

select * from finish();
rollback;
