/** The one way plaintext leaves: decrypt, commit the audit entries, and only then return. */
import { SuiteError } from "../errors.ts";
import type { EncryptedField } from "../keys/field-cipher.ts";
import type { Actor, AuditEntry, AuditLog } from "../telemetry/audit.ts";
import { inTurns } from "./in-turns.ts";

/** One row to reveal: all of its fields, each a JSON value. */
export interface RevealRequest {
  readonly entry: Omit<AuditEntry, "outcome">;
  /** Undefined when this owner has no such row. */
  readonly fields: readonly EncryptedField[] | undefined;
  /** The field without which the row is worth nothing. */
  readonly required: string;
  readonly decrypt: (field: EncryptedField) => Promise<Uint8Array>;
}

/** The values by field, or why there are none. */
export type Revealed = Readonly<Record<string, unknown>> | SuiteError;

/**
 * Reveals one row.
 *
 * @throws {SuiteError} not_found, decryption_failed (also when the `required` field is missing), kms_*,
 * and database_unavailable when the entry cannot be committed: then nothing was returned to anybody.
 */
export async function auditedReveal(
  audit: AuditLog,
  actor: Actor,
  request: RevealRequest,
): Promise<Readonly<Record<string, unknown>>> {
  const [revealed] = await auditedReveals(audit, actor, [request]);
  if (revealed === undefined) throw new SuiteError("internal_error");
  if (revealed instanceof SuiteError) throw revealed;
  return revealed;
}

/**
 * Reveals many rows, with one commit for the audit entries of all. A row that fails is audited as a
 * failure and takes no other down.
 *
 * @throws {SuiteError} database_unavailable when the entries cannot be committed.
 */
export async function auditedReveals(
  audit: AuditLog,
  actor: Actor,
  requests: readonly RevealRequest[],
): Promise<readonly Revealed[]> {
  const revealed = await inTurns(requests.map((request) => () => reveal(request)));
  await audit.append(
    actor,
    requests.map(({ entry, fields, required }, index): AuditEntry => {
      const outcome = revealed[index];
      const field = fields?.find((field) => field.field === required);
      return {
        ...entry,
        ...field === undefined ? {} : { kms_key_arn: field.keyId },
        ...field?.branchKey === undefined ? {} : {
          branch_key_id: field.branchKey.id,
          branch_key_version: field.branchKey.version,
        },
        ...outcome instanceof SuiteError
          ? { outcome: "failure", error_code: outcome.code }
          : { outcome: "success" },
      };
    }),
  );
  return revealed;
}

async function reveal({ fields, required, decrypt }: RevealRequest): Promise<Revealed> {
  if (fields === undefined) return new SuiteError("not_found");
  try {
    const values = Object.fromEntries(
      await Promise.all(
        fields.map(async (field) => [field.field, parse(await decrypt(field))] as const),
      ),
    );
    return Object.hasOwn(values, required) ? values : new SuiteError("decryption_failed");
  } catch (error) {
    return error instanceof SuiteError ? error : new SuiteError("internal_error", { cause: error });
  }
}

function parse(plaintext: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(plaintext));
  } catch {
    // The parser's message would quote the plaintext: it must not become a cause.
    throw new SuiteError("decryption_failed");
  } finally {
    plaintext.fill(0);
  }
}
