/**
 * The Transit engine: symmetric keys with versions, their ciphertexts, their metadata.
 * Source: developer.hashicorp.com/vault/api-docs/secret/transit; texts of refusals from Vault's own engine.
 */
import { randomBytes } from "node:crypto";
import { open, seal } from "../rest/aes-gcm.ts";
import { base64Bytes, base64Text } from "../rest/server.ts";
import { VaultError } from "./errors.ts";

interface TransitKey {
  readonly type: string;
  readonly versions: { readonly key: Uint8Array; readonly createdAt: number }[];
  minDecryptionVersion: number;
  autoRotateSeconds: number;
}

/** As kept in a file: keys in base64. */
export type TransitState = readonly (readonly [
  name: string,
  key: Omit<TransitKey, "versions"> & {
    readonly versions: readonly { readonly key: string; readonly createdAt: number }[];
  },
])[];

export class TransitEngine {
  readonly #keys: Map<string, TransitKey>;
  readonly #now: () => number;

  constructor(now: () => number, state: TransitState = []) {
    this.#now = now;
    this.#keys = new Map(state.map(([name, { versions, ...key }]) => [name, {
      ...key,
      versions: versions.map((one) => ({ ...one, key: base64Bytes(one.key)! })),
    }]));
  }

  get state(): TransitState {
    return [...this.#keys].map(([name, { versions, ...key }]) => [name, {
      ...key,
      versions: versions.map((one) => ({ ...one, key: base64Text(one.key) })),
    }]);
  }

  get names(): string[] {
    return [...this.#keys.keys()];
  }

  has(name: string): boolean {
    return this.#keys.has(name);
  }

  create(name: string, type = "aes256-gcm96"): void {
    if (this.#keys.has(name)) return;
    this.#keys.set(name, { type, versions: [], minDecryptionVersion: 1, autoRotateSeconds: 0 });
    this.rotate(name);
  }

  delete(name: string): void {
    this.#keys.delete(name);
  }

  rotate(name: string): number {
    const key = new Uint8Array(randomBytes(32));
    return this.#named(name).versions.push({ key, createdAt: this.#now() });
  }

  versions(name: string): number {
    return this.#named(name).versions.length;
  }

  setAutoRotate(name: string, seconds: number): void {
    this.#named(name).autoRotateSeconds = seconds;
  }

  setMinDecryptionVersion(name: string, version: number): void {
    const key = this.#named(name);
    if (version > key.versions.length) throw new Error(`there is no version ${version}`);
    key.minDecryptionVersion = version;
  }

  encrypt(name: string, input: Readonly<Record<string, unknown>>): Record<string, unknown> {
    if (typeof input.plaintext !== "string") {
      throw new VaultError(400, "missing plaintext to encrypt");
    }
    const plaintext = decode(input.plaintext, "failed to base64-decode plaintext");
    const authenticated = associatedData(input);
    const key = this.#aead(name, "encryption");
    const version = key.versions.length;
    const sealed = seal(key.versions[version - 1]!.key, plaintext, authenticated);
    return { ciphertext: `vault:v${version}:${base64Text(sealed)}`, key_version: version };
  }

  decrypt(name: string, input: Readonly<Record<string, unknown>>): Record<string, unknown> {
    const { ciphertext } = input;
    if (typeof ciphertext !== "string" || ciphertext === "") {
      throw new VaultError(400, "missing ciphertext to decrypt");
    }
    const authenticated = associatedData(input);
    const key = this.#aead(name, "decryption");
    if (!ciphertext.startsWith("vault:v")) {
      throw new VaultError(400, "invalid ciphertext: no prefix");
    }
    const [, number, text] = /^vault:v([^:]*):(.*)$/s.exec(ciphertext) ?? [];
    if (number === undefined || text === undefined) {
      throw new VaultError(400, "invalid ciphertext: wrong number of fields");
    }
    if (!/^\d+$/.test(number)) {
      throw new VaultError(400, "invalid ciphertext: version number could not be decoded");
    }
    const version = Number(number) || 1;
    if (version > key.versions.length) {
      throw new VaultError(400, "invalid ciphertext: version is too new");
    }
    if (version < key.minDecryptionVersion) {
      throw new VaultError(
        400,
        "ciphertext or signature version is disallowed by policy (too old)",
      );
    }
    const sealed = decode(text, "invalid ciphertext: could not decode base64");
    if (sealed.length < 12) throw new VaultError(400, "invalid ciphertext length");
    const plaintext = open(key.versions[version - 1]!.key, sealed, authenticated);
    if (plaintext === null) throw new VaultError(400, "cipher: message authentication failed");
    return { plaintext: base64Text(plaintext) };
  }

  read(name: string): Record<string, unknown> {
    const key = this.#keys.get(name);
    if (key === undefined) throw new VaultError(404);
    const symmetric = isSymmetric(key);
    const versions = key.versions
      .map(({ createdAt }, at) => [String(at + 1), Math.floor(createdAt / 1000)] as const)
      .filter(([number]) => Number(number) >= key.minDecryptionVersion);
    return {
      name,
      type: key.type,
      keys: Object.fromEntries(versions),
      latest_version: key.versions.length,
      min_available_version: 0,
      min_decryption_version: key.minDecryptionVersion,
      min_encryption_version: 0,
      deletion_allowed: false,
      derived: false,
      exportable: false,
      allow_plaintext_backup: false,
      auto_rotate_period: key.autoRotateSeconds,
      supports_encryption: symmetric,
      supports_decryption: symmetric,
      supports_derivation: symmetric,
      supports_signing: !symmetric,
    };
  }

  #aead(name: string, use: "encryption" | "decryption"): TransitKey {
    const key = this.#keys.get(name);
    if (key === undefined) throw new VaultError(400, "encryption key not found");
    if (!isSymmetric(key)) {
      throw new VaultError(400, `message ${use} not supported for key type ${key.type}`);
    }
    return key;
  }

  #named(name: string): TransitKey {
    const key = this.#keys.get(name);
    if (key === undefined) throw new Error(`there is no key ${name}`);
    return key;
  }
}

function isSymmetric(key: TransitKey): boolean {
  return key.type === "aes256-gcm96";
}

function associatedData(input: Readonly<Record<string, unknown>>): Uint8Array {
  const text = input.associated_data ?? "";
  return decode(String(text), "failed to base64-decode associated_data");
}

/** Go's StdEncoding: padding is a must, the URL's alphabet is none. */
function decode(text: string, fault: string): Uint8Array {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) {
    throw new VaultError(400, fault);
  }
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
