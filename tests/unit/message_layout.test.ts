/**
 * The bytes of a message against the specification, computed by hand and checked with WebCrypto,
 * which shares no code with node:crypto's HKDF and AES-GCM calls under test.
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { bytes, concat, context, dataKey, hex, oneKey, open, seal } from "./message_support.ts";
import { parseMessage } from "../../functions-shared/message/mod.ts";

const encoder = new TextEncoder();

async function hkdf(salt: Uint8Array, info: Uint8Array): Promise<Uint8Array> {
  const key = await crypto.subtle.importKey("raw", new Uint8Array(dataKey), "HKDF", false, [
    "deriveBits",
  ]);
  const parameters = {
    name: "HKDF",
    hash: "SHA-512",
    salt: new Uint8Array(salt),
    info: new Uint8Array(info),
  };
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, key, 256));
}

async function gcmOpen(key: Uint8Array, iv: Uint8Array, aad: Uint8Array, sealed: Uint8Array) {
  const imported = await crypto.subtle.importKey("raw", new Uint8Array(key), "AES-GCM", false, [
    "decrypt",
  ]);
  const parameters = {
    name: "AES-GCM",
    iv: new Uint8Array(iv),
    additionalData: new Uint8Array(aad),
    tagLength: 128,
  };
  return new Uint8Array(
    await crypto.subtle.decrypt(parameters, imported, new Uint8Array(sealed)),
  );
}

const uint32 = (value: number) => new Uint8Array(new Uint32Array([value]).buffer).toReversed();

Deno.test("message layout", async (t) => {
  const plaintext = bytes(5);
  const message = seal({ plaintext });
  const messageId = message.slice(3, 35);
  const arn = oneKey.providerInfo;
  // Two pairs, "field"="number" and "owner"="user-1": 2 + 2 * (4 + 5 + 6) = 32 bytes.
  const contextBytes = concat(
    hex("0002"),
    hex("0005 6669656c64 0006 6e756d626572"),
    hex("0005 6f776e6572 0006 757365722d31"),
  );
  const headerStart = concat(
    hex("02 0478"),
    messageId,
    hex("0020"),
    contextBytes,
    hex("0001"),
    hex("0007 6177732d6b6d73"),
    hex("002e"),
    arn,
    hex("0028"),
    oneKey.ciphertext,
    hex("02 00001000"),
  );
  const headerLength = headerStart.length + 32;

  await t.step("header body has the specified fields, order and widths", () => {
    assertEquals(contextBytes.length, 0x20);
    assertEquals(arn.length, 0x2e);
    assertEquals(message.subarray(0, headerStart.length), headerStart);
  });

  await t.step("its base64 begins with AgR4", () => {
    assertEquals(btoa(String.fromCharCode(...message.subarray(0, 3))), "AgR4");
  });

  await t.step(
    "commit key is HKDF-SHA512 of the data key, salt message id, info COMMITKEY",
    async () => {
      const commitKey = await hkdf(messageId, encoder.encode("COMMITKEY"));
      assertEquals(message.subarray(headerStart.length, headerLength), commitKey);
    },
  );

  const key = await hkdf(messageId, concat(hex("0478"), encoder.encode("DERIVEKEY")));

  await t.step("header tag authenticates the header body under IV 0", async () => {
    const tag = message.subarray(headerLength, headerLength + 16);
    const opened = await gcmOpen(key, new Uint8Array(12), message.subarray(0, headerLength), tag);
    assertEquals(opened.length, 0);
  });

  await t.step(
    "final frame has marker, number, IV, length, content and tag, then nothing",
    async () => {
      const body = message.subarray(headerLength + 16);
      assertEquals(
        body.subarray(0, 24),
        hex("ffffffff 00000001 000000000000000000000001 00000005"),
      );
      assertEquals(body.length, 24 + 5 + 16);
      const aad = concat(
        messageId,
        encoder.encode("AWSKMSEncryptionClient Final Frame"),
        hex("00000001 0000000000000005"),
      );
      assertEquals(await gcmOpen(key, body.slice(8, 20), aad, body.subarray(24)), plaintext);
    },
  );
});

Deno.test("message frames", async (t) => {
  await t.step("4096 bytes are one full final frame", () => {
    const { body } = parseMessage(seal({ plaintext: bytes(4096) }));
    assertEquals([body.regularFrames, body.finalLength], [0, 4096]);
  });

  await t.step("4097 bytes are a regular frame and a final one of one byte", () => {
    const { body } = parseMessage(seal({ plaintext: bytes(4097) }));
    assertEquals([body.regularFrames, body.finalLength], [1, 1]);
  });

  await t.step("an empty plaintext is one empty final frame", () => {
    const { body } = parseMessage(seal({ plaintext: new Uint8Array(0) }));
    assertEquals([body.regularFrames, body.finalLength], [0, 0]);
  });

  await t.step(
    "regular frames have number, IV, content and tag, each bound to its place",
    async () => {
      const plaintext = bytes(4096 * 2 + 10);
      const message = seal({ plaintext });
      const { header, headerLength } = parseMessage(message);
      const key = await hkdf(
        header.messageId,
        concat(hex("0478"), encoder.encode("DERIVEKEY")),
      );
      let at = headerLength + 16;
      for (const sequence of [1, 2]) {
        const frame = message.subarray(at, at += 4 + 12 + 4096 + 16);
        const number = uint32(sequence);
        assertEquals(frame.subarray(0, 16), concat(number, new Uint8Array(8), number));
        const aad = concat(
          header.messageId,
          encoder.encode("AWSKMSEncryptionClient Frame"),
          number,
          hex("00000000 00001000"),
        );
        assertEquals(
          await gcmOpen(key, frame.slice(4, 16), aad, frame.subarray(16)),
          plaintext.slice((sequence - 1) * 4096, sequence * 4096),
        );
      }
      assertEquals(message.subarray(at, at + 8), hex("ffffffff 00000003"));
    },
  );
});

Deno.test("encryptMessage", async (t) => {
  await t.step("uses a new message id, key and ciphertext every time", () => {
    const a = parseMessage(seal()), b = parseMessage(seal());
    assertNotEquals(a.header.messageId, b.header.messageId);
    assertNotEquals(a.header.commitKey, b.header.commitKey);
    assertNotEquals(a.bytes.slice(a.body.offset), b.bytes.slice(b.body.offset));
  });

  await t.step("neither changes nor keeps its inputs", () => {
    const plaintext = bytes(5000), key = dataKey.slice();
    const wrapped = {
      ...oneKey,
      providerInfo: oneKey.providerInfo.slice(),
      ciphertext: oneKey.ciphertext.slice(),
    };
    const message = seal({ plaintext, dataKey: key, encryptedDataKeys: [wrapped] });
    assertEquals(plaintext, bytes(5000));
    assertEquals(key, dataKey);
    assertEquals(wrapped, oneKey);
    plaintext.fill(0);
    wrapped.ciphertext.fill(0);
    wrapped.providerInfo.fill(0);
    assertEquals(open(message), bytes(5000));
    assertEquals(parseMessage(message).header.encryptedDataKeys, [oneKey]);
    assertEquals(context, { field: "number", owner: "user-1" });
  });

  await t.step("results are plain Uint8Arrays that own their memory", () => {
    const message = seal();
    for (const result of [message, open(message)]) {
      assertEquals(Object.getPrototypeOf(result), Uint8Array.prototype);
      assertEquals(result.buffer.byteLength, result.byteLength);
    }
  });
});

Deno.test("parseMessage copies: later changes of the input have no effect", () => {
  const message = seal({ plaintext: bytes(100) });
  const parsed = parseMessage(message);
  message.fill(0);
  assertEquals(parsed.header.encryptionContext, Object.assign(Object.create(null), context));
  assertEquals(open(parsed.bytes), bytes(100));
});
