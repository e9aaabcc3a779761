/**
 * The keys of older setups: read once from where they are kept, from then on encrypted under the payment
 * class. No key is ever answered.
 */
import { SuiteError } from "../../errors.ts";
import type { FieldCipher, FieldIdentity } from "../../keys/field-cipher.ts";
import type { Fingerprints } from "../../keys/fingerprints.ts";
import { type Actor, type AuditEntry, type AuditLog, noteFailure } from "../../telemetry/audit.ts";
import { fetchKey, type KeyLocation, type KeySources } from "./key-source.ts";
import { type Derivation, KEY_BYTES, legacyKey } from "./key.ts";
import type { LegacyKey, LegacyStore, Source } from "./store.ts";

const NOBODY = "00000000-0000-0000-0000-000000000000";

export type KeyImport =
  & KeyLocation
  & {
    readonly derivation: Derivation;
  }
  & (
    | { readonly source: Exclude<Source, "inline"> }
    /** `key`: the text, as it was kept. */
    | { readonly source: "inline"; readonly key: string }
  );

export class LegacyKeys {
  readonly #store: Pick<LegacyStore, "putKey" | "listKeys" | "getKey" | "destroyKey">;
  readonly #sources: KeySources;
  readonly #cipher: FieldCipher;
  readonly #fingerprints: Fingerprints;
  readonly #audit: AuditLog;

  constructor(options: {
    readonly store: Pick<LegacyStore, "putKey" | "listKeys" | "getKey" | "destroyKey">;
    readonly sources: KeySources;
    readonly cipher: FieldCipher;
    readonly fingerprints: Fingerprints;
    readonly audit: AuditLog;
  }) {
    this.#store = options.store;
    this.#sources = options.sources;
    this.#cipher = options.cipher;
    this.#fingerprints = options.fingerprints;
    this.#audit = options.audit;
  }

  /**
   * The same key again changes nothing.
   * @throws {SuiteError} key_import_failed (not found, no access, no key), legacy_key_conflict (another key
   *   has this id), kms_*, database_unavailable.
   */
  async import(
    actor: Actor,
    request: KeyImport,
    signal?: AbortSignal,
  ): Promise<{ readonly existing: boolean; readonly key: LegacyKey }> {
    const entry = { action: "legacy_key.import" };
    const key = await this.#audited(actor, entry, () => this.#read(request, signal));
    try {
      const id = crypto.randomUUID();
      const [sealed, fingerprint] = await this.#audited(
        actor,
        { ...entry, ...row(id) },
        () =>
          Promise.all([
            this.#cipher.encrypt(identity(id), key, signal),
            this.#fingerprints.payload("payment", ["legacy_key", hex(key)], signal),
          ]),
      );
      const { keyId, source } = request;
      const { outcome, key: kept } = await this.#store.putKey(actor, {
        keyId,
        id,
        sealed,
        fingerprint,
        source,
      });
      if (outcome === "conflict") throw new SuiteError("legacy_key_conflict");
      return { existing: outcome === "existing", key: kept };
    } finally {
      key.fill(0);
    }
  }

  list() {
    return this.#store.listKeys();
  }

  /** @throws {SuiteError} not_found, legacy_key_in_use. */
  async destroy(actor: Actor, keyId: string): Promise<void> {
    const outcome = await this.#store.destroyKey(actor, keyId);
    if (outcome === "not_found") throw new SuiteError("not_found");
    if (outcome === "in_use") throw new SuiteError("legacy_key_in_use");
  }

  /**
   * 32 bytes; the caller zeroes them. Audited when it fails: what is done with the key is audited itself.
   * @throws {SuiteError} decryption_failed, not_found, kms_*, database_unavailable.
   */
  async open(actor: Actor, keyId: string, signal?: AbortSignal): Promise<Uint8Array> {
    const sealed = await this.#store.getKey(keyId);
    if (sealed === undefined) throw new SuiteError("not_found");
    return await this.#audited(
      actor,
      { action: "legacy_key.open", ...row(sealed.id) },
      async () => {
        const key = await this.#cipher.decrypt(identity(sealed.id), sealed.message, signal);
        if (key.length === KEY_BYTES) return key;
        key.fill(0);
        throw new SuiteError("decryption_failed");
      },
    );
  }

  /** What fails before the database could note it is noted here. */
  async #audited<T>(
    actor: Actor,
    entry: Omit<AuditEntry, "outcome" | "error_code">,
    work: () => Promise<T>,
  ): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof SuiteError)) throw error;
      throw await noteFailure(
        error,
        (code) => this.#audit.append(actor, [{ ...entry, outcome: "failure", error_code: code }]),
      );
    }
  }

  async #read(request: KeyImport, signal?: AbortSignal): Promise<Uint8Array> {
    if (request.source === "inline") return await legacyKey(request.key, request.derivation);
    const { source, keyId, name, version, derivation } = request;
    const text = await fetchKey(this.#sources[source], { keyId, name, version }, signal);
    return await legacyKey(text, derivation);
  }
}

/** The owner is nobody: a key is of the setup. */
function identity(record: string): FieldIdentity {
  return { dataClass: "payment", owner: NOBODY, table: "legacy_keys", record, field: "key" };
}

/** As the audit names it. */
function row(id: string) {
  return { data_class: "payment", table_name: "legacy_keys", record_id: id } as const;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
