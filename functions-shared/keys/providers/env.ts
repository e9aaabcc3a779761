/**
 * Keys derived from `ENCRYPTION_KEY`: for development, and for classes whose owner accepts that whoever
 * reads the environment reads the data. Configuration refuses it for production.
 *
 * Each class has a wrapping key of its own: HKDF-SHA512(ENCRYPTION_KEY, salt, class). Data keys are
 * wrapped as by the raw AES keyring of the AWS Encryption SDK specification (framework/raw-aes-keyring.md).
 */
import type { DataClass } from "../../data-class.ts";
import { DATA_CLASSES } from "../../data-class.ts";
import { SuiteError } from "../../errors.ts";
import {
  type EncryptedDataKey,
  type EncryptionContext,
  unwrapDataKeyRawAes,
  wrapDataKeyRawAes,
} from "../../message/mod.ts";
import { hkdfSha512 } from "../../message/primitives.ts";
import type {
  KeyDescription,
  KeyMetadata,
  KeyProvider,
  RegionReport,
  UnwrappedKey,
} from "../key-provider.ts";
import type { GeneratedDataKey } from "../keyring.ts";

const KEY_NAMESPACE = "env";
const SALT = new TextEncoder().encode("supabase-kms/env/v1");

interface WrappingKey {
  /** `<class>-<fingerprint of the key>`, so that a message names the `ENCRYPTION_KEY` it needs. */
  readonly name: string;
  readonly key: Uint8Array;
}

export class EnvKeyProvider implements KeyProvider {
  readonly name = "env";
  readonly #keys: Readonly<Record<DataClass, WrappingKey>>;
  readonly #random: (length: number) => Uint8Array;

  /** `encryptionKey`: 32 bytes or more of input key material. */
  constructor(encryptionKey: Uint8Array, random: (length: number) => Uint8Array = randomBytes) {
    const wrappingKey = (dataClass: DataClass): WrappingKey => {
      const id = derive(encryptionKey, `key-id:${dataClass}`, 4);
      const hex = Array.from(id, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return { name: `${dataClass}-${hex}`, key: derive(encryptionKey, `wrap:${dataClass}`, 32) };
    };
    this.#keys = {
      payment: wrappingKey("payment"),
      pii: wrappingKey("pii"),
      general: wrappingKey("general"),
    };
    this.#random = random;
  }

  generateDataKey(dataClass: DataClass, context: EncryptionContext): Promise<GeneratedDataKey> {
    const { name, key } = this.#keys[dataClass];
    const plaintext = this.#random(32);
    const encrypted = wrapDataKeyRawAes({
      wrappingKey: key,
      keyNamespace: KEY_NAMESPACE,
      keyName: name,
      dataKey: plaintext,
      encryptionContext: context,
    });
    return Promise.resolve({ plaintext, encrypted, keyId: `${KEY_NAMESPACE}:${name}` });
  }

  recognises(encrypted: EncryptedDataKey): boolean {
    return encrypted.providerId === KEY_NAMESPACE;
  }

  decryptDataKey(encrypted: EncryptedDataKey, context: EncryptionContext): Promise<Uint8Array> {
    for (const dataClass of DATA_CLASSES) {
      const { name, key } = this.#keys[dataClass];
      try {
        return Promise.resolve(unwrapDataKeyRawAes({
          wrappingKey: key,
          keyNamespace: KEY_NAMESPACE,
          keyName: name,
          encryptedDataKey: encrypted,
          encryptionContext: context,
        }));
      } catch {
        // Another class's key, or none of ours: the one error below says no more than that.
      }
    }
    return Promise.reject(new SuiteError("decryption_failed"));
  }

  wrappingKeyId(dataClass: DataClass): Promise<string> {
    return Promise.resolve(`${KEY_NAMESPACE}:${this.#keys[dataClass].name}`);
  }

  holds(keyId: string): boolean {
    return keyId.startsWith(`${KEY_NAMESPACE}:`);
  }

  /** `wrapped` is the raw AES provider info, its length as one byte before it, then the ciphertext. */
  async generateWrappedKey(keyId: string, context: EncryptionContext): Promise<Uint8Array> {
    const { encrypted, plaintext } = await this.generateDataKey(this.#classOf(keyId), context);
    plaintext.fill(0);
    return toBlob(encrypted);
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

  // deno-lint-ignore require-await -- a key id that is none of ours is a rejection
  async wrapKey(
    keyId: string,
    plaintext: Uint8Array,
    context: EncryptionContext,
  ): Promise<Uint8Array> {
    const { name, key } = this.#keys[this.#classOf(keyId)];
    return toBlob(wrapDataKeyRawAes({
      wrappingKey: key,
      keyNamespace: KEY_NAMESPACE,
      keyName: name,
      dataKey: plaintext,
      encryptionContext: context,
    }));
  }

  async unwrapKey(
    keyId: string,
    wrapped: Uint8Array,
    context: EncryptionContext,
  ): Promise<UnwrappedKey> {
    this.#classOf(keyId);
    const infoEnd = 1 + (wrapped[0] ?? 0);
    const plaintext = await this.decryptDataKey({
      providerId: KEY_NAMESPACE,
      providerInfo: wrapped.slice(1, infoEnd),
      ciphertext: wrapped.slice(infoEnd),
    }, context);
    return { plaintext };
  }

  describe(dataClass: DataClass): Promise<KeyDescription> {
    return Promise.resolve({
      keyId: `${KEY_NAMESPACE}:${this.#keys[dataClass].name}`,
      state: "Enabled",
      multiRegion: false,
      region: undefined,
    });
  }

  async metadata(dataClass: DataClass): Promise<KeyMetadata> {
    return {
      ...await this.describe(dataClass),
      description: "derived from ENCRYPTION_KEY",
      createdAt: null,
      spec: "AES-256",
      rotation: { automatic: false, next: null, last: null, onDemandLeft: 0 },
    };
  }

  /** Another `ENCRYPTION_KEY` is another key: nothing that the old one wrapped opens under it. */
  rotateNow(): Promise<never> {
    return Promise.reject(new SuiteError("rotation_not_supported"));
  }

  regions(): Readonly<Record<string, RegionReport>> {
    return {};
  }

  #classOf(keyId: string): DataClass {
    const found = DATA_CLASSES.find((dataClass) =>
      keyId === `${KEY_NAMESPACE}:${this.#keys[dataClass].name}`
    );
    // A record made under another ENCRYPTION_KEY.
    if (found === undefined) throw new SuiteError("decryption_failed");
    return found;
  }
}

function toBlob({ providerInfo, ciphertext }: EncryptedDataKey): Uint8Array {
  return new Uint8Array([providerInfo.length, ...providerInfo, ...ciphertext]);
}

function derive(encryptionKey: Uint8Array, info: string, length: number): Uint8Array {
  return hkdfSha512(encryptionKey, SALT, new TextEncoder().encode(info), length);
}

function randomBytes(length: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(length));
}
