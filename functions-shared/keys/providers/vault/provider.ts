/** Keys in Vault's Transit engine: one symmetric key a class, all in the configured namespace and mount. */
import type { VaultConfig } from "../../../config-vault.ts";
import type { DataClass } from "../../../data-class.ts";
import type { KeyDescription, KeyMetadata } from "../../key-provider.ts";
import { SingleFlight } from "../../single-flight.ts";
import { Attempts, type AttemptsOptions } from "../rest/attempts.ts";
import {
  type Wrapped,
  WrappingKeyProvider,
  type WrappingService,
} from "../rest/wrapping-provider.ts";
import { VAULT_KEYS } from "./names.ts";
import { VaultTokens } from "./tokens.ts";
import { Transit, type TransitKey } from "./transit.ts";

/** The Transit engine's own rule for names. */
const KEY_NAME = /^\w([\w.-]{0,126}\w)?$/;

/** How long a key that was found usable is taken to be. */
const KEY_TTL_MS = 5 * 60_000;

export class VaultKeyProvider extends WrappingKeyProvider {
  constructor(config: VaultConfig, options: AttemptsOptions) {
    super(new TransitMount(config, options));
  }
}

class TransitMount implements WrappingService {
  readonly names = VAULT_KEYS;
  readonly versionInfix = "/versions/";
  readonly #config: VaultConfig;
  readonly #keys: string;
  readonly #attempts: Attempts;
  readonly #tokens: VaultTokens;
  readonly #transit: Transit;
  readonly #now: () => number;
  readonly #usable = new Map<string, SingleFlight<TransitKey>>();

  constructor(config: VaultConfig, options: AttemptsOptions) {
    const place = config.namespace === undefined ? "" : `${config.namespace}/`;
    this.#config = config;
    // The address is no part of a name: a Vault may move, and its keys with it.
    this.#keys = `${VAULT_KEYS.keyIdPrefix}${place}${config.mount}/keys/`;
    this.#now = options.now ?? Date.now;
    this.#attempts = new Attempts(options);
    this.#tokens = new VaultTokens(config, this.#attempts, this.#now);
    this.#transit = new Transit(`${config.address}/v1/${config.mount}`, this.#tokens);
  }

  keyId(dataClass: DataClass): string {
    return this.#keys + this.#config.keys[dataClass];
  }

  owns(keyId: string): boolean {
    return keyId.startsWith(this.#keys) && KEY_NAME.test(keyId.slice(this.#keys.length));
  }

  /**
   * Reads the key first, at most once in five minutes: encrypting under a name that does not exist would
   * make a key of that name for whoever may create one.
   */
  async wrap(
    keyId: string,
    plaintext: Uint8Array,
    authenticated: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Wrapped> {
    const key = this.#nameOf(keyId);
    await this.#key(key).get();
    const attempt = (limit: AbortSignal) =>
      this.#transit.encrypt(key, plaintext, authenticated, limit);
    return await this.#call("Encrypt", attempt, signal);
  }

  unwrap(
    keyId: string,
    wrapped: { readonly ciphertext: Uint8Array; readonly version?: string },
    authenticated: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const key = this.#nameOf(keyId);
    const attempt = (limit: AbortSignal) =>
      this.#transit.decrypt(key, wrapped, authenticated, limit);
    return this.#call("Decrypt", attempt, signal);
  }

  async describe(dataClass: DataClass): Promise<KeyDescription> {
    return this.#description(dataClass, await this.#read(this.#config.keys[dataClass]));
  }

  async metadata(dataClass: DataClass): Promise<KeyMetadata> {
    const key = await this.#read(this.#config.keys[dataClass]);
    const { autoRotateSeconds, versionCreatedAt, version } = key;
    const automatic = autoRotateSeconds > 0;
    const next = automatic && versionCreatedAt !== null
      ? new Date(Date.parse(versionCreatedAt) + autoRotateSeconds * 1000).toISOString()
      : null;
    return {
      ...this.#description(dataClass, key),
      description: null,
      createdAt: key.createdAt,
      spec: key.type === "aes256-gcm96" ? "AES-256" : key.type,
      rotation: {
        automatic,
        next,
        last: version === "1" ? null : versionCreatedAt,
        onDemandLeft: null,
      },
    };
  }

  async rotate(keyId: string): Promise<string> {
    const key = this.#nameOf(keyId);
    await this.#attempts.call({
      operation: "RotateKey",
      attempt: (limit) => this.#transit.rotate(key, limit),
      prepare: () => this.#tokens.get(),
      repeatable: false,
    });
    return (await this.#read(key)).version;
  }

  #description(dataClass: DataClass, { version }: TransitKey): KeyDescription {
    const keyId = this.keyId(dataClass);
    return { keyId, state: "Enabled", multiRegion: false, region: undefined, version };
  }

  #nameOf(keyId: string): string {
    return keyId.slice(this.#keys.length);
  }

  #key(key: string): SingleFlight<TransitKey> {
    const known = this.#usable.get(key) ?? new SingleFlight(async () => {
      const value = await this.#read(key);
      return { value, expiresAt: this.#now() + KEY_TTL_MS };
    }, this.#now);
    this.#usable.set(key, known);
    return known;
  }

  #read(key: string): Promise<TransitKey> {
    return this.#call("ReadKey", (limit) => this.#transit.read(key, limit));
  }

  #call<T>(
    operation: string,
    attempt: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return this.#attempts.call({ operation, attempt, prepare: () => this.#tokens.get(), signal });
  }
}
