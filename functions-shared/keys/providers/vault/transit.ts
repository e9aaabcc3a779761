/**
 * The operations of Vault's Transit engine that the suite uses.
 * Source: developer.hashicorp.com/vault/api-docs/secret/transit.
 */
import { decodeMessage, encodeMessage } from "../../../message/mod.ts";
import { accessDenied, keyUnusable, unavailable, wrongCiphertext } from "../rest/failure.ts";
import { callJson, countMember, member, textMember, timeMember } from "../rest/json-call.ts";
import { requireKey, type Wrapped } from "../rest/wrapping-provider.ts";
import { type TransitOperation, vaultFailure } from "./errors.ts";
import type { VaultTokens } from "./tokens.ts";

const CIPHERTEXT = /^vault:v([1-9]\d{0,9}):[A-Za-z0-9+/]{40,4000}={0,2}$/;

/** Types that authenticate associated data with a random nonce. */
const TYPES = ["aes256-gcm96", "chacha20-poly1305"];

const PATHS: Readonly<Record<TransitOperation, (key: string) => string>> = {
  Encrypt: (key) => `encrypt/${key}`,
  Decrypt: (key) => `decrypt/${key}`,
  ReadKey: (key) => `keys/${key}`,
  RotateKey: (key) => `keys/${key}/rotate`,
};

export interface TransitKey {
  /** The newest version, which wraps new keys. */
  readonly version: string;
  /** ISO 8601; null when the engine does not say. */
  readonly versionCreatedAt: string | null;
  /** Of the oldest version that the engine still has. */
  readonly createdAt: string | null;
  /** Seconds between rotations that the engine makes by itself; 0 = it makes none. */
  readonly autoRotateSeconds: number;
  readonly type: string;
}

export class Transit {
  readonly #url: string;
  readonly #tokens: VaultTokens;

  /** `url`: of the mount, without a trailing slash. */
  constructor(url: string, tokens: VaultTokens) {
    this.#url = url;
    this.#tokens = tokens;
  }

  /** Under the key's newest version. */
  async encrypt(
    key: string,
    plaintext: Uint8Array,
    authenticated: Uint8Array,
    signal: AbortSignal,
  ): Promise<Wrapped> {
    const data = await this.#call("Encrypt", key, signal, {
      plaintext: encodeMessage(plaintext),
      associated_data: encodeMessage(authenticated),
    });
    const ciphertext = textMember(data, "ciphertext");
    const version = CIPHERTEXT.exec(ciphertext)?.[1];
    if (version === undefined || version !== String(countMember(data, "key_version"))) {
      throw unavailable("the answer is no ciphertext");
    }
    return { ciphertext: new TextEncoder().encode(ciphertext), version };
  }

  /** 32 bytes. `version`: what the ciphertext must name, when the caller knows. */
  async decrypt(
    key: string,
    wrapped: { readonly ciphertext: Uint8Array; readonly version?: string },
    authenticated: Uint8Array,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const ciphertext = new TextDecoder().decode(wrapped.ciphertext);
    const version = CIPHERTEXT.exec(ciphertext)?.[1];
    if (version === undefined || (wrapped.version ?? version) !== version) throw wrongCiphertext();
    const data = await this.#call("Decrypt", key, signal, {
      ciphertext,
      associated_data: encodeMessage(authenticated),
    });
    const plaintext = textMember(data, "plaintext");
    try {
      return requireKey(decodeMessage(plaintext));
    } catch {
      throw unavailable("the answer is no key of 32 bytes");
    }
  }

  /** @throws {ServiceFailure} kms_key_unusable for a key that would not bind the context. */
  async read(key: string, signal: AbortSignal): Promise<TransitKey> {
    const data = await this.#call("ReadKey", key, signal);
    const type = textMember(data, "type");
    if (
      !TYPES.includes(type) || member(data, "derived") === true ||
      member(data, "supports_encryption") !== true || member(data, "supports_decryption") !== true
    ) {
      throw keyUnusable(key);
    }
    const version = String(countMember(data, "latest_version"));
    const versions = member(data, "keys");
    const oldest = Object.keys(versions ?? {}).sort((a, b) => Number(a) - Number(b))[0] ?? "";
    // Older engines cannot rotate by themselves, and do not say so.
    const period = member(data, "auto_rotate_period") ?? 0;
    return {
      version,
      versionCreatedAt: timeMember(versions, version),
      createdAt: timeMember(versions, oldest),
      autoRotateSeconds: typeof period === "number" ? period : 0,
      type,
    };
  }

  /** A new version, which encrypts from now on. Engines answer the key, older ones nothing. */
  async rotate(key: string, signal: AbortSignal): Promise<void> {
    await this.#call("RotateKey", key, signal, {});
  }

  async #call(
    operation: TransitOperation,
    key: string,
    signal: AbortSignal,
    body?: Readonly<Record<string, string>>,
  ): Promise<unknown> {
    const token = await this.#tokens.get();
    const answer = await callJson(`${this.#url}/${PATHS[operation](key)}`, {
      method: body === undefined ? "GET" : "POST",
      headers: this.#tokens.headers(token),
      ...body === undefined ? {} : { body: JSON.stringify(body) },
      onceOnly: operation === "RotateKey",
      signal,
    });
    if (answer.status === 200 || answer.status === 204) return member(answer.body, "data");
    if (answer.status === 403 && await this.#tokens.replaceIfDead(token, signal)) {
      throw accessDenied("credentials");
    }
    throw vaultFailure(operation, key, answer);
  }
}
