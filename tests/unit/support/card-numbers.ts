/** Card numbers for tests: made from digits, or published by the networks for testing. */

/** `digits` and the Luhn check digit (ISO/IEC 7812-1) behind them. */
export function withCheckDigit(digits: string): string {
  const sum = [...digits].reverse().reduce((total, character, index) => {
    const doubled = Number(character) * (index % 2 === 0 ? 2 : 1);
    return total + (doubled > 9 ? doubled - 9 : doubled);
  }, 0);
  return `${digits}${(10 - sum % 10) % 10}`;
}

/** The networks' published test numbers, by brand. */
export const TEST_NUMBERS = {
  visa: ["4111111111111111", "4242424242424242", "4000056655665556"],
  mastercard: ["5555555555554444", "2223003122003222", "5200828282828210"],
  amex: ["378282246310005", "371449635398431"],
  discover: ["6011111111111117", "6011000990139424"],
  diners: ["3056930009020004", "36227206271667"],
  jcb: ["3566002020360505"],
  unionpay: ["6200000000000005"],
} as const;
