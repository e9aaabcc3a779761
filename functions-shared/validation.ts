/** From schema issues to violations: where, and which constraint; never the submitted value. */
import * as v from "valibot";
import { validationFailed, type Violation } from "./errors.ts";

/** More would only help somebody probe the schema. */
const MAX_VIOLATIONS = 20;

/** @throws {SuiteError} validation_failed, with pointers below `base` (an RFC 6901 pointer or ""). */
export function parseInput<Schema extends v.GenericSchema>(
  schema: Schema,
  input: unknown,
  base = "",
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, input, { abortPipeEarly: true });
  if (!result.success) {
    throw validationFailed(
      result.issues.slice(0, MAX_VIOLATIONS).map((issue) => toViolation(issue, base)),
    );
  }
  const path = arrayAsObject(input, result.output);
  if (path === undefined) return result.output;
  const pointer = jsonPointer(base, path);
  throw validationFailed([{ pointer, code: "wrong_type", detail: `must be ${TYPES.Object}` }]);
}

type Key = string | number;

/** Where an array was taken for an object: valibot's schemas of objects accept one that lacks nothing. */
function arrayAsObject(input: unknown, output: unknown): Key[] | undefined {
  if (typeof input !== "object" || typeof output !== "object") return undefined;
  if (input === null || output === null) return undefined;
  if (Array.isArray(input) && !Array.isArray(output)) return [];
  for (const [key, value] of Object.entries(input)) {
    const below = arrayAsObject(value, (output as Record<string, unknown>)[key]);
    if (below !== undefined) return [Array.isArray(input) ? Number(key) : key, ...below];
  }
  return undefined;
}

function toViolation(issue: v.BaseIssue<unknown>, base: string): Violation {
  const path = (issue.path ?? []).map((item) => item.key);
  const pointer = jsonPointer(base, path);
  if (issue.kind === "schema" && issue.expected === "never") {
    return { pointer, code: "unknown_field", detail: "This field is not known here." };
  }
  if (issue.kind === "schema" && issue.received === "undefined") {
    return { pointer, code: "missing_field", detail: "This field is required." };
  }
  const choices = choicesOf(issue);
  if (choices !== undefined) {
    return { pointer, code: "unknown_value", detail: `must be one of ${choices}` };
  }
  if (issue.kind === "schema") {
    const type = TYPES[issue.expected ?? ""];
    const detail = type === undefined ? "This field has the wrong type." : `must be ${type}`;
    return { pointer, code: "wrong_type", detail };
  }
  // Messages of checks are written in our schemas as "code: constraint".
  const [code = "invalid", ...detail] = issue.message.split(": ");
  return { pointer, code, detail: detail.join(": ") };
}

/** JSON's types by the names of schemas. */
const TYPES: Readonly<Record<string, string>> = {
  string: "a string",
  number: "a number",
  boolean: "true or false",
  Object: "an object",
  Array: "an array",
};

/** Of a text that is none of a few words: the words, as the schema has them. */
function choicesOf({ kind, input, expected }: v.BaseIssue<unknown>): string | undefined {
  if (kind !== "schema" || typeof input !== "string" || expected === null) return undefined;
  if (!/^\(?"[a-z_]+"( \| "[a-z_]+")*\)?$/.test(expected)) return undefined;
  return expected.replace(/[()"]/g, "").split(" | ").join(", ");
}

/** Enough for `line1` and `track2`, too few for the groups of a card number. */
const MAX_NAME_DIGITS = 3;

/** A submitted member name is shown only when it looks like a name: it could be a card number. */
export function jsonPointer(base: string, path: readonly unknown[]): string {
  let pointer = base;
  for (const key of path) {
    const text = String(key);
    if (typeof key !== "number" && !/^[A-Za-z_][A-Za-z0-9_-]{0,39}$/.test(text)) break;
    if (typeof key !== "number" && text.replace(/\D/g, "").length > MAX_NAME_DIGITS) break;
    pointer += `/${text}`;
  }
  return pointer;
}

/** A whole number in a range. */
export function integer(min: number, max: number) {
  const message = `out_of_range: must be a whole number from ${min} to ${max}`;
  return v.pipe(
    v.number(),
    v.integer(message),
    v.minValue(min, message),
    v.maxValue(max, message),
  );
}

/** Human text on one line: no control characters, no lone surrogates, no surrounding space. */
export function text(maxLength: number) {
  return v.pipe(
    v.string(),
    v.check(
      (value) => value.length >= 1 && value.length <= maxLength,
      `invalid_length: must be 1 to ${maxLength} characters`,
    ),
    v.check(
      (value) => !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(value) && value.trim() === value,
      "invalid_text: must have no control characters or line breaks and no space around it",
    ),
  );
}

/** As `text`, for columns that are stored readable: a card number in it is refused. */
export function readableText(maxLength: number) {
  return v.pipe(
    text(maxLength),
    v.check(
      (value) => !containsCardNumber(value),
      "card_number_in_text: must not contain a card number",
    ),
  );
}

/** Why somebody does what the audit tells: a short token. */
export const purpose = v.pipe(
  v.string(),
  v.regex(
    /^[A-Za-z][A-Za-z0-9_.:-]{0,63}$/,
    "invalid_purpose: must be 1 to 64 letters, digits or any of _.:-, and begin with a letter",
  ),
  v.check(
    (value) => !containsCardNumber(value),
    "card_number_in_text: must not contain a card number",
  ),
);

/**
 * Whether some run of 13 to 19 digits, separators allowed, passes the Luhn check, or 13 digits stand
 * together at all: the columns refuse those (kms.read_free_text).
 */
export function containsCardNumber(value: string): boolean {
  const normal = asciiDigits(value.normalize("NFKC"));
  if (/\d([ -]?\d){12}/.test(normal)) return true;
  for (const [run] of normal.matchAll(/\d(?:[^\p{L}\d]{0,3}\d){12,}/gu)) {
    const digits = run.replace(/\D/g, "");
    for (let start = 0; start + 13 <= digits.length; start++) {
      for (let length = 13; length <= 19 && start + length <= digits.length; length++) {
        if (passesLuhn(digits.slice(start, start + length))) return true;
      }
    }
  }
  return false;
}

/** The decimal digits of every script as ASCII ones: Unicode keeps each script's ten in a row. */
function asciiDigits(text: string): string {
  return text.replace(/(?!\d)\p{Nd}/gu, (digit) => {
    const code = digit.codePointAt(0) ?? 0;
    let zero = code;
    while (/\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--;
    return String((code - zero) % 10);
  });
}

export function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let index = 0; index < digits.length; index++) {
    let digit = Number(digits[digits.length - 1 - index]);
    if (index % 2 === 1) digit = digit > 4 ? digit * 2 - 9 : digit * 2;
    sum += digit;
  }
  return sum % 10 === 0;
}
