import type { KeysInUse } from "../../../functions-shared/admin/candidate.ts";
import type {
  SealedRevision,
  SettingsStore,
} from "../../../functions-shared/admin/settings-store.ts";

/** Stored settings in memory; revisions count up and conflict as the table's functions have it. */
export class MemorySettings implements SettingsStore {
  readonly rows: SealedRevision[] = [];
  keys: KeysInUse = { branch_keys: [], messages: [] };
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  read: SettingsStore["read"] = (revision = this.rows.length) =>
    Promise.resolve(this.rows[revision - 1]);

  put: SettingsStore["put"] = ({ actor_type, actor_id }, settings, expected) => {
    if (expected !== this.rows.length) return Promise.resolve(false);
    this.rows.push({
      ...{ restores: null, reason: null, in_vault: false, restorable: true },
      ...settings,
      revision: expected + 1,
      actor_type,
      actor_id,
      created_at: new Date(this.#now()).toISOString(),
    });
    return Promise.resolve(true);
  };

  history: SettingsStore["history"] = (limit, before = Infinity) => {
    const revisions = this.rows.filter(({ revision }) => revision < before).toReversed();
    return Promise.resolve({ revisions: revisions.slice(0, limit), next: undefined });
  };

  keysInUse: SettingsStore["keysInUse"] = () => Promise.resolve(this.keys);
}
