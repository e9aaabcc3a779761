/** The use cases around stored cards. Knows no HTTP and no database; plaintext lives only in here. */
import * as v from "valibot";
import { SuiteError, validationFailed } from "../errors.ts";
import type { EncryptedField, FieldCipher, FieldIdentity } from "../keys/field-cipher.ts";
import type { Fingerprints } from "../keys/fingerprints.ts";
import { timingSafeEqual } from "../message/primitives.ts";
import { auditedReveals } from "../storage/reveal.ts";
import type { Page, PreparedItem, RowReference } from "../storage/store.ts";
import type { Actor, AuditLog } from "../telemetry/audit.ts";
import { parseInput } from "../validation.ts";
import {
  billingAddress,
  cardholderName,
  expiryViolations,
  expMonth,
  expYear,
  nickname,
  type PaymentInput,
} from "./card.ts";
import {
  PAYMENT_METHODS_TABLE,
  type PaymentMethod,
  type RevealedCard,
  type RevealedPaymentMethod,
} from "./payment-method.ts";
import type { PaymentMethodPatch, PaymentMethodStore } from "./store.ts";

type PaymentField = "number" | "cardholder_name" | "billing_address";

const patchSchema = v.strictObject({
  exp_month: v.optional(expMonth),
  exp_year: v.optional(expYear),
  nickname: v.optional(v.nullable(nickname)),
  cardholder_name: v.optional(v.nullable(cardholderName)),
  billing_address: v.optional(v.nullable(billingAddress)),
});

export class Payments {
  readonly #cipher: FieldCipher;
  readonly #fingerprints: Fingerprints;
  readonly #store: PaymentMethodStore;
  readonly #audit: AuditLog;
  readonly #now: () => number;

  constructor(options: {
    readonly cipher: FieldCipher;
    readonly fingerprints: Fingerprints;
    readonly store: PaymentMethodStore;
    readonly audit: AuditLog;
    readonly now?: () => number;
  }) {
    this.#cipher = options.cipher;
    this.#fingerprints = options.fingerprints;
    this.#store = options.store;
    this.#audit = options.audit;
    this.#now = options.now ?? Date.now;
  }

