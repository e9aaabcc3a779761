/** Keys of one ring, their versions and what they encrypt: AES-256-GCM, as GOOGLE_SYMMETRIC_ENCRYPTION. */
import { randomBytes } from "node:crypto";
import { open, seal } from "../rest/aes-gcm.ts";
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

export class CryptoKeyRecord {
  readonly name: string;
  readonly purpose: string;
  readonly createdAt: number;
  readonly #versions: Version[] = [];

  constructor(name: string, purpose: string, now: number) {
    this.name = name;
    this.purpose = purpose;
    this.createdAt = now;
    this.rotate(now);
  }

  get primary(): Version {
    const version = this.#versions.at(-1);
    if (version === undefined) throw new Error("a key has a version");
    return version;
  }

  versionName(version: Version): string {
    return `${this.name}/cryptoKeyVersions/${version.number}`;
  }

  rotate(now: number): number {
    const number = this.#versions.length + 1;
    const key = new Uint8Array(randomBytes(32));
    const id = crypto.randomUUID();
    this.#versions.push({ number, id, key, createdAt: now, state: "ENABLED" });
    return number;
  }

  setState(number: number, state: VersionState): void {
    const version = this.#versions[number - 1];
    if (version === undefined) throw new Error(`there is no version ${number}`);
    version.state = state;
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

  /** The CryptoKey resource. */
  resource(): Record<string, unknown> {
    const { primary } = this;
    return {
      name: this.name,
      ...this.purpose === "ENCRYPT_DECRYPT"
        ? {
          primary: {
            name: this.versionName(primary),
            state: primary.state,
            createTime: new Date(primary.createdAt).toISOString(),
            protectionLevel: "SOFTWARE",
            algorithm: "GOOGLE_SYMMETRIC_ENCRYPTION",
            generateTime: new Date(primary.createdAt).toISOString(),
          },
        }
        : {},
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
