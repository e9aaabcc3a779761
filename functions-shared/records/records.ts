/** The use cases around personal and general data: JSON objects under a label. */
import * as v from "valibot";
import { SuiteError, validationFailed } from "../errors.ts";
import type { FieldCipher, FieldIdentity } from "../keys/field-cipher.ts";
import { timingSafeEqual } from "../message/primitives.ts";
import { auditedReveal } from "../storage/reveal.ts";
import type { Page, PreparedItem, RowReference } from "../storage/store.ts";
import type { Actor, AuditLog } from "../telemetry/audit.ts";
import { parseInput, readableText } from "../validation.ts";
import type { EncryptedRecord, RecordClass, RecordStore } from "./store.ts";

const TABLE = "encrypted_records";
const FIELD = "data";

const recordSchema = v.strictObject({
  data_class: v.picklist(["pii", "general"]),
  label: v.optional(readableText(64)),
  data: v.custom<Record<string, unknown>>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  ),
});

export interface RecordInput {
  readonly dataClass: RecordClass;
  readonly label: string | null;
  readonly data: Readonly<Record<string, unknown>>;
}

/** @throws {SuiteError} validation_failed with pointers below `base`. */
export function parseRecord(input: unknown, base: string): RecordInput {
  const parsed = parseInput(recordSchema, input, base);
  if (Object.keys(parsed.data).length === 0) {
    throw validationFailed([{
      pointer: `${base}/data`,
      code: "empty_object",
      detail: "must have at least one member",
    }]);
  }
  return { dataClass: parsed.data_class, label: parsed.label ?? null, data: parsed.data };
}

export class Records {
  readonly #cipher: FieldCipher;
  readonly #store: RecordStore;
  readonly #audit: AuditLog;

  constructor(options: {
    readonly cipher: FieldCipher;
    readonly store: RecordStore;
    readonly audit: AuditLog;
  }) {
    this.#cipher = options.cipher;
    this.#store = options.store;
    this.#audit = options.audit;
  }

  /** Encrypts a record into what the store takes. Nothing is stored yet. */
  async prepare(
    ownerId: string,
    input: RecordInput,
    signal?: AbortSignal,
  ): Promise<PreparedItem> {
    const id = crypto.randomUUID();
    const plaintext = new TextEncoder().encode(JSON.stringify(input.data));
    const ciphertext = await this.#cipher.encrypt(
      identity(ownerId, id, input.dataClass),
      plaintext,
      signal,
    );
    plaintext.fill(0);
    return {
      kind: "record",
      id,
      owner_id: ownerId,
      data_class: input.dataClass,
      label: input.label,
      ciphertexts: [ciphertext],
    };
  }

  list(
    ownerId: string,
    dataClass: RecordClass | undefined,
    limit: number,
    after: string | undefined,
  ): Promise<Page<EncryptedRecord>> {
    return this.#store.list(ownerId, dataClass, limit, after);
  }

  /** @throws {SuiteError} not_found. */
  async get(ownerId: string, id: string): Promise<EncryptedRecord> {
    const record = await this.#store.get(ownerId, id);
    if (record === undefined) throw new SuiteError("not_found");
    return record;
  }

  /** @throws {SuiteError} not_found. */
  async delete(actor: Actor, ownerId: string, id: string): Promise<void> {
    if (!await this.#store.delete(actor, ownerId, id)) throw new SuiteError("not_found");
  }

  /** As `Payments.holds`. */
  async holds(
    { ownerId, id }: RowReference,
    data: RecordInput["data"],
    signal?: AbortSignal,
  ): Promise<boolean | undefined> {
    const [stored] = await this.#store.readSealed([{ ownerId, id }]);
    if (stored === undefined) return undefined;
    const sealed = stored.fields.find(({ field }) => field === FIELD);
    if (sealed === undefined) return false;
    const expected = new TextEncoder().encode(JSON.stringify(data));
    const of = identity(ownerId, id, stored.row.data_class);
    const plaintext = await this.#cipher.decrypt(of, sealed.message, signal);
    const same = timingSafeEqual(plaintext, expected);
    plaintext.fill(0);
    expected.fill(0);
    return same;
  }

  /** As `Payments.reveal`. */
  async reveal(
    actor: Actor,
    { ownerId, id }: RowReference,
    purpose: string,
    signal?: AbortSignal,
    admitted?: Promise<void>,
  ): Promise<EncryptedRecord & { readonly data: unknown }> {
    const [stored] = await this.#store.readSealed([{ ownerId, id }]);
    await admitted;
    const values = await auditedReveal(this.#audit, actor, {
      entry: {
        action: "record.reveal",
        ...stored === undefined ? {} : { data_class: stored.row.data_class },
        table_name: TABLE,
        record_id: id,
        owner_id: ownerId,
        purpose,
      },
      fields: stored?.fields,
      required: FIELD,
      open: (field) => {
        if (stored === undefined) throw new SuiteError("not_found");
        return this.#cipher.open(
          identity(ownerId, id, stored.row.data_class),
          field.message,
          signal,
        );
      },
    });
    if (stored === undefined) throw new SuiteError("not_found");
    return { ...stored.row, data: values[FIELD] };
  }
}

function identity(owner: string, record: string, dataClass: RecordClass): FieldIdentity {
  return { dataClass, owner, table: TABLE, record, field: FIELD };
}
