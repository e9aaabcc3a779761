import type { RestServer } from "../rest/server.ts";

export type VersionState =
  | "PENDING_GENERATION"
  | "ENABLED"
  | "DISABLED"
  | "DESTROY_SCHEDULED"
  | "DESTROYED";

export type Permission =
  | "cloudkms.cryptoKeyVersions.useToEncrypt"
  | "cloudkms.cryptoKeyVersions.useToDecrypt"
  | "cloudkms.cryptoKeys.get"
  | "secretmanager.secrets.create"
  | "secretmanager.versions.add"
  | "secretmanager.versions.access"
  | "cloudkms.cryptoKeyVersions.create"
  | "cloudkms.cryptoKeys.update";

export const ALL_PERMISSIONS: readonly Permission[] = [
  "cloudkms.cryptoKeyVersions.useToEncrypt",
  "cloudkms.cryptoKeyVersions.useToDecrypt",
  "cloudkms.cryptoKeyVersions.create",
  "cloudkms.cryptoKeys.get",
  "secretmanager.secrets.create",
  "secretmanager.versions.add",
  "secretmanager.versions.access",
  "cloudkms.cryptoKeys.update",
];

export interface LocalGcpOptions {
  /** Port on 127.0.0.1; 0, the default, takes a free one. */
  readonly port?: number;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /**
   * Where keys, secrets, the service account's key and the port are kept. Access tokens are not. Default:
   * nothing is kept.
   */
  readonly stateFile?: string;
}

/** Cloud KMS, Secret Manager and the token endpoint of a project with one key ring and one service account. */
export interface LocalGcp extends RestServer {
  readonly project: string;
  readonly location: string;
  readonly keyRing: string;
  /** The service account's JSON key, as Google hands it out. */
  readonly credentialsJson: string;
  /** Names of the keys in the ring: `projects/.../cryptoKeys/NAME`. */
  keyName(name: string): string;
  keyExists(name: string): boolean;
  /** A symmetric key with one enabled version, the primary one. */
  createKey(name: string, purpose?: "ENCRYPT_DECRYPT" | "MAC"): void;
  /** Makes a new version the primary one; answers its number. */
  rotate(name: string): number;
  /** How many versions the key has had. */
  versions(name: string): number;
  setState(name: string, version: number, state: VersionState): void;
  /** As `gcloud secrets create` and `gcloud secrets versions add`: a new version of the secret. */
  putSecret(name: string, data: Uint8Array): void;
  setSecretState(name: string, version: number, state: "ENABLED" | "DISABLED" | "DESTROYED"): void;
  /** Whole days between rotations that the service makes by itself; the first is as many days away. */
  setRotation(name: string, days: number): void;
  /** What the service account may do in the ring; everything at first. */
  setPermissions(permissions: readonly Permission[]): void;
  /** A token of the service account, as `gcloud auth print-access-token` gives one. */
  accessToken(lifeSeconds?: number): string;
  /** Every token given out so far is expired from now on. */
  expireTokens(): void;
}
