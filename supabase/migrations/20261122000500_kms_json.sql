-- Reading the RPCs' JSON arguments, and writing their answers.
--
-- A fault is 22023 (invalid_parameter_value) with the message invalid_argument and a detail that
-- names the field by its path and never its value: the value may be what must not be logged.

-- ── Refusal ────────────────────────────────────────────────────────────────────────────────────
create function kms.refuse(p_detail text) returns void
language plpgsql stable set search_path = ''
as $$
begin
  raise exception 'invalid_argument' using errcode = '22023', detail = p_detail;
end
$$;
comment on function kms.refuse(text) is 'Raises 22023 invalid_argument with this detail.';

-- ── Documents ──────────────────────────────────────────────────────────────────────────────────
create function kms.parse_json(p_text text, p_path text, p_type text) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_value jsonb;
begin
  if p_text is null then
    perform kms.refuse(p_path || ' is required');
  end if;
  begin
    v_value := p_text::jsonb;
  exception when others then
    -- The original error would quote the document.
    perform kms.refuse(p_path || ' is not JSON');
  end;
  if jsonb_typeof(v_value) <> p_type then
    perform kms.refuse(format('%s is not JSON of type %s', p_path, p_type));
  end if;
  return v_value;
end
$$;
comment on function kms.parse_json(text, text, text) is
  'Text to JSON of the given jsonb_typeof, object or array; otherwise 22023.';

create function kms.parse_list(p_text text, p_path text, p_min integer, p_max integer) returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  v_value jsonb := kms.parse_json(p_text, p_path, 'array');
begin
  if jsonb_array_length(v_value) not between p_min and p_max then
    perform kms.refuse(format('%s must have %s to %s elements', p_path, p_min, p_max));
  end if;
  return v_value;
end
$$;
comment on function kms.parse_list(text, text, integer, integer) is
  'Text to a JSON array of bounded length; otherwise 22023.';

create function kms.check_object(p_object jsonb, p_path text, p_allowed text[]) returns void
language plpgsql stable set search_path = ''
as $$
declare
  v_key text;
begin
  if p_object is null or jsonb_typeof(p_object) <> 'object' then
    perform kms.refuse(p_path || ' is not an object');
  end if;
  select k into v_key from jsonb_object_keys(p_object) as k where k <> all (p_allowed) limit 1;
  if found then
    perform kms.refuse(
      format('%s has an unknown field', p_path)
      || case when v_key ~ '^[a-z][a-z_]{0,31}$' then ' ' || v_key else '' end
    );
  end if;
end
$$;
comment on function kms.check_object(jsonb, text, text[]) is
  'An object with no fields but these; otherwise 22023. A field''s name is shown if it is harmless.';

-- ── Fields ─────────────────────────────────────────────────────────────────────────────────────
create function kms.read_text(
  p_object jsonb, p_key text, p_path text, p_pattern text, p_required boolean,
  p_max integer default 256
) returns text
language plpgsql stable set search_path = ''
as $$
declare
  v_text text := p_object ->> p_key;
begin
  if v_text is null then
    if p_required then
      perform kms.refuse(format('%s.%s is required', p_path, p_key));
    end if;
    return null;
  end if;
  if jsonb_typeof(p_object -> p_key) <> 'string'
    or length(v_text) not between 1 and p_max or v_text !~ p_pattern
  then
    perform kms.refuse(format('%s.%s has the wrong form', p_path, p_key));
  end if;
  return v_text;
end
$$;
comment on function kms.read_text(jsonb, text, text, text, boolean, integer) is
  'A text field of 1 to p_max characters that matches the pattern, null when absent or null; '
  'otherwise 22023.';

create function kms.read_free_text(
  p_object jsonb, p_key text, p_path text, p_max integer, p_required boolean
) returns text
language plpgsql stable set search_path = ''
as $$
declare
  v_text text := kms.read_text(p_object, p_key, p_path, '', p_required, p_max);
begin
  if v_text ~ '[[:cntrl:]]' then
    perform kms.refuse(format('%s.%s has a control character', p_path, p_key));
  end if;
  if v_text ~ '[0-9]([ -]?[0-9]){12}' then
    perform kms.refuse(format('%s.%s may hold a card number', p_path, p_key));
  end if;
  return v_text;
end
$$;
comment on function kms.read_free_text(jsonb, text, text, integer, boolean) is
  'A person''s own words: printable, short, and without a run of 13 digits, spaced or not.';

create function kms.read_uuid(p_object jsonb, p_key text, p_path text, p_required boolean)
returns uuid
language plpgsql stable set search_path = ''
as $$
begin
  return kms.read_text(
    p_object, p_key, p_path,
    '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$', p_required
  )::uuid;
end
$$;
comment on function kms.read_uuid(jsonb, text, text, boolean) is
  'A uuid in its hyphenated form, null when absent or null; otherwise 22023.';

create function kms.read_integer(
  p_object jsonb, p_key text, p_path text, p_min integer, p_max integer, p_required boolean
) returns integer
language plpgsql stable set search_path = ''
as $$
declare
  v_text text := p_object ->> p_key;
begin
  if v_text is null then
    if p_required then
      perform kms.refuse(format('%s.%s is required', p_path, p_key));
    end if;
    return null;
  end if;
  if jsonb_typeof(p_object -> p_key) <> 'number' or v_text !~ '^[0-9]{1,9}$'
    or v_text::integer not between p_min and p_max
  then
    perform kms.refuse(format('%s.%s must be an integer, %s to %s', p_path, p_key, p_min, p_max));
  end if;
  return v_text::integer;
