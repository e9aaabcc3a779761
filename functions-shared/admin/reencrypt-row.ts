/**
 * Moves one message to the key that its class is written under now. The new message is decrypted and
 * compared before it is handed on: what replaces a row has been read.
 */
import { timingSafeEqual } from "node:crypto";
import type { DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";
import type { EncryptedField, FieldCipher, FieldIdentity } from "../keys/field-cipher.ts";

/** A row as it was read, and the hash that stands for its message when it is replaced. */
export interface StaleRow {
  readonly table_name: FieldIdentity["table"];
  readonly record_id: string;
  readonly field: string;
  readonly owner_id: string;
  readonly data_class: DataClass;
  readonly message: string;
  readonly hash: string;
}

/** The new message, or why there is none. */
export type Reencrypted = { readonly ciphertext: EncryptedField } | { readonly error_code: string };

type Cipher = Pick<FieldCipher, "encrypt" | "decrypt">;

export interface RowCiphers {
  readonly cipher: Cipher;
  /** Asks the key service itself, where the other one may know keys by heart. */
  readonly direct: Pick<FieldCipher, "encrypt">;
}

/**
 * A fault of the row is an answer; one of the key service or the database is thrown, since then the row
 * says nothing.
 *
 * @throws {SuiteError} kms_*, database_unavailable.
 */
export async function reencryptRow(
  { cipher, direct }: RowCiphers,
  row: StaleRow,
  signal?: AbortSignal,
): Promise<Reencrypted> {
  const identity: FieldIdentity = {
    dataClass: row.data_class,
    owner: row.owner_id,
    table: row.table_name,
    record: row.record_id,
    field: row.field,
  };
  let plaintext: Uint8Array;
  try {
    plaintext = await cipher.decrypt(identity, row.message, signal);
  } catch (error) {
    if (!(error instanceof SuiteError)) throw error;
    if (error.code === "decryption_failed") return { error_code: error.code };
    if (error.code !== "kms_key_unusable" && error.code !== "kms_access_denied") throw error;
    // A fault of this row's own, older key if the present one works; otherwise this throws.
    await direct.encrypt(identity, new Uint8Array(), signal);
    return { error_code: error.code };
  }
  try {
    const ciphertext = await cipher.encrypt(identity, plaintext, signal);
    const same = await decryptsTo(cipher, identity, ciphertext.message, plaintext, signal);
    return same ? { ciphertext } : { error_code: "verification_failed" };
  } finally {
    plaintext.fill(0);
  }
}

async function decryptsTo(
  cipher: Cipher,
  identity: FieldIdentity,
  message: string,
  expected: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  let read: Uint8Array;
  try {
    read = await cipher.decrypt(identity, message, signal);
  } catch (error) {
    if (error instanceof SuiteError && error.code === "decryption_failed") return false;
    throw error;
  }
  const same = read.length === expected.length && timingSafeEqual(read, expected);
  read.fill(0);
  return same;
}
