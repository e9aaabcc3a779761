/**
 * The routes of `kms-admin` as the commands use them: every path, body and query of the command line is
 * in this file.
 */
import type { Client } from "./client.ts";

export interface Job {
  readonly id: string;
  readonly kind: string;
  readonly status: "running" | "completed" | "cancelled";
  readonly dry_run: boolean;
  readonly data_class: string | null;
  /** Rows to look at; the next three are what came of them. */
  readonly total: number;
  readonly done: number;
  readonly unchanged: number;
  readonly failed: number;
  readonly created_by: unknown;
  readonly created_at: string;
  readonly updated_at: string;
  readonly finished_at: string | null;
}

/** Rows that the job has looked at. */
export function workedOf({ done, unchanged, failed }: Job): number {
  return done + unchanged + failed;
}

export interface Page {
  readonly limit?: number;
  readonly cursor?: string;
}

export type MigrationStep = "prepare" | "switch" | "finish" | "back";

export interface Migration {
  readonly from: string;
  readonly to: string;
  readonly step: MigrationStep;
  readonly branch_keys: number;
  /** Branch keys for which the step is not done. */
  readonly remaining: number;
  /** Operations that this takes: fewer after each portion, even while it is of one branch key. */
  readonly operations: number;
  /** Rows whose data key the old provider wrapped itself: they need re-encryption. */
  readonly direct_rows: number;
}

export interface TestedConfig {
  readonly healthy: boolean;
  /** Whether it could not open what is in use: it would not be stored. */
  readonly locks_out: boolean;
}

export interface Verification {
  readonly valid: boolean;
  readonly days: number;
  readonly entries: number;
  readonly faults: readonly { readonly day: string; readonly seq: number; readonly kind: string }[];
  readonly fault_count: number;
  readonly anchor: unknown;
  readonly next_cursor: string | null;
}

export interface Pruned {
  readonly before: string;
  readonly days: number;
  readonly entries: number;
  /** False when the server's time was over: ask again. */
  readonly complete: boolean;
  readonly anchor: unknown;
}

export interface Rotation {
  /** Of the first that was rotated. */
  readonly newKeyVersion?: string | null;
  readonly rotated: readonly unknown[];
  readonly failed: readonly unknown[];
}

export interface AuditFilter extends Period, Page {
  readonly action?: string;
  readonly actor_id?: string;
  readonly owner_id?: string;
  readonly record_id?: string;
  readonly outcome?: string;
}

export interface KeyImport {
  readonly key_id?: string;
  readonly source: "aws" | "gcp" | "vault" | "env" | "inline";
  readonly name?: string;
  readonly version?: number;
  readonly derivation?: string;
  readonly key?: string;
}

export interface StagedRow {
  readonly source_id: string;
  readonly outcome: "staged" | "known" | "imported" | "conflict" | "owner_not_found";
  readonly id: string | null;
}

export interface ImportRun {
  readonly imported: number;
  readonly failed: number;
  readonly remaining: { readonly pending: number; readonly failed: number };
}

export interface Period {
  /** Days, YYYY-MM-DD, both included. */
  readonly from?: string;
  readonly to?: string;
}

/** How long one call to a job may work, milliseconds: progress is seen this often. */
const RUN_BUDGET_MS = 5_000;
const IMPORT_BUDGET_MS = 5_000;
/** The platform ends a request after 150 s without an answer. */
const LONGEST_MS = 155_000;

