/** Any change of a message, however small, is the same `decryption_failed`. */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseMessage } from "../../functions-shared/message/mod.ts";
import {
  assertDecryptionFailed,
  bytes,
  concat,
  context,
  oneKey,
  open,
  seal,
} from "./message_support.ts";

const otherKey = { ...oneKey, ciphertext: bytes(40, 77) };

Deno.test("a changed message fails", async (t) => {
  await t.step("every bit of every byte of a small message", () => {
    const message = seal();
    for (let at = 0; at < message.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const changed = message.slice();
        changed[at]! ^= 1 << bit;
        assertDecryptionFailed(() => open(changed));
      }
    }
    assertEquals(open(message), bytes(16));
  });

  await t.step("every value of every structural byte", () => {
    const message = seal({ plaintext: new Uint8Array(0) });
    const { headerLength } = parseMessage(message);
    const structural = [
      ...Array(3).keys(),
      ...Array.from({ length: headerLength - 35 - 32 }, (_, i) => 35 + i),
      ...Array.from({ length: 24 }, (_, i) => headerLength + 16 + i),
    ];
    for (const at of structural) {
      for (let value = 0; value < 256; value++) {
        if (value === message[at]) continue;
        const changed = message.slice();
        changed[at] = value;
        assertDecryptionFailed(() => open(changed));
      }
    }
  });

  await t.step("any byte of a message of several frames (property)", () => {
    const message = seal({ plaintext: bytes(3 * 4096 + 5) });
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: message.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        (at, mask) => {
          const changed = message.slice();
          changed[at]! ^= mask;
          assertDecryptionFailed(() => open(changed));
        },
      ),
      { numRuns: 1000 },
    );
  });

  await t.step("every truncation", () => {
    const message = seal({ plaintext: bytes(4096 + 3) });
    for (let length = 0; length < message.length; length++) {
      assertDecryptionFailed(() => parseMessage(message.subarray(0, length)));
    }
  });

  await t.step("any extension (property)", () => {
    const message = seal();
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 100 }),
        (tail) => {
          assertDecryptionFailed(() => parseMessage(concat(message, tail)));
        },
      ),
    );
    assertDecryptionFailed(() => parseMessage(concat(message, message)));
  });
});

Deno.test("parts of two messages do not mix", async (t) => {
  const first = parseMessage(seal({ plaintext: bytes(2 * 4096, 1) }));
  const second = parseMessage(seal({ plaintext: bytes(2 * 4096, 2) }));
  const parts = ({ bytes, headerLength, body }: typeof first) => ({
    id: bytes.slice(3, 35),
    headerBody: bytes.slice(0, headerLength),
    commitKey: bytes.slice(headerLength - 32, headerLength),
    tag: bytes.slice(headerLength, body.offset),
    frame: bytes.slice(body.offset, body.offset + 16 + 4096 + 16),
    final: bytes.slice(body.offset + 16 + 4096 + 16),
  });
  const a = parts(first), b = parts(second);

  const mixes: Record<string, Uint8Array> = {
    "header body": concat(b.headerBody, a.tag, a.frame, a.final),
    "whole header": concat(b.headerBody, b.tag, a.frame, a.final),
    "header tag": concat(a.headerBody, b.tag, a.frame, a.final),
    "regular frame": concat(a.headerBody, a.tag, b.frame, a.final),
    "final frame": concat(a.headerBody, a.tag, a.frame, b.final),
    "body": concat(a.headerBody, a.tag, b.frame, b.final),
    "commit key": concat(a.headerBody.slice(0, -32), b.commitKey, a.tag, a.frame, a.final),
    "message id": concat(
      a.headerBody.slice(0, 3),
      b.id,
      a.headerBody.slice(35),
      a.tag,
      a.frame,
      a.final,
    ),
    "frame twice": concat(a.headerBody, a.tag, a.frame, a.frame, a.final),
    "frame left out": concat(a.headerBody, a.tag, a.final),
    "final frame first": concat(a.headerBody, a.tag, a.final, a.frame),
    "no final frame": concat(a.headerBody, a.tag, a.frame),
  };
  assertEquals(open(concat(a.headerBody, a.tag, a.frame, a.final)), bytes(2 * 4096, 1));
  for (const [name, message] of Object.entries(mixes)) {
    await t.step(name, () => {
      assertDecryptionFailed(() => open(message));
    });
  }

  await t.step("frames of one message in another order, renumbered", () => {
    const { bytes: whole, body } = parseMessage(seal({ plaintext: bytes(3 * 4096) }));
    const size = 16 + 4096 + 16;
    const one = whole.slice(body.offset, body.offset + size);
    const two = whole.slice(body.offset + size, body.offset + 2 * size);
    const swapped = concat(
      whole.slice(0, body.offset),
      concat(one.slice(0, 16), two.slice(16)),
      concat(two.slice(0, 16), one.slice(16)),
      whole.slice(body.offset + 2 * size),
    );
    assertDecryptionFailed(() => open(swapped));
  });

  await t.step("the last regular frame passed off as the final one", () => {
    const whole = parseMessage(seal({ plaintext: bytes(2 * 4096) }));
    const { frame } = parts(whole);
    const forged = concat(
      whole.bytes.slice(0, whole.body.offset),
      new Uint8Array([255, 255, 255, 255]),
      frame.slice(0, 16),
      new Uint8Array([0, 0, 16, 0]),
      frame.slice(16),
    );
    assertDecryptionFailed(() => open(forged));
  });

  await t.step("an encrypted data key added, removed, replaced or reordered", () => {
    const two = seal({ encryptedDataKeys: [oneKey, otherKey] });
    const variants = [[oneKey], [otherKey], [otherKey, oneKey], [oneKey, oneKey], [
      oneKey,
      otherKey,
      oneKey,
    ]];
    for (const encryptedDataKeys of variants) {
      assertDecryptionFailed(() => open(graft(two, seal({ encryptedDataKeys }))));
    }
  });

  await t.step("another row's, owner's, table's or field's context under the same data key", () => {
    const row = {
      app: "parker-flight",
      environment: "test",
      "data-class": "payment",
      owner: "u1",
      table: "t1",
      record: "r1",
      field: "f1",
    };
    const message = seal({ encryptionContext: row });
    for (const key of Object.keys(row)) {
      const other = seal({ encryptionContext: { ...row, [key]: "other" } });
      assertDecryptionFailed(() => open(graft(message, other)));
    }
    assertDecryptionFailed(() => open(graft(message, seal({ encryptionContext: {} }))));
    assertDecryptionFailed(() => open(graft(message, seal({ encryptionContext: context }))));
  });
});

/** `message` with context and data keys as in `donor`: its own id, commit key, tag and frames. */
function graft(message: Uint8Array, donor: Uint8Array): Uint8Array {
  const host = parseMessage(message), guest = parseMessage(donor);
  return concat(
    message.slice(0, 35),
    donor.slice(35, guest.headerLength - 32),
    message.slice(host.headerLength - 32),
  );
}
