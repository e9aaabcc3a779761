/**
 * Vault tokens: one given from outside and renewed while it can be, or those of an AppRole, which logs in
 * again when its token has come to the end of its renewals.
 * Source: developer.hashicorp.com/vault/api-docs/auth/token, .../auth/approle.
 */
import type { VaultConfig } from "../../../config-vault.ts";
import { SuiteError } from "../../../errors.ts";
import type { Attempts } from "../rest/attempts.ts";
import { unavailable } from "../rest/failure.ts";
import { callJson, countMember, type JsonAnswer, member, textMember } from "../rest/json-call.ts";
import { type Token, TokenSource } from "../rest/token-source.ts";
import { loginFailure } from "./errors.ts";

/** Part of a token's life after which it is renewed. */
const RENEW_AFTER = 2 / 3;

/** A renewal that brings less than this part of the full life is near the token's maximum. */
const WORTHWHILE = 1 / 2;

interface VaultToken extends Token {
  readonly renewable: boolean;
  /** What a full renewal brings, milliseconds. */
  readonly lifeMs: number;
}

export class VaultTokens {
  readonly #config: Pick<VaultConfig, "address" | "namespace" | "auth">;
  readonly #attempts: Attempts;
  readonly #now: () => number;
  readonly #source: TokenSource;
  #last: VaultToken | undefined;

  constructor(
    config: Pick<VaultConfig, "address" | "namespace" | "auth">,
    attempts: Attempts,
    now: () => number,
  ) {
    this.#config = config;
    this.#attempts = attempts;
    this.#now = now;
    this.#source = new TokenSource(async (last) => {
      const still = last !== undefined && last === this.#last ? this.#last : undefined;
      return this.#last = await this.#issue(still);
    }, now);
  }

  get(): Promise<Token> {
    return this.#source.get();
  }

  /** Headers of every request but a login. */
  headers(token: Token): Record<string, string> {
    return { ...this.#baseHeaders(), "x-vault-token": token.value };
  }

  /**
   * After a 403, which Vault answers for a token that is none as for one that may not: answers whether
   * another token could help, and if so sees to it that the next `get` brings one.
   */
  async replaceIfDead(token: Token, signal: AbortSignal): Promise<boolean> {
    if (this.#config.auth.kind === "token") return false;
    const { status } = await this.#exchange("GET", "token/lookup-self", signal, { token });
    if (status !== 403) return false;
    this.#source.invalidate(token);
    return true;
  }

  async #issue(last: VaultToken | undefined): Promise<VaultToken> {
    const now = this.#now();
    if (last?.renewable && last.expiresAt > now) {
      const renewed = await this.#renew(last);
      if (renewed !== undefined) return renewed;
    }
    const { auth } = this.#config;
    if (auth.kind === "approle") return await this.#login(auth);
    // Its renewals are over: it serves for what is left of its life.
    if (last !== undefined && last.expiresAt > now) {
      return { ...last, renewable: false, renewAt: last.expiresAt };
    }
    return await this.#lookUp(auth.token);
  }

  #login(auth: Extract<VaultConfig["auth"], { readonly kind: "approle" }>): Promise<VaultToken> {
    return this.#attempts.call({
      operation: "Login",
      attempt: async (signal) => {
        const asked = this.#now();
        const answer = await this.#exchange("POST", `${auth.mount}/login`, signal, {
          body: { role_id: auth.roleId, secret_id: auth.secretId },
        });
        if (answer.status !== 200) throw loginFailure(answer);
        return this.#tokenOf(answer.body, asked);
      },
    });
  }

  /** Undefined when the token's renewals are over, or were never allowed. */
  async #renew(token: VaultToken): Promise<VaultToken | undefined> {
    try {
      const renewed = await this.#attempts.call({
        operation: "RenewToken",
        attempt: async (signal) => {
          const asked = this.#now();
          const options = { token, body: {} };
          const answer = await this.#exchange("POST", "token/renew-self", signal, options);
          if (answer.status !== 200) throw loginFailure(answer);
          return this.#tokenOf(answer.body, asked);
        },
      });
      const { lifeMs } = token;
      return renewed.lifeMs < lifeMs * WORTHWHILE ? undefined : { ...renewed, lifeMs };
    } catch (error) {
      if (error instanceof SuiteError && error.code === "kms_access_denied") return undefined;
      throw error;
    }
  }

  /** A given token says itself how long it lives and whether it can be renewed, if it may. */
  #lookUp(value: string): Promise<VaultToken> {
    const token = { value, expiresAt: Infinity, renewAt: Infinity, renewable: false, lifeMs: 0 };
    return this.#attempts.call({
      operation: "LookupToken",
      attempt: async (signal) => {
        const asked = this.#now();
        const answer = await this.#exchange("GET", "token/lookup-self", signal, { token });
        // Without the right to look itself up a token is used until it is refused.
        if (answer.status === 403) return token;
        if (answer.status !== 200) throw loginFailure(answer);
        const data = member(answer.body, "data");
        const seconds = countMember(data, "ttl");
        if (seconds === 0) return token;
        return lease(value, asked, seconds, member(data, "renewable") === true);
      },
    });
  }

  #tokenOf(answer: unknown, asked: number): VaultToken {
    const auth = member(answer, "auth");
    const value = textMember(auth, "client_token");
    if (!/^[\x21-\x7e]+$/.test(value)) throw unavailable("the answer is no token");
    const seconds = countMember(auth, "lease_duration");
    if (seconds === 0) {
      return { value, expiresAt: Infinity, renewAt: Infinity, renewable: false, lifeMs: 0 };
    }
    return lease(value, asked, seconds, member(auth, "renewable") === true);
  }

  async #exchange(
    method: "GET" | "POST",
    path: string,
    signal: AbortSignal,
    { token, body }: { readonly token?: Token; readonly body?: unknown },
  ): Promise<JsonAnswer> {
    return await callJson(`${this.#config.address}/v1/auth/${path}`, {
      method,
      headers: token === undefined ? this.#baseHeaders() : this.headers(token),
      ...body === undefined ? {} : { body: JSON.stringify(body) },
      signal,
    });
  }

  #baseHeaders(): Record<string, string> {
    const { namespace } = this.#config;
    return {
      "content-type": "application/json",
      // Vault's agents and proxies refuse requests without it, as a guard against forged ones.
      "x-vault-request": "true",
      ...namespace === undefined ? {} : { "x-vault-namespace": namespace },
    };
  }
}

function lease(value: string, asked: number, seconds: number, renewable: boolean): VaultToken {
  const lifeMs = seconds * 1000;
  return {
    value,
    expiresAt: asked + lifeMs,
    renewAt: asked + lifeMs * RENEW_AFTER,
    renewable,
    lifeMs,
  };
}
