/** Where keys of older setups are kept. */

/** A key as it is kept there. */
export interface KeyLocation {
  /** Its id in the older setup; what is reported when it is not found. */
  readonly keyId: string;
  /** Where it is kept; by default where the key management guide puts the key of that id. */
  readonly name?: string | undefined;
  /** An earlier version, from before the older setup rotated; the newest unless given. */
  readonly version?: number | undefined;
}

/**
 * The text that is kept there, read once.
 * @throws {SuiteError} kms_key_unusable (not found, or not usable), kms_access_denied, kms_unavailable; the
 *   message of the cause says which in the guide's words, and is nothing that must not be shown.
 */
export type KeySource = (at: KeyLocation, signal?: AbortSignal) => Promise<string>;

/** A source without credentials is undefined. */
export interface KeySources {
  readonly aws: KeySource | undefined;
  readonly gcp: KeySource | undefined;
  readonly vault: KeySource | undefined;
  readonly env: KeySource | undefined;
}