  /** Encrypts a card into what the store takes. Nothing is stored yet. */
  async prepare(
    ownerId: string,
    input: PaymentInput,
    signal?: AbortSignal,
  ): Promise<PreparedItem> {
    const { card } = input;
    const id = crypto.randomUUID();
    const [fingerprint, ...ciphertexts] = await Promise.all([
      this.#fingerprints.card(card.number, signal),
      this.#encrypt(ownerId, id, "number", card.number, signal),
      ...card.cardholder_name === undefined
        ? []
        : [this.#encrypt(ownerId, id, "cardholder_name", card.cardholder_name, signal)],
      ...card.billing_address === undefined
        ? []
        : [this.#encrypt(ownerId, id, "billing_address", card.billing_address, signal)],
    ]);
    return {
      kind: "payment_method",
      id,
      owner_id: ownerId,
      fingerprint,
      brand: card.brand,
      last4: card.last4,
      exp_month: card.exp_month,
      exp_year: card.exp_year,
      nickname: input.nickname,
      set_default: input.setDefault,
      ciphertexts,
    };
  }

  list(ownerId: string, limit: number, after: string | undefined): Promise<Page<PaymentMethod>> {
    return this.#store.list(ownerId, limit, after);
  }

  /** @throws {SuiteError} not_found. */
  async get(ownerId: string, id: string): Promise<PaymentMethod> {
    return found(await this.#store.get(ownerId, id));
  }

  /**
   * Changes what is given and leaves the rest; null clears. The card number cannot be changed.
   * @throws {SuiteError} validation_failed, not_found.
   */
  async update(
    actor: Actor,
    ownerId: string,
    id: string,
    body: unknown,
    signal?: AbortSignal,
  ): Promise<PaymentMethod> {
    const input = parseInput(patchSchema, body);
    if (Object.keys(input).length === 0) {
      throw validationFailed([
        { pointer: "", code: "empty_object", detail: "must change at least one field" },
      ]);
    }
    if (input.exp_month !== undefined || input.exp_year !== undefined) {
      const stored = await this.get(ownerId, id);
      const violations = expiryViolations(
        input.exp_month ?? stored.exp_month,
        input.exp_year ?? stored.exp_year,
        this.#now(),
        "",
      );
      if (violations.length > 0) throw validationFailed(violations);
    }
    const encrypted: Promise<EncryptedField>[] = [];
    const clear: ("cardholder_name" | "billing_address")[] = [];
    for (const field of ["cardholder_name", "billing_address"] as const) {
      const value = input[field];
      if (value === null) clear.push(field);
      else if (value !== undefined) {
        encrypted.push(this.#encrypt(ownerId, id, field, value, signal));
      }
    }
    const patch: PaymentMethodPatch = {
      ...input.exp_month === undefined ? {} : { exp_month: input.exp_month },
      ...input.exp_year === undefined ? {} : { exp_year: input.exp_year },
      ...input.nickname === undefined ? {} : { nickname: input.nickname },
      ...clear.length === 0 ? {} : { clear },
    };
    return found(
      await this.#store.update(actor, ownerId, id, patch, await Promise.all(encrypted)),
    );
  }

  /** @throws {SuiteError} not_found. */
  async setDefault(actor: Actor, ownerId: string, id: string): Promise<PaymentMethod> {
    return found(await this.#store.setDefault(actor, ownerId, id));
  }

  /** @throws {SuiteError} not_found. */
  async delete(actor: Actor, ownerId: string, id: string): Promise<void> {
    if (!await this.#store.delete(actor, ownerId, id)) throw new SuiteError("not_found");
  }

  /**
   * The card in plaintext. The audit entry commits first; when it cannot, nothing is returned. Nothing is
   * decrypted before `admitted` resolves.
   * @throws {SuiteError} not_found, decryption_failed, kms_*, database_unavailable.
   */
  async reveal(
    actor: Actor,
    row: RowReference,
    purpose: string,
    signal?: AbortSignal,
    admitted?: Promise<void>,
  ): Promise<RevealedPaymentMethod> {
    const [revealed] = await this.revealMany(actor, [row], purpose, signal, admitted);
    if (revealed === undefined || revealed instanceof SuiteError) {
      throw revealed ?? new SuiteError("internal_error");
    }
    return revealed;
  }

  /**
   * As `reveal`, for 1 to 100 cards: each in its place, or why it could not be revealed.
   * @throws {SuiteError} database_unavailable.
   */
  async revealMany(
    actor: Actor,
    rows: readonly RowReference[],
    purpose: string,
    signal?: AbortSignal,
    admitted?: Promise<void>,
  ): Promise<readonly (RevealedPaymentMethod | SuiteError)[]> {
    const stored = await this.#store.readSealed(rows);
    await admitted;
    const revealed = await auditedReveals(
      this.#audit,
      actor,
      rows.map(({ ownerId, id }, index) => ({
        entry: {
          action: "payment_method.reveal",
          data_class: "payment",
          table_name: PAYMENT_METHODS_TABLE,
          record_id: id,
          owner_id: ownerId,
          purpose,
        },
        fields: stored[index]?.fields,
        required: "number",
        open: (field) =>
          this.#cipher.open(
            identity(ownerId, id, field.field as PaymentField),
            field.message,
            signal,
          ),
      })),
    );
    return revealed.map((values, index) => {
      const row = stored[index]?.row;
      if (values instanceof SuiteError) return values;
      return row === undefined ? new SuiteError("not_found") : toRevealed(row, values);
    });
  }

  /**
   * Whether the stored card is this one, by decrypting all of it; undefined when there is no such card.
   * The plaintext stays in here.
   * @throws {SuiteError} decryption_failed, kms_*, database_unavailable.
   */
  async holds(
    { ownerId, id }: RowReference,
    number: string,
    signal?: AbortSignal,
  ): Promise<boolean | undefined> {
    const [stored] = await this.#store.readSealed([{ ownerId, id }]);
    if (stored === undefined) return undefined;
    const expected = new TextEncoder().encode(JSON.stringify(number));
    let same = false;
    for (const { field, message } of stored.fields) {
      const of = identity(ownerId, id, field as PaymentField);
      const plaintext = await this.#cipher.decrypt(of, message, signal);
      if (field === "number") same = timingSafeEqual(plaintext, expected);
      plaintext.fill(0);
    }
    expected.fill(0);
    return same;
  }

  #encrypt(
    ownerId: string,
    id: string,
    field: PaymentField,
    value: unknown,
    signal?: AbortSignal,
  ) {
    const plaintext = new TextEncoder().encode(JSON.stringify(value));
    return this.#cipher.encrypt(identity(ownerId, id, field), plaintext, signal);
  }
}

function toRevealed(
  row: PaymentMethod,
  values: Readonly<Record<string, unknown>>,
): RevealedPaymentMethod {
  return {
    ...row,
    card: {
      number: values.number as string,
      exp_month: row.exp_month,
      exp_year: row.exp_year,
      cardholder_name: (values.cardholder_name ?? null) as string | null,
      billing_address: (values.billing_address ?? null) as RevealedCard["billing_address"],
    },
  };
}

function identity(owner: string, record: string, field: PaymentField): FieldIdentity {
  return { dataClass: "payment", owner, table: PAYMENT_METHODS_TABLE, record, field };
}

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new SuiteError("not_found");
  return value;
}
