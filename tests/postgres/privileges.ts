/**
 * What the API roles may do to the suite's objects: read from the catalog, so that it holds for
 * whatever granted it (the migrations, a project's default privileges, a server that serves them).
 */

/**
 * Effective privileges, inherited ones and those of PUBLIC included, one row
 * `{privilege: "<role> <privilege> <kind> <object>"}` each, sorted by that text (C collation).
 */
export const EFFECTIVE_PRIVILEGES = `
  with role (name) as (values ('anon'), ('authenticated'), ('service_role')),
  held (privilege) as (
    select format('%s %s schema kms', r.name, p.name)
    from role r, (values ('USAGE'), ('CREATE')) as p (name)
    where has_schema_privilege(r.name, 'kms', p.name)
    union all
    select format('%s %s table %s.%s', r.name, p.name, n.nspname, c.relname)
    from role r, pg_class c
    join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('public', 'kms'),
    (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'),
      ('TRIGGER')) as p (name)
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
      and (
        has_table_privilege(r.name, c.oid, p.name)
        or p.name in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
          and has_any_column_privilege(r.name, c.oid, p.name)
      )
      and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
    union all
    select format('%s %s sequence %s.%s', r.name, p.name, n.nspname, c.relname)
    from role r, pg_class c
    join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('public', 'kms'),
    (values ('USAGE'), ('SELECT'), ('UPDATE')) as p (name)
    where c.relkind = 'S' and has_sequence_privilege(r.name, c.oid, p.name)
    union all
    select format('%s EXECUTE function %s.%s', r.name, n.nspname, f.proname)
    from role r, pg_proc f
    join pg_namespace n on n.oid = f.pronamespace and n.nspname in ('public', 'kms')
    where has_function_privilege(r.name, f.oid, 'EXECUTE')
      and not exists (select from pg_depend d where d.objid = f.oid and d.deptype = 'e')
  )
  select privilege from held order by privilege collate "C"`;

const RPCS = [
  "kms_audit_alerts",
  "kms_audit_anchors",
  "kms_audit_append",
  "kms_audit_entries",
  "kms_audit_export",
  "kms_audit_points",
  "kms_audit_prune",
  "kms_audit_verify_page",
  "kms_branch_key_create",
  "kms_branch_key_get",
  "kms_branch_key_info",
  "kms_branch_key_retire",
  "kms_branch_key_rotate",
  "kms_canary_get",
  "kms_canary_put",
  "kms_ciphertexts_read",
  "kms_ciphertexts_read_many",
  "kms_doctor",
  "kms_erasures_sign",
  "kms_erasures_unsigned",
  "kms_health_history",
  "kms_health_record",
  "kms_idempotency_abandon",
  "kms_idempotency_begin",
  "kms_job_cancel",
  "kms_job_failures",
  "kms_job_get",
  "kms_job_next",
  "kms_job_release",
  "kms_job_start",
  "kms_jobs_list",
  "kms_key_rotation_begin",
  "kms_key_rotation_end",
  "kms_keys_in_use",
  "kms_legacy_key_destroy",
  "kms_legacy_key_get",
  "kms_legacy_key_put",
  "kms_legacy_keys_list",
  "kms_legacy_progress",
  "kms_legacy_row_close",
  "kms_legacy_row_discard",
  "kms_legacy_row_store",
  "kms_legacy_rows_claim",
  "kms_legacy_rows_list",
  "kms_legacy_rows_release",
  "kms_legacy_rows_stage",
  "kms_migration_confirm",
  "kms_migration_copy",
  "kms_migration_end",
  "kms_migration_status",
  "kms_migration_step",
  "kms_migration_swap",
  "kms_migration_work",
  "kms_payment_method_delete",
  "kms_payment_method_get",
  "kms_payment_method_set_default",
  "kms_payment_method_update",
  "kms_payment_methods_list",
  "kms_purge_expired",
  "kms_rate_limit_take",
  "kms_record_delete",
  "kms_record_get",
  "kms_records_list",
  "kms_reencrypt_claim",
  "kms_reencrypt_commit",
  "kms_region_report",
  "kms_settings_get",
  "kms_settings_history",
  "kms_settings_put",
  "kms_settings_read",
  "kms_store",
  "kms_user_erase",
];

/** All that {@link EFFECTIVE_PRIVILEGES} may find: reading one's own rows, and the RPCs. */
export const EXPECTED_PRIVILEGES: readonly string[] = [
  "authenticated SELECT table public.encrypted_records",
  "authenticated SELECT table public.payment_methods",
  ...RPCS.map((name) => `service_role EXECUTE function public.${name}`),
];
