/**
 * Messages written once and kept: one by this module, one by AWS's own SDK. They must decrypt for
 * ever. When this test fails, the code is wrong, never the fixture.
 */
import { assertEquals } from "@std/assert";
import {
  decodeMessage,
  decryptMessage,
  encodeMessage,
  parseMessage,
  sameContext,
  unwrapDataKeyRawAes,
} from "../../functions-shared/message/mod.ts";
import { assertDecryptionFailed } from "./message_support.ts";
import frozen from "./fixtures/frozen-message-v2.json" with { type: "json" };

const bytesOf = (base64: string) =>
  Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

Deno.test("frozen messages", async (t) => {
  assertEquals(frozen.messages.map(({ writer }) => writer), [
    "this project",
    "AWS Encryption SDK for JavaScript 5.0.2",
  ]);
  for (const sample of frozen.messages) {
    const message = parseMessage(decodeMessage(sample.message));

    await t.step(`written by ${sample.writer} decrypts under its data key`, () => {
      const plaintext = decryptMessage(message, bytesOf(sample.data_key));
      assertEquals(plaintext, bytesOf(sample.plaintext));
      assertEquals(encodeMessage(message.bytes), sample.message);
    });

    await t.step(`written by ${sample.writer} holds its context`, () => {
      assertEquals(sameContext(message.header.encryptionContext, sample.encryption_context), true);
    });

    await t.step(`written by ${sample.writer} unwraps its data key`, () => {
      const dataKey = unwrapDataKeyRawAes({
        wrappingKey: bytesOf(sample.raw_aes.wrapping_key),
        keyNamespace: sample.raw_aes.key_namespace,
        keyName: sample.raw_aes.key_name,
        encryptionContext: sample.encryption_context,
        encryptedDataKey: message.header.encryptedDataKeys[0]!,
      });
      assertEquals(dataKey, bytesOf(sample.data_key));
    });
  }

  await t.step("do not decrypt under each other's data key", () => {
    const [ours, theirs] = frozen.messages;
    assertDecryptionFailed(() =>
      decryptMessage(parseMessage(decodeMessage(ours!.message)), bytesOf(theirs!.data_key))
    );
  });
});
