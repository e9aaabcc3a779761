-- What hosted Supabase already has and a bare Postgres (15-18) or PGlite does not: the API roles,
-- the `auth` schema with its claim readers, and the privileges new objects in `public` get.
-- Idempotent. Run it as a superuser before the migrations; never needed on hosted Supabase.
-- The table auth.users is not made here: @supabase/lite makes its own.

-- ── Roles ──────────────────────────────────────────────────────────────────────────────────────
do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'authenticator'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
      begin
        execute format('create role %I nologin noinherit', v_role);
        if v_role = 'service_role' then
          alter role service_role bypassrls;
        end if;
      exception when duplicate_object or unique_violation then
        null; -- another process made it in the meantime
      end;
    end if;
  end loop;
end
$$;

grant anon, authenticated, service_role to authenticator;

-- A connection that is not a superuser must still be able to `set role` to serve a request.
do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not pg_has_role(current_user, v_role, 'MEMBER') then
      execute format('grant %I to current_user', v_role);
    end if;
  end loop;
end
$$;

-- ── Schema auth: who is calling, read from the request's claims ────────────────────────────────
create schema if not exists auth;
grant usage on schema auth to anon, authenticated, service_role;

-- Replaced only where this role owns them, so that a hosted database's own are left alone.
do $$
declare
  v_name text;
  v_body text;
  v_type text;
begin
  for v_name, v_type, v_body in
    values
      ('uid', 'uuid', $sql$
        select coalesce(
          nullif(current_setting('request.jwt.claim.sub', true), ''),
          (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
        )::uuid
      $sql$),
      ('role', 'text', $sql$
        select coalesce(
          nullif(current_setting('request.jwt.claim.role', true), ''),
          (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
        )::text
      $sql$),
      ('email', 'text', $sql$
        select coalesce(
          nullif(current_setting('request.jwt.claim.email', true), ''),
          (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
        )::text
      $sql$),
      ('jwt', 'jsonb', $sql$
        select coalesce(
          nullif(current_setting('request.jwt.claim', true), ''),
          nullif(current_setting('request.jwt.claims', true), '')
        )::jsonb
      $sql$)
  loop
    if coalesce(
      (
        select pg_has_role(current_user, p.proowner, 'USAGE')
        from pg_catalog.pg_proc p
        where p.oid = to_regprocedure(format('auth.%I()', v_name))
      ),
      true
    ) then
      execute format(
        'create or replace function auth.%I() returns %s language sql stable as %L',
        v_name, v_type, v_body
      );
      execute format(
        'grant execute on function auth.%I() to anon, authenticated, service_role', v_name
      );
    end if;
  end loop;
end
$$;

-- ── Schema public: as generous to new objects as hosted Supabase is ────────────────────────────
-- The migrations must prove themselves against these defaults, not against stricter ones.
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public
  grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public
  grant all on functions to anon, authenticated, service_role;
