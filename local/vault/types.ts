import type { RestServer } from "../rest/server.ts";

export type Capability = "create" | "read" | "update" | "delete" | "list" | "deny";

/** Paths, without `v1/` and with `*` at the end for any ending, and what may be done there. */
export type Policy = Readonly<Record<string, readonly Capability[]>>;

/** `data` of an answer, and its status. */
export interface VaultReply {
  readonly status: number;
  readonly data: Record<string, unknown>;
}

export interface LocalVaultOptions {
  /** Port on 127.0.0.1; 0, the default, takes a free one. */
  readonly port?: number;
  /** The only namespace besides the root's; everything is in it. Default: none. */
  readonly namespace?: string;
  /** Where the Transit engine is mounted. Default `transit`. */
  readonly mount?: string;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /**
   * Where keys, secrets, the AppRole, the root token and the port are kept. Policies and other tokens are not:
   * after a restart everybody logs in again. Default: nothing is kept.
   */
  readonly stateFile?: string;
}

export interface TokenOptions {
  /** Default: a new one. */
  readonly id?: string;
  /** Life in seconds; 0 = for ever. Default 3600. */
  readonly ttl?: number;
  /** The longest life that renewals can bring, seconds. Default: unbounded. */
  readonly maxTtl?: number;
  readonly renewable?: boolean;
  /** Default: the policy that the suite needs, `suite`, and `default`. */
  readonly policies?: readonly string[];
}

/** Vault with a Transit engine, a key/value engine (version 2), tokens and one AppRole. */
export interface LocalVault extends RestServer {
  readonly namespace: string | undefined;
  readonly mount: string;
  /** Where the key/value engine is mounted. */
  readonly kvMount: string;
  readonly roleId: string;
  readonly secretId: string;
  /** May do everything, for ever. */
  readonly rootToken: string;
  /** How tokens of the AppRole live. */
  setRole(options: TokenOptions): void;
  token(options?: TokenOptions): string;
  /** Every token given out so far is revoked. */
  revokeTokens(): void;
  setPolicy(name: string, policy: Policy): void;
  createKey(name: string, type?: string): void;
  keyExists(name: string): boolean;
  /** Answers the number of the new version. */
  rotate(name: string): number;
  /** How many versions the key has had. */
  versions(name: string): number;
  /** Seconds between rotations that the engine makes by itself; 0 = none. */
  setAutoRotate(name: string, seconds: number): void;
  setMinDecryptionVersion(name: string, version: number): void;
  deleteKey(name: string): void;
  /** As `vault kv put`: a new version of the secret at a path below the mount. */
  putSecret(path: string, data: Readonly<Record<string, unknown>>): void;
  /** As `vault kv delete`: the newest version. */
  deleteSecret(path: string): void;
  /** Nothing but refusals until it is unsealed. */
  setSealed(sealed: boolean): void;
}
