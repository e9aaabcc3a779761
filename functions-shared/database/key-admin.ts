/** Administration of keys, on the database's functions. */
import type { BranchKeyInfo, KeyAdminStore, Retirement } from "../admin/key-store.ts";
import type { Rpc } from "./rpc.ts";
import { auditLog } from "./stores.ts";

export function keyAdminStore(rpc: Rpc): KeyAdminStore {
  return {
    async branchKey(id) {
      const args = { p_branch_key_id: id };
      return await rpc<BranchKeyInfo | null>("kms_branch_key_info", args) ?? undefined;
    },
    async rotationFailed(actor, dataClass, branchKeyId, error) {
      await auditLog(rpc).append(actor, [{
        action: "branch_key.rotate",
        outcome: "failure",
        error_code: error,
        data_class: dataClass,
        branch_key_id: branchKeyId,
      }]);
    },
    retire(actor, branchKeyId, version) {
      return rpc<Retirement>("kms_branch_key_retire", {
        p_actor: JSON.stringify(actor),
        p_branch_key_id: branchKeyId,
        p_version: version,
      });
    },
    async beginRotation(actor, dataClass, keyId, leaseSeconds) {
      const { token } = await rpc<{ token: string | null }>("kms_key_rotation_begin", {
        p_actor: JSON.stringify(actor),
        p_data_class: dataClass,
        p_kms_key_arn: keyId,
        p_lease_seconds: leaseSeconds,
      });
      return token ?? undefined;
    },
    async endRotation(actor, dataClass, token, keyId, error) {
      await rpc("kms_key_rotation_end", {
        p_actor: JSON.stringify(actor),
        p_data_class: dataClass,
        p_token: token,
        p_kms_key_arn: keyId,
        p_error_code: error ?? null,
      });
    },
  };
}
