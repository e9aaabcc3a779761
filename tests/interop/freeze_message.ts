/**
 * Wrote tests/unit/fixtures/frozen-message-v2.json, once. Kept to show where the fixture comes from;
 * running it again prints new messages, which belong in a new fixture.
 */
import {
  encodeMessage,
  encryptMessage,
  parseMessage,
  unwrapDataKeyRawAes,
  wrapDataKeyRawAes,
} from "../../functions-shared/message/mod.ts";
import { randomBytes } from "../../functions-shared/message/primitives.ts";
import { officialEncrypt, officialRawAesKeyring } from "./official.ts";

const encryptionContext = {
  app: "parker-flight",
  environment: "test",
  "data-class": "payment",
  owner: "7d1f3b52-0f0e-4c44-9d0a-3c2f5b1f8a10",
  table: "payment_methods",
  record: "0b8f5a8e-5f1c-4a43-8a0e-9a8f3e7d6c21",
  field: "number",
  "Größe": "",
  "\uffff": "日本語",
  "😀": "ascii",
};
const plaintext = new TextEncoder().encode("frozen: 4111111111111111 ✓");
const raw = { wrappingKey: randomBytes(32), keyNamespace: "frozen", keyName: "wrapping-key" };

const dataKey = randomBytes(32);
const encryptedDataKeys = [wrapDataKeyRawAes({ ...raw, encryptionContext, dataKey })];
const ours = encryptMessage({ plaintext, dataKey, encryptedDataKeys, encryptionContext });

const theirs = await officialEncrypt(officialRawAesKeyring(raw), plaintext, encryptionContext);
const encryptedDataKey = parseMessage(theirs).header.encryptedDataKeys[0]!;
const theirDataKey = unwrapDataKeyRawAes({ ...raw, encryptionContext, encryptedDataKey });

const entry = (writer: string, message: Uint8Array, key: Uint8Array) => ({
  writer,
  message: encodeMessage(message),
  data_key: encodeMessage(key),
  raw_aes: {
    wrapping_key: encodeMessage(raw.wrappingKey),
    key_namespace: raw.keyNamespace,
    key_name: raw.keyName,
  },
  encryption_context: encryptionContext,
  plaintext: encodeMessage(plaintext),
});
const fixture = {
  about: "AWS Encryption SDK messages, version 2, suite 0x0478. They must decrypt for ever.",
  messages: [
    entry("this project", ours, dataKey),
    entry("AWS Encryption SDK for JavaScript 5.0.2", theirs, theirDataKey),
  ],
};
console.log(JSON.stringify(fixture, null, 2));
