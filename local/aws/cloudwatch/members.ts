/** Input members that several operations share, with the limits of AWS's service model. */

import { AwsError } from "../errors.ts";
import { list, number, oneOf, string, structure } from "../shapes.ts";
import { type Dimension, sortDimensions } from "./model.ts";

export const UNITS = [
  "Seconds",
  "Microseconds",
  "Milliseconds",
  "Bytes",
  "Kilobytes",
  "Megabytes",
  "Gigabytes",
  "Terabytes",
  "Bits",
  "Kilobits",
  "Megabits",
  "Gigabits",
  "Terabits",
  "Percent",
  "Count",
  "Bytes/Second",
  "Kilobytes/Second",
  "Megabytes/Second",
  "Gigabytes/Second",
  "Terabytes/Second",
  "Bits/Second",
  "Kilobits/Second",
  "Megabits/Second",
  "Gigabits/Second",
  "Terabits/Second",
  "Count/Second",
  "None",
] as const;

export const namespace = string({ min: 1, max: 255, pattern: "[^:].*" });
export const metricName = string({ min: 1, max: 255 });
export const unit = oneOf(UNITS);
export const dimensions = list(structure({
  Name: string({ min: 1, max: 255 }),
  Value: string({ min: 1, max: 1024 }),
}));
export const numbers = list(number());

const MAX_DIMENSIONS = 30;

/** What broke which rule, each in its own line as AWS words it. */
export function invalid(...problems: readonly string[]): AwsError {
  return new AwsError("InvalidParameterValueException", problems.join("\n"));
}

export function combination(problem: string): AwsError {
  return new AwsError("InvalidParameterCombinationException", problem);
}

/** Throws MissingRequiredParameterException when a member is absent. */
export function present<T>(value: T | undefined, path: string): T {
  if (value === undefined) {
    throw new AwsError(
      "MissingRequiredParameterException",
      `The parameter ${path} is required.`,
    );
  }
  return value;
}

/** Sorted. Throws AwsError when they are too many, incomplete, repeated or misspelt. */
export function readDimensions(
  given: readonly { readonly Name?: string; readonly Value?: string }[] = [],
  path: string,
): readonly Dimension[] {
  if (given.length > MAX_DIMENSIONS) {
    throw invalid(`The collection ${path} must not have a size greater than ${MAX_DIMENSIONS}.`);
  }
  const read = given.map(({ Name, Value }, index) => {
    const at = `${path}.member.${index + 1}`;
    const name = present(Name, `${at}.Name`);
    const value = present(Value, `${at}.Value`);
    if (!isText(name) || name.startsWith(":")) throw invalidValue(name, `${at}.Name`);
    if (!isText(value)) throw invalidValue(value, `${at}.Value`);
    return { name, value };
  });
  if (new Set(read.map(({ name }) => name)).size !== read.length) {
    throw invalid(`The collection ${path} must not name a dimension twice.`);
  }
  return sortDimensions(read);
}

export function invalidValue(value: string | number, path: string): AwsError {
  return invalid(`The value ${value} for parameter ${path} is invalid.`);
}

/** ASCII without control characters, and more than spaces. */
export function isText(text: string): boolean {
  return /^[\x20-\x7e]+$/.test(text) && text.trim() !== "";
}
