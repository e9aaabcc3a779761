/** Keys of one ring, their versions and what they encrypt: AES-256-GCM, as GOOGLE_SYMMETRIC_ENCRYPTION. */
import { randomBytes } from "node:crypto";
import { open, seal } from "../rest/aes-gcm.ts";
import { base64Bytes, base64Text } from "../rest/server.ts";
import type { VersionState } from "./types.ts";

interface Version {
  readonly number: number;
  /** In the ciphertext, so that decryption finds its version. */
  readonly id: string;
  readonly key: Uint8Array;
  readonly createdAt: number;
  state: VersionState;
}

/** Cloud KMS ciphertexts begin with these two bytes and an id of 36. */
const PREFIX = [0x0a, 0x24];
const ID_BYTES = 36;

interface Rotation {
  readonly seconds: number;
  readonly next: number;
}

/** As kept in a file: keys in base64. */
export interface CryptoKeyState {
  readonly name: string;
  readonly purpose: string;
  readonly createdAt: number;
  readonly versions: readonly (Omit<Version, "key"> & { readonly key: string })[];
  readonly primary: number;
  readonly rotation?: Rotation | undefined;
}

export class CryptoKeyRecord {
  readonly name: string;
  readonly purpose: string;
  readonly createdAt: number;
  readonly #versions: Version[];
  #primary: number;
  #rotation: Rotation | undefined;

  constructor({ name, purpose, createdAt, versions, primary, rotation }: CryptoKeyState) {
    this.name = name;
    this.purpose = purpose;
    this.createdAt = createdAt;
    this.#versions = versions.map((one) => ({ ...one, key: base64Bytes(one.key)! }));
    this.#primary = primary;
    this.#rotation = rotation;
  }

  /** With one version, the primary one. */
  static create(name: string, purpose: string, now: number): CryptoKeyRecord {
    const record = new CryptoKeyRecord({ name, purpose, createdAt: now, versions: [], primary: 0 });
    record.rotate(now);
    return record;
  }

  get state(): CryptoKeyState {
    return {
      ...{ name: this.name, purpose: this.purpose, createdAt: this.createdAt },
      versions: this.#versions.map((one) => ({ ...one, key: base64Text(one.key) })),
      ...{ primary: this.#primary, rotation: this.#rotation },
    };
  }

  get primary(): Version {
    return this.version(this.#primary);
  }

  versionName(version: Version): string {
    return `${this.name}/cryptoKeyVersions/${version.number}`;
  }

  /** @throws {Error} when there is none of this number */
  version(number: number): Version {
    const version = this.#versions[number - 1];
    if (version === undefined) throw new Error(`there is no version ${number}`);
    return version;
  }

  get count(): number {
    return this.#versions.length;
  }

  /** Encrypts nothing until it is the primary one. */
  addVersion(now: number): Version {
    const number = this.#versions.length + 1;
    const key = new Uint8Array(randomBytes(32));
    const id = crypto.randomUUID();
    const version: Version = { number, id, key, createdAt: now, state: "ENABLED" };
    this.#versions.push(version);
    return version;
  }

  setPrimary(number: number): void {
    this.#primary = number;
  }

  rotate(now: number): number {
    const { number } = this.addVersion(now);
    this.setPrimary(number);
    return number;
  }

  setState(number: number, state: VersionState): void {
    this.version(number).state = state;
  }

  setRotation(days: number, now: number): void {
    const seconds = days * 86_400;
    this.#rotation = { seconds, next: now + seconds * 1000 };
  }

  encrypt(plaintext: Uint8Array, authenticated: Uint8Array): Uint8Array {
    const { id, key } = this.primary;
    const head = [...PREFIX, ...new TextEncoder().encode(id)];
    return new Uint8Array([...head, ...seal(key, plaintext, authenticated)]);
  }

  /** The version a ciphertext names; null when it is none of this key's. */
  versionOf(ciphertext: Uint8Array): Version | null {
    if (PREFIX.some((byte, at) => ciphertext[at] !== byte)) return null;
    const id = new TextDecoder().decode(ciphertext.subarray(2, 2 + ID_BYTES));
    return this.#versions.find((version) => version.id === id) ?? null;
  }

  decrypt(version: Version, ciphertext: Uint8Array, authenticated: Uint8Array): Uint8Array | null {
    return open(version.key, ciphertext.subarray(2 + ID_BYTES), authenticated);
  }

  /** The CryptoKeyVersion resource. */
  versionResource(version: Version): Record<string, unknown> {
    const createTime = new Date(version.createdAt).toISOString();
    return {
      name: this.versionName(version),
      state: version.state,
      createTime,
      protectionLevel: "SOFTWARE",
      algorithm: "GOOGLE_SYMMETRIC_ENCRYPTION",
      ...version.state === "PENDING_GENERATION" ? {} : { generateTime: createTime },
    };
  }

  /** The CryptoKey resource. */
  resource(): Record<string, unknown> {
    const { primary } = this;
    return {
      name: this.name,
      ...this.purpose === "ENCRYPT_DECRYPT"
        ? {
          primary: this.versionResource(primary),
        }
        : {},
      ...this.#rotation === undefined ? {} : {
        rotationPeriod: `${this.#rotation.seconds}s`,
        nextRotationTime: new Date(this.#rotation.next).toISOString(),
      },
      purpose: this.purpose,
      createTime: new Date(this.createdAt).toISOString(),
      versionTemplate: {
        protectionLevel: "SOFTWARE",
        algorithm: "GOOGLE_SYMMETRIC_ENCRYPTION",
      },
      destroyScheduledDuration: "2592000s",
    };
  }
}
