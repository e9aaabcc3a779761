/** Reads Project Wycheproof's test vectors, which are no part of this repository. */

export interface WycheproofTest {
  readonly tcId: number;
  readonly comment: string;
  readonly result: "valid" | "invalid" | "acceptable";
}

export interface WycheproofFile<Test extends WycheproofTest> {
  readonly algorithm: string;
  readonly numberOfTests: number;
  readonly testGroups: readonly (WycheproofGroup & { readonly tests: readonly Test[] })[];
}

/** Sizes in bits. */
export interface WycheproofGroup {
  readonly keySize: number;
  readonly ivSize: number;
  readonly tagSize: number;
}

/** `VECTORS_DIR`, or `../shared/vectors/wycheproof` beside the repository. */
function directory(): string {
  return Deno.env.get("VECTORS_DIR") ??
    new URL("../../../shared/vectors/wycheproof", import.meta.url).pathname;
}

/** @throws Error that says what to set when the vectors are missing: they are never skipped */
export async function readVectors<Test extends WycheproofTest>(
  name: string,
): Promise<WycheproofFile<Test>> {
  const path = `${directory()}/${name}`;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    throw new Error(
      `Test vectors not found: ${path}. Set VECTORS_DIR to the folder of Project Wycheproof's ` +
        "testvectors_v1 that holds it.",
      { cause },
    );
  }
  return JSON.parse(text);
}

export function hex(digits: string): Uint8Array {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
