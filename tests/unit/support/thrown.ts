import { assertInstanceOf, assertRejects } from "@std/assert";
import { type ErrorCode, SuiteError, type Violation } from "../../../functions-shared/errors.ts";

/** The suite's error that `work` throws, now or later. */
export async function suiteError(work: () => unknown): Promise<SuiteError> {
  return await assertRejects(async () => await work(), SuiteError);
}

/** Its code alone. */
export async function codeOf(work: () => unknown): Promise<ErrorCode> {
  return (await suiteError(work)).code;
}

/** Its violations as `pointer code`, or `parameter code`. */
export async function violationsOf(work: () => unknown): Promise<string[]> {
  return (await suiteError(work)).violations.map(describeViolation);
}

function describeViolation({ pointer, parameter, code }: Violation): string {
  return `${pointer ?? parameter ?? "-"} ${code}`;
}

/** All that a caller or a log could see of an error and its causes. */
export function everythingShown(error: unknown): string {
  const shown: string[] = [];
  for (let current = error; current !== undefined;) {
    assertInstanceOf(current, Error);
    shown.push(current.name, current.message, current.stack ?? "", JSON.stringify(current));
    current = current.cause;
  }
  return shown.join("\n");
}
