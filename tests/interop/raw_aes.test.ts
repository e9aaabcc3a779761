/** The raw AES keyring, both ways with the official AWS Encryption SDK for JavaScript. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  decryptMessage,
  encryptMessage,
  MessageError,
  parseMessage,
  sameContext,
  unwrapDataKeyRawAes,
  wrapDataKeyRawAes,
} from "../../functions-shared/message/mod.ts";
import { randomBytes } from "../../functions-shared/message/primitives.ts";
import { officialDecrypt, officialEncrypt, officialRawAesKeyring } from "./official.ts";
import { randomPlaintext, type Sample, samples } from "./samples.ts";

const key = { wrappingKey: randomBytes(32), keyNamespace: "interop", keyName: "schlüssel-1" };
const keyring = officialRawAesKeyring(key);

function encryptOurs({ plaintext, encryptionContext }: Sample): Uint8Array {
  const dataKey = randomBytes(32);
  return encryptMessage({
    plaintext,
    dataKey,
    encryptedDataKeys: [wrapDataKeyRawAes({ ...key, encryptionContext, dataKey })],
    encryptionContext,
  });
}

function decryptOurs(message: Uint8Array, { encryptionContext }: Sample): Uint8Array {
  const parsed = parseMessage(message);
  assert(sameContext(parsed.header.encryptionContext, encryptionContext));
  const encryptedDataKey = parsed.header.encryptedDataKeys[0]!;
  const dataKey = unwrapDataKeyRawAes({ ...key, encryptionContext, encryptedDataKey });
  return decryptMessage(parsed, dataKey);
}

Deno.test("raw AES keyring: the official SDK reads what we write", async (t) => {
  for (const sample of samples()) {
    await t.step(sample.name, async () => {
      const { plaintext, messageHeader } = await officialDecrypt(keyring, encryptOurs(sample));
      assertEquals(plaintext, sample.plaintext);
      assert(sameContext(messageHeader.encryptionContext, sample.encryptionContext));
      assertEquals(messageHeader.suiteId, 0x0478);
    });
  }

  await t.step("and refuses it when one byte is changed", async () => {
    const message = encryptOurs(samples()[1]!);
    message[message.length - 1]! ^= 1;
    await assertRejects(() => officialDecrypt(keyring, message), Error);
  });
});

Deno.test("raw AES keyring: we read what the official SDK writes", async (t) => {
  for (const sample of samples()) {
    await t.step(sample.name, async () => {
      const message = await officialEncrypt(keyring, sample.plaintext, sample.encryptionContext);
      assertEquals(decryptOurs(message, sample), sample.plaintext);
    });
  }

  const [sample] = samples();
  const frames = [[1, 1], [1, 3], [7, 4], [7, 14], [7, 18], [4096, 8192], [100_000, 300_001], [
    1 << 20,
    1 << 20,
  ]] as const;
  for (const [frameLength, length] of frames) {
    await t.step(`${length} bytes in frames of ${frameLength}`, async () => {
      const written = { ...sample!, plaintext: randomPlaintext(length) };
      const { plaintext, encryptionContext } = written;
      const message = await officialEncrypt(keyring, plaintext, encryptionContext, frameLength);
      assertEquals(parseMessage(message).header.frameLength, frameLength);
      assertEquals(decryptOurs(message, written), plaintext);
    });
  }

  await t.step("and refuse it when one byte is changed", async () => {
    const message = await officialEncrypt(keyring, sample!.plaintext, sample!.encryptionContext);
    message[message.length - 1]! ^= 1;
    const error = await assertRejects(
      () => Promise.resolve().then(() => decryptOurs(message, sample!)),
      MessageError,
    );
    assertEquals(error.code, "decryption_failed");
  });
});
