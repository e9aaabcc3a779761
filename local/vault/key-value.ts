/**
 * The key/value engine, version 2: secrets with versions.
 * Source: developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2; texts of refusals from Vault's own engine.
 */
import { VaultError } from "./errors.ts";
import type { VaultReply } from "./types.ts";

interface Version {
  readonly data: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
  deletedAt?: number;
}

export type KeyValueState = readonly (readonly [path: string, versions: readonly Version[]])[];

export class KeyValueEngine {
  readonly #secrets: Map<string, Version[]>;
  readonly #now: () => number;

  constructor(now: () => number, state: KeyValueState = []) {
    this.#now = now;
    this.#secrets = new Map(state.map(([path, versions]) => [path, [...versions]]));
  }

  get state(): KeyValueState {
    return [...this.#secrets];
  }

  has(path: string): boolean {
    return this.#secrets.has(path);
  }

  /** The metadata of the new version. */
  write(path: string, input: Readonly<Record<string, unknown>>): Record<string, unknown> {
    const { data } = input;
    if (typeof data !== "object" || data === null || Array.isArray(data)) {
      throw new VaultError(400, "no data provided");
    }
    const versions = this.#secrets.get(path) ?? [];
    this.#secrets.set(path, versions);
    versions.push({ data: { ...data }, createdAt: this.#now() });
    return metadata(versions, versions.length);
  }

  /** `version` as in the query; absent or 0 = the newest. */
  read(path: string, version: string | null): VaultReply {
    const versions = this.#secrets.get(path);
    if (versions === undefined) throw new VaultError(404);
    if (version !== null && !/^\d{1,9}$/.test(version)) {
      throw new VaultError(
        400,
        'Field validation failed: error converting input for field "version"',
      );
    }
    const number = Number(version ?? 0) || versions.length;
    const found = versions[number - 1];
    if (found === undefined) throw new VaultError(404);
    const deleted = found.deletedAt !== undefined;
    return {
      // A deleted version is not found, but still known.
      status: deleted ? 404 : 200,
      data: { data: deleted ? null : { ...found.data }, metadata: metadata(versions, number) },
    };
  }

  /** The newest version. */
  delete(path: string): void {
    const last = this.#secrets.get(path)?.at(-1);
    if (last !== undefined) last.deletedAt ??= this.#now();
  }
}

function metadata(versions: readonly Version[], number: number): Record<string, unknown> {
  const version = versions[number - 1];
  if (version === undefined) throw new Error(`there is no version ${number}`);
  const { createdAt, deletedAt } = version;
  return {
    created_time: new Date(createdAt).toISOString(),
    custom_metadata: null,
    deletion_time: deletedAt === undefined ? "" : new Date(deletedAt).toISOString(),
    destroyed: false,
    version: number,
  };
}
