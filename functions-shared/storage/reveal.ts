/** The one way plaintext leaves: decrypt, commit the audit entries, and only then return. */
import { SuiteError } from "../errors.ts";
import type { EncryptedField, OpenedField } from "../keys/field-cipher.ts";
import type { OpeningKeys } from "../keys/keyring.ts";
import type { Actor, AuditEntry, AuditLog } from "../telemetry/audit.ts";
import { inTurns } from "./in-turns.ts";

/** One row to reveal: all of its fields, each a JSON value. */
export interface RevealRequest {
  readonly entry: Omit<AuditEntry, "outcome">;
  /** Undefined when this owner has no such row. */
  readonly fields: readonly EncryptedField[] | undefined;
  /** The field without which the row is worth nothing. */
  readonly required: string;
  readonly open: (field: EncryptedField) => Promise<OpenedField>;
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
      const { values, keys = fields?.find(({ field }) => field === required) } =
        revealed[index] as Opened;
      return {
        ...entry,
        ...keys === undefined ? {} : { kms_key_arn: keys.keyId },
        ...keys?.region === undefined ? {} : { kms_region: keys.region },
        ...keys?.branchKey === undefined ? {} : {
          branch_key_id: keys.branchKey.id,
          branch_key_version: keys.branchKey.version,
        },
        ...values instanceof SuiteError
          ? { outcome: "failure", error_code: values.code }
          : { outcome: "success" },
      };
    }),
  );
  return revealed.map(({ values }) => values);
}

interface Opened {
  readonly values: Revealed;
  /** What opened the required field; otherwise the audit names the keys it was stored with. */
  readonly keys?: OpeningKeys;
}

async function reveal({ fields, required, open }: RevealRequest): Promise<Opened> {
  if (fields === undefined) return { values: new SuiteError("not_found") };
  let keys: OpeningKeys | undefined;
  try {
    const values = Object.fromEntries(
      await Promise.all(fields.map(async (field) => {
        const opened = await open(field);
        if (field.field === required) keys = opened.keys;
        return [field.field, parse(opened.plaintext)] as const;
      })),
    );
    const complete = Object.hasOwn(values, required);
    return {
      values: complete ? values : new SuiteError("decryption_failed"),
      ...keys === undefined ? {} : { keys },
    };
  } catch (error) {
    const values = error instanceof SuiteError
      ? error
      : new SuiteError("internal_error", { cause: error });
    return { values };
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
