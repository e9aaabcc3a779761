import { withCheckDigit } from "../unit/support/card-numbers.ts";

/** A made-up number in the range of processors' test cards (4000 00), nobody's card. */
export function randomCardNumber(): string {
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
  return withCheckDigit(`400000${String(random % 1e9).padStart(9, "0")}`);
}
