/** Tokens, what their policies allow, and the AppRole that gives them out. */
import { PERMISSION_DENIED, VaultError } from "./errors.ts";
import type { Capability, Policy, TokenOptions } from "./types.ts";

export interface TokenRecord {
  readonly id: string;
  readonly policies: readonly string[];
  readonly createdAt: number;
  /** Seconds that a renewal brings; 0 = for ever. */
  readonly ttl: number;
  readonly maxTtl: number;
  readonly renewable: boolean;
  expiresAt: number;
}

/** What every token may do, as Vault's own `default` policy. */
const DEFAULT_POLICY: Policy = {
  "auth/token/lookup-self": ["read"],
  "auth/token/renew-self": ["update"],
};

export function newTokenId(): string {
  return `hvs.${crypto.randomUUID().replaceAll("-", "")}`;
}

export class Tokens {
  readonly #tokens = new Map<string, TokenRecord>();
  readonly #policies = new Map<string, Policy>([["default", DEFAULT_POLICY]]);
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  setPolicy(name: string, policy: Policy): void {
    this.#policies.set(name, policy);
  }

  extendPolicy(name: string, more: Policy): void {
    this.#policies.set(name, { ...this.#policies.get(name), ...more });
  }

  issue(options: TokenOptions = {}): TokenRecord {
    const { ttl = 3600, maxTtl = Infinity, renewable = true } = options;
    const now = this.#now();
    const record: TokenRecord = {
      id: options.id ?? newTokenId(),
      policies: options.policies ?? ["default", "suite"],
      createdAt: now,
      ttl,
      maxTtl,
      renewable,
      expiresAt: ttl === 0 ? Infinity : now + Math.min(ttl, maxTtl) * 1000,
    };
    this.#tokens.set(record.id, record);
    return record;
  }

  revokeAll(): void {
    this.#tokens.clear();
  }

  /** @throws {VaultError} 403 */
  find(id: string | undefined): TokenRecord {
    const token = this.#tokens.get(id ?? "");
    if (token === undefined || token.expiresAt <= this.#now()) {
      throw new VaultError(403, PERMISSION_DENIED);
    }
    return token;
  }

  /** @throws {VaultError} 403 */
  require(token: TokenRecord, path: string, capability: Capability): void {
    if (token.policies.includes("root")) return;
    const matching = token.policies
      .flatMap((name) => Object.entries(this.#policies.get(name) ?? {}))
      .filter(([pattern]) =>
        pattern.endsWith("*") ? path.startsWith(pattern.slice(0, -1)) : path === pattern
      );
    // The most specific path alone counts: the exact one, or else the longest.
    const rank = (pattern: string) => pattern.endsWith("*") ? pattern.length - 1 : Infinity;
    const best = Math.max(...matching.map(([pattern]) => rank(pattern)));
    const granted = matching
      .filter(([pattern]) => rank(pattern) === best)
      .flatMap(([, capabilities]) => capabilities);
    if (granted.includes("deny") || !granted.includes(capability)) {
      throw new VaultError(403, "1 error occurred:\n\t* permission denied\n\n");
    }
  }

  /** @throws {VaultError} 400 */
  renew(token: TokenRecord): void {
    if (!token.renewable || token.ttl === 0) throw new VaultError(400, "lease is not renewable");
    const now = this.#now();
    token.expiresAt = Math.min(now + token.ttl * 1000, token.createdAt + token.maxTtl * 1000);
  }

  /** Whole seconds that are left; 0 = for ever. */
  secondsLeft(token: TokenRecord): number {
    if (token.expiresAt === Infinity) return 0;
    return Math.max(1, Math.ceil((token.expiresAt - this.#now()) / 1000));
  }
}
