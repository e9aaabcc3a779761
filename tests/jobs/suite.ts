/** What the processes of the kill test share: the database's functions, keys, and how rows look. */
import postgres from "postgres";
import { Jobs } from "../../functions-shared/admin/jobs.ts";
import { Reencryption } from "../../functions-shared/admin/reencryption.ts";
import type { DataClass } from "../../functions-shared/data-class.ts";
import { jobStore, reencryptionStore } from "../../functions-shared/database/jobs.ts";
import { branchKeyRecords } from "../../functions-shared/database/key-stores.ts";
import type { Rpc } from "../../functions-shared/database/rpc.ts";
import { toStored } from "../../functions-shared/database/stores.ts";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher, type FieldIdentity } from "../../functions-shared/keys/field-cipher.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import type { Actor } from "../../functions-shared/telemetry/audit.ts";
import { APP, bytes, textOf } from "../unit/support/identity.ts";

export const DATABASE = "KILL_TEST_DATABASE";

/** General data is under branch keys of its owners. */
export const SCOPES = { payment: "class", pii: "class", general: "owner" } as const;

const KEYRINGS = {
  payment: "hierarchical",
  pii: "hierarchical",
  general: "hierarchical",
} as const;

/** Small chunks and short leases: more to lose, and sooner taken over. */
const LIMITS = { rows: 50, bytes: 1024 * 1024, lease_seconds: 2 };

export interface Database extends AsyncDisposable {
  readonly sql: postgres.Sql;
  readonly rpc: Rpc;
}

/** As `service_role`. A call that fails throws what Postgres says. */
export function connect(url: string): Database {
  const sql = postgres(url, {
    max: 4,
    onnotice: () => {},
    connection: { role: "service_role" },
  });
  const rpc: Rpc = async <Result>(name: string, args: Readonly<Record<string, unknown>>) => {
    const names = Object.keys(args).map((name, index) => `${name} => $${index + 1}`);
    const [row] = await sql.unsafe<{ answer: Result }[]>(
      `select public.${name}(${names.join(", ")}) as answer`,
      Object.values(args) as never[],
    );
    return row?.answer as Result;
  };
  return { sql, rpc, [Symbol.asyncDispose]: () => sql.end() };
}

export function actor(name: string): Actor {
  return {
    actor_type: "system",
    actor_id: name,
    request_id: crypto.randomUUID(),
    function: "kms-admin",
  };
}

/** One process's worth of the suite. Only the job's own claims make it forget keys. */
export function worker(rpc: Rpc) {
  const provider = new EnvKeyProvider(bytes("k".repeat(32)));
  const cache = new BranchKeyCache({ ttlMs: 3_600_000, maxEncryptions: 1e6, maxEntries: 1000 });
  const records = branchKeyRecords(rpc, { onRotation: () => {}, onDeadRegions: () => {} });
  const store = new BranchKeyStore({ ...APP, records, provider, readers: [provider] });
  const keyring = new HierarchicalKeyring({ store, cache, scopes: SCOPES });
  const cipher = new FieldCipher({
    ...APP,
    writers: { payment: keyring, pii: keyring, general: keyring },
    readers: [keyring],
  });
  const jobs = new Jobs(jobStore(rpc));
  const reencryption = new Reencryption({
    cipher,
    direct: cipher,
    jobs,
    store: reencryptionStore(rpc, () => cache.clear()),
    provider,
    keyrings: KEYRINGS,
    branchKeyScopes: SCOPES,
    background: () => {},
    failed: () => {},
    limits: LIMITS,
    maxWork: Infinity,
  });
  const seal = async (identity: FieldIdentity, revision: number) =>
    toStored(await cipher.encrypt(identity, bytes(valueOf(identity, revision))));
  const open = async (identity: FieldIdentity, message: string) =>
    textOf(await cipher.decrypt(identity, message));
  return { store, cipher, jobs, reencryption, seal, open };
}

/** No two rows, and no two revisions of one, hold the same. */
export function valueOf({ record, field }: FieldIdentity, revision: number): string {
  return JSON.stringify({ record, field, revision });
}

export interface Row {
  readonly table: "payment_methods" | "encrypted_records";
  readonly id: string;
  readonly owner: string;
  readonly dataClass: DataClass;
}

export function identityOf(row: Row, field: string): FieldIdentity {
  return {
    dataClass: row.dataClass,
    owner: row.owner,
    table: row.table,
    record: row.id,
    field,
  };
}

export function fieldsOf({ table }: Row): readonly string[] {
  return table === "payment_methods" ? ["number", "cardholder_name", "billing_address"] : ["data"];
}

/** What a writer did last, by `id field`: a revision, or null when it deleted the row. */
export type Ledger = Record<string, number | null>;
