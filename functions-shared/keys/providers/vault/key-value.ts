/**
 * One secret of Vault's key/value engine, version 2: for the import of a key that an older setup keeps there.
 * Source: developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
 */
import type { VaultConfig } from "../../../config-vault.ts";
import { Attempts, type AttemptsOptions } from "../rest/attempts.ts";
import { accessDenied, keyNotFound } from "../rest/failure.ts";
import { callJson, member } from "../rest/json-call.ts";
import { vaultFailure } from "./errors.ts";
import { VaultTokens } from "./tokens.ts";

/** Segments that a URL neither resolves nor decodes; the first is the mount, as `vault kv get` has it. */
const PATH =
  /^([\w-]{1,64})\/((?!\.{1,2}(?:\/|$))[\w.-]{1,128}(?:\/(?!\.{1,2}(?:\/|$))[\w.-]{1,128}){0,9})$/;

export interface KvSecret {
  /** What the key is called in errors. */
  readonly keyId: string;
  /** `MOUNT/PATH`. */
  readonly name: string;
  /** Which member of the secret. */
  readonly field: string;
  readonly version?: number | undefined;
}

/** The token needs `read` on `MOUNT/data/PATH`. */
export function keyValueStore(
  config: Pick<VaultConfig, "address" | "namespace" | "auth">,
  options: AttemptsOptions,
): (secret: KvSecret, signal?: AbortSignal) => Promise<string> {
  const attempts = new Attempts(options);
  const tokens = new VaultTokens(config, attempts, options.now ?? Date.now);
  return ({ keyId, name, field, version }, signal) =>
    attempts.call({
      operation: "ReadSecret",
      signal,
      prepare: () => tokens.get(),
      attempt: async (limit) => {
        const [, mount, path] = PATH.exec(name) ?? [];
        if (mount === undefined) throw keyNotFound(keyId);
        const token = await tokens.get();
        const query = version === undefined ? "" : `?version=${version}`;
        const answer = await callJson(`${config.address}/v1/${mount}/data/${path}${query}`, {
          method: "GET",
          headers: tokens.headers(token),
          signal: limit,
        });
        if (answer.status === 200) {
          const value = member(member(member(answer.body, "data"), "data"), field);
          if (typeof value !== "string") throw keyNotFound(keyId);
          return value;
        }
        if (answer.status === 403 && await tokens.replaceIfDead(token, limit)) {
          throw accessDenied("credentials");
        }
        // A deleted version is answered with 404 as well, but with its metadata in place of errors.
        if (answer.status === 404 && member(answer.body, "data") !== undefined) {
          throw keyNotFound(keyId);
        }
        throw vaultFailure("ReadKey", keyId, answer);
      },
    });
}
