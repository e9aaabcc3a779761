/**
 * Encrypts one field of one row into a message, and back.
 *
 * The row's identity is the encryption context: bound by GCM in the message and by KMS in the data key.
 * A message that was moved to another row, owner, table or field does not decrypt, and says no more than
 * that: every such failure is the same `decryption_failed`.
 */
import type { DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";
import {
  decodeMessage,
  decryptMessage,
  encodeMessage,
  type EncryptionContext,
  encryptMessage,
  type ParsedMessage,
  parseMessage,
  sameContext,
} from "../message/mod.ts";
import { timed } from "../telemetry/timing.ts";
import { abortable } from "./abortable.ts";
import type { Keyring, OpeningKeys } from "./keyring.ts";

/** Where a message belongs. All values are opaque ids: the context is readable in CloudTrail. */
export interface FieldIdentity {
  readonly dataClass: DataClass;
  /** User id. */
  readonly owner: string;
  readonly table: "payment_methods" | "encrypted_records" | "health_canaries" | "legacy_keys";
  /** Row id. */
  readonly record: string;
  readonly field: string;
}

export interface EncryptedField {
  readonly field: string;
  /** The message in base64. */
  readonly message: string;
  /** Which wrapping key, for the audit and for finding rows to re-encrypt. */
  readonly keyId: string;
  /** As in `GeneratedDataKey`, for the audit alone: it is not stored with the field. */
  readonly region?: string | undefined;
  /** Which branch key, unless the wrapping key wrapped the data key itself. */
  readonly branchKey?: { readonly id: string; readonly version: string };
}

export interface OpenedField {
  readonly plaintext: Uint8Array;
  /** Undefined when the keyring does not tell: then it is the one that the field was stored with. */
  readonly keys: OpeningKeys | undefined;
}

export class FieldCipher {
  readonly #base: { readonly app: string; readonly environment: string };
  readonly #writers: Readonly<Record<DataClass, Keyring>>;
  readonly #readers: readonly Keyring[];

  /** Encrypts under the class's writer; decrypts under whichever of `readers` recognises the message. */
  constructor(options: {
    readonly appName: string;
    readonly environment: string;
    readonly writers: Readonly<Record<DataClass, Keyring>>;
    readonly readers: readonly Keyring[];
  }) {
    this.#base = { app: options.appName, environment: options.environment };
    this.#writers = options.writers;
    this.#readers = options.readers;
  }

  /**
   * `signal` is the request's: when its client hangs up or its time is over, so is this.
   * @throws {SuiteError} kms_unavailable, kms_access_denied, kms_key_unusable, database_unavailable.
   */
  async encrypt(
    identity: FieldIdentity,
    plaintext: Uint8Array,
    signal?: AbortSignal,
  ): Promise<EncryptedField> {
    const encryptionContext = this.#context(identity);
    const keyring = this.#writers[identity.dataClass];
    const dataKey = await timed(
      "keys",
      abortable(
        keyring.generateDataKey(identity.dataClass, encryptionContext, signal),
        signal,
        (late) => late.plaintext.fill(0),
      ),
    );
    try {
      const message = encryptMessage({
        plaintext,
        dataKey: dataKey.plaintext,
        encryptedDataKeys: [dataKey.encrypted],
        encryptionContext,
      });
      return {
        field: identity.field,
        message: encodeMessage(message),
        keyId: dataKey.keyId,
        region: dataKey.region,
        ...dataKey.branchKey === undefined ? {} : { branchKey: dataKey.branchKey },
      };
    } finally {
      dataKey.plaintext.fill(0);
    }
  }

  /** @throws {SuiteError} decryption_failed, or as `encrypt`. */
  async decrypt(
    identity: FieldIdentity,
    message: string,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    return (await this.open(identity, message, signal)).plaintext;
  }

  /**
   * As `decrypt`, and which keys did it.
   * @throws {SuiteError} as `decrypt`.
   */
  async open(
    identity: FieldIdentity,
    message: string,
    signal?: AbortSignal,
  ): Promise<OpenedField> {
    const parsed = parse(message);
    const expected = this.#context(identity);
    if (!sameContext(parsed.header.encryptionContext, expected)) {
      throw new SuiteError("decryption_failed");
    }
    const { plaintext: dataKey, keys } = await timed(
      "keys",
      abortable(this.#dataKey(parsed, expected, signal), signal, (late) => late.plaintext.fill(0)),
    );
    try {
      return { plaintext: decryptMessage(parsed, dataKey), keys };
    } catch (cause) {
      throw new SuiteError("decryption_failed", { cause });
    } finally {
      dataKey.fill(0);
    }
  }

  /** The first data key that opens; outages count only when no other data key did. */
  async #dataKey(
    parsed: ParsedMessage,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<{ readonly plaintext: Uint8Array; readonly keys?: OpeningKeys }> {
    let failure = new SuiteError("decryption_failed");
    for (const encrypted of parsed.header.encryptedDataKeys) {
      const reader = this.#readers.find((candidate) => candidate.recognises(encrypted));
      if (reader === undefined) continue;
      try {
        if (reader.openDataKey !== undefined) {
          const { plaintext, ...keys } = await reader.openDataKey(encrypted, context, signal);
          return { plaintext, keys };
        }
        return { plaintext: await reader.decryptDataKey(encrypted, context, signal) };
      } catch (error) {
        if (!(error instanceof SuiteError)) throw error;
        if (error.code !== "decryption_failed") failure = error;
      }
    }
    throw failure;
  }

  #context(identity: FieldIdentity): EncryptionContext {
    // Frozen: the message module measures and sorts it once for data key and header.
    return Object.freeze({
      ...this.#base,
      "data-class": identity.dataClass,
      owner: identity.owner,
      table: identity.table,
      record: identity.record,
      field: identity.field,
    });
  }
}

/** Ours have one, or two while they move between providers. Each one more could cost a key call. */
const MAX_DATA_KEYS = 4;

function parse(message: string): ParsedMessage {
  try {
    return parseMessage(decodeMessage(message), { maxEncryptedDataKeys: MAX_DATA_KEYS });
  } catch (cause) {
    throw new SuiteError("decryption_failed", { cause });
  }
}
