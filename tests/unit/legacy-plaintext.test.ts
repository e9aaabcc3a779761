/** What decrypted texts of older setups become, and what they may not. */
import { assertEquals, assertFalse } from "@std/assert";
import { readPlaintext } from "../../functions-shared/admin/legacy/plaintext.ts";
import type { Target } from "../../functions-shared/admin/legacy/store.ts";
import { CARD_BRANDS } from "../../functions-shared/config.ts";
import { everythingShown, suiteError, violationsOf } from "./support/thrown.ts";

const NOW = Date.UTC(2026, 10, 25);
const VISA = "4242424242424242";
const CARD: Target = { data_class: "payment", exp_month: 12, exp_year: 2030 };

function read(text: string | Uint8Array, target: Target) {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  return readPlaintext(bytes, target, { brands: CARD_BRANDS, now: NOW });
}

function numberOf(text: string, target = CARD): string {
  const { kind, input } = read(text, target);
  if (kind !== "payment") throw new Error("no card");
  return input.card.number;
}

function dataOf(text: string, target: Target): unknown {
  const { kind, input } = read(text, target);
  if (kind !== "record") throw new Error("no record");
  return input.data;
}

Deno.test("a card number in one piece or grouped as on the card", () => {
  for (
    const text of [
      VISA,
      ` ${VISA}\n`,
      "4242 4242 4242 4242",
      "4242-4242-4242-4242",
      `"${VISA}"`,
      `{"number": "${VISA}"}`,
    ]
  ) {
    assertEquals(numberOf(text), VISA, text);
  }
  assertEquals(numberOf("3782 822463 10005"), "378282246310005");
  assertEquals(numberOf("3056 930902 5904"), "30569309025904");
});

Deno.test("name and address come along with a card", () => {
  const { input } = read(
    JSON.stringify({
      number: VISA,
      cardholder_name: "Ada Lovelace",
      billing_address: { city: "London" },
    }),
    { ...CARD, nickname: "Travel" },
  ) as Extract<ReturnType<typeof read>, { kind: "payment" }>;
  assertEquals(input, {
    card: {
      number: VISA,
      brand: "visa",
      last4: "4242",
      exp_month: 12,
      exp_year: 2030,
      cardholder_name: "Ada Lovelace",
      billing_address: { city: "London" },
    },
    nickname: "Travel",
    setDefault: false,
  });
});

Deno.test("a verification code beside the number is refused, however it is written", async () => {
  const forbidden = [
    `${VISA}|123`,
    `${VISA}:123`,
    `${VISA} 123`,
    `${VISA}-123`,
    "4242 4242 4242 4242 123",
    `${VISA}|12|2030|123`,
    `${VISA};12/30;1234`,
    `${VISA}\n123\n`,
    JSON.stringify({ number: `${VISA} 123` }),
    JSON.stringify({ number: VISA, cvv: "123" }),
    JSON.stringify({ number: VISA, card: { securityCode: 123 } }),
    `{"number":"${VISA}","cvc":null}`,
    "%B4242424242424242^LOVELACE/ADA^30121010000000000000?",
    ";4242424242424242=30121010000000000000?",
  ];
  for (const text of forbidden) {
    const error = await suiteError(() => read(text, CARD));
    assertEquals(error.code, "sensitive_authentication_data", text);
    assertFalse(everythingShown(error).includes("4242"));
  }
});

Deno.test("what is no card is refused by field, without being shown", async () => {
  const cases: [string, Target, string][] = [
    ["", CARD, "/card/number invalid_card_number"],
    ["hello", CARD, "/card/number invalid_card_number"],
    ["4242424242424241", CARD, "/card/number invalid_card_number"],
    [`${VISA}x`, CARD, "/card/number invalid_card_number"],
    ["{}", CARD, "/card/number missing_field"],
    ['{"number": 4242}', CARD, "/card/number wrong_type"],
    [`{"number": "${VISA}", "owner": "me"}`, CARD, "/card/owner unknown_field"],
    [`{"number": "${VISA}"`, CARD, "/card/number invalid_card_number"],
    [VISA, { ...CARD, exp_year: 2020 }, "/card/exp_year expired_card"],
    [VISA, { ...CARD, exp_month: 13 }, "/card/exp_month out_of_range"],
  ];
  for (const [text, target, violation] of cases) {
    assertEquals(await violationsOf(() => read(text, target)), [violation], text);
  }
  assertEquals(await violationsOf(() => read(new Uint8Array([0xff]), CARD)), [" invalid_text"]);
});

Deno.test("a record is the object that the text is, or holds the text", () => {
  const pii: Target = { data_class: "pii" };
  assertEquals(dataOf('{"a": 1, "b": [null]}', pii), { a: 1, b: [null] });
  for (const text of ["Ada", "", "1", "null", "[1]", '"Ada"', "{}x", '{"a"', "\ufeff{}"]) {
    assertEquals(dataOf(text, pii), { value: text }, text);
  }
  const named: Target = { data_class: "general", field: "note", label: "old" };
  assertEquals(dataOf('{"a": 1}', named), { note: '{"a": 1}' });
});

Deno.test("what a record may not hold is refused as everywhere", async () => {
  const pii: Target = { data_class: "pii" };
  for (const text of ['{"pin": "1234"}', '{"x": [{"CVV2": 1}]}', `${VISA}=30121010000000000000`]) {
    assertEquals(
      (await suiteError(() => read(text, pii))).code,
      "sensitive_authentication_data",
      text,
    );
  }
  assertEquals(await violationsOf(() => read("{}", pii)), ["/data empty_object"]);
  assertEquals(await violationsOf(() => read('{"n": 12345678901234567890}', pii)), [
    "/n inexact_number",
  ]);
  const named: Target = { data_class: "pii", field: "cvv" };
  assertEquals((await suiteError(() => read("123", named))).code, "sensitive_authentication_data");
});