export class AdminApi {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  // Keys
  metadata = (data_class: string | undefined) =>
    this.#get<{ keyId: string; rotation?: { on_demand_left?: number | null } }>("/key/metadata", {
      data_class,
    });
  rotate = (body: {
    readonly target: "branch_key" | "kms_key";
    readonly data_class?: string;
    readonly user_id?: string;
    /** Id of the key service's key, repeated by a person. */
    readonly confirm?: string;
  }) => this.#post<Rotation>("/key/rotate", body);
  retire = (body: { readonly branch_key_id: string; readonly version: string }) =>
    this.#post<{ branch_key_id: string; version: string }>("/key/retire", body);

  // Jobs
  reencrypt = (body: { readonly data_class?: string; readonly dry_run?: boolean }) =>
    this.#post<Job>("/jobs/reencrypt", body);
  jobs = (page: Page) => this.#get<{ jobs: Job[]; next_cursor: string | null }>("/jobs", page);
  job = (id: string) => this.#get<Job>(`/jobs/${id}`);
  failures = (id: string, page: Page) =>
    this.#get<{ failures: unknown[]; next_cursor: string | null }>(
      `/jobs/${id}/failures`,
      page,
    );
  cancel = (id: string) => this.#post<Job>(`/jobs/${id}/cancel`, {});
  run = (id: string, signal: AbortSignal) =>
    this.#client.data<Job>("POST", `${ADMIN}/jobs/${id}/run`, {
      body: { budget_ms: RUN_BUDGET_MS },
      timeoutMs: LONGEST_MS,
      signal,
    });

  // Providers
  migrate = (body: { readonly from: string; readonly to: string; readonly step: MigrationStep }) =>
    this.#post<Migration>("/provider/migrate", body);
  migration = () => this.#get<Migration | null>("/provider/migration", {});

  // Configuration
  config = () => this.#get<Record<string, unknown>>("/config");
  testConfig = (settings: unknown) => this.#post<TestedConfig>("/config/test", settings);
  setConfig = (settings: unknown) =>
    this.#client.data<Record<string, unknown>>("PUT", `${ADMIN}/config`, {
      body: settings,
      timeoutMs: LONGEST_MS,
    });
  configHistory = (page: Page) =>
    this.#get<{ revisions: unknown[]; next_cursor: string | null }>("/config/history", page);
  rollbackConfig = (body: { readonly revision: number; readonly reason?: string }) =>
    this.#post<Record<string, unknown>>("/config/rollback", body);

  // Audit
  audit = (filter: AuditFilter) =>
    this.#get<{ entries: unknown[]; next_cursor: string | null }>("/audit", filter);
  verifyAudit = (
    body: Period & { readonly cursor?: string; readonly anchors?: readonly unknown[] },
  ) => this.#post<Verification>("/audit/verify", body);
  anchors = (query: Period & Page) =>
    this.#get<{ anchors: unknown[]; next_cursor: string | null }>("/audit/anchors", query);
  exportDay = (query: { readonly day: string; readonly cursor?: string }) =>
    this.#get<{ entries: unknown[]; next_cursor: string | null }>("/audit/export", query);
  alerts = (query: { readonly hours?: number }) =>
    this.#get<{ alerts: unknown[]; changes: unknown[] }>("/audit/alerts", query);
  pruneAudit = (before: string) => this.#post<Pruned>("/audit/prune", { before, confirm: before });

  // People
  erase = (userId: string, purpose: string) =>
    this.#post<Record<string, unknown>>(`/users/${userId}/erase`, { purpose, confirm: userId });
  verifyErasure = (proof: string) =>
    this.#post<{ valid: boolean; erasure: object | null }>("/users/erase/verify", { proof });

  // Data of earlier systems
  importKey = (body: KeyImport) => this.#post<Record<string, unknown>>("/legacy/keys", body);
  stageRows = (
    body: {
      readonly key_id?: string;
      readonly encoding: string;
      readonly items: readonly object[];
    },
  ) => this.#post<{ results: readonly StagedRow[] }>("/legacy/rows", body);
  failedRows = () =>
    this.#get<{ rows: readonly unknown[]; next_cursor: string | null }>("/legacy/rows", {
      status: "failed",
      limit: 100,
    });
  runImport = () => this.#post<ImportRun>("/legacy/run", { budget_ms: IMPORT_BUDGET_MS });

  #get<Data>(path: string, query: object = {}): Promise<Data> {
    return this.#client.data<Data>("GET", ADMIN + path, { query: { ...query } });
  }

  #post<Data>(path: string, body: unknown): Promise<Data> {
    return this.#client.data<Data>("POST", ADMIN + path, { body, timeoutMs: LONGEST_MS });
  }
}

const ADMIN = "kms-admin";
