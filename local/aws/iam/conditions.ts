/** IAM condition operators. Source: IAM User Guide, "IAM JSON policy elements: Condition operators". */

import type { Condition } from "./policy.ts";

/** Keys in lower case; a key that the request does not have is absent. */
export type ConditionContext = ReadonlyMap<string, readonly string[]>;

type Test = (actual: string, wanted: string) => boolean;

const TESTS: Readonly<Record<string, Test>> = {
  StringEquals: (actual, wanted) => actual === wanted,
  StringEqualsIgnoreCase: (actual, wanted) => actual.toLowerCase() === wanted.toLowerCase(),
  StringLike: (actual, wanted) => matchesPattern(actual, wanted),
  ArnEquals: (actual, wanted) => matchesPattern(actual, wanted),
  ArnLike: (actual, wanted) => matchesPattern(actual, wanted),
  Bool: (actual, wanted) => actual.toLowerCase() === wanted.toLowerCase(),
  NumericEquals: (actual, wanted) => Number(actual) === Number(wanted),
  NumericLessThan: (actual, wanted) => Number(actual) < Number(wanted),
  NumericLessThanEquals: (actual, wanted) => Number(actual) <= Number(wanted),
  NumericGreaterThan: (actual, wanted) => Number(actual) > Number(wanted),
  NumericGreaterThanEquals: (actual, wanted) => Number(actual) >= Number(wanted),
  DateEquals: (actual, wanted) => timeOf(actual) === timeOf(wanted),
  DateLessThan: (actual, wanted) => timeOf(actual) < timeOf(wanted),
  DateLessThanEquals: (actual, wanted) => timeOf(actual) <= timeOf(wanted),
  DateGreaterThan: (actual, wanted) => timeOf(actual) > timeOf(wanted),
  DateGreaterThanEquals: (actual, wanted) => timeOf(actual) >= timeOf(wanted),
};

/** Operators that hold when no value passes the test they negate. */
const NEGATIONS: Readonly<Record<string, string>> = {
  StringNotEquals: "StringEquals",
  StringNotEqualsIgnoreCase: "StringEqualsIgnoreCase",
  StringNotLike: "StringLike",
  ArnNotEquals: "ArnEquals",
  ArnNotLike: "ArnLike",
  NumericNotEquals: "NumericEquals",
  DateNotEquals: "DateEquals",
};

/** ISO 8601, or seconds since the epoch, in milliseconds; NaN for anything else. */
function timeOf(text: string): number {
  return /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text);
}

interface ParsedOperator {
  readonly name: string;
  readonly ifExists: boolean;
  readonly quantifier: "all" | "any" | null;
}

function parseOperator(text: string): ParsedOperator {
  let name = text;
  let quantifier: "all" | "any" | null = null;
  if (name.startsWith("ForAllValues:")) quantifier = "all";
  if (name.startsWith("ForAnyValue:")) quantifier = "any";
  if (quantifier !== null) name = name.slice(name.indexOf(":") + 1);
  const ifExists = name.endsWith("IfExists");
  if (ifExists) name = name.slice(0, -"IfExists".length);
  return { name, ifExists, quantifier };
}

/** Null when the operator exists and takes these values. */
export function conditionProblem(operator: string, values: readonly string[]): string | null {
  const { name } = parseOperator(operator);
  if (name === "Null") {
    return values.every((value) => value === "true" || value === "false")
      ? null
      : "Syntax errors in policy.";
  }
  // One that is no time would never hold, and a Deny that never holds denies nothing.
  if (name.startsWith("Date") && values.some((value) => Number.isNaN(timeOf(value)))) {
    return "Syntax errors in policy.";
  }
  return name in TESTS || name in NEGATIONS ? null : `Invalid Condition type : ${operator}.`;
}

/** Whether every condition of a statement holds. */
export function conditionsHold(
  conditions: readonly Condition[],
  context: ConditionContext,
): boolean {
  return conditions.every((condition) => holds(condition, context));
}

function holds(condition: Condition, context: ConditionContext): boolean {
  const { name, ifExists, quantifier } = parseOperator(condition.operator);
  const actual = context.get(condition.key);
  if (name === "Null") {
    return condition.values.some((value) => (actual === undefined) === (value === "true"));
  }
  const negated = NEGATIONS[name];
  const test = TESTS[negated ?? name];
  if (test === undefined) return false;
  if (actual === undefined) {
    // No value at all: none that passes, and none that fails.
    if (ifExists || quantifier === "all") return true;
    return quantifier === null && negated !== undefined;
  }
  const passes = (value: string) => {
    const matched = condition.values.some((wanted) => test(value, wanted));
    return negated === undefined ? matched : !matched;
  };
  if (quantifier === "all") return actual.every(passes);
  if (quantifier === "any") return actual.some(passes);
  return negated === undefined ? actual.some(passes) : actual.every(passes);
}

/** IAM wildcards: `*` any run of characters, `?` exactly one. Linear in both lengths' product. */
export function matchesPattern(text: string, pattern: string): boolean {
  let t = 0;
  let p = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === "*") {
      star = p++;
      resume = t;
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === text[t])) {
      t++;
      p++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}
