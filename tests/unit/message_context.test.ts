/** The encryption context's one serialization, and what may not stand in a header. */
import { assert, assertEquals, assertFalse } from "@std/assert";
import fc from "fast-check";
import {
  type EncryptionContext,
  parseMessage,
  sameContext,
  serializeEncryptionContext,
} from "../../functions-shared/message/mod.ts";
import {
  assertDecryptionFailed,
  assertMalformed,
  concat,
  hex,
  open,
  seal,
} from "./message_support.ts";

const encoder = new TextEncoder();

Deno.test("serializeEncryptionContext", async (t) => {
  await t.step("is empty for an empty context", () => {
    assertEquals(serializeEncryptionContext({}), new Uint8Array(0));
  });

  await t.step("gives count, then length-prefixed keys and values", () => {
    assertEquals(
      serializeEncryptionContext({ b: "", a: "xyz" }),
      hex("0002 0001 61 0003 78797a 0001 62 0000"),
    );
  });

  await t.step("counts UTF-8 bytes, not characters", () => {
    assertEquals(
      serializeEncryptionContext({ "ä": "€", "": "😀" }),
      hex("0002 0000 0004 f09f9880 0002 c3a4 0003 e282ac"),
    );
  });

  await t.step("sorts by UTF-8 bytes where UTF-16 order differs", () => {
    const keys = ["\u{1f600}", "\uffff", "\ue000", "\ud7ff", "Z", "a", "ä"];
    const out = serializeEncryptionContext(Object.fromEntries(keys.map((key) => [key, ""])));
    const sorted = ["Z", "a", "ä", "\ud7ff", "\ue000", "\uffff", "\u{1f600}"];
    const entries = sorted.map((key) => {
      const bytes = encoder.encode(key);
      return concat(new Uint8Array([0, bytes.length]), bytes, hex("0000"));
    });
    assertEquals(out, concat(hex("0007"), ...entries));
  });

  await t.step("does not depend on the order of insertion (property)", () => {
    fc.assert(fc.property(
      fc.uniqueArray(fc.tuple(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })), {
        selector: ([key]) => key,
        maxLength: 10,
      }),
      (pairs) => {
        const forward = serializeEncryptionContext(Object.fromEntries(pairs));
        const backward = serializeEncryptionContext(Object.fromEntries(pairs.toReversed()));
        assertEquals(forward, backward);
      },
    ));
  });

  await t.step("takes up to 65535 bytes", () => {
    const room = 65535 - 2 - 4 - 1;
    assertEquals(serializeEncryptionContext({ k: "v".repeat(room) }).length, 65535);
    const rule = "encryption context may take at most 65535 bytes";
    assertMalformed(() => serializeEncryptionContext({ k: "v".repeat(room + 1) }), rule);
    assertMalformed(() => serializeEncryptionContext({ k: "€".repeat(room / 3 + 1) }), rule);
    const many = Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`${i}`, ""]));
    assertMalformed(() => serializeEncryptionContext(many), rule);
  });

  await t.step("refuses lone surrogates, which have no UTF-8 form", () => {
    for (const bad of ["\ud800", "\udc00", "a\udbffb", "\udc00\ud800"]) {
      const rule = "encryption context must be well-formed Unicode";
      assertMalformed(() => serializeEncryptionContext({ [bad]: "" }), rule);
      assertMalformed(() => serializeEncryptionContext({ k: bad }), rule);
    }
  });

  await t.step("refuses values that are no strings", () => {
    const notText: unknown = { k: 1 };
    assertMalformed(
      () => serializeEncryptionContext(notText as EncryptionContext),
      "encryption context values must be strings",
    );
  });
});

Deno.test("encryptMessage refuses keys reserved for the AWS Encryption SDK", () => {
  for (const key of ["aws-crypto-", "aws-crypto-public-key", "aws-crypto-ec:x"]) {
    assertMalformed(
      () => seal({ encryptionContext: { [key]: "x" } }),
      "encryption context keys may not begin with aws-crypto-",
    );
  }
  open(seal({ encryptionContext: { "aws-crypt": "x", "AWS-CRYPTO-x": "y" } }));
});

