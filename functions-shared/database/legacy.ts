/** Imported keys and staged rows of older setups, on the database's functions. */
import type {
  Claim,
  ClaimedRow,
  LegacyKey,
  LegacyRow,
  LegacyStore,
  Progress,
  StageResult,
} from "../admin/legacy/store.ts";
import type { StoredItem } from "../storage/store.ts";
import type { Rpc } from "./rpc.ts";
import { storedItem, toStored } from "./stores.ts";

interface ClaimAnswer {
  readonly token: string;
  readonly rows: readonly {
    readonly id: string;
    readonly key_id: string;
    readonly user_id: string;
    readonly encoding: ClaimedRow["encoding"];
    readonly ciphertext: string;
    readonly target: ClaimedRow["target"];
    readonly record_id: string | null;
  }[];
}

export function legacyStore(rpc: Rpc): LegacyStore {
  return {
    putKey(actor, { keyId, id, sealed, fingerprint, source }) {
      const { field: _, kms_region: __, ...stored } = toStored(sealed);
      return rpc<{ outcome: "imported" | "existing" | "conflict"; key: LegacyKey }>(
        "kms_legacy_key_put",
        {
          p_actor: JSON.stringify(actor),
          p_key: JSON.stringify({ key_id: keyId, id, ...stored, fingerprint, source }),
        },
      );
    },
    async listKeys() {
      const { keys } = await rpc<
        { keys: (LegacyKey & { rows: { pending: number; failed: number } })[] }
      >("kms_legacy_keys_list", {});
      return keys;
    },
    async getKey(keyId) {
      const key = await rpc<{ id: string; message: string } | null>("kms_legacy_key_get", {
        p_key_id: keyId,
      });
      return key ?? undefined;
    },
    destroyKey(actor, keyId) {
      return rpc<"destroyed" | "not_found" | "in_use">("kms_legacy_key_destroy", {
        p_actor: JSON.stringify(actor),
        p_key_id: keyId,
      });
    },
    async stage(actor, keyId, encoding, rows) {
      const answer = await rpc<{ results: StageResult[] } | null>("kms_legacy_rows_stage", {
        p_actor: JSON.stringify(actor),
        p_key_id: keyId,
        p_encoding: encoding,
        p_rows: JSON.stringify(rows),
      });
      return answer?.results;
    },
    async claim(limit, leaseSeconds): Promise<Claim> {
      const { token, rows } = await rpc<ClaimAnswer>("kms_legacy_rows_claim", {
        p_limit: limit,
        p_lease_seconds: leaseSeconds,
      });
      return {
        token,
        rows: rows.map(({ key_id: keyId, user_id: userId, record_id: recordId, ...row }) => ({
          ...row,
          keyId,
          userId,
          recordId: recordId ?? undefined,
        })),
      };
    },
    storeRow(actor, id, token, item) {
      return rpc<StoredItem>("kms_legacy_row_store", {
        p_actor: JSON.stringify(actor),
        p_id: id,
        p_token: token,
        p_item: JSON.stringify(storedItem(item)),
      });
    },
    async closeRow(actor, id, token, failure) {
      await rpc("kms_legacy_row_close", {
        p_actor: JSON.stringify(actor),
        p_id: id,
        p_token: token,
        p_error_code: failure?.code ?? null,
        p_error_detail: failure?.detail ?? null,
      });
    },
    async release(token) {
      await rpc("kms_legacy_rows_release", { p_token: token });
    },
    async listRows(status, limit, after) {
      const page = await rpc<{ rows: LegacyRow[]; next: string | null }>("kms_legacy_rows_list", {
        p_status: status ?? null,
        p_limit: limit,
        p_before: after ?? null,
      });
      return { items: page.rows, next: page.next ?? undefined };
    },
    progress: () => rpc<Progress>("kms_legacy_progress", {}),
    discardRow(actor, id) {
      return rpc<boolean>("kms_legacy_row_discard", { p_actor: JSON.stringify(actor), p_id: id });
    },
  };
}
