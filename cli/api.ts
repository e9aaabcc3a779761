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
  readonly total: number;
  readonly done: number;
  readonly unchanged: number;
  readonly failed: number;
  readonly created_by: unknown;
  readonly created_at: string;
  readonly updated_at: string;
  readonly finished_at: string | null;
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
  /** Branch keys that the step has not reached yet. */
  readonly remaining: number;
}

export interface Verification {
  readonly valid: boolean;
  readonly days: number;
  readonly entries: number;
  readonly faults: readonly { readonly day: string; readonly seq: number; readonly kind: string }[];
  readonly anchor: unknown;
}

export interface Period {
  /** Days, YYYY-MM-DD, both included. */
  readonly from?: string;
  readonly to?: string;
}

/** How long one call to a job may work, milliseconds: progress is seen this often. */
const RUN_BUDGET_MS = 5_000;
/** The platform ends a request after 150 s without an answer. */
const LONGEST_MS = 155_000;

export class AdminApi {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  // Keys
  metadata = (data_class: string | undefined) =>
    this.#get<Record<string, unknown>>("/key/metadata", { data_class });
  rotate = (body: {
    readonly target: "branch_key" | "kms_key";
    readonly data_class?: string;
    readonly user_id?: string;
    readonly confirm?: boolean;
  }) => this.#post<{ newKeyVersion: string; rotated: unknown[] }>("/key/rotate", body);
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
  testConfig = (settings: unknown) => this.#post<{ healthy: boolean }>("/config/test", settings);
  setConfig = (settings: unknown) =>
    this.#client.data<Record<string, unknown>>("PUT", `${ADMIN}/config`, {
      body: settings,
      timeoutMs: LONGEST_MS,
    });
  configHistory = (page: Page) =>
    this.#get<{ revisions: unknown[]; next_cursor: string | null }>("/config/history", page);
  rollbackConfig = (revision: number) =>
    this.#post<Record<string, unknown>>("/config/rollback", { revision });

  // Audit
  verifyAudit = (body: Period & { readonly anchors?: unknown }) =>
    this.#post<Verification>("/audit/verify", body);
  anchors = (period: Period) => this.#get<{ anchors: unknown[] }>("/audit/anchors", { ...period });
  exportAudit = (query: Period) =>
    this.#client.stream(`${ADMIN}/audit/export`, { query: { ...query }, timeoutMs: LONGEST_MS });
  alerts = () => this.#get<{ alerts: unknown[] }>("/audit/alerts", {});
  pruneAudit = (before: string) => this.#post<Record<string, unknown>>("/audit/prune", { before });

  // People, and data of earlier systems
  erase = (userId: string, purpose: string) =>
    this.#post<Record<string, unknown>>(`/users/${userId}/erase`, {
      purpose,
      confirm: userId,
    });
  importKey = (body: { readonly key_id: string; readonly key: string }) =>
    this.#post<Record<string, unknown>>("/legacy/keys", body);
  importRows = (body: { readonly key_id: string; readonly rows: readonly unknown[] }) =>
    this.#post<{ results: readonly { readonly status: number }[] }>("/legacy/rows", body);

  #get<Data>(path: string, query: object = {}): Promise<Data> {
    return this.#client.data<Data>("GET", ADMIN + path, { query: { ...query } });
  }

  #post<Data>(path: string, body: unknown): Promise<Data> {
    return this.#client.data<Data>("POST", ADMIN + path, { body, timeoutMs: LONGEST_MS });
  }
}

const ADMIN = "kms-admin";
