/** Only the canonical spelling of base64 names a message. Expected values: RFC 4648 section 10. */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { decodeMessage, encodeMessage } from "../../functions-shared/message/mod.ts";
import { assertDecryptionFailed } from "./message_support.ts";

const encoder = new TextEncoder();

Deno.test("encodeMessage and decodeMessage", async (t) => {
  const samples = {
    "f": "Zg==",
    "fo": "Zm8=",
    "foo": "Zm9v",
    "foob": "Zm9vYg==",
    "fooba": "Zm9vYmE=",
    "foobar": "Zm9vYmFy",
  };
  for (const [plain, text] of Object.entries(samples)) {
    await t.step(`RFC 4648: ${plain} is ${text}`, () => {
      assertEquals(encodeMessage(encoder.encode(plain)), text);
      assertEquals(decodeMessage(text), encoder.encode(plain));
    });
  }

  await t.step("agree with btoa for any bytes (property)", () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
      const text = encodeMessage(bytes);
      assertEquals(text, btoa(String.fromCharCode(...bytes)));
      assertEquals(decodeMessage(text), bytes);
    }));
  });

  await t.step("any accepted text is the one that encoding gives (property)", () => {
    const characters = fc.constantFrom(..."AQgw/+9z=\n -_é");
    fc.assert(
      fc.property(fc.string({ unit: characters, maxLength: 8 }), (text) => {
        let bytes: Uint8Array;
        try {
          bytes = decodeMessage(text);
        } catch {
          assertDecryptionFailed(() => decodeMessage(text));
          return;
        }
        assertEquals(encodeMessage(bytes), text);
      }),
      { numRuns: 5000 },
    );
  });
});

Deno.test("decodeMessage refuses", async (t) => {
  const bad = {
    "nothing": "",
    "missing padding": "Zg",
    "half the padding": "Zg=",
    "too much padding": "Zg===",
    "padding alone": "====",
    "three paddings": "Z===",
    "padding inside": "Zg==Zm9v",
    "trailing bits in one byte": "Zh==",
    "trailing bits in two bytes": "Zm9=",
    "white space": "Zm 9",
    "a line break": "Zm9v\nZg=",
    "the URL alphabet": "-_-_",
    "a character beyond ASCII": "Zm9é",
    "a character beyond Latin-1": "Zm9\u0141",
    "a NUL": "Zm9\u0000",
  };
  for (const [name, text] of Object.entries(bad)) {
    await t.step(name, () => {
      assertDecryptionFailed(() => decodeMessage(text));
    });
  }
  await t.step("more than maxBytes, before it allocates", () => {
    assertEquals(decodeMessage("Zm9v", 3).length, 3);
    const detail = assertDecryptionFailed(() => decodeMessage("Zm9v", 2));
    assertEquals(detail, "base64 holds more than 2 bytes");
    // 24 MiB of text that is no base64: refused for its length, so never looked at.
    const huge = "!".repeat(24 * 1024 * 1024);
    assertEquals(
      assertDecryptionFailed(() => decodeMessage(huge)),
      "base64 holds more than 16777216 bytes",
    );
  });
});
