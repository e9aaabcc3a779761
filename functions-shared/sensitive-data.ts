/** What may never be stored, not even encrypted (PCI DSS 4.0.1, 3.3.1), wherever in a document it is. */
import { SuiteError, validationFailed } from "./errors.ts";
import { jsonPointer } from "./validation.ts";

/** Deeper than any real document, shallow enough for every recursive reader behind this. */
const MAX_DEPTH = 32;

/** Member names, lower case without separators, whose values PCI DSS 3.3.1 forbids to store. */
const FORBIDDEN_NAMES = new Set([
  "cvv",
  "cvv2",
  "cvc",
  "cvc2",
  "cvn",
  "cvn2",
  "cid",
  "cav",
  "cav2",
  "csc",
  "ccv",
  "cardcvv",
  "cardcvc",
  "cardcid",
  "cardcsc",
  "cvvcode",
  "cvccode",
  "cvvnumber",
  "cvcnumber",
  "securitycode",
  "cardsecuritycode",
  "verificationcode",
  "cardverificationcode",
  "cardverificationvalue",
  "cardverificationnumber",
  "verificationvalue",
  "pin",
  "pinblock",
  "pincode",
  "pinnumber",
  "cardpin",
  "encryptedpin",
  "track",
  "track1",
  "track2",
  "track3",
  "track1data",
  "track2data",
  "trackdata",
  "tracks",
  "fulltrack",
  "fulltrackdata",
  "magstripe",
  "magstripedata",
  "magneticstripe",
  "magneticstripedata",
]);

/** One word of a longer name (`creditCardCvv`, `cvc_2`): these mean nothing else. */
const CODE_WORD = /^(cvv|cvc|cvn|cav)2?$/;

function isForbidden(name: string): boolean {
  const plain = name.normalize("NFKC");
  if (FORBIDDEN_NAMES.has(plain.toLowerCase().replace(/[^a-z0-9]/g, ""))) return true;
  const words = plain.split(/[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])/);
  return words.some((word) => CODE_WORD.test(word.toLowerCase()));
}

/** Track 1 begins `%B` or `B` and the number; track 2 has the number, `=` or `D`, expiry and service code. */
const TRACK_1 = /%?B\d{12,19}\^[^^]{2,26}\^\d{4}/i;
const TRACK_2 = /(?<!\d)\d{12,19}[=D]\d{2}(0[1-9]|1[0-2])\d{3}/i;

/**
 * Walks the document with a list of its own: recursion would be the attacker's to exhaust.
 *
 * `opaque`: members whose texts are not looked into.
 * @throws {SuiteError} sensitive_authentication_data; validation_failed (nested too deeply, numbers too long
 *   to keep).
 */
export function refuseForbidden(root: unknown, opaque: ReadonlySet<string> = new Set()): void {
  const open: { value: unknown; path: readonly (string | number)[] }[] = [{
    value: root,
    path: [],
  }];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    const { value, path } = node;
    if (typeof value === "string" && !opaque.has(String(path.at(-1))) && isTrackData(value)) {
      refuse(path);
    }
    if (typeof value === "number" && !isExact(value)) {
      throw validationFailed([{
        pointer: jsonPointer("", path),
        code: "inexact_number",
        detail:
          "must be a number that can be given back as it was sent; send longer ones as strings",
      }]);
    }
    if (typeof value !== "object" || value === null) continue;
    if (path.length >= MAX_DEPTH) {
      throw validationFailed([{
        pointer: "",
        code: "nested_too_deeply",
        detail: `must not nest deeper than ${MAX_DEPTH} levels`,
      }]);
    }
    if (Array.isArray(value)) {
      value.forEach((item, index) => open.push({ value: item, path: [...path, index] }));
      continue;
    }
    for (const [name, member] of Object.entries(value)) {
      if (isForbidden(name)) refuse([...path, name]);
      open.push({ value: member, path: [...path, name] });
    }
  }
}

function isTrackData(text: string): boolean {
  return TRACK_1.test(text) || TRACK_2.test(text);
}

/** JSON.parse makes infinities of large numbers (stored as null), and rounds long integers. */
function isExact(value: number): boolean {
  // From here on numbers are written with an exponent, and nobody expects their last digit back.
  const isLongInteger = Number.isInteger(value) && Math.abs(value) < 1e21;
  return isLongInteger ? Number.isSafeInteger(value) : Number.isFinite(value);
}

function refuse(path: readonly (string | number)[]): never {
  throw new SuiteError("sensitive_authentication_data", {
    violations: [{
      pointer: jsonPointer("", path),
      code: "sensitive_authentication_data",
      detail: "must not be sent, not even encrypted",
    }],
  });
}