Deno.test("a header's context", async (t) => {
  await t.step("keeps a byte order mark and a key named __proto__", () => {
    const encryptionContext = JSON.parse('{"__proto__":"p","\\ufeffk":"\\ufeffv"}');
    const parsed = parseMessage(seal({ encryptionContext })).header.encryptionContext;
    assertEquals(Object.entries(parsed), [["__proto__", "p"], ["\ufeffk", "\ufeffv"]]);
    assert(sameContext(parsed, encryptionContext));
  });

  /** A header that stops being readable only at its context. */
  const withContext = (bytes: Uint8Array) => {
    const message = seal({ encryptionContext: {} });
    const length = new Uint8Array([bytes.length >> 8, bytes.length & 0xff]);
    return concat(message.slice(0, 35), length, bytes, message.slice(37));
  };
  const good = hex("0002 0001 61 0001 78 0001 62 0001 79");
  assertEquals(
    Object.entries(parseMessage(withContext(good)).header.encryptionContext),
    [["a", "x"], ["b", "y"]],
  );

  const sorted = "encryption context keys are not unique and sorted";
  const publicKey = serializeEncryptionContext({ "aws-crypto-public-key": "x" });
  const bad: Record<string, [Uint8Array, string]> = {
    "with a length but no pairs": [
      hex("0000"),
      "encryption context has a length but no pairs",
    ],
    "of one byte": [hex("00"), "message ends inside encryption context count"],
    "with unsorted keys": [hex("0002 0001 62 0000 0001 61 0000"), sorted],
    "with duplicate keys": [hex("0002 0001 61 0000 0001 61 0001 78"), sorted],
    "with duplicate pairs": [hex("0002 0001 61 0000 0001 61 0000"), sorted],
    "with bytes left over": [concat(good, hex("00")), "encryption context has trailing bytes"],
    "with fewer pairs than counted": [
      hex("0003 0001 61 0000 0001 62 0000"),
      "message ends inside encryption context key",
    ],
    "with 65535 pairs counted": [
      hex("ffff 0001 61 0000"),
      "message ends inside encryption context key",
    ],
    "with a key longer than itself": [
      hex("0001 ffff 61 0000"),
      "message ends inside encryption context key",
    ],
    "with a value longer than itself": [
      hex("0001 0001 61 ffff 78"),
      "message ends inside encryption context value",
    ],
    "with a key that is not UTF-8": [
      hex("0001 0001 ff 0000"),
      "encryption context key is not UTF-8",
    ],
    "with a value that is an overlong encoding": [
      hex("0001 0001 61 0002 c080"),
      "encryption context value is not UTF-8",
    ],
    "with a value that is an encoded surrogate": [
      hex("0001 0001 61 0003 eda080"),
      "encryption context value is not UTF-8",
    ],
    "that announces a signature": [publicKey, "encryption context announces a signature"],
  };
  for (const [name, [bytes, detail]] of Object.entries(bad)) {
    await t.step(`is refused ${name}`, () => {
      assertEquals(assertDecryptionFailed(() => parseMessage(withContext(bytes))), detail);
    });
  }
});

Deno.test("sameContext", () => {
  assert(sameContext({}, {}));
  assert(sameContext({ a: "1", b: "2" }, { b: "2", a: "1" }));
  assert(sameContext({ a: "1" }, Object.assign(Object.create(null), { a: "1" })));
  assertFalse(sameContext({ a: "1" }, {}));
  assertFalse(sameContext({}, { a: "1" }));
  assertFalse(sameContext({ a: "1" }, { a: "2" }));
  assertFalse(sameContext({ a: "1" }, { A: "1" }));
  assertFalse(sameContext({ a: "" }, { b: "" }));
  assertFalse(sameContext({ a: "1", b: "2" }, { a: "1", c: "2" }));
  assertFalse(sameContext({ toString: "x" }, { a: "x" }));
});
