/** Plaintexts and contexts every interop test runs over. */
import type { EncryptionContext } from "../../functions-shared/message/mod.ts";

const rowContext: EncryptionContext = {
  app: "parker-flight",
  environment: "test",
  "data-class": "payment",
  owner: "7d1f3b52-0f0e-4c44-9d0a-3c2f5b1f8a10",
  table: "payment_methods",
  record: "0b8f5a8e-5f1c-4a43-8a0e-9a8f3e7d6c21",
  field: "number",
};

export const contexts: Readonly<Record<string, EncryptionContext>> = {
  "a row's context": rowContext,
  "an empty context": {},
  "an empty value": { empty: "", full: "x" },
  "non-ASCII keys and values": {
    "Ключ": "значение",
    "größe": "€ 12",
    "😀": "日本語",
    "\uffff": "",
    z: "é",
    Z: "\u0000",
  },
};

const sizes: Readonly<Record<string, number>> = {
  "empty": 0,
  "one byte": 1,
  "4 KiB": 4096,
  "4 KiB + 1": 4097,
  "1 MiB": 1 << 20,
};

export interface Sample {
  readonly name: string;
  readonly plaintext: Uint8Array;
  readonly encryptionContext: EncryptionContext;
}

/** Every size under the row's context, every context with a short plaintext. */
export function samples(): Sample[] {
  const bySize = Object.entries(sizes).map(([name, length]) => ({
    name: `${name} plaintext`,
    plaintext: randomPlaintext(length),
    encryptionContext: rowContext,
  }));
  const byContext = Object.entries(contexts).map(([name, encryptionContext]) => ({
    name,
    plaintext: randomPlaintext(40),
    encryptionContext,
  }));
  return [...bySize, ...byContext];
}

export function randomPlaintext(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(length, at + 65536)));
  }
  return bytes;
}
