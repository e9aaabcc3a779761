import type { DataClass } from "../data-class.ts";
import type { EncryptedDataKey, EncryptionContext } from "../message/mod.ts";

/** A data key in both forms: for encrypting one message, and as the message carries it. */
export interface GeneratedDataKey {
  /** 32 bytes; whoever receives it zeroes it after use. */
  readonly plaintext: Uint8Array;
  readonly encrypted: EncryptedDataKey;
  /** The wrapping key at the root: a KMS key ARN, or the provider's own name for it. */
  readonly keyId: string;
  /**
   * Where the key service was asked: for this data key, or for the branch key when it came into the cache.
   * Undefined when the provider has no regions.
   */
  readonly region?: string | undefined;
  /** The branch key between the two, when there is one. */
  readonly branchKey?: { readonly id: string; readonly version: string };
}

/** Which keys opened a message: as its own header says, not as a column beside it does. */
export interface OpeningKeys {
  /** As in `GeneratedDataKey`; the branch key's present wrapping key, which a migration may change. */
  readonly keyId: string;
  /** As in `GeneratedDataKey`. */
  readonly region?: string | undefined;
  readonly branchKey?: { readonly id: string; readonly version: string };
}

export interface OpenedDataKey extends OpeningKeys {
  /** 32 bytes; whoever receives it zeroes it after use. */
  readonly plaintext: Uint8Array;
}

/**
 * Makes and opens the data keys of messages.
 *
 * Failures are `SuiteError`s: `decryption_failed` when a wrapped key, its context or its wrapping key is
 * not the expected one; `kms_unavailable`, `kms_access_denied` or `kms_key_unusable` otherwise, and
 * `database_unavailable` when branch keys cannot be read. `signal` is the client's.
 */
export interface Keyring {
  generateDataKey(
    dataClass: DataClass,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<GeneratedDataKey>;
  /** Whether this keyring wrapped the given data key, judged by provider id and key name alone. */
  recognises(encrypted: EncryptedDataKey): boolean;
  decryptDataKey(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<Uint8Array>;
  /** As `decryptDataKey`, where what opens a message, or where, is not settled when it is stored. */
  openDataKey?(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<OpenedDataKey>;
}
