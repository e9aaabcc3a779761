/** Shared by the message tests: sample inputs and the one way in which reading may fail. */
import { assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import {
  decryptMessage,
  type EncryptedDataKey,
  type EncryptionContext,
  encryptMessage,
  MessageError,
  parseMessage,
} from "../../functions-shared/message/mod.ts";

export function bytes(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff);
}

export function random(length: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) {
    crypto.getRandomValues(out.subarray(at, Math.min(length, at + 65536)));
  }
  return out;
}

export function hex(text: string): Uint8Array {
  const digits = text.replace(/\s/g, "");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

export const dataKey = bytes(32, 7);

export const oneKey: EncryptedDataKey = {
  providerId: "aws-kms",
  providerInfo: new TextEncoder().encode("arn:aws:kms:us-east-1:111122223333:key/example"),
  ciphertext: bytes(40, 9),
};

export const context: EncryptionContext = { field: "number", owner: "user-1" };

export interface SealOptions {
  plaintext?: Uint8Array;
  dataKey?: Uint8Array;
  encryptedDataKeys?: readonly EncryptedDataKey[];
  encryptionContext?: EncryptionContext;
}

export function seal(options: SealOptions = {}): Uint8Array {
  return encryptMessage({
    plaintext: options.plaintext ?? bytes(16),
    dataKey: options.dataKey ?? dataKey,
    encryptedDataKeys: options.encryptedDataKeys ?? [oneKey],
    encryptionContext: options.encryptionContext ?? context,
  });
}

export function open(message: Uint8Array, key: Uint8Array = dataKey): Uint8Array {
  return decryptMessage(parseMessage(message), key);
}

/** Asserts the one indistinguishable failure; returns its detail, which is for logs only. */
export function assertDecryptionFailed(attempt: () => unknown): string {
  const error = assertThrows(attempt, MessageError);
  assertEquals(error.constructor, MessageError);
  assertEquals(error.name, "MessageError");
  assertEquals(error.code, "decryption_failed");
  assertEquals(error.message, "The message could not be decrypted.");
  assertEquals(error.retryable, false);
  assertEquals(Object.keys(error).sort(), ["code", "name", "retryable"]);
  assertInstanceOf(error.cause, Error);
  return error.cause.message;
}

/** Asserts that an input is refused, with this rule. */
export function assertMalformed(attempt: () => unknown, rule: string): void {
  const error = assertThrows(attempt, MessageError);
  assertEquals(error.code, "message_malformed");
  assertEquals(error.message, rule);
}
