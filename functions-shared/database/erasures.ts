/** Erasures, on the database's functions. */
import type { Erasure, ErasureStore, StoredProof } from "../admin/erasures.ts";
import type { Rpc } from "./rpc.ts";

export function erasureStore(rpc: Rpc): ErasureStore {
  return {
    async erase(actor, userId, purpose) {
      const { erasure, proof } = await rpc<{ erasure: Erasure; proof: string | null }>(
        "kms_user_erase",
        { p_actor: JSON.stringify(actor), p_user_id: userId, p_purpose: purpose },
      );
      return { erasure, proof: proof ?? undefined };
    },
    async unsigned(limit) {
      const answer = await rpc<{ erasures: Erasure[] }>("kms_erasures_unsigned", {
        p_limit: limit,
      });
      return answer.erasures;
    },
    async sign(proofs) {
      const answer = await rpc<{ proofs: StoredProof[] }>("kms_erasures_sign", {
        p_proofs: JSON.stringify(proofs),
      });
      return answer.proofs;
    },
  };
}
