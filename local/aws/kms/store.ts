/** Keys and aliases in memory, with what happens to them by the passing of time. */

import { createHash, randomBytes } from "node:crypto";
import { type Alias, type BackingKey, DAY_MS } from "./model.ts";
import type { KeyFamily, KmsKey, KmsState } from "./model.ts";

export class KeyStore {
  readonly #families = new Map<string, KeyFamily>();
  readonly #keys = new Map<string, KmsKey>();
  readonly #aliases = new Map<string, Alias>();
  readonly #changed: () => void;

  /** `changed` is called after every change, to mark the state file stale. */
  constructor(state: KmsState, changed: () => void) {
    for (const family of state.families) this.#families.set(family.keyId, family);
    for (const key of state.keys) this.#keys.set(place(key.region, key.keyId), key);
    for (const alias of state.aliases) this.#aliases.set(place(alias.region, alias.name), alias);
    this.#changed = changed;
  }

  snapshot(): KmsState {
    return {
      families: [...this.#families.values()],
      keys: [...this.#keys.values()],
      aliases: [...this.#aliases.values()],
    };
  }

  /** To be called by every operation that altered a key, a family or an alias in place. */
  changed(): void {
    this.#changed();
  }

  key(region: string, keyId: string): KmsKey | undefined {
    return this.#keys.get(place(region, keyId));
  }

  /** Every key has one. */
  family(keyId: string): KeyFamily {
    const family = this.#families.get(keyId);
    if (family === undefined) throw new Error(`the state holds no family of key ${keyId}`);
    return family;
  }

  /** Of one region, in order of creation. */
  keys(region: string): readonly KmsKey[] {
    return [...this.#keys.values()].filter((key) => key.region === region);
  }

  /** The same key in all its regions, the primary first. */
  related(keyId: string): readonly KmsKey[] {
    const { primaryRegion } = this.family(keyId);
    return [...this.#keys.values()].filter((key) => key.keyId === keyId)
      .sort((a, b) => Number(b.region === primaryRegion) - Number(a.region === primaryRegion));
  }

  addKey(key: KmsKey, family?: KeyFamily): void {
    if (family !== undefined) this.#families.set(family.keyId, family);
    this.#keys.set(place(key.region, key.keyId), key);
    this.#changed();
  }

  alias(region: string, name: string): Alias | undefined {
    return this.#aliases.get(place(region, name));
  }

  /** Of one region, by name. */
  aliases(region: string): readonly Alias[] {
    return [...this.#aliases.values()].filter((alias) => alias.region === region)
      .sort((a, b) => a.name < b.name ? -1 : 1);
  }

  putAlias(alias: Alias): void {
    this.#aliases.set(place(alias.region, alias.name), alias);
    this.#changed();
  }

  deleteAlias(alias: Alias): void {
    this.#aliases.delete(place(alias.region, alias.name));
    this.#changed();
  }

  /** Lets happen what is due by `now`: replicas come up, keys are deleted, keys rotate. */
  settle(now: number): void {
    for (const key of [...this.#keys.values()]) {
      if (key.state === "Creating" && now >= (key.creatingUntil ?? 0)) {
        key.state = "Enabled";
        delete key.creatingUntil;
        this.#changed();
      }
      if (key.state === "PendingDeletion" && now >= (key.deletionAt ?? Infinity)) {
        this.#deleteKey(key, now);
      }
    }
    for (const family of this.#families.values()) {
      const { rotation } = family;
      const primary = this.key(family.primaryRegion, family.keyId);
      if (rotation === null || now < rotation.nextAt || primary?.state !== "Enabled") continue;
      family.backingKeys.push(createBackingKey("AUTOMATIC", rotation.nextAt));
      rotation.nextAt = now + rotation.periodInDays * DAY_MS;
      this.#changed();
    }
  }

  #deleteKey(key: KmsKey, now: number): void {
    this.#keys.delete(place(key.region, key.keyId));
    for (const alias of this.aliases(key.region)) {
      if (alias.targetKeyId === key.keyId) this.deleteAlias(alias);
    }
    const related = this.related(key.keyId);
    const [last] = related;
    if (last === undefined) this.#families.delete(key.keyId);
    // The waiting period of a primary begins when its last replica is gone.
    else if (related.length === 1 && last.state === "PendingReplicaDeletion") {
      last.state = "PendingDeletion";
      last.deletionAt = now + (last.pendingWindowInDays ?? 30) * DAY_MS;
    }
    this.#changed();
  }
}

function place(region: string, name: string): string {
  return `${region} ${name}`;
}

export function createBackingKey(origin: BackingKey["origin"], createdAt: number): BackingKey {
  return {
    id: createHash("sha256").update(randomBytes(32)).digest("hex"),
    material: randomBytes(32).toString("base64"),
    createdAt,
    origin,
  };
}
