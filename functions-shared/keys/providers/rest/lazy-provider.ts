/**
 * A key provider whose code is loaded with its first key call: a cold worker pays for the one it uses, and
 * for a reader only when it meets a message of that reader.
 */
import type { DataClass } from "../../../data-class.ts";
import type { EncryptedDataKey, EncryptionContext } from "../../../message/mod.ts";
import type {
  KeyDescription,
  KeyMetadata,
  KeyProvider,
  RegionReport,
  UnwrappedKey,
} from "../../key-provider.ts";
import type { GeneratedDataKey } from "../../keyring.ts";
import type { KeyNames } from "./key-names.ts";

export class LazyKeyProvider implements KeyProvider {
  readonly name: KeyProvider["name"];
  readonly #names: KeyNames;
  readonly #load: () => Promise<KeyProvider>;
  #loaded: Promise<KeyProvider> | undefined;

  constructor(names: KeyNames, load: () => Promise<KeyProvider>) {
    this.name = names.name;
    this.#names = names;
    this.#load = load;
  }

  async generateDataKey(
    dataClass: DataClass,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<GeneratedDataKey> {
    return await (await this.#provider()).generateDataKey(dataClass, context, signal);
  }

  recognises(encrypted: EncryptedDataKey): boolean {
    return encrypted.providerId === this.#names.providerId;
  }

  async decryptDataKey(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    return await (await this.#provider()).decryptDataKey(encrypted, context, signal);
  }

  async wrappingKeyId(dataClass: DataClass, standing?: string): Promise<string> {
    return await (await this.#provider()).wrappingKeyId(dataClass, standing);
  }

  holds(keyId: string): boolean {
    return keyId.startsWith(this.#names.keyIdPrefix);
  }

  async generateWrappedKey(keyId: string, context: EncryptionContext): Promise<Uint8Array> {
    return await (await this.#provider()).generateWrappedKey(keyId, context);
  }

  async rewrapKey(
    keyId: string,
    wrapped: Uint8Array,
    from: EncryptionContext,
    to: EncryptionContext,
  ): Promise<Uint8Array> {
    return await (await this.#provider()).rewrapKey(keyId, wrapped, from, to);
  }

  async wrapKey(
    keyId: string,
    plaintext: Uint8Array,
    context: EncryptionContext,
  ): Promise<Uint8Array> {
    return await (await this.#provider()).wrapKey(keyId, plaintext, context);
  }

  async unwrapKey(
    keyId: string,
    wrapped: Uint8Array,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<UnwrappedKey> {
    return await (await this.#provider()).unwrapKey(keyId, wrapped, context, signal);
  }

  async describe(dataClass: DataClass): Promise<KeyDescription> {
    return await (await this.#provider()).describe(dataClass);
  }

  async metadata(dataClass: DataClass): Promise<KeyMetadata> {
    return await (await this.#provider()).metadata(dataClass);
  }

  async rotateNow(keyId: string): Promise<string | null> {
    return await (await this.#provider()).rotateNow(keyId);
  }

  /** Only AWS has regions to report. */
  regions(): Readonly<Record<string, RegionReport>> {
    return {};
  }

  #provider(): Promise<KeyProvider> {
    return this.#loaded ??= this.#load();
  }
}
