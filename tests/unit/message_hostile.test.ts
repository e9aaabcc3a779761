/**
 * Lengths that lie. Each case names the exact check that refuses it, so that none gets as far as an
 * allocation or a loop of that length.
 */
import { assertEquals } from "@std/assert";
import { planBody, sealBody } from "../../functions-shared/message/body.ts";
import { planEncryptionContext } from "../../functions-shared/message/encryption-context.ts";
import {
  messageIdOf,
  planHeaderBody,
  writeHeaderBody,
} from "../../functions-shared/message/header.ts";
import { parseMessage } from "../../functions-shared/message/mod.ts";
import { aes256GcmSealInto, fillRandom } from "../../functions-shared/message/primitives.ts";
import {
  deriveCommitKey,
  deriveEncryptionKey,
  HEADER_IV,
} from "../../functions-shared/message/suite.ts";
import {
  assertDecryptionFailed,
  bytes,
  concat,
  context,
  dataKey,
  hex,
  oneKey,
  open,
  seal,
} from "./message_support.ts";

const EDK_COUNT_AT = 35 + 2 + 32;
const message = seal();
const { headerLength } = parseMessage(message);

function patched(at: number, replacement: Uint8Array): Uint8Array {
  const copy = message.slice();
  copy.set(replacement, at);
  return copy;
}

Deno.test("hostile lengths are refused by their own check", async (t) => {
  const frame = headerLength + 16;
  const cases: Record<string, [Uint8Array, string]> = {
    "an empty message": [new Uint8Array(0), "message ends inside version"],
    "version 1": [patched(0, hex("01")), "message format version is not 2"],
    "base64 instead of bytes": [patched(0, hex("41")), "message format version is not 2"],
    "the signing suite 0x0578": [patched(1, hex("0578")), "suite is not 0x0478"],
    "the uncommitted suite 0x0178": [patched(1, hex("0178")), "suite is not 0x0478"],
    "a context of 65535 bytes": [
      patched(35, hex("ffff")),
      "message ends inside encryption context",
    ],
    "no encrypted data key": [
      patched(EDK_COUNT_AT, hex("0000")),
      "encrypted data key count is not 1 to 16",
    ],
    "17 encrypted data keys": [
      patched(EDK_COUNT_AT, hex("0011")),
      "encrypted data key count is not 1 to 16",
    ],
    "65535 encrypted data keys": [
      patched(EDK_COUNT_AT, hex("ffff")),
      "encrypted data key count is not 1 to 16",
    ],
    "a provider id of 65535 bytes": [
      patched(EDK_COUNT_AT + 2, hex("ffff")),
      "message ends inside provider id",
    ],
    "a provider id that is not UTF-8": [
      patched(EDK_COUNT_AT + 4, hex("ff")),
      "provider id is not UTF-8",
    ],
    "provider info of 65535 bytes": [
      patched(EDK_COUNT_AT + 2 + 2 + 7, hex("ffff")),
      "message ends inside provider info",
    ],
    "a wrapped key of 65535 bytes": [
      patched(EDK_COUNT_AT + 2 + 2 + 7 + 2 + 46, hex("ffff")),
      "message ends inside wrapped data key",
    ],
    "a non-framed body": [
      patched(headerLength - 32 - 5, hex("01")),
      "content is not framed",
    ],
    "frame length 0": [
      patched(headerLength - 32 - 4, hex("00000000")),
      "frame length is not 1 to 67108864",
    ],
    "frame length 2^32 - 1": [
      patched(headerLength - 32 - 4, hex("ffffffff")),
      "frame length is not 1 to 67108864",
    ],
    "frame length 64 MiB + 1": [
      patched(headerLength - 32 - 4, hex("04000001")),
      "frame length is not 1 to 67108864",
    ],
    "a frame length below the final frame's": [
      patched(headerLength - 32 - 4, hex("0000000f")),
      "final frame exceeds the frame length",
    ],
    "a regular frame of 64 MiB in a short message": [
      concat(
        patched(headerLength - 32 - 4, hex("04000000")).slice(0, frame),
        hex("00000001 000000000000000000000001"),
      ),
      "message ends inside frame content",
    ],
    "sequence number 0": [patched(frame, hex("00000000")), "frame is out of sequence"],
    "sequence number 2 first": [patched(frame, hex("00000002")), "frame is out of sequence"],
    "final sequence number 2^32 - 1": [
      patched(frame + 4, hex("ffffffff")),
      "final frame is out of sequence",
    ],
    "a frame IV of its own": [
      patched(frame + 8, hex("80")),
      "frame IV is not its sequence number",
    ],
    "a final frame of 2^32 - 1 bytes": [
      patched(frame + 20, hex("ffffffff")),
      "final frame exceeds the frame length",
    ],
    "a final frame of one byte more": [
      patched(frame + 20, hex("00000011")),
      "message ends inside final frame tag",
    ],
    "a final frame of one byte less": [
      patched(frame + 20, hex("0000000f")),
      "message has trailing bytes",
    ],
    "one trailing byte": [concat(message, hex("00")), "message has trailing bytes"],
    "a message over 16 MiB": [
      new Uint8Array(16 * 1024 * 1024 + 1),
      "message is longer than 16777216 bytes",
    ],
  };
  for (const [name, [input, detail]] of Object.entries(cases)) {
    await t.step(name, () => {
      assertEquals(assertDecryptionFailed(() => parseMessage(input)), detail);
    });
  }

  await t.step("random bytes behind a valid start never give a message", () => {
    for (let i = 0; i < 2000; i++) {
      const noise = crypto.getRandomValues(new Uint8Array(1 + i % 400));
      assertDecryptionFailed(() => parseMessage(concat(hex("020478"), noise)));
    }
  });
});

