/** What a decrypted text of an older setup becomes: checked as strictly as if it had just been sent. */
import { validationFailed } from "../../errors.ts";
import { parsePayment, type PaymentInput } from "../../payments/card.ts";
import { parseRecord, type RecordInput } from "../../records/records.ts";
import { refuseForbidden } from "../../sensitive-data.ts";
import type { Target } from "./store.ts";

export type LegacyInput =
  | { readonly kind: "payment"; readonly input: PaymentInput }
  | { readonly kind: "record"; readonly input: RecordInput };

/**
 * A card number alone: in one piece, or grouped as on the card. Looser than what is taken from a form, where
 * spaces mean nothing: behind an odd group of three or four digits here would be a verification code.
 */
const NUMBER = /^(?:\d{12,19}|\d{4}(?:[ -]\d{4}){3}|\d{4}[ -]\d{6}[ -]\d{4,5})$/;

/** Something that begins as a card number does and goes on with what may be its verification code. */
const NUMBER_AND_MORE = /^\d{4}[ -]?\d{4}[\d -]*.*?\D\d{3,4}\D*$/s;

/**
 * @throws {SuiteError} validation_failed, sensitive_authentication_data; without a word of the text.
 */
export function readPlaintext(
  plaintext: Uint8Array,
  target: Target,
  options: { readonly brands: readonly string[]; readonly now: number },
): LegacyInput {
  const text = decode(plaintext);
  refuseForbidden(text);
  if (target.data_class === "payment") {
    const { data_class, nickname, ...expiry } = target;
    const card = { ...cardOf(text), ...expiry };
    const item = { data_class, card, ...nickname === undefined ? {} : { nickname } };
    return { kind: "payment", input: parsePayment(item, { base: "", ...options }) };
  }
  const { data_class, label, field } = target;
  const data = dataOf(text, field);
  refuseForbidden(data);
  const item = { data_class, data, ...label === undefined ? {} : { label } };
  return { kind: "record", input: parseRecord(item, "") };
}

/** A number, or an object with the members of a card that are not its expiry. */
function cardOf(text: string): Readonly<Record<string, unknown>> {
  const json = parseJson(text);
  if (isObject(json)) {
    refuseForbidden(json);
    return { ...json, number: numberOf(json.number) };
  }
  return { number: numberOf(typeof json === "string" ? json : text) };
}

function numberOf(value: unknown): unknown {
  if (typeof value !== "string") return value;
  const text = value.trim();
  if (NUMBER.test(text)) return text;
  if (NUMBER_AND_MORE.test(text)) {
    // As a member of that name would be refused: the text holds one without saying so.
    refuseForbidden({ cvv: "" });
  }
  throw validationFailed([{
    pointer: "/card/number",
    code: "invalid_card_number",
    detail: "must be a card number and nothing else",
  }]);
}

/** The object it is; otherwise, or when a field is named, the text as a member. */
function dataOf(text: string, field: string | undefined): Readonly<Record<string, unknown>> {
  const json = field === undefined ? parseJson(text) : undefined;
  return isObject(json) ? json : { [field ?? "value"]: text };
}

function decode(plaintext: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plaintext);
  } catch {
    throw validationFailed([{ pointer: "", code: "invalid_text", detail: "must be UTF-8 text" }]);
  }
}

function parseJson(text: string): unknown {
  // Numbers and words are JSON as well, and mean the text here.
  if (!/^\s*["{]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message would quote the plaintext.
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
