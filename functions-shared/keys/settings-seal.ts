/**
 * Seals the stored settings into a message that only functions with this environment can open, and that
 * nobody else can write: whoever writes the database could otherwise name a key service of his own.
 *
 * The message's data key is wrapped once under each sealing key, as by a multi-keyring of raw AES keyrings
 * (AWS Encryption SDK specification, framework/multi-keyring.md): under `ENCRYPTION_KEY` alone where it is
 * set, otherwise under every secret key of the project, so that one of them may be revoked.
 */
import { SuiteError } from "../errors.ts";
import {
  DATA_KEY_BYTES,
  decodeMessage,
  decryptMessage,
  encodeMessage,
  type EncryptionContext,
  encryptMessage,
  type ParsedMessage,
  parseMessage,
  sameContext,
  unwrapDataKeyRawAes,
  wrapDataKeyRawAes,
} from "../message/mod.ts";
import { hkdfSha512, randomBytes } from "../message/primitives.ts";

const KEY_NAMESPACE = "settings";
const SALT = new TextEncoder().encode("supabase-kms/settings/v1");

/** A message holds 16 data keys at most. */
const MAX_SEALING_KEYS = 16;

interface SealingKey {
  /** Fingerprint of the key: a message names the keys that open it. */
  readonly name: string;
  readonly key: Uint8Array;
}

export class SettingsSeal {
  readonly #base: EncryptionContext;
  readonly #sealing: readonly SealingKey[];
  readonly #opening: readonly SealingKey[];

  constructor(options: {
    readonly appName: string;
    readonly environment: string;
    /** Of the environment itself, never a stored one. */
    readonly encryptionKey: Uint8Array | undefined;
    readonly secretKeys: readonly string[];
  }) {
    const { appName, environment, encryptionKey, secretKeys } = options;
    const own = encryptionKey === undefined ? [] : [sealingKey(encryptionKey)];
    const platform = secretKeys.slice(0, MAX_SEALING_KEYS)
      .map((secret) => sealingKey(new TextEncoder().encode(secret)));
    this.#base = { app: appName, environment, table: "settings", field: "variables" };
    this.#sealing = own.length > 0 ? own : platform;
    this.#opening = [...own, ...platform];
  }

  /** The message, base64; `revision` is bound into it. */
  seal(revision: number, plaintext: Uint8Array): string {
    const encryptionContext = this.#context(revision);
    const dataKey = randomBytes(DATA_KEY_BYTES);
    try {
      const encryptedDataKeys = this.#sealing.map(({ name, key }) =>
        wrapDataKeyRawAes({
          wrappingKey: key,
          keyNamespace: KEY_NAMESPACE,
          keyName: name,
          dataKey,
          encryptionContext,
        })
      );
      return encodeMessage(
        encryptMessage({ plaintext, dataKey, encryptedDataKeys, encryptionContext }),
      );
    } finally {
      dataKey.fill(0);
    }
  }

  /** @throws {SuiteError} decryption_failed: another revision's, sealed elsewhere, or changed. */
  open(revision: number, message: string): Uint8Array {
    try {
      const parsed = parseMessage(decodeMessage(message), {
        maxEncryptedDataKeys: MAX_SEALING_KEYS,
      });
      const expected = this.#context(revision);
      if (!sameContext(parsed.header.encryptionContext, expected)) {
        throw new SuiteError("decryption_failed");
      }
      const dataKey = this.#dataKey(parsed, expected);
      try {
        return decryptMessage(parsed, dataKey);
      } finally {
        dataKey.fill(0);
      }
    } catch (cause) {
      throw new SuiteError("decryption_failed", { cause });
    }
  }

  #dataKey(parsed: ParsedMessage, encryptionContext: EncryptionContext): Uint8Array {
    for (const encryptedDataKey of parsed.header.encryptedDataKeys) {
      for (const { name, key } of this.#opening) {
        try {
          return unwrapDataKeyRawAes({
            wrappingKey: key,
            keyNamespace: KEY_NAMESPACE,
            keyName: name,
            encryptedDataKey,
            encryptionContext,
          });
        } catch {
          // Another key's: the one error below says no more than that.
        }
      }
    }
    throw new SuiteError("decryption_failed");
  }

  #context(revision: number): EncryptionContext {
    return { ...this.#base, record: String(revision) };
  }
}

function sealingKey(secret: Uint8Array): SealingKey {
  const derive = (info: string, length: number) =>
    hkdfSha512(secret, SALT, new TextEncoder().encode(info), length);
  const id = derive("key-id", 4);
  return {
    name: Array.from(id, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    key: derive("wrap", 32),
  };
}
