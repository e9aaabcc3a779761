/** The migration of branch keys between providers, on the database's functions. */
import type { MigrationReport, MigrationStore } from "../admin/provider-migration.ts";
import type { Rpc } from "./rpc.ts";

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
    async end(actor, from, to, step) {
      const { ended } = await rpc<{ ended: boolean }>("kms_migration_end", {
        p_actor: JSON.stringify(actor),
        p_from: from,
        p_to: to,
        p_step: step,
      });
      return ended;
    },
  };
}
