/** The migration of branch keys between providers, on the database's functions. */
import type { MigrationReport, MigrationStore } from "../admin/provider-migration.ts";
import { DATA_CLASSES } from "../data-class.ts";
import type { BranchKeyRecord } from "../keys/branch-key-record.ts";
import type { AuditEntry } from "../telemetry/audit.ts";
import type { Rpc } from "./rpc.ts";
import { auditLog } from "./stores.ts";

export function migrationStore(rpc: Rpc): MigrationStore {
  return {
    async status(step) {
      const args = { p_step: step ?? null };
      return await rpc<MigrationReport | null>("kms_migration_status", args) ?? undefined;
    },
    step(actor, from, to, step) {
      return rpc("kms_migration_step", {
        p_actor: JSON.stringify(actor),
        p_from: from,
        p_to: to,
        p_step: step,
      });
    },
    work(from, to, kind, limit) {
      return rpc("kms_migration_work", { p_from: from, p_to: to, p_kind: kind, p_limit: limit });
    },
    async copy(actor, from, to, copies) {
      await rpc("kms_migration_copy", {
        p_actor: JSON.stringify(actor),
        p_from: from,
        p_to: to,
        p_items: JSON.stringify(copies),
      });
    },
    async swap(actor, from, to, limit) {
      await rpc("kms_migration_swap", {
        p_actor: JSON.stringify(actor),
        p_from: from,
        p_to: to,
        p_limit: limit,
      });
    },
    async confirm(from, to, records) {
      await rpc("kms_migration_confirm", {
        p_from: from,
        p_to: to,
        p_records: JSON.stringify(records),
      });
    },
    async end(actor, from, to, step, limit) {
      const { ended: _, ...report } = await rpc<MigrationReport & { ended: boolean }>(
        "kms_migration_end",
        {
          p_actor: JSON.stringify(actor),
          p_from: from,
          p_to: to,
          p_step: step,
          p_limit: limit,
        },
      );
      return report;
    },
    async failed({ actor, from, to, step }, error, record) {
      await auditLog(rpc).append(actor, [{
        action: `provider.${step}`,
        outcome: "failure",
        error_code: error,
        purpose: `from ${from} to ${to}`,
        ...record === undefined ? {} : branchKeyOf(record),
      }]);
    },
  };
}

/** A branch key as the database's own entries name it. */
function branchKeyOf(record: BranchKeyRecord): Partial<AuditEntry> {
  const { "branch-key-id": id = "", "kms-arn": keyId, type, version = type } = record;
  const dataClass = DATA_CLASSES.find((each) => each === id.split(":")[0]);
  const owner = /:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(id)?.[1];
  return {
    branch_key_id: id,
    ...version === undefined ? {} : { branch_key_version: version.replace(/^branch:version:/, "") },
    ...keyId === undefined ? {} : { kms_key_arn: keyId },
    ...dataClass === undefined ? {} : { data_class: dataClass },
    ...owner === undefined ? {} : { owner_id: owner },
  };
}
