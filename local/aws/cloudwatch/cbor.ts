/**
 * The part of CBOR (RFC 8949) that Smithy's RPC protocol uses: definite and indefinite lengths,
 * integers, floats, text, lists, maps, and tag 1, seconds since the epoch.
 */

import { malformed } from "./protocol.ts";

const MAX_DEPTH = 32;
const BREAK = Symbol("break");
const EPOCH = 1;

/** Times come as seconds, as in JSON. Throws AwsError (SerializationException). */
export function decodeCbor(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (value === BREAK || !reader.isAtEnd) throw malformed();
  return value;
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  value(depth: number): unknown {
    if (depth > MAX_DEPTH) throw malformed();
    const first = this.#view.getUint8(this.#take(1));
    const [major, info] = [first >> 5, first & 31];
    if (major === 7) return this.#simple(info);
    if (info === 31) return this.#indefinite(major, depth);
    const argument = this.#argument(info);
    switch (major) {
      case 0:
        return argument;
      case 1:
        return -1 - argument;
      case 3:
        return this.#text(argument);
      case 4:
        return this.#list(argument, depth);
      case 5:
        return this.#map(argument, depth);
      case 6:
        if (argument !== EPOCH) throw malformed();
        return this.value(depth + 1);
    }
    throw malformed();
  }

  #argument(info: number): number {
    if (info < 24) return info;
    if (info === 24) return this.#view.getUint8(this.#take(1));
    if (info === 25) return this.#view.getUint16(this.#take(2));
    if (info === 26) return this.#view.getUint32(this.#take(4));
    if (info === 27) return Number(this.#view.getBigUint64(this.#take(8)));
    throw malformed();
  }

  #simple(info: number): unknown {
    switch (info) {
      case 20:
        return false;
      case 21:
        return true;
      case 22:
      case 23:
        return undefined;
      case 25:
        return halfFloat(this.#view.getUint16(this.#take(2)));
      case 26:
        return this.#view.getFloat32(this.#take(4));
      case 27:
        return this.#view.getFloat64(this.#take(8));
      case 31:
        return BREAK;
    }
    throw malformed();
  }

  #text(length: number): string {
    const at = this.#take(length);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(this.#bytes.subarray(at, this.#at));
    } catch {
      throw malformed();
    }
  }

  /** Stops at a break, which only an indefinite length has. */
  #list(length: number, depth: number): unknown[] {
    const list: unknown[] = [];
    while (list.length < length) {
      const entry = this.value(depth + 1);
      if (entry === BREAK) return ended(list, length);
      list.push(entry);
    }
    return list;
  }

  #map(length: number, depth: number): Record<string, unknown> {
    const map = new Map<string, unknown>();
    while (map.size < length) {
      const key = this.value(depth + 1);
      if (key === BREAK) return ended(Object.fromEntries(map), length);
      const entry = this.value(depth + 1);
      if (typeof key !== "string" || entry === BREAK || map.has(key)) throw malformed();
      map.set(key, entry);
    }
    return Object.fromEntries(map);
  }

  #indefinite(major: number, depth: number): unknown {
    if (major === 4) return this.#list(Infinity, depth);
    if (major === 5) return this.#map(Infinity, depth);
    if (major !== 3) throw malformed();
    const parts = this.#list(Infinity, depth);
    if (!parts.every((part) => typeof part === "string")) throw malformed();
    return parts.join("");
  }

  /** Where the next `length` bytes begin. */
  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) throw malformed();
    this.#at += length;
    return at;
  }
}

function ended<T>(value: T, length: number): T {
  if (length !== Infinity) throw malformed();
  return value;
}

function halfFloat(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent === 0
    ? fraction * 2 ** -24
    : exponent === 31
    ? fraction === 0 ? Infinity : NaN
    : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}

/** Dates become tagged times; undefined members are left out. */
export function encodeCbor(value: unknown): Uint8Array {
  const parts: Uint8Array[] = [];
  write(value, (part) => parts.push(part));
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function write(value: unknown, put: (part: Uint8Array) => void): void {
  if (typeof value === "string") {
    const text = new TextEncoder().encode(value);
    put(head(3, text.length));
    put(text);
  } else if (typeof value === "number") {
    const double = new Uint8Array(9);
    double[0] = 0xfb;
    new DataView(double.buffer).setFloat64(1, value);
    put(double);
  } else if (value instanceof Date) {
    put(head(6, EPOCH));
    write(value.getTime() / 1000, put);
  } else if (Array.isArray(value)) {
    put(head(4, value.length));
    for (const entry of value) write(entry, put);
  } else if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    put(head(5, members.length));
    for (const [name, member] of members) {
      write(name, put);
      write(member, put);
    }
  } else {
    throw new TypeError(`answers hold no ${typeof value}`);
  }
}

function head(major: number, argument: number): Uint8Array {
  if (argument < 24) return Uint8Array.of(major << 5 | argument);
  const bytes = new Uint8Array(5);
  bytes[0] = major << 5 | 26;
  new DataView(bytes.buffer).setUint32(1, argument);
  return bytes;
}