Deno.test("limits", async (t) => {
  await t.step("are inclusive", () => {
    const two = seal({ encryptedDataKeys: [oneKey, oneKey] });
    const exact = { maxMessageBytes: two.length, maxEncryptedDataKeys: 2, maxFrameLength: 4096 };
    assertEquals(parseMessage(two, exact).header.encryptedDataKeys.length, 2);
    const tighter: [Partial<typeof exact>, string][] = [
      [{ maxMessageBytes: two.length - 1 }, `message is longer than ${two.length - 1} bytes`],
      [{ maxEncryptedDataKeys: 1 }, "encrypted data key count is not 1 to 1"],
      [{ maxFrameLength: 4095 }, "frame length is not 1 to 4095"],
    ];
    for (const [limits, detail] of tighter) {
      assertEquals(assertDecryptionFailed(() => parseMessage(two, limits)), detail);
    }
  });

  await t.step("stay in force when an override is undefined", () => {
    const huge = new Uint8Array(16 * 1024 * 1024 + 1);
    assertEquals(
      assertDecryptionFailed(() => parseMessage(huge, { maxMessageBytes: undefined })),
      "message is longer than 16777216 bytes",
    );
  });
});

/** A genuine message whose frames are laid out otherwise than we write them. */
function sealAs(plaintext: Uint8Array, regularFrames: number): Uint8Array {
  const header = planHeaderBody(planEncryptionContext(context), [oneKey], 16);
  const offset = header.length + 16;
  const finalLength = plaintext.length - regularFrames * 4096;
  const layout = { ...planBody(offset, plaintext.length, 4096), regularFrames, finalLength };
  const out = new Uint8Array(offset + regularFrames * 4128 + 24 + finalLength + 16);
  const id = fillRandom(messageIdOf(out));
  writeHeaderBody(out, header, deriveCommitKey(dataKey, id));
  const key = deriveEncryptionKey(dataKey, id);
  const headerBody = out.subarray(0, header.length);
  aes256GcmSealInto(key, HEADER_IV, headerBody, new Uint8Array(0), out, header.length);
  sealBody(out, layout, key, id, plaintext);
  return out;
}

Deno.test("frame layouts by other writers", async (t) => {
  await t.step("an empty final frame after full ones is read, as the specification allows", () => {
    const plaintext = bytes(2 * 4096);
    const foreign = sealAs(plaintext, 2);
    assertEquals(parseMessage(foreign).body.finalLength, 0);
    assertEquals(open(foreign), plaintext);
  });

  await t.step("a final frame longer than the frame length is refused, though authentic", () => {
    assertEquals(
      assertDecryptionFailed(() => open(sealAs(bytes(4097), 0))),
      "final frame exceeds the frame length",
    );
  });
});
