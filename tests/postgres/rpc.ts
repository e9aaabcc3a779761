/** Calling the suite's RPCs over a connection of its own, as an edge function does over HTTP. */

import { Buffer } from "node:buffer";
import type postgres from "postgres";

/** The networks' published test number. */
export const CARD_NUMBER = "4242424242424242";

export const STORE_ACTOR = JSON.stringify({
  actor_type: "secret_key",
  actor_id: "default",
  request_id: "eeeeeeee-0000-4000-8000-00000000000e",
  function: "encrypt-payment-data",
});

/** A well-formed message; no test here decrypts it. */
export const MESSAGE = "AgR4" + "A".repeat(176);

export interface Card {
  readonly kind: "payment_method";
  readonly id: string;
  readonly owner_id: string;
  readonly fingerprint: string;
  readonly [field: string]: unknown;
}

/** @returns an item of `kms_store`, another card each time unless a fingerprint is given */
export function card(ownerId: string, overrides: Record<string, unknown> = {}): Card {
  return {
    kind: "payment_method",
    id: crypto.randomUUID(),
    owner_id: ownerId,
    fingerprint: crypto.randomUUID().replaceAll("-", "").repeat(2),
    brand: "visa",
    last4: "4242",
    exp_month: 12,
    exp_year: 2030,
    nickname: null,
    set_default: false,
    ciphertexts: [{ field: "number", message: MESSAGE }],
    ...overrides,
  };
}

/** @returns the `type` of a branch key version that nobody has */
export function newVersion(): string {
  return `branch:version:${crypto.randomUUID()}`;
}

/** @returns records for `kms_branch_key_create`, or without a beacon key for `kms_branch_key_rotate` */
export function branchKeyRecords(
  overrides: Record<string, string> = {},
  version = newVersion(),
  beacon = true,
): string {
  const common = {
    "branch-key-id": "payment",
    "kms-arn": "arn:aws:kms:us-east-1:000000000000:key/mrk-1",
    "create-time": "2026-11-22T00:00:00.000000Z",
    "hierarchy-version": "1",
    ...overrides,
  };
  const record = (attributes: Record<string, string>) => ({
    enc: Buffer.from(crypto.getRandomValues(new Uint8Array(66))).toString("base64"),
    ...common,
    ...attributes,
  });
  return JSON.stringify([
    record({ type: version }),
    record({ type: "branch:ACTIVE", version }),
    ...beacon ? [record({ type: "beacon:ACTIVE" })] : [],
  ]);
}

/** @returns the argument of `kms_health_record` */
export function healthEntry(overrides: Record<string, unknown> = {}): string {
  return JSON.stringify({
    status: "healthy",
    checks: { config: "pass", kms_connectivity: "pass", key_functionality: "pass" },
    regions: { "us-east-1": "CLOSED" },
    latency_ms: 12,
    worker_region: null,
    function: "kms-health-check",
    ...overrides,
  });
}

/** @returns the RPC's answer, null included. @throws postgres.PostgresError */
export async function rpc<T>(
  sql: postgres.Sql | postgres.TransactionSql,
  name: string,
  args: readonly (string | null)[],
): Promise<T | null> {
  const list = args.map((_, index) => `$${index + 1}`).join(", ");
  const [row] = await sql.unsafe<{ answer: T | null }[]>(
    `select public.${name}(${list}) as answer`,
    [...args],
  );
  return row?.answer ?? null;
}
