/** Ciphertexts of the key management guide's setups: read in every encoding, and only whole. */
import { assert, assertEquals, assertFalse } from "@std/assert";
import fc from "fast-check";
import {
  decryptLegacy,
  ENCODINGS,
  isLegacyCiphertext,
} from "../../functions-shared/admin/legacy/format.ts";
import { legacyKey } from "../../functions-shared/admin/legacy/key.ts";
import { DERIVED, FROZEN, LEGACY_KEY, legacyCiphertext } from "./support/legacy.ts";
import { codeOf, everythingShown, suiteError } from "./support/thrown.ts";

const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

for (const encoding of ENCODINGS) {
  Deno.test(`${encoding}: the frozen ciphertext decrypts`, async () => {
    const text = FROZEN.ciphertexts[encoding];
    assert(isLegacyCiphertext(text, encoding));
    assertEquals(textOf(await decryptLegacy(LEGACY_KEY, text, encoding)), FROZEN.plaintext);
  });

  Deno.test(`${encoding}: whatever node:crypto encrypts decrypts`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary", maxLength: 300 }), async (plaintext) => {
        const text = legacyCiphertext(plaintext, encoding);
        assertEquals(textOf(await decryptLegacy(LEGACY_KEY, text, encoding)), plaintext);
      }),
      { numRuns: 60 },
    );
  });

  Deno.test(`${encoding}: no character can be changed, added or left out`, async () => {
    const text = legacyCiphertext(FROZEN.plaintext, encoding);
    const digits = encoding.startsWith("base64") ? "AQgw+/z9" : "0123456789abcdef";
    for (let at = 0; at < text.length; at++) {
      const others = [...digits, ":", " ", "="].filter((one) =>
        one.toLowerCase() !== text[at]?.toLowerCase()
      );
      const other = others[at % others.length] ?? "";
      for (
        const changed of [
          text.slice(0, at) + other + text.slice(at + 1),
          text.slice(0, at) + text.slice(at + 1),
          text.slice(0, at) + other + text.slice(at),
        ]
      ) {
        // The same character twice: one more or one less of them is the same text.
        if (changed === text) continue;
        const work = () => decryptLegacy(LEGACY_KEY, changed, encoding);
        assertEquals(await codeOf(work), "decryption_failed", `at ${at}`);
      }
    }
  });

  Deno.test(`${encoding}: text in another encoding is none`, () => {
    for (const other of ENCODINGS) {
      const text = FROZEN.ciphertexts[other];
      // Which of tag and ciphertext comes first does not show.
      const alike = encoding === other ||
        (encoding.startsWith("base64") && other.startsWith("base64"));
      assertEquals(isLegacyCiphertext(text, encoding), alike, other);
    }
    for (const text of ["", ":", "::", "v1:", "v1:::", "AA==", FROZEN.plaintext]) {
      assertFalse(isLegacyCiphertext(text, encoding), text);
    }
  });
}

Deno.test("the order of tag and ciphertext counts, and so does the version", async () => {
  const { v1_hex, base64_iv_tag_ciphertext: tagFirst, hex } = FROZEN.ciphertexts;
  for (
    const [text, encoding] of [
      [tagFirst, "base64_iv_ciphertext_tag"],
      [v1_hex.slice(3), "hex"],
      [`v1:${hex}`, "v1_hex"],
      [v1_hex.replace("v1", "v2"), "v1_hex"],
    ] as const
  ) {
    const work = () => decryptLegacy(LEGACY_KEY, text, encoding);
    assertEquals(await codeOf(work), "decryption_failed", `${text} as ${encoding}`);
  }
});

Deno.test("wrong key, wrong tag and no ciphertext at all look the same", async () => {
  const other = LEGACY_KEY.toReversed();
  const { hex } = FROZEN.ciphertexts;
  const errors = await Promise.all([
    suiteError(() => decryptLegacy(other, hex, "hex")),
    suiteError(() => decryptLegacy(LEGACY_KEY, hex.replace("75e8", "75e9"), "hex")),
    suiteError(() => decryptLegacy(LEGACY_KEY, "no ciphertext", "hex")),
  ]);
  for (const error of errors) {
    assertEquals([error.code, error.message], ["decryption_failed", errors[0]?.message]);
    assertFalse(everythingShown(error).includes(FROZEN.plaintext));
  }
});

Deno.test("a key is 64 hexadecimal digits, and nothing near them", async () => {
  const hex = FROZEN.ciphertexts.hex.slice(0, 32).repeat(2);
  assertEquals((await legacyKey(hex, "none")).length, 32);
  assertEquals(await legacyKey(`${hex.toUpperCase()}\n`, "none"), await legacyKey(hex, "none"));
  for (const text of ["", hex.slice(1), `${hex}0`, `0x${hex.slice(2)}`, "g".repeat(64)]) {
    const error = await suiteError(() => legacyKey(text, "none"));
    assertEquals(error.code, "key_import_failed");
    assertEquals(error.violations.map(({ code, detail }) => [code, detail]), [
      ["invalid_key_length", "Invalid key length: expected 32 bytes"],
    ]);
    if (text !== "") assertFalse(everythingShown(error).includes(text));
  }
});

Deno.test("a derived key is the one that the program derived", async () => {
  const key = await legacyKey(DERIVED.text, "pbkdf2");
  assertEquals(key, await legacyKey(DERIVED.key, "none"));
  const plaintext = await decryptLegacy(key, DERIVED.ciphertext, "v1_hex");
  assertEquals(textOf(plaintext), DERIVED.plaintext);
});
