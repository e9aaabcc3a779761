/** The stores of all use cases, on the database's functions (supabase/migrations). */
import type { EncryptedField } from "../keys/field-cipher.ts";
import type { CanaryStore, HealthReport } from "../health/health.ts";
import type { RegionReport } from "../keys/key-provider.ts";
import type { PaymentMethod } from "../payments/payment-method.ts";
import type { PaymentMethodStore } from "../payments/store.ts";
import type { EncryptedRecord, RecordStore } from "../records/store.ts";
import type {
  IdempotencyState,
  IntakeStore,
  PreparedItem,
  RowReference,
  SealedRow,
  StoredItem,
} from "../storage/store.ts";
import type { AuditLog } from "../telemetry/audit.ts";
import type { Rpc } from "./rpc.ts";

export interface StoredField {
  readonly field: string;
  readonly message: string;
  readonly kms_key_arn: string;
  readonly branch_key_id: string | null;
  readonly branch_key_version: string | null;
  /** On the way there only, for the audit. */
  readonly kms_region?: string;
}

export function intakeStore(rpc: Rpc): IntakeStore {
  return {
    async begin(key, requestHash, leaseSeconds, retentionSeconds): Promise<IdempotencyState> {
      const answer = await rpc<
        | { state: "started"; token: string }
        | { state: "replay"; response: { results: StoredItem[] } }
        | { state: "mismatch" }
        | { state: "in_flight"; retry_after: number }
      >("kms_idempotency_begin", {
        p_scope: key.scope,
        p_key_hash: key.keyHash,
        p_request_hash: requestHash,
        p_lease_seconds: leaseSeconds,
        p_retention_seconds: retentionSeconds,
      });
      switch (answer.state) {
        case "replay":
          return { state: "replay", results: answer.response.results };
        case "in_flight":
          return { state: "in_flight", retryAfterSeconds: answer.retry_after };
        default:
          return answer;
      }
    },
    async abandon(lease) {
      await rpc("kms_idempotency_abandon", {
        p_scope: lease.scope,
        p_key_hash: lease.keyHash,
        p_token: lease.token,
      });
    },
    async store(actor, items, lease) {
      const answer = await rpc<{ results: StoredItem[] }>("kms_store", {
        p_actor: JSON.stringify(actor),
        p_items: JSON.stringify(items.map(storedItem)),
        p_idempotency: JSON.stringify({
          scope: lease.scope,
          key_hash: lease.keyHash,
          token: lease.token,
        }),
      });
      return answer.results;
    },
  };
}

export function paymentMethodStore(rpc: Rpc): PaymentMethodStore {
  return {
    async list(ownerId, limit, after) {
      const page = await rpc<{ payment_methods: PaymentMethod[]; next: string | null }>(
        "kms_payment_methods_list",
        { p_owner_id: ownerId, p_limit: limit, p_before: after ?? null },
      );
      return { items: page.payment_methods, next: page.next ?? undefined };
    },
    async get(ownerId, id) {
      return await row<PaymentMethod>(rpc, "kms_payment_method_get", {
        p_owner_id: ownerId,
        p_id: id,
      });
    },
    async update(actor, ownerId, id, patch, fields) {
      return await row<PaymentMethod>(rpc, "kms_payment_method_update", {
        p_actor: JSON.stringify(actor),
        p_owner_id: ownerId,
        p_id: id,
        p_patch: JSON.stringify(patch),
        p_ciphertexts: JSON.stringify(fields.map(toStored)),
      });
    },
    async setDefault(actor, ownerId, id) {
      return await row<PaymentMethod>(rpc, "kms_payment_method_set_default", {
        p_actor: JSON.stringify(actor),
        p_owner_id: ownerId,
        p_id: id,
      });
    },
    delete(actor, ownerId, id) {
      return rpc<boolean>("kms_payment_method_delete", {
        p_actor: JSON.stringify(actor),
        p_owner_id: ownerId,
        p_id: id,
      });
    },
    readSealed: (rows) => readSealed<PaymentMethod>(rpc, "payment_methods", rows),
  };
}

