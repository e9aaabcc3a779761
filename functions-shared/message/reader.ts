/**
 * Reads big-endian fields front to back. Every read is checked against what is left before it is
 * made, so a length field can never reach outside the input or size an allocation beyond it.
 */
import { decryptionFailed } from "./errors.ts";

export class ByteReader {
  readonly #bytes: Uint8Array;
  #offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  uint8(field: string): number {
    return this.#bytes[this.#advance(1, field)]!;
  }

  uint16(field: string): number {
    const at = this.#advance(2, field);
    return this.#bytes[at]! << 8 | this.#bytes[at + 1]!;
  }

  uint32(field: string): number {
    const at = this.#advance(4, field);
    const bytes = this.#bytes;
    return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
  }

  /** A view of the next `length` bytes, not a copy. */
  view(length: number, field: string): Uint8Array {
    const at = this.#advance(length, field);
    return this.#bytes.subarray(at, at + length);
  }

  skip(length: number, field: string): void {
    this.#advance(length, field);
  }

  #advance(length: number, field: string): number {
    if (length > this.remaining) throw decryptionFailed(`message ends inside ${field}`);
    const at = this.#offset;
    this.#offset = at + length;
    return at;
  }
}
