/**
 * A key provider on a service that encrypts and decrypts, and no more: keys are made here, wrapped there,
 * and zeroed. The service's authenticated data is the serialized encryption context (AWS Encryption SDK
 * specification, framework/structures.md, "Serialization").
 */
import type { DataClass } from "../../../data-class.ts";
import { SuiteError } from "../../../errors.ts";
import {
  DATA_KEY_BYTES,
  type EncryptedDataKey,
  type EncryptionContext,
  serializeEncryptionContext,
} from "../../../message/mod.ts";
import { randomBytes } from "../../../message/primitives.ts";
import type {
  KeyDescription,
  KeyMetadata,
  KeyProvider,
  RegionReport,
  UnwrappedKey,
} from "../../key-provider.ts";
import type { GeneratedDataKey } from "../../keyring.ts";
import { unavailable } from "./failure.ts";
import type { KeyNames } from "./key-names.ts";

/** A wrapped key and the version of the wrapping key that wrapped it. */
export interface Wrapped {
  readonly ciphertext: Uint8Array;
  readonly version: string;
}

/** Throws `SuiteError`s, as keyrings do. */
export interface WrappingService {
  readonly names: KeyNames;
  /** What stands between a key's name and its version. */
  readonly versionInfix: string;
  keyId(dataClass: DataClass): string;
  /** Whether the name is one of the configured place, and nothing but a name: only such are called. */
  owns(keyId: string): boolean;
  wrap(
    keyId: string,
    plaintext: Uint8Array,
    authenticated: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Wrapped>;
  /** `version`: when the caller knows it. */
  unwrap(
    keyId: string,
    wrapped: { readonly ciphertext: Uint8Array; readonly version?: string },
    authenticated: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Uint8Array>;
  describe(dataClass: DataClass): Promise<KeyDescription>;
  metadata(dataClass: DataClass): Promise<KeyMetadata>;
  /** Answers the new version. */
  rotate(keyId: string): Promise<string>;
}

const VERSION = /^[1-9]\d{0,9}$/;

/** Above any wrapped key of 32 bytes. */
const MAX_CIPHERTEXT_BYTES = 4096;

export class WrappingKeyProvider implements KeyProvider {
  readonly name: KeyProvider["name"];
  readonly #service: WrappingService;

  constructor(service: WrappingService) {
    this.#service = service;
    this.name = service.names.name;
  }

  async generateDataKey(
    dataClass: DataClass,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<GeneratedDataKey> {
    const { names, versionInfix } = this.#service;
    const keyId = this.#service.keyId(dataClass);
    const plaintext = randomBytes(DATA_KEY_BYTES);
    try {
      const authenticated = serializeEncryptionContext(context);
      const wrapped = await this.#service.wrap(keyId, plaintext, authenticated, signal);
      const providerInfo = new TextEncoder().encode(keyId + versionInfix + wrapped.version);
      const encrypted = {
        providerId: names.providerId,
        providerInfo,
        ciphertext: wrapped.ciphertext,
      };
      return { plaintext, encrypted, keyId };
    } catch (error) {
      plaintext.fill(0);
      throw error;
    }
  }

  recognises(encrypted: EncryptedDataKey): boolean {
    return encrypted.providerId === this.#service.names.providerId;
  }

  async decryptDataKey(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const info = new TextDecoder().decode(encrypted.providerInfo);
    const at = info.lastIndexOf(this.#service.versionInfix);
    const version = info.slice(at + this.#service.versionInfix.length);
    if (at < 0 || !VERSION.test(version)) throw new SuiteError("decryption_failed");
    const { ciphertext } = encrypted;
    return await this.#unwrap(info.slice(0, at), { ciphertext, version }, context, signal);
  }

  /** The service's own versions rotate under one name, so a standing name is the present one or another. */
  wrappingKeyId(dataClass: DataClass): Promise<string> {
    return Promise.resolve(this.#service.keyId(dataClass));
  }

  holds(keyId: string): boolean {
    return keyId.startsWith(this.#service.names.keyIdPrefix);
  }

  async generateWrappedKey(keyId: string, context: EncryptionContext): Promise<Uint8Array> {
    const plaintext = randomBytes(DATA_KEY_BYTES);
    try {
      return await this.wrapKey(keyId, plaintext, context);
    } finally {
      plaintext.fill(0);
    }
  }

  async rewrapKey(
    keyId: string,
    wrapped: Uint8Array,
    from: EncryptionContext,
    to: EncryptionContext,
  ): Promise<Uint8Array> {
    const { plaintext } = await this.unwrapKey(keyId, wrapped, from);
    try {
      return await this.wrapKey(keyId, plaintext, to);
    } finally {
      plaintext.fill(0);
    }
  }

  async wrapKey(
    keyId: string,
    plaintext: Uint8Array,
    context: EncryptionContext,
  ): Promise<Uint8Array> {
    if (!this.#service.owns(keyId)) throw new SuiteError("decryption_failed");
    const authenticated = serializeEncryptionContext(context);
    return (await this.#service.wrap(keyId, plaintext, authenticated)).ciphertext;
  }

  async unwrapKey(
    keyId: string,
    wrapped: Uint8Array,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<UnwrappedKey> {
    return { plaintext: await this.#unwrap(keyId, { ciphertext: wrapped }, context, signal) };
  }

  describe(dataClass: DataClass): Promise<KeyDescription> {
    return this.#service.describe(dataClass);
  }

  metadata(dataClass: DataClass): Promise<KeyMetadata> {
    return this.#service.metadata(dataClass);
  }

  async rotateNow(keyId: string): Promise<string | null> {
    if (!this.#service.owns(keyId)) throw new SuiteError("kms_key_unusable");
    return await this.#service.rotate(keyId);
  }

  regions(): Readonly<Record<string, RegionReport>> {
    return {};
  }

  async #unwrap(
    keyId: string,
    wrapped: { readonly ciphertext: Uint8Array; readonly version?: string },
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    // The name comes from a stored message or record, which an attacker may have written.
    const { length } = wrapped.ciphertext;
    if (!this.#service.owns(keyId) || length === 0 || length > MAX_CIPHERTEXT_BYTES) {
      throw new SuiteError("decryption_failed");
    }
    const authenticated = serializeEncryptionContext(context);
    return await this.#service.unwrap(keyId, wrapped, authenticated, signal);
  }
}

/** The services answer in base64 what must be one whole key. @throws {ServiceFailure} transient */
export function requireKey(plaintext: Uint8Array): Uint8Array {
  if (plaintext.length === DATA_KEY_BYTES) return plaintext;
  plaintext.fill(0);
  throw unavailable("the answer is no key of 32 bytes");
}
