import type { DataClass } from "../data-class.ts";
import type { EncryptionContext } from "../message/mod.ts";
import type { Keyring } from "./keyring.ts";

/** A region found dead, as workers tell each other through the database. */
export interface DeadRegion {
  readonly region: string;
  /** Nobody need try before this, milliseconds since the epoch. */
  readonly until: number;
}

/** How a region fares, as this worker sees it. */
export interface RegionReport {
  readonly healthy: boolean;
  readonly state: "CLOSED" | "OPEN" | "HALF_OPEN";
  readonly consecutive_failures: number;
  /** ISO 8601; null while healthy. */
  readonly next_probe_at: string | null;
  /** Moving average of successful calls; null before the first. */
  readonly latency_ms: number | null;
}

/** What a provider knows of the wrapping key of a class. */
export interface KeyDescription {
  readonly keyId: string;
  readonly state: string;
  readonly multiRegion: boolean;
  readonly region: string | undefined;
  /** The version that wraps new keys, where versions have numbers. */
  readonly version?: string;
}

/** How a wrapping key rotates; null is what the service does not say, or not to us. */
export interface KeyRotation {
  /** Whether the service rotates the key by itself. */
  readonly automatic: boolean | null;
  /** When it next will, ISO 8601. */
  readonly next: string | null;
  /** When the key last got a new version, in whatever way; null also when it never did. */
  readonly last: string | null;
  /** Rotations on demand that are left in the key's life; null also when they are not counted. */
  readonly onDemandLeft: number | null;
}

/** What an administrator wants to know of a wrapping key besides. */
export interface KeyMetadata extends KeyDescription {
  readonly description: string | null;
  /** ISO 8601. */
  readonly createdAt: string | null;
  /** Cipher and size, such as AES-256. */
  readonly spec: string;
  readonly rotation: KeyRotation;
}

export interface UnwrappedKey {
  /** 32 bytes; whoever receives it zeroes it after use. */
  readonly plaintext: Uint8Array;
  /** The one that was called; undefined when the provider has none. */
  readonly region?: string | undefined;
}

/**
 * Holds the wrapping keys of all classes: AWS KMS, Google Cloud KMS, Vault's Transit engine, or keys
 * derived from the environment.
 *
 * As a keyring it is the `direct` one: it wraps the data key of each message itself. Its other methods
 * throw what a keyring's do.
 */
export interface KeyProvider extends Keyring {
  readonly name: "aws" | "gcp" | "vault" | "env";

  /**
   * The identifier that branch key records store as `kms-arn`. `standing` is the one of an older record,
   * and the answer when it still names the same key, in whatever region.
   */
  wrappingKeyId(dataClass: DataClass, standing?: string): Promise<string>;
  /** Whether `keyId` is written as this provider writes its own. */
  holds(keyId: string): boolean;
  /** 32 fresh bytes that only `unwrapKey` with the same context brings to light. */
  generateWrappedKey(keyId: string, context: EncryptionContext): Promise<Uint8Array>;
  /** The same bytes under another context; they are not seen here when the provider can help it. */
  rewrapKey(
    keyId: string,
    wrapped: Uint8Array,
    from: EncryptionContext,
    to: EncryptionContext,
  ): Promise<Uint8Array>;
  /** A key of 32 bytes that came from elsewhere, which is neither kept nor changed. */
  wrapKey(keyId: string, plaintext: Uint8Array, context: EncryptionContext): Promise<Uint8Array>;
  unwrapKey(
    keyId: string,
    wrapped: Uint8Array,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<UnwrappedKey>;

  describe(dataClass: DataClass): Promise<KeyDescription>;
  metadata(dataClass: DataClass): Promise<KeyMetadata>;
  /**
   * A new version of the key wraps from now on; old ones go on unwrapping. Asked for once, never again by
   * itself: after kms_unavailable it may have happened, and `metadata` tells. Answers the new version,
   * null when versions have no names, or the service is not done yet.
   *
   * @throws {SuiteError} rotation_not_supported, rotation_limit_reached, rotation_conflict, kms_*.
   */
  rotateNow(keyId: string): Promise<string | null>;
  /** What the provider knows of its regions; empty when it has none. */
  regions(): Readonly<Record<string, RegionReport>>;
}
