/** Card input: shape, brand, Luhn, expiry. */
import cardValidator from "card-validator";
import * as v from "valibot";
import { validationFailed, type Violation } from "../errors.ts";
import { integer, parseInput, readableText, text } from "../validation.ts";
import type { BillingAddress } from "./payment-method.ts";

export interface Card {
  /** Digits only. */
  readonly number: string;
  /** In Stripe's spelling. */
  readonly brand: string;
  readonly last4: string;
  readonly exp_month: number;
  readonly exp_year: number;
  readonly cardholder_name: string | undefined;
  readonly billing_address: BillingAddress | undefined;
}

/** From card-validator's names to Stripe's; a brand that is not here is not supported. */
const BRANDS: Readonly<Record<string, string>> = {
  "visa": "visa",
  "mastercard": "mastercard",
  "american-express": "amex",
  "discover": "discover",
  "diners-club": "diners",
  "jcb": "jcb",
  "unionpay": "unionpay",
};

/** No card is issued for longer than this. */
const MAX_YEARS_AHEAD = 20;

export const cardholderName = text(100);

export const billingAddress = v.pipe(
  v.strictObject({
    line1: v.optional(text(200)),
    line2: v.optional(text(200)),
    city: v.optional(text(100)),
    state: v.optional(text(100)),
    postal_code: v.optional(text(20)),
    country: v.optional(
      v.pipe(
        v.string(),
        v.regex(/^[A-Z]{2}$/, "invalid_country: must be two capital letters (ISO 3166-1 alpha-2)"),
      ),
    ),
  }),
  v.check(
    (address) => Object.values(address).some((part) => part !== undefined),
    "empty_object: must have at least one member",
  ),
);

export const expMonth = integer(1, 12);
export const expYear = integer(1000, 9999);
export const nickname = readableText(64);

export const cardSchema = v.strictObject({
  number: v.string(),
  exp_month: expMonth,
  exp_year: expYear,
  cardholder_name: v.optional(cardholderName),
  billing_address: v.optional(billingAddress),
});

export const paymentSchema = v.strictObject({
  data_class: v.literal("payment"),
  card: cardSchema,
  nickname: v.optional(nickname),
  set_default: v.optional(v.boolean()),
});

export interface PaymentInput {
  readonly card: Card;
  readonly nickname: string | null;
  readonly setDefault: boolean;
}

/** @throws {SuiteError} validation_failed with pointers below `base`. */
export function parsePayment(
  input: unknown,
  options: { readonly base: string; readonly brands: readonly string[]; readonly now: number },
): PaymentInput {
  const parsed = parseInput(paymentSchema, input, options.base);
  const base = `${options.base}/card`;
  const number = parsed.card.number.replace(/[ -]/g, "");
  const brand = brandOf(number);
  const violations = [
    ...numberViolations(number, brand, options.brands, base),
    ...expiryViolations(parsed.card.exp_month, parsed.card.exp_year, options.now, base),
  ];
  if (violations.length > 0) throw validationFailed(violations);
  return {
    card: {
      number,
      brand,
      last4: number.slice(-4),
      exp_month: parsed.card.exp_month,
      exp_year: parsed.card.exp_year,
      cardholder_name: parsed.card.cardholder_name,
      billing_address: parsed.card.billing_address,
    },
    nickname: parsed.nickname ?? null,
    setDefault: parsed.set_default ?? false,
  };
}

/**
 * A card is good through the last day of its month. The month is judged by UTC.
 * `now`: milliseconds since the epoch.
 */
export function expiryViolations(
  month: number,
  year: number,
  now: number,
  base: string,
): readonly Violation[] {
  const today = new Date(now);
  const monthsLeft = (year - today.getUTCFullYear()) * 12 + (month - 1 - today.getUTCMonth());
  if (monthsLeft < 0) {
    return [{
      pointer: `${base}/exp_year`,
      code: "expired_card",
      detail: "exp_month and exp_year must not be in the past",
    }];
  }
  if (monthsLeft > MAX_YEARS_AHEAD * 12) {
    return [{
      pointer: `${base}/exp_year`,
      code: "out_of_range",
      detail: `must be at most ${MAX_YEARS_AHEAD} years ahead`,
    }];
  }
  return [];
}

function brandOf(number: string): string {
  return BRANDS[cardValidator.number(number).card?.type ?? ""] ?? "";
}

function numberViolations(
  number: string,
  brand: string,
  accepted: readonly string[],
  base: string,
): readonly Violation[] {
  const pointer = `${base}/number`;
  const result = cardValidator.number(number, { luhnValidateUnionPay: true });
  if (!/^\d{12,19}$/.test(number) || (result.card !== null && !result.isValid)) {
    return [{
      pointer,
      code: "invalid_card_number",
      detail: "must be a card number: its brand's length, and a check digit that agrees",
    }];
  }
  if (!accepted.includes(brand)) {
    return [{
      pointer,
      code: "unsupported_card_brand",
      detail: `must be a card of ${accepted.join(", ")}`,
    }];
  }
  return [];
}
