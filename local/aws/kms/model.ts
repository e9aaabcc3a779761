/** What KMS keeps, as it is written to the state file. Times are milliseconds since the epoch. */

/** A set of related keys: one for a single-region key, one per region for a multi-region key. */
export interface KeyFamily {
  readonly keyId: string;
  readonly multiRegion: boolean;
  primaryRegion: string;
  /** Oldest first; the last one encrypts, all decrypt. Never empty. */
  readonly backingKeys: BackingKey[];
  rotation: Rotation | null;
  /** RotateKeyOnDemand calls so far, 25 at most. */
  onDemandRotations: number;
}

export interface BackingKey {
  /** 64 lower-case hex digits: AWS's key material id. */
  readonly id: string;
  /** Base64, 32 bytes. */
  readonly material: string;
  readonly createdAt: number;
  readonly origin: "INITIAL" | "AUTOMATIC" | "ON_DEMAND";
}

export interface Rotation {
  readonly periodInDays: number;
  nextAt: number;
}

export type KeyState =
  | "Creating"
  | "Enabled"
  | "Disabled"
  | "PendingDeletion"
  | "PendingReplicaDeletion";

/** One key in one region. */
export interface KmsKey {
  readonly keyId: string;
  readonly region: string;
  readonly createdAt: number;
  description: string;
  /** Policy document as it was put. */
  policy: string;
  tags: Record<string, string>;
  state: KeyState;
  /** While `Creating`. */
  creatingUntil?: number;
  /** While `PendingDeletion`. */
  deletionAt?: number;
  /** While pending deletion, of either kind. */
  pendingWindowInDays?: number;
}

export interface Alias {
  /** With the prefix `alias/`. */
  readonly name: string;
  readonly region: string;
  readonly createdAt: number;
  targetKeyId: string;
  updatedAt: number;
}

export interface KmsState {
  readonly families: KeyFamily[];
  readonly keys: KmsKey[];
  readonly aliases: Alias[];
}

export const DAY_MS = 86_400_000;
