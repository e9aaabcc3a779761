/** Keys in Google Cloud KMS: one symmetric key a class, all in the configured key ring. */
import type { GcpConfig } from "../../../config-gcp.ts";
import type { DataClass } from "../../../data-class.ts";
import type { KeyDescription, KeyMetadata } from "../../key-provider.ts";
import { Attempts, type AttemptsOptions } from "../rest/attempts.ts";
import type { TokenSource } from "../rest/token-source.ts";
import {
  type Wrapped,
  WrappingKeyProvider,
  type WrappingService,
} from "../rest/wrapping-provider.ts";
import { CloudKms, type CryptoKeyMetadata } from "./cloud-kms.ts";
import { GCP_KEYS } from "./names.ts";
import { gcpTokens } from "./tokens.ts";

const KEY_NAME = /^[a-zA-Z0-9_-]{1,63}$/;

/** States of a key version (CryptoKeyVersionState), in the words that AWS's provider answers. */
const STATES: Readonly<Record<string, string>> = {
  ENABLED: "Enabled",
  DISABLED: "Disabled",
  DESTROY_SCHEDULED: "PendingDeletion",
  PENDING_GENERATION: "Creating",
  PENDING_IMPORT: "PendingImport",
};

export class GcpKeyProvider extends WrappingKeyProvider {
  constructor(config: GcpConfig, options: AttemptsOptions) {
    super(new KeyRing(config, options));
  }
}

class KeyRing implements WrappingService {
  readonly names = GCP_KEYS;
  readonly versionInfix = "/cryptoKeyVersions/";
  readonly #config: GcpConfig;
  readonly #keys: string;
  readonly #attempts: Attempts;
  readonly #tokens: TokenSource;
  readonly #kms: CloudKms;

  constructor(config: GcpConfig, options: AttemptsOptions) {
    const { project, location, keyRing } = config;
    this.#config = config;
    this.#keys = `projects/${project}/locations/${location}/keyRings/${keyRing}/cryptoKeys/`;
    this.#attempts = new Attempts(options);
    this.#tokens = gcpTokens(config.credentials, this.#attempts, options.now ?? Date.now);
    this.#kms = new CloudKms(config.endpoint, this.#tokens);
  }

  keyId(dataClass: DataClass): string {
    return this.#keys + this.#config.keys[dataClass];
  }

  owns(keyId: string): boolean {
    return keyId.startsWith(this.#keys) && KEY_NAME.test(keyId.slice(this.#keys.length));
  }

  wrap(
    keyId: string,
    plaintext: Uint8Array,
    authenticated: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Wrapped> {
    const attempt = (limit: AbortSignal) =>
      this.#kms.encrypt(keyId, plaintext, authenticated, limit);
    return this.#call("Encrypt", attempt, signal);
  }

  /** The ciphertext names its version to the service. */
  unwrap(
    keyId: string,
    { ciphertext }: { readonly ciphertext: Uint8Array },
    authenticated: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const attempt = (limit: AbortSignal) =>
      this.#kms.decrypt(keyId, ciphertext, authenticated, limit);
    return this.#call("Decrypt", attempt, signal);
  }

  async describe(dataClass: DataClass): Promise<KeyDescription> {
    const keyId = this.keyId(dataClass);
    return this.#description(keyId, await this.#get(keyId));
  }

  async metadata(dataClass: DataClass): Promise<KeyMetadata> {
    const keyId = this.keyId(dataClass);
    const key = await this.#get(keyId);
    return {
      ...this.#description(keyId, key),
      description: null,
      createdAt: key.createdAt,
      spec: key.algorithm === "GOOGLE_SYMMETRIC_ENCRYPTION" ? "AES-256" : key.algorithm,
      rotation: {
        automatic: key.rotates,
        next: key.nextRotation,
        last: key.version === "1" ? null : key.versionCreatedAt,
        onDemandLeft: null,
      },
    };
  }

  /** Two steps, as Cloud KMS has no rotation of its own; a version without the second one does nothing. */
  async rotate(keyId: string): Promise<string> {
    const create = (limit: AbortSignal) => this.#kms.createVersion(keyId, limit);
    const version = await this.#attempts.call({
      operation: "CreateCryptoKeyVersion",
      attempt: create,
      prepare: () => this.#tokens.get(),
      repeatable: false,
    });
    await this.#call(
      "UpdateCryptoKeyPrimaryVersion",
      (limit) => this.#kms.setPrimary(keyId, version, limit),
    );
    return version;
  }

  #get(keyId: string): Promise<CryptoKeyMetadata> {
    return this.#call("GetCryptoKey", (limit) => this.#kms.get(keyId, limit));
  }

  #description(keyId: string, key: CryptoKeyMetadata): KeyDescription {
    return {
      keyId,
      state: STATES[key.state] ?? key.state,
      multiRegion: false,
      region: this.#config.location,
      ...key.version === undefined ? {} : { version: key.version },
    };
  }

  #call<T>(
    operation: string,
    attempt: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return this.#attempts.call({ operation, attempt, prepare: () => this.#tokens.get(), signal });
  }
}
