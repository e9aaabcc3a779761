/**
 * UTF-8 for the short, mostly ASCII texts of a header, written in place. An array made for every
 * text would cost more than the cipher: what is handed to the platform leaves V8's heap, and a
 * small message's time is mostly such allocations (measured on Deno 2.1 and 2.9).
 */

const encoder = new TextEncoder();

/** Bytes of `text` in UTF-8, or undefined when a lone surrogate leaves it without that form. */
export function utf8Length(text: string): number | undefined {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) {
      length += 1;
    } else if (!isSurrogate(unit)) {
      length += 2;
    } else {
      const isPair = unit < 0xdc00 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00;
      if (!isPair) return undefined;
      length += 2; // four bytes for two units
      i++;
    }
  }
  return length;
}

/** Writes `text`, whose {@link utf8Length} is `length`, to `out` at `offset`. */
export function writeUtf8(out: Uint8Array, offset: number, text: string, length: number): void {
  if (length !== text.length) {
    encoder.encodeInto(text, out.subarray(offset, offset + length));
    return;
  }
  for (let i = 0; i < length; i++) out[offset + i] = text.charCodeAt(i);
}

/**
 * Orders well-formed texts as their UTF-8 bytes would be, that is by code point. UTF-16 units give
 * the same order except that surrogates (astral characters) must follow U+E000 to U+FFFF.
 */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i);
    if (x !== y) return rank(x) - rank(y);
  }
  return a.length - b.length;
}

function rank(unit: number): number {
  return isSurrogate(unit) ? unit + 0x10000 : unit;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}
