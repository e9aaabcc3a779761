/** What the re-encryption job hands out and takes back, and the port that does it. */
import type { DataClass } from "../data-class.ts";
import type { BranchKeyScope } from "../keys/branch-key-id.ts";
import type { EncryptedField } from "../keys/field-cipher.ts";
import type { Actor } from "../telemetry/audit.ts";
import type { Job } from "./jobs.ts";
import type { StaleRow } from "./reencrypt-row.ts";

/** How a class is written now. The version of its branch key is for the database to look up. */
export type Target =
  | { readonly keyring: "hierarchical"; readonly scope: BranchKeyScope }
  | { readonly keyring: "direct"; readonly key_id: string };

/** Of the classes that a job is about. */
export type Targets = Readonly<Partial<Record<DataClass, Target>>>;

export interface ChunkLimits {
  readonly rows: number;
  /** Characters of messages, so that one answer of the database stays small. */
  readonly bytes: number;
  /** How long a worker may take before it is given up for dead. */
  readonly lease_seconds: number;
}

export interface Chunk {
  readonly id: string;
  /** Of this lease; whoever takes the chunk over has another. */
  readonly token: string;
  readonly rows: readonly StaleRow[];
}

export type Claim =
  | { readonly state: "chunk"; readonly job: Job; readonly chunk: Chunk }
  /** `again`: nothing found yet. `busy`: others hold what is left. `ended`: the job has. */
  | { readonly state: "again" | "busy" | "ended"; readonly job: Job };

/** What came of a row: a ciphertext, an error code, or neither in a dry run that succeeded. */
export interface RowResult extends Pick<StaleRow, "table_name" | "record_id" | "field" | "hash"> {
  readonly ciphertext?: EncryptedField;
  readonly error_code?: string;
}

/** All methods throw `SuiteError` database_unavailable or internal_error. */
export interface ReencryptionStore {
  /** Undefined when there is no such job. */
  claim(
    actor: Actor,
    jobId: string,
    targets: Targets,
    limits: ChunkLimits,
  ): Promise<Claim | undefined>;
  /**
   * Stores the results of rows that still are what was read, with counts and audit entries. Undefined, and
   * nothing stored, when the lease was lost.
   */
  commit(actor: Actor, chunk: Chunk, results: readonly RowResult[]): Promise<Job | undefined>;
  /** Gives the chunk to the next who asks; no harm when it is no longer held. */
  release(chunk: Chunk): Promise<void>;
}
