/** The stored settings, on the database's functions. */
import type { KeysInUse } from "../admin/candidate.ts";
import type { News } from "../admin/live.ts";
import type { Revision, SealedRevision, SettingsStore } from "../admin/settings-store.ts";
import type { Sealed } from "../admin/stored-settings.ts";
import type { WorkerNews } from "./key-stores.ts";
import type { Rpc } from "./rpc.ts";

/** `message` is null when the revision is the known one, or its settings are gone. */
export type SettingsNews = News & Sealed & WorkerNews;

/** What a worker asks for, with the news that every read brings. */
export function readSettings(rpc: Rpc, known: number | undefined): Promise<SettingsNews> {
  return rpc<SettingsNews>("kms_settings_get", { p_known_revision: known ?? null });
}

export function settingsStore(rpc: Rpc): SettingsStore {
  return {
    async read(revision) {
      const row = await rpc<SealedRevision | null>("kms_settings_read", {
        p_revision: revision ?? null,
      });
      return row ?? undefined;
    },
    async put(actor, settings, expected) {
      const { saved } = await rpc<{ saved: boolean }>("kms_settings_put", {
        p_actor: JSON.stringify(actor),
        p_settings: JSON.stringify(settings),
        p_expected_revision: expected,
      });
      return saved;
    },
    async history(limit, before) {
      const page = await rpc<{ revisions: Revision[]; next: number | null }>(
        "kms_settings_history",
        { p_limit: limit, p_before: before ?? null },
      );
      return { revisions: page.revisions, next: page.next ?? undefined };
    },
    keysInUse: () => rpc<KeysInUse>("kms_keys_in_use", {}),
  };
}
