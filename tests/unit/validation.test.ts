import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import * as v from "valibot";
import { SuiteError } from "../../functions-shared/errors.ts";
import {
  containsCardNumber,
  integer,
  jsonPointer,
  parseInput,
  readableText,
  text,
} from "../../functions-shared/validation.ts";
import { everythingShown } from "./support/thrown.ts";
import { withCheckDigit } from "./support/card-numbers.ts";

const schema = v.strictObject({
  name: text(8),
  count: integer(1, 12),
  note: v.optional(readableText(64)),
  inner: v.optional(v.strictObject({ flag: v.boolean() })),
});

function failure(input: unknown, base = ""): SuiteError {
  return assertThrows(() => parseInput(schema, input, base), SuiteError);
}

function violations(input: unknown, base = ""): string[] {
  return failure(input, base).violations.map(({ pointer, code }) => `${pointer} ${code}`);
}

Deno.test("what fits comes back, with nothing added", () => {
  const input = { name: "a", count: 12, inner: { flag: false } };
  assertEquals(parseInput(schema, input), input);
});

Deno.test("a word that is none of a few says which there are, and not what was sent", () => {
  const provider = v.picklist(["aws", "gcp"]);
  const variant = v.variant("kind", [v.strictObject({ kind: v.literal("one_word") })]);
  for (
    const [schema, input, expected] of [
      [provider, "azure", ["", "unknown_value", "must be one of aws, gcp"]],
      [variant, { kind: "azure" }, ["/kind", "unknown_value", "must be one of one_word"]],
      [provider, 5, ["", "wrong_type", "This field has the wrong type."]],
      [provider, ["aws"], ["", "wrong_type", "This field has the wrong type."]],
      [v.string(), 5, ["", "wrong_type", "must be a string"]],
      [v.boolean(), "yes", ["", "wrong_type", "must be true or false"]],
      [v.strictObject({ a: v.array(v.number()) }), { a: 1 }, [
        "/a",
        "wrong_type",
        "must be an array",
      ]],
      [v.strictObject({ a: v.array(v.number()) }), { a: [""] }, [
        "/a/0",
        "wrong_type",
        "must be a number",
      ]],
      [v.strictObject({}), 5, ["", "wrong_type", "must be an object"]],
      [v.strictObject({}), [], ["", "wrong_type", "must be an object"]],
      [
        v.strictObject({ a: v.optional(v.array(v.strictObject({}))) }),
        { a: [{}, []] },
        ["/a/1", "wrong_type", "must be an object"],
      ],
    ] as const
  ) {
    const { violations } = assertThrows(() => parseInput(schema, input), SuiteError);
    assertEquals(
      violations.map(({ pointer, code, detail }) => [pointer, code, detail]) as unknown,
      [expected],
    );
  }
});

Deno.test("each fault has its pointer and its code, and the base before it", () => {
  assertEquals(violations({}), ["/name missing_field", "/count missing_field"]);
  assertEquals(violations({ name: 1, count: "1" }, "/items/3"), [
    "/items/3/name wrong_type",
    "/items/3/count wrong_type",
  ]);
  assertEquals(violations({ name: "", count: 13 }), [
    "/name invalid_length",
    "/count out_of_range",
  ]);
  assertEquals(violations({ name: " a", count: 1.5 }), [
    "/name invalid_text",
    "/count out_of_range",
  ]);
  assertEquals(violations({ name: "a", count: 1, inner: { flag: 1 } }), ["/inner/flag wrong_type"]);
  assertEquals(violations({ name: "a", count: 1, extra: 1 }), ["/extra unknown_field"]);
  assertEquals(violations([]), ["/name missing_field", "/count missing_field"]);
  assertEquals(violations("x"), [" wrong_type"]);
  assertEquals(violations(null), [" wrong_type"]);
});

Deno.test("names that every object inherits are unknown fields too", () => {
  for (const name of ["constructor", "toString", "hasOwnProperty", "__proto__"]) {
    const input = JSON.parse(`{"name":"a","count":1,"${name}":1}`);
    assertEquals(violations(input), [`/${name} unknown_field`]);
  }
});

Deno.test("numbers beyond every range are refused, not rounded", () => {
  for (const count of [0, -1, 13, 1e400, NaN, Number.MIN_VALUE]) {
    assertEquals(failure({ name: "a", count }).code, "validation_failed");
  }
});

