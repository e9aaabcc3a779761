/**
 * The one way to the database: `security definer` functions called with the secret key through the Data
 * API. JSON travels as text, because drivers disagree on how to bind it.
 */
import { createAdminClient } from "@supabase/server/core";
import type { SupabaseConfig } from "../config.ts";
import { SuiteError } from "../errors.ts";
import { timed } from "../telemetry/timing.ts";

/** Deadline of one call, milliseconds. */
const TIMEOUT_MS = 10_000;

/** Arguments by name, as the SQL function declares them. */
export type Rpc = <Result>(
  name: string,
  args: Readonly<Record<string, unknown>>,
) => Promise<Result>;

/** An answer of the database that is no success; `code` is the SQLSTATE or PostgREST's own code. */
export class DatabaseError extends Error {
  override readonly name = "DatabaseError";
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number) {
    super(`The database answered ${code || "nothing"} (HTTP ${status})`);
    this.code = code;
    this.status = status;
  }
}

/** The lease on an idempotency key was lost to another request; raised by `kms_store`. */
const LEASE_LOST = "KM409";

const FOREIGN_KEY = "23503";

/** What was to be stored hangs on a branch key's version that is no more: how its foreign keys end. */
const VERSION_GONE = "_branch_key_version_fkey";

/**
 * @throws (from calls) {SuiteError} database_unavailable, idempotency_in_flight, branch_key_retired,
 * internal_error.
 */
export function supabaseRpc(config: SupabaseConfig): Rpc {
  const client = createAdminClient({
    env: { url: config.url, secretKeys: { ...config.secretKeys } },
    supabaseOptions: {
      global: {
        fetch: (input: RequestInfo | URL, init?: RequestInit) =>
          fetch(input, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) }),
      },
    },
  });
  return async <Result>(name: string, args: Readonly<Record<string, unknown>>) => {
    const { data, error, status } = await timed(
      "db",
      Promise.resolve(client.rpc(name as never, args as never)),
    );
    if (error === null) return data as Result;
    if (error.code === FOREIGN_KEY && error.message.includes(VERSION_GONE)) {
      const cause = new DatabaseError(error.code, status);
      throw new SuiteError("branch_key_retired", { cause, retryAfterSeconds: 1 });
    }
    throw translate(new DatabaseError(error.code ?? "", status));
  };
}

/** As `rpc`; tells when nothing was stored because what this worker holds of keys is out of date. */
export function noticingGoneKeys(rpc: Rpc, notice: () => void): Rpc {
  return async <Result>(name: string, args: Readonly<Record<string, unknown>>) => {
    try {
      return await rpc<Result>(name, args);
    } catch (error) {
      if (error instanceof SuiteError && error.code === "branch_key_retired") notice();
      throw error;
    }
  };
}

function translate(error: DatabaseError): SuiteError {
  if (error.code === LEASE_LOST) {
    return new SuiteError("idempotency_in_flight", { cause: error, retryAfterSeconds: 1 });
  }
  return new SuiteError(isOutage(error) ? "database_unavailable" : "internal_error", {
    cause: error,
  });
}

/** No answer at all, or one that says the server, not the statement, is at fault. */
function isOutage({ code, status }: DatabaseError): boolean {
  return status === 0 || status >= 502 || /^PGRST00[0-3]$/.test(code) ||
    // Connection, resources, operator intervention, serialization: Postgres' error classes.
    /^(08|53|57|40)/.test(code);
}
