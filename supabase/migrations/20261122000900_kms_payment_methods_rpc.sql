-- Reading and changing payment methods. The owner is always given and always compared: another
-- owner's row is as absent as one that does not exist.

-- ── Read ───────────────────────────────────────────────────────────────────────────────────────
create function public.kms_payment_methods_list(p_owner_id uuid, p_limit integer, p_before text)
returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_time timestamptz;
  v_id uuid;
begin
  perform kms.check_limit(p_limit);
  select * into v_time, v_id from kms.read_cursor(p_before);
  return kms.page('payment_methods', p_limit, array(
    select kms.page_row(kms.payment_method_json(p), p.created_at, p.id)
    from public.payment_methods as p
    where user_id = p_owner_id and (created_at, id) < (v_time, v_id)
    order by created_at desc, id desc limit p_limit + 1
  ));
end
$$;
comment on function public.kms_payment_methods_list(uuid, integer, text) is
  'A page of 1 to 100 of an owner''s cards, newest first, and the cursor of the next. For '
  'service_role.';

create function public.kms_payment_method_get(p_owner_id uuid, p_id uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select kms.payment_method_json(p) from public.payment_methods p
  where p.id = p_id and p.user_id = p_owner_id
$$;
comment on function public.kms_payment_method_get(uuid, uuid) is
  'One of an owner''s cards, masked, or null. For service_role.';

-- ── Change ─────────────────────────────────────────────────────────────────────────────────────
create function kms.payment_method_entry(p_action text, p_owner_id uuid, p_id uuid) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'action', p_action, 'outcome', 'success', 'data_class', 'payment',
    'table_name', 'payment_methods', 'record_id', p_id, 'owner_id', p_owner_id
  )
$$;
comment on function kms.payment_method_entry(text, uuid, uuid) is
  'Audit entry of a change that succeeded.';

create function public.kms_payment_method_update(
  p_actor text, p_owner_id uuid, p_id uuid, p_patch text, p_ciphertexts text
) returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_patch jsonb := kms.parse_json(p_patch, 'p_patch', 'object');
  v_ciphertexts jsonb := kms.parse_list(coalesce(p_ciphertexts, '[]'), 'p_ciphertexts', 0, 2);
  v_optional constant text[] := array['cardholder_name', 'billing_address'];
  v_exp_month integer := kms.read_integer(v_patch, 'exp_month', 'p_patch', 1, 12, false);
  v_exp_year integer := kms.read_integer(v_patch, 'exp_year', 'p_patch', 2020, 2099, false);
  v_nickname text := kms.read_free_text(v_patch, 'nickname', 'p_patch', 100, false);
  v_clear jsonb;
  v_keys jsonb;
  v_row public.payment_methods;
begin
  perform kms.check_object(v_patch, 'p_patch', array['exp_month', 'exp_year', 'nickname', 'clear']);
  v_clear := coalesce(v_patch -> 'clear', '[]');
  if jsonb_typeof(v_clear) <> 'array' or not v_clear <@ to_jsonb(v_optional) then
    perform kms.refuse('p_patch.clear may name cardholder_name and billing_address only');
  end if;
  if exists (
    select from jsonb_array_elements(v_ciphertexts) as e (value) where v_clear ? (e.value ->> 'field')
  ) then
    perform kms.refuse('p_patch.clear names a field of p_ciphertexts');
  end if;

  update public.payment_methods
  set
    exp_month = coalesce(v_exp_month, exp_month),
    exp_year = coalesce(v_exp_year, exp_year),
    nickname = case when v_patch ? 'nickname' then v_nickname else nickname end,
    updated_at = clock_timestamp()
  where id = p_id and user_id = p_owner_id
  returning * into v_row;
  if not found then
    return null;
  end if;

  v_keys := kms.destroy_ciphertexts(
    'payment_methods', p_id, array(select jsonb_array_elements_text(v_clear)));
  perform kms.put_ciphertexts(
    'payment_methods', p_id, p_owner_id, 'payment', v_ciphertexts, 'p_ciphertexts', v_optional, null
  );
  perform kms.audit_append(v_actor, jsonb_build_array(
    kms.payment_method_entry('payment_method.update', p_owner_id, p_id)
    || case when v_ciphertexts = '[]' then v_keys else kms.audit_keys(v_ciphertexts) end
  ));
  return kms.payment_method_json(v_row);
end
$$;
comment on function public.kms_payment_method_update(text, uuid, uuid, text, text) is
  'Changes expiry, nickname (null clears) and the optional ciphertexts (replaced, or destroyed by '
  '"clear") of an owner''s card: the card, or null if there is none. Audited. For service_role.';

create function public.kms_payment_method_set_default(p_actor text, p_owner_id uuid, p_id uuid)
returns jsonb
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_row public.payment_methods;
begin
  if p_owner_id is null then
    return null;
  end if;
  perform kms.lock_owner(p_owner_id);
  perform from public.payment_methods where id = p_id and user_id = p_owner_id for update;
  if not found then
    return null;
  end if;
  perform kms.make_default(p_owner_id, p_id);
  select * into strict v_row from public.payment_methods where id = p_id;
  perform kms.audit_append(v_actor, jsonb_build_array(
    kms.payment_method_entry('payment_method.set_default', p_owner_id, p_id)
  ));
  return kms.payment_method_json(v_row);
end
$$;
comment on function public.kms_payment_method_set_default(text, uuid, uuid) is
  'Makes a card its owner''s only default, at once: the card, or null if there is none. Audited. For '
  'service_role.';

create function public.kms_payment_method_delete(p_actor text, p_owner_id uuid, p_id uuid)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_actor jsonb := kms.parse_actor(p_actor);
  v_keys jsonb;
begin
  if p_owner_id is null then
    return false;
  end if;
  perform kms.lock_owner(p_owner_id);
  perform from public.payment_methods where id = p_id and user_id = p_owner_id for update;
  if not found then
    return false;
  end if;
  v_keys := kms.destroy_ciphertexts(
    'payment_methods', p_id, array['number', 'cardholder_name', 'billing_address']);
  delete from public.payment_methods where id = p_id and user_id = p_owner_id;
  perform kms.audit_append(v_actor, jsonb_build_array(
    kms.payment_method_entry('payment_method.delete', p_owner_id, p_id) || v_keys
  ));
  return true;
end
$$;
comment on function public.kms_payment_method_delete(text, uuid, uuid) is
  'Destroys a card, its ciphertexts and its fingerprint; the audit stays. False if there is none. '
  'Audited. For service_role.';

-- ── Privileges ─────────────────────────────────────────────────────────────────────────────────
revoke all on all functions in schema kms from public, anon, authenticated, service_role;
revoke all on function
  public.kms_payment_methods_list(uuid, integer, text),
  public.kms_payment_method_get(uuid, uuid),
  public.kms_payment_method_update(text, uuid, uuid, text, text),
  public.kms_payment_method_set_default(text, uuid, uuid),
  public.kms_payment_method_delete(text, uuid, uuid)
from public, anon, authenticated;
grant execute on function
  public.kms_payment_methods_list(uuid, integer, text),
  public.kms_payment_method_get(uuid, uuid),
  public.kms_payment_method_update(text, uuid, uuid, text, text),
  public.kms_payment_method_set_default(text, uuid, uuid),
  public.kms_payment_method_delete(text, uuid, uuid)
to service_role;
