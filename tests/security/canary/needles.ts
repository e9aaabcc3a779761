/** What a card number can look like in a log, a table or a file: the forms to search for. */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

export interface Needle {
  /** Says the form, for the report: the number itself must not be printed. */
  readonly form: string;
  readonly bytes: Uint8Array;
}

const SEPARATORS = [" ", "-", ".", "_", "/", "+", "%20", "%2D", "%2d", "\\u0020", "\\t", "\u00a0"];

/** Every form of `number` (digits), twelve digits of it in a row included. */
export function needlesFor(number: string): readonly Needle[] {
  const needles = new Map<string, Needle>();
  const add = (form: string, value: string | Uint8Array) => {
    const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
    needles.set(Buffer.from(bytes).toString("hex"), { form, bytes });
  };
  const digits = [...number];
  const codes = digits.map((digit) => digit.charCodeAt(0));
  const spellings = [number, ...SEPARATORS.flatMap((separator) => grouped(number, separator))];

  for (let start = 0; start + 12 <= number.length; start++) {
    add("12 digits in a row", number.slice(start, start + 12));
  }
  for (const spelling of spellings) add("digits in groups", spelling);
  add("reversed", digits.toReversed().join(""));
  add("full width", digits.map((digit) => String.fromCodePoint(0xff10 + Number(digit))).join(""));
  add("UTF-16, little endian", Buffer.from(number, "utf16le"));
  add("UTF-16, big endian", Buffer.from(number, "utf16le").swap16());
  add("URL-encoded", codes.map((code) => `%${code.toString(16)}`).join(""));
  add("JSON escapes", codes.map((code) => `\\u00${code.toString(16)}`).join(""));
  add("hex escapes", codes.map((code) => `\\x${code.toString(16)}`).join(""));
  add("octal escapes", codes.map((code) => `\\${code.toString(8).padStart(3, "0")}`).join(""));
  add("character entities", codes.map((code) => `&#${code};`).join(""));
  for (const separator of [",", ", ", " ", ",\n"]) {
    add("byte values in decimal", codes.join(separator));
    add("digits as a list", digits.join(separator));
  }
  const text = Buffer.from(number, "utf8");
  addBoth("hex", text.toString("hex"));
  add("hex in bytes apart", codes.map((code) => code.toString(16)).join(" "));
  for (const spelling of [number, ...grouped(number, " "), ...grouped(number, "-")]) {
    for (const form of base64Forms(spelling)) add("base64", form);
  }
  if (number.length % 2 === 0) add("packed decimal", Buffer.from(number, "hex"));
  const integer = Buffer.alloc(8);
  integer.writeBigUInt64BE(BigInt(number));
  add("64-bit integer, big endian", Buffer.from(integer));
  add("64-bit integer, little endian", Buffer.from(integer).reverse());
  addBoth("integer in hex", BigInt(number).toString(16));

  for (const algorithm of ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]) {
    for (const spelling of [number, `"${number}"`, `${number}\n`, ...grouped(number, " ")]) {
      const digest = createHash(algorithm).update(spelling).digest();
      add(`unkeyed ${algorithm}`, digest);
      addBoth(`unkeyed ${algorithm} in hex`, digest.toString("hex"));
      add(`unkeyed ${algorithm} in base64`, digest.toString("base64").replace(/=+$/, ""));
      add(`unkeyed ${algorithm} in base64url`, digest.toString("base64url"));
    }
  }
  return [...needles.values()];

  function addBoth(form: string, hex: string) {
    add(form, hex.toLowerCase());
    add(form, hex.toUpperCase());
  }
}

/** In groups of four, and digit by digit. */
function grouped(number: string, separator: string): string[] {
  return [number.match(/.{1,4}/g)?.join(separator) ?? "", [...number].join(separator)];
}

/** Base64 of a text within any other text: what of it does not depend on its neighbours. */
function base64Forms(text: string): string[] {
  return [0, 1, 2].map((shift) => {
    const encoded = Buffer.from("\0".repeat(shift) + text, "utf8").toString("base64");
    // Characters that also encode a neighbour's bits vary with it.
    const from = Math.ceil(shift * 8 / 6);
    const to = Math.floor((shift + text.length) * 8 / 6);
    return encoded.slice(from, to);
  });
}