Deno.test("no violation holds the submitted value", () => {
  const secret = fc.stringMatching(/^~[A-Z]{6}[0-9]{6}~$/);
  fc.assert(fc.property(secret, (value) => {
    for (
      const input of [
        value,
        { name: value.repeat(2), count: value },
        { name: `${value}\n`, count: [value], inner: value },
        { name: "a", count: 1, inner: { flag: value } },
        { name: "a", count: 1, [value]: value },
        { name: "a", count: 1, note: ` ${value}` },
      ]
    ) {
      const error = failure(input);
      assert(!JSON.stringify(error.violations).includes(value));
      assert(!everythingShown(error).includes(value));
    }
  }));
});

Deno.test("a pointer ends before a name that could be a value", () => {
  assertEquals(jsonPointer("", ["items", 12, "card", "line1"]), "/items/12/card/line1");
  assertEquals(jsonPointer("/a", ["b", "4000056655665556", "c"]), "/a/b");
  assertEquals(jsonPointer("", ["card", "n4000-0566-5566-5556"]), "/card");
  assertEquals(jsonPointer("", ["a4000", "b0566", "c5566", "d5556"]), "");
  assertEquals(jsonPointer("", ["with space"]), "");
  assertEquals(jsonPointer("", ["a/b"]), "");
  assertEquals(jsonPointer("", ["x".repeat(41)]), "");
});

Deno.test("at most twenty violations are told", () => {
  const wide = v.strictObject(
    Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`f${index}`, v.string()])),
  );
  const error = assertThrows(() => parseInput(wide, {}), SuiteError);
  assertEquals(error.violations.length, 20);
});

Deno.test("text has no control characters, no lone surrogates and no space around it", () => {
  const ok = (value: string) => v.safeParse(text(20), value).success;
  for (const value of ["a", "Ä é 中", "👩‍💻", "a  b"]) assert(ok(value), value);
  for (const value of ["", " a", "a ", "a\nb", "a\u0000", "\u0085", "\ud800", "x".repeat(21)]) {
    assert(!ok(value), JSON.stringify(value));
  }
});

/** 12 to 18 digits and the check digit that makes a number of them. */
const number = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 12, maxLength: 18 })
  .map((digits) => withCheckDigit(digits.join("")));
const separator = fc.constantFrom("", " ", "-", ".", "/", " - ", "\u00a0", "\u200b", "·", "–");
const letters = fc.stringMatching(/^[A-Za-z]{0,10}$/);

Deno.test("a card number in a text is found, whatever stands between its digits and around it", () => {
  fc.assert(fc.property(number, separator, letters, letters, (digits, between, before, after) => {
    assert(containsCardNumber(before + [...digits].join(between) + after));
  }));
});

Deno.test("a card number among more digits is found", () => {
  const digits = fc.stringMatching(/^\d{0,6}$/);
  fc.assert(fc.property(number, digits, digits, (value, before, after) => {
    assert(containsCardNumber(before + value + after));
  }));
});

Deno.test("full-width, superscript and Arabic digits are digits", () => {
  const pan = "5200828282828210";
  const shifted = (zero: number) =>
    [...pan].map((digit) => String.fromCodePoint(zero + Number(digit))).join("");
  assert(containsCardNumber(shifted(0xff10)), "full-width");
  assert(containsCardNumber(shifted(0x1d7ce)), "mathematical bold");
  assert(containsCardNumber(shifted(0x0660)), "Arabic-Indic");
  assert(containsCardNumber(shifted(0x0966)), "Devanagari");
});

Deno.test("thirteen digits together are refused as the columns refuse them", () => {
  for (const value of ["0000000000001", "0000 0000 0000 1", "0000-000000-0001"]) {
    assert(containsCardNumber(value), value);
  }
});

Deno.test("digits apart are a card number only when the check digit agrees", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 12, maxLength: 12 }),
    fc.integer({ min: 1, max: 9 }),
    (digits, error) => {
      const value = withCheckDigit(digits.join(""));
      const wrong = value.slice(0, -1) + (Number(value.at(-1)) + error) % 10;
      assert(containsCardNumber([...value].join(".")));
      assert(!containsCardNumber([...wrong].join(".")));
    },
  ));
});

Deno.test("texts without thirteen digits in a row pass", () => {
  for (const value of ["Work card", "expires 12/2030", "+44 20 7946 0958", "4000 0566 5566", ""]) {
    assert(!containsCardNumber(value), value);
  }
});

Deno.test("readable text refuses a card number by code, not by showing it", () => {
  const error = failure({ name: "a", count: 1, note: "my 5200-8282-8282-8210" });
  assertEquals(error.violations, [{
    pointer: "/note",
    code: "card_number_in_text",
    detail: "must not contain a card number",
  }]);
});
