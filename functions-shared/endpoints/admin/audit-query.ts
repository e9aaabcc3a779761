/** What the audit's routes read from queries. */
import { validationFailed } from "../../errors.ts";

/** Whether `YYYY-MM-DD` names a day that there is. */
export function isDay(value: string): boolean {
  if (!/^[12]\d{3}-\d{2}-\d{2}$/.test(value)) return false;
  const date = new Date(`${value}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(value);
}

/** @throws {SuiteError} validation_failed. */
export function readDay<Value extends string | undefined>(parameter: string, value: Value): Value {
  if (value === undefined || isDay(value)) return value;
  throw invalid(parameter, "invalid_day", "must be a day, YYYY-MM-DD");
}

/** @throws {SuiteError} validation_failed. */
export function readNumber(
  parameter: string,
  value: string | undefined,
  { min, max, fallback }: { readonly min: number; readonly max: number; readonly fallback: number },
): number {
  if (value === undefined) return fallback;
  const number = /^\d{1,9}$/.test(value) ? Number(value) : NaN;
  if (number >= min && number <= max) return number;
  throw invalid(parameter, "out_of_range", `must be a whole number from ${min} to ${max}`);
}

export function invalid(parameter: string, code: string, detail: string) {
  return validationFailed([{ parameter, code, detail }]);
}

/** Without the members that are undefined. */
export function defined<Value extends object>(
  value: { readonly [Name in keyof Value]: Value[Name] | undefined },
): Value {
  return Object.fromEntries(
    Object.entries(value).filter(([, member]) => member !== undefined),
  ) as Value;
}
