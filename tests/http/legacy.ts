/** Keys and rows of older setups for tests: staged, imported, read back. */
import { assertEquals } from "@std/assert";
import { putParameter as putParameterOf } from "../support/parameter-store.ts";
import { sharedStack } from "../support/stack.ts";
import { LEGACY_KEY, legacyCiphertext, type LegacyEncoding } from "../unit/support/legacy.ts";
import { adminData } from "./admin.ts";
import { manage, NEXT_YEAR, SERVER } from "./suite.ts";

export interface Key {
  readonly key_id: string;
  readonly source: string;
  readonly fingerprint: string;
  readonly existing?: boolean;
  readonly rows?: { readonly pending: number; readonly failed: number };
}

export interface Row {
  readonly id: string;
  readonly source_id: string;
  readonly status: string;
  readonly error_code: string | null;
  readonly error_detail: string | null;
  readonly table: string | null;
  readonly record_id: string | null;
}

export interface Run {
  readonly imported: number;
  readonly failed: number;
  readonly remaining: { readonly pending: number; readonly failed: number };
}

export const HEX = Array.from(LEGACY_KEY, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const inline = (keyId: string, key = HEX, more = {}) => ({
  key_id: keyId,
  source: "inline",
  key,
  ...more,
});

/** Each test has a key of its own: fingerprints may be equal, ids may not. */
export async function importKey(keyId: string, key = LEGACY_KEY): Promise<void> {
  await adminData("POST", "/legacy/keys", inline(keyId, hexOf(key)));
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function payment(
  userId: string,
  sourceId: string,
  text: string,
  more = {},
  encoding?: LegacyEncoding,
) {
  return {
    user_id: userId,
    source_id: sourceId,
    ciphertext: legacyCiphertext(text, encoding),
    as: { data_class: "payment", exp_month: 12, exp_year: NEXT_YEAR, ...more },
  };
}

export async function stage(
  keyId: string,
  items: readonly unknown[],
  encoding: LegacyEncoding = "v1_hex",
) {
  const { results } = await adminData<{
    results: { source_id: string; outcome: string; id: string | null }[];
  }>("POST", "/legacy/rows", { key_id: keyId, encoding, items });
  return results;
}

/** Until nothing is pending. */
export async function runAll(): Promise<Run> {
  let run: Run;
  let [imported, failed] = [0, 0];
  do {
    run = await adminData<Run>("POST", "/legacy/run", {});
    imported += run.imported;
    failed += run.failed;
  } while (run.remaining.pending > 0);
  return { ...run, imported, failed };
}

export async function rowOf(sourceId: string): Promise<Row> {
  let cursor: string | null = null;
  do {
    const page: { rows: Row[]; next_cursor: string | null } = await adminData(
      "GET",
      `/legacy/rows?limit=100${cursor === null ? "" : `&cursor=${cursor}`}`,
    );
    const found = page.rows.find((row) => row.source_id === sourceId);
    if (found !== undefined) return found;
    cursor = page.next_cursor;
  } while (cursor !== null);
  throw new Error(`there is no row ${sourceId}`);
}

export async function revealNumber(userId: string, id: string | null): Promise<unknown> {
  const answer = await manage(SERVER, "POST", `/${id}/reveal`, {
    user_id: userId,
    purpose: "support",
  });
  assertEquals(answer.status, 200, answer.text);
  return (answer.body.payment_method?.card as { number: string }).number;
}

export async function revealData(userId: string, id: string | null): Promise<unknown> {
  const answer = await manage(SERVER, "POST", `/records/${id}/reveal`, {
    user_id: userId,
    purpose: "support",
  });
  assertEquals(answer.status, 200, answer.text);
  return answer.body.record?.data;
}

export async function putParameter(name: string, value: string, overwrite = false): Promise<void> {
  await putParameterOf((await sharedStack()).aws, name, value, overwrite);
}
