-- What a signed-in user may see of their own: masked metadata, read only.

-- ── public.payment_methods ─────────────────────────────────────────────────────────────────────
create table public.payment_methods (
  id uuid primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  data_class text not null default 'payment'
    constraint payment_methods_data_class_is_payment check (data_class = 'payment'),
  brand text not null
    constraint payment_methods_brand_is_a_slug check (brand ~ '^[a-z][a-z0-9_-]{1,31}$'),
  last4 text not null
    constraint payment_methods_last4_is_four_digits check (last4 ~ '^[0-9]{4}$'),
  exp_month smallint not null
    constraint payment_methods_exp_month_is_a_month check (exp_month between 1 and 12),
  exp_year smallint not null
    constraint payment_methods_exp_year_is_plausible check (exp_year between 2020 and 2099),
  nickname text
    constraint payment_methods_nickname_is_short check (length(nickname) between 1 and 100)
    constraint payment_methods_nickname_is_printable check (nickname !~ '[[:cntrl:]]')
    constraint payment_methods_nickname_holds_no_card_number
      check (nickname !~ '[0-9]([ -]?[0-9]){12}'),
  is_default boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);

comment on table public.payment_methods is
  'Masked metadata of cards. The card itself is in kms.ciphertexts. Written by RPC only.';
comment on column public.payment_methods.id is
  'Chosen by the edge function, since it is bound into the ciphertext''s encryption context.';
comment on column public.payment_methods.user_id is 'Owner.';
comment on column public.payment_methods.data_class is 'Always payment.';
comment on column public.payment_methods.brand is 'Card brand, a lower-case slug such as visa.';
comment on column public.payment_methods.last4 is 'Last four digits of the card number.';
comment on column public.payment_methods.exp_month is 'Month of expiry, 1 to 12.';
comment on column public.payment_methods.exp_year is 'Year of expiry, four digits.';
comment on column public.payment_methods.nickname is
  'The owner''s own name for the card, at most 100 characters; no run of 13 or more digits.';
comment on column public.payment_methods.is_default is 'At most one per owner.';
comment on column public.payment_methods.created_at is 'When it was stored.';
comment on column public.payment_methods.updated_at is 'When it last changed.';

create index payment_methods_newest_first
  on public.payment_methods (user_id, created_at desc, id desc);
comment on index public.payment_methods_newest_first is
  'The policy''s column, and the order of the list.';

-- After the index above: of two indexes that look equally cheap the planner takes the later one, and
-- to find one row the one above walks through all of its owner's.
alter table public.payment_methods
  add constraint payment_methods_id_user_id_key unique (id, user_id);
comment on constraint payment_methods_id_user_id_key on public.payment_methods is
  'Lets kms.ciphertexts and kms.card_fingerprints refer to a row together with its owner.';

create unique index payment_methods_one_default_per_owner
  on public.payment_methods (user_id) where is_default;
comment on index public.payment_methods_one_default_per_owner is
  'The database''s own word that an owner has at most one default, whatever races.';

alter table public.payment_methods enable row level security;
revoke all on table public.payment_methods from public, anon, authenticated, service_role;
grant select on table public.payment_methods to authenticated;

create policy "Owners see their own payment methods"
  on public.payment_methods for select to authenticated
  using ((select auth.uid()) = user_id);
comment on policy "Owners see their own payment methods" on public.payment_methods is
  'Read only: no policy and no privilege exists for any write.';

-- ── public.encrypted_records ───────────────────────────────────────────────────────────────────
create table public.encrypted_records (
  id uuid primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  data_class text not null
    constraint encrypted_records_data_class_is_known check (data_class in ('pii', 'general')),
  label text
    constraint encrypted_records_label_is_short check (length(label) between 1 and 200)
    constraint encrypted_records_label_is_printable check (label !~ '[[:cntrl:]]')
    constraint encrypted_records_label_holds_no_card_number
      check (label !~ '[0-9]([ -]?[0-9]){12}'),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);

comment on table public.encrypted_records is
  'Metadata of encrypted personal and general data. The data is in kms.ciphertexts. Written by '
  'RPC only.';
comment on column public.encrypted_records.id is
  'Chosen by the edge function, since it is bound into the ciphertext''s encryption context.';
comment on column public.encrypted_records.user_id is 'Owner.';
comment on column public.encrypted_records.data_class is 'pii or general.';
comment on column public.encrypted_records.label is
  'The owner''s own name for the record, at most 200 characters; no run of 13 or more digits.';
comment on column public.encrypted_records.created_at is 'When it was stored.';
comment on column public.encrypted_records.updated_at is 'When it last changed.';

create index encrypted_records_newest_first
  on public.encrypted_records (user_id, created_at desc, id desc);
comment on index public.encrypted_records_newest_first is
  'The policy''s column, and the order of the list.';

-- After the index above, as with payment methods.
alter table public.encrypted_records
  add constraint encrypted_records_id_user_id_data_class_key unique (id, user_id, data_class);
comment on constraint encrypted_records_id_user_id_data_class_key on public.encrypted_records is
  'Lets kms.ciphertexts refer to a row together with its owner and data class.';

alter table public.encrypted_records enable row level security;
revoke all on table public.encrypted_records from public, anon, authenticated, service_role;
grant select on table public.encrypted_records to authenticated;

create policy "Owners see their own encrypted records"
  on public.encrypted_records for select to authenticated
  using ((select auth.uid()) = user_id);
comment on policy "Owners see their own encrypted records" on public.encrypted_records is
  'Read only: no policy and no privilege exists for any write.';
