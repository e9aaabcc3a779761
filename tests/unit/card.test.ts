import { assert, assertEquals, assertThrows } from "@std/assert";
import { CARD_BRANDS } from "../../functions-shared/config.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { expiryViolations, parsePayment } from "../../functions-shared/payments/card.ts";
import { TEST_NUMBERS, withCheckDigit } from "./support/card-numbers.ts";
import { everythingShown } from "./support/thrown.ts";

const NOW = Date.UTC(2026, 10, 22);
const CARD = { number: "4242424242424242", exp_month: 12, exp_year: 2030 };

function parse(card: unknown, rest: object = {}, brands: readonly string[] = CARD_BRANDS) {
  return parsePayment({ data_class: "payment", card, ...rest }, { base: "", brands, now: NOW });
}

function violations(card: unknown, rest: object = {}, brands: readonly string[] = CARD_BRANDS) {
  return assertThrows(() => parse(card, rest, brands), SuiteError).violations
    .map(({ pointer, code }) => `${pointer} ${code}`);
}

for (const [brand, numbers] of Object.entries(TEST_NUMBERS)) {
  Deno.test(`the networks' test numbers of ${brand} are ${brand}`, () => {
    for (const number of numbers) {
      const { card } = parse({ ...CARD, number });
      assertEquals([card.number, card.brand, card.last4], [number, brand, number.slice(-4)]);
    }
  });
}

Deno.test("spaces and hyphens between the digits are taken out, and nothing else is", () => {
  assertEquals(parse({ ...CARD, number: "4242 4242-4242 4242" }).card.number, CARD.number);
  for (
    const number of [
      "4242.4242.4242.4242",
      "4242\u00a0424242424242",
      "４２４２424242424242",
      "4242\t424242424242",
      "+4242424242424242",
      "0x4242424242424242",
      "4.242424242424242e15",
      "",
    ]
  ) {
    assertEquals(violations({ ...CARD, number }), ["/card/number invalid_card_number"], number);
  }
});

Deno.test("every single wrong digit fails the check digit", () => {
  for (let at = 1; at < CARD.number.length; at++) {
    const digit = (Number(CARD.number[at]) + 1) % 10;
    const number = CARD.number.slice(0, at) + digit + CARD.number.slice(at + 1);
    assertEquals(violations({ ...CARD, number }), ["/card/number invalid_card_number"], number);
  }
});

Deno.test("UnionPay numbers must pass the check digit too", () => {
  assertEquals(violations({ ...CARD, number: "6200000000000004" }), [
    "/card/number invalid_card_number",
  ]);
});

Deno.test("a number of the wrong length for its brand is refused, though its check digit agrees", () => {
  const ofLength = (prefix: string, length: number) =>
    withCheckDigit(prefix.padEnd(length - 1, "1"));
  for (const length of [16, 18, 19]) parse({ ...CARD, number: ofLength("4", length) });
  for (const length of [12, 13, 14, 15, 17, 20]) {
    const number = ofLength("4", length);
    assertEquals(violations({ ...CARD, number }), ["/card/number invalid_card_number"], number);
  }
  parse({ ...CARD, number: ofLength("37", 15) });
  for (const length of [14, 16]) {
    const number = ofLength("37", length);
    assertEquals(violations({ ...CARD, number }), ["/card/number invalid_card_number"], number);
  }
});

Deno.test("a brand that is not accepted is told apart from a wrong number", () => {
  // Published Maestro test number: valid, and of no brand that is supported here.
  assertEquals(violations({ ...CARD, number: "6759649826438453" }), [
    "/card/number unsupported_card_brand",
  ]);
  assertEquals(violations(CARD, {}, ["amex"]), ["/card/number unsupported_card_brand"]);
});

Deno.test("a card is good through the last millisecond of its month, by UTC", () => {
  const codes = (month: number, year: number, now: number) =>
    expiryViolations(month, year, now, "").map(({ pointer, code }) => `${pointer} ${code}`);
  const end = Date.UTC(2026, 11, 1);
  assertEquals(codes(11, 2026, end - 1), []);
  assertEquals(codes(11, 2026, end), ["/exp_year expired_card"]);
  const newYear = Date.UTC(2027, 0, 1);
  assertEquals(codes(12, 2026, newYear - 1), []);
  assertEquals(codes(12, 2026, newYear), ["/exp_year expired_card"]);
  assertEquals(codes(1, 2027, newYear), []);
});

Deno.test("an expiry more than twenty years ahead is refused", () => {
  assertEquals(expiryViolations(11, 2046, NOW, ""), []);
  assertEquals(expiryViolations(12, 2046, NOW, "/card"), [{
    pointer: "/card/exp_year",
    code: "out_of_range",
    detail: "must be at most 20 years ahead",
  }]);
});

Deno.test("number and expiry are reported together", () => {
  assertEquals(violations({ number: "1", exp_month: 1, exp_year: 2020 }), [
    "/card/number invalid_card_number",
    "/card/exp_year expired_card",
  ]);
});

Deno.test("shapes: types, ranges and unknown fields have their pointers", () => {
  assertEquals(violations({ number: 4242424242424242, exp_month: "12", exp_year: 30 }), [
    "/card/number wrong_type",
    "/card/exp_month wrong_type",
    "/card/exp_year out_of_range",
  ]);
  for (const month of [0, 13, 1.5, -1]) {
    assertEquals(violations({ ...CARD, exp_month: month }), ["/card/exp_month out_of_range"]);
  }
  assertEquals(violations({ ...CARD, brand: "visa" }), ["/card/brand unknown_field"]);
  assertEquals(violations(CARD, { number: "1" }), ["/number unknown_field"]);
  assertEquals(violations([]), [
    "/card/number missing_field",
    "/card/exp_month missing_field",
    "/card/exp_year missing_field",
  ]);
});

Deno.test("a billing address is not empty, and its country two capital letters", () => {
  const address = (billing_address: unknown) => violations({ ...CARD, billing_address });
  assertEquals(address({}), ["/card/billing_address empty_object"]);
  assertEquals(address([]), ["/card/billing_address empty_object"]);
  assertEquals(address({ country: "de" }), ["/card/billing_address/country invalid_country"]);
  assertEquals(address({ line1: "a\nb" }), ["/card/billing_address/line1 invalid_text"]);
  assertEquals(address({ zip: "1" }), ["/card/billing_address/zip unknown_field"]);
});

Deno.test("a nickname, which is stored readable, may not be a card number", () => {
  assertEquals(violations(CARD, { nickname: "my 4242 4242 4242 4242" }), [
    "/nickname card_number_in_text",
  ]);
});

Deno.test("no error shows the number", () => {
  for (const number of ["4242424242424241", "6759649826438453", "42424242424242424242424242"]) {
    const error = assertThrows(() => parse({ ...CARD, number, [number]: number }), SuiteError);
    assert(!everythingShown(error).includes(number.slice(0, 12)));
    assert(!JSON.stringify(error.violations).includes(number.slice(0, 12)));
  }
});