end
$$;
comment on function kms.read_integer(jsonb, text, text, integer, integer, boolean) is
  'A whole number in range, null when absent or null; otherwise 22023.';

create function kms.read_boolean(p_object jsonb, p_key text, p_path text, p_default boolean)
returns boolean
language plpgsql stable set search_path = ''
as $$
begin
  if p_object ->> p_key is null then
    return p_default;
  end if;
  if jsonb_typeof(p_object -> p_key) <> 'boolean' then
    perform kms.refuse(format('%s.%s must be true or false', p_path, p_key));
  end if;
  return (p_object ->> p_key)::boolean;
end
$$;
comment on function kms.read_boolean(jsonb, text, text, boolean) is
  'A boolean, the default when absent or null; otherwise 22023.';

create function kms.read_day(p_text text, p_path text) returns date
language plpgsql stable set search_path = ''
as $$
declare
  v_day date;
begin
  if p_text is null or p_text !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' then
    perform kms.refuse(p_path || ' is not a day');
  end if;
  begin
    v_day := make_date(
      left(p_text, 4)::integer, substr(p_text, 6, 2)::integer, right(p_text, 2)::integer);
  exception when datetime_field_overflow then
    perform kms.refuse(p_path || ' is not a day');
  end;
  return v_day;
end
$$;
comment on function kms.read_day(text, text) is 'A day YYYY-MM-DD; otherwise 22023.';

-- ── Cursors and pages ──────────────────────────────────────────────────────────────────────────
create function kms.check_limit(p_limit integer) returns void
language plpgsql stable set search_path = ''
as $$
begin
  if p_limit is null or p_limit not between 1 and 100 then
    perform kms.refuse('p_limit must be 1 to 100');
  end if;
end
$$;
comment on function kms.check_limit(integer) is 'A page has 1 to 100 rows; otherwise 22023.';

create function kms.iso_time(p_time timestamptz) returns text
language sql stable set search_path = ''
as $$
  select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;
comment on function kms.iso_time(timestamptz) is 'ISO 8601, UTC, milliseconds, Z.';

create function kms.iso_milliseconds(p_time text) returns text
language sql immutable set search_path = ''
as $$
  select regexp_replace(p_time, '([.][0-9]{3})[0-9]*Z$', '\1Z')
$$;
comment on function kms.iso_milliseconds(text) is
  'The form of kms.iso_time for a time that is kept as text with more digits, such as a branch key '
  'record''s; text that is no such time stays what it is.';

create function kms.make_cursor(p_time timestamptz, p_id uuid) returns text
language sql stable set search_path = ''
as $$
  select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '|' || p_id
$$;
comment on function kms.make_cursor(timestamptz, uuid) is
  'Position after this row, <ISO 8601 with microseconds>|<id>.';

create function kms.read_cursor(p_cursor text, out o_time timestamptz, out o_id uuid)
language plpgsql stable set search_path = ''
as $$
begin
  if p_cursor is null then
    o_time := 'infinity';
    o_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    return;
  end if;
  if p_cursor !~ ('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z[|]'
    || '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')
  then
    perform kms.refuse('p_before is not a cursor');
  end if;
  begin
    o_time := split_part(p_cursor, '|', 1)::timestamptz;
  exception when datetime_field_overflow or invalid_datetime_format then
    perform kms.refuse('p_before is not a cursor');
  end;
  o_id := split_part(p_cursor, '|', 2)::uuid;
end
$$;
comment on function kms.read_cursor(text) is
  'The position a cursor stands for, the very beginning for null; otherwise 22023.';

create function kms.page_row(p_item jsonb, p_time timestamptz, p_id uuid) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object('item', p_item, 'cursor', kms.make_cursor(p_time, p_id))
$$;
comment on function kms.page_row(jsonb, timestamptz, uuid) is 'One of the rows that kms.page takes.';

create function kms.page(p_name text, p_limit integer, p_rows jsonb[]) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    p_name, jsonb_path_query_array(to_jsonb(p_rows[:p_limit]), '$[*].item'),
    'next', case when cardinality(p_rows) > p_limit then p_rows[p_limit] ->> 'cursor' end
  )
$$;
comment on function kms.page(text, integer, jsonb[]) is
  'A page as the functions answer it, {<name>: [...], "next"}: of one row more than it may have, which '
  'only tells that there is another page.';

-- ── Rows as JSON ───────────────────────────────────────────────────────────────────────────────
create function kms.payment_method_json(p_row public.payment_methods) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'id', p_row.id, 'user_id', p_row.user_id, 'data_class', p_row.data_class,
    'brand', p_row.brand, 'last4', p_row.last4,
    'exp_month', p_row.exp_month, 'exp_year', p_row.exp_year,
    'nickname', p_row.nickname, 'is_default', p_row.is_default,
    'created_at', kms.iso_time(p_row.created_at), 'updated_at', kms.iso_time(p_row.updated_at)
  )
$$;
comment on function kms.payment_method_json(public.payment_methods) is
  'A payment method as the functions answer it: masked.';

create function kms.encrypted_record_json(p_row public.encrypted_records) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'id', p_row.id, 'user_id', p_row.user_id, 'data_class', p_row.data_class,
    'label', p_row.label,
    'created_at', kms.iso_time(p_row.created_at), 'updated_at', kms.iso_time(p_row.updated_at)
  )
$$;
comment on function kms.encrypted_record_json(public.encrypted_records) is
  'A record as the functions answer it: without its data.';

revoke all on all functions in schema kms from public, anon, authenticated, service_role;