export function recordStore(rpc: Rpc): RecordStore {
  return {
    async list(ownerId, dataClass, limit, after) {
      const page = await rpc<{ records: EncryptedRecord[]; next: string | null }>(
        "kms_records_list",
        {
          p_owner_id: ownerId,
          p_data_class: dataClass ?? null,
          p_limit: limit,
          p_before: after ?? null,
        },
      );
      return { items: page.records, next: page.next ?? undefined };
    },
    async get(ownerId, id) {
      return await row<EncryptedRecord>(rpc, "kms_record_get", { p_owner_id: ownerId, p_id: id });
    },
    delete(actor, ownerId, id) {
      return rpc<boolean>("kms_record_delete", {
        p_actor: JSON.stringify(actor),
        p_owner_id: ownerId,
        p_id: id,
      });
    },
    readSealed: (rows) => readSealed<EncryptedRecord>(rpc, "encrypted_records", rows),
  };
}

export function auditLog(rpc: Rpc): AuditLog {
  return {
    async append(actor, entries) {
      await rpc("kms_audit_append", {
        p_actor: JSON.stringify(actor),
        p_entries: JSON.stringify(entries),
      });
    },
  };
}

/** Keeps a health report; the database thins them out. */
export async function recordHealth(
  rpc: Rpc,
  report: HealthReport,
  regions: Readonly<Record<string, RegionReport>>,
  workerRegion: string | undefined,
): Promise<void> {
  const degraded = Object.values(regions).some(({ healthy }) => !healthy);
  await rpc("kms_health_record", {
    p_entry: JSON.stringify({
      status: !report.healthy ? "unhealthy" : degraded ? "degraded" : "healthy",
      checks: {
        kms_connectivity: report.connectivity.error ?? report.connectivity.status,
        key_functionality: report.functionality.error ?? report.functionality.status,
      },
      regions: Object.fromEntries(
        Object.entries(regions).map(([name, { state }]) => [name, state]),
      ),
      latency_ms: report.latencyMs,
      ...workerRegion === undefined ? {} : { worker_region: workerRegion },
      function: "kms-health-check",
    }),
  });
}

export function canaryStore(rpc: Rpc): CanaryStore {
  return {
    async get(dataClass) {
      return (await row<{ message: string }>(rpc, "kms_canary_get", { p_data_class: dataClass }))
        ?.message;
    },
    async putIfAbsent(dataClass, field) {
      const stored = await rpc<{ message: string }>("kms_canary_put", {
        p_data_class: dataClass,
        p_message: field.message,
        p_kms_key_arn: field.keyId,
        p_branch_key_id: field.branchKey?.id ?? null,
        p_branch_key_version: field.branchKey?.version ?? null,
      });
      return stored.message;
    },
  };
}

async function row<Row>(
  rpc: Rpc,
  name: string,
  args: Readonly<Record<string, unknown>>,
): Promise<Row | undefined> {
  return await rpc<Row | null>(name, args) ?? undefined;
}

async function readSealed<Row>(
  rpc: Rpc,
  table: string,
  rows: readonly RowReference[],
): Promise<readonly (SealedRow<Row> | undefined)[]> {
  const answer = await rpc<{ rows: ({ row: Row; ciphertexts: StoredField[] } | null)[] }>(
    "kms_ciphertexts_read_many",
    { p_refs: JSON.stringify(rows.map(({ ownerId, id }) => ({ owner_id: ownerId, table, id }))) },
  );
  return answer.rows.map((found) =>
    found === null ? undefined : { row: found.row, fields: found.ciphertexts.map(fromStored) }
  );
}

function fromStored(stored: StoredField): EncryptedField {
  return {
    field: stored.field,
    message: stored.message,
    keyId: stored.kms_key_arn,
    ...stored.branch_key_id === null || stored.branch_key_version === null
      ? {}
      : { branchKey: { id: stored.branch_key_id, version: stored.branch_key_version } },
  };
}

/** An item as the database's functions take it. */
export function storedItem(item: PreparedItem): unknown {
  return "ciphertexts" in item ? { ...item, ciphertexts: item.ciphertexts.map(toStored) } : item;
}

/** A field's columns in `kms.ciphertexts`, and where its key was asked for. */
export function toStored(
  { field, message, keyId, region, branchKey }: EncryptedField,
): StoredField {
  return {
    field,
    message,
    kms_key_arn: keyId,
    branch_key_id: branchKey?.id ?? null,
    branch_key_version: branchKey?.version ?? null,
    ...region === undefined ? {} : { kms_region: region },
  };
}
