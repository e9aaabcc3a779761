/** Parameters of the query protocol, checked as AWS checks them: all broken constraints at once. */

import { AwsError } from "../errors.ts";
import { validationMessage } from "../shapes.ts";

interface Constraint {
  readonly required?: boolean;
  readonly min?: number;
  readonly max?: number;
  readonly pattern?: string;
  /** Never shown in a message. */
  readonly secret?: boolean;
  readonly oneOf?: readonly string[];
}

export class Parameters {
  readonly #values: ReadonlyMap<string, string>;
  readonly #problems: string[] = [];
  readonly #read = new Set(["Action", "Version"]);

  /** Throws AwsError (MalformedInput) when a parameter is given twice. */
  constructor(form: string) {
    const values = new Map<string, string>();
    for (const [name, value] of new URLSearchParams(form)) {
      if (values.has(name)) throw new AwsError("MalformedInput", `${name} is given twice.`);
      values.set(name, value);
    }
    this.#values = values;
  }

  text(name: string, constraint: Constraint = {}): string | undefined {
    this.#read.add(name);
    const value = this.#values.get(name);
    const fail = (what: string, problem: string) =>
      this.#problems.push(`${what} at '${camel(name)}' failed to satisfy constraint: ${problem}`);
    if (value === undefined) {
      if (constraint.required === true) fail("Value null", "Member must not be null");
      return undefined;
    }
    const shown = constraint.secret === true ? "Value" : `Value '${value}'`;
    if (constraint.min !== undefined && value.length < constraint.min) {
      fail(shown, `Member must have length greater than or equal to ${constraint.min}`);
    }
    if (constraint.max !== undefined && value.length > constraint.max) {
      fail(shown, `Member must have length less than or equal to ${constraint.max}`);
    }
    const { pattern } = constraint;
    if (pattern !== undefined && !new RegExp(`^(?:${pattern})$`).test(value)) {
      fail(shown, `Member must satisfy regular expression pattern: ${pattern}`);
    }
    const { oneOf } = constraint;
    if (oneOf !== undefined && !oneOf.includes(value)) {
      fail(shown, `Member must satisfy enum value set: [${oneOf.join(", ")}]`);
    }
    return value;
  }

  /** Of a parameter without which the request is refused by `end`. */
  required(name: string, constraint: Omit<Constraint, "required"> = {}): string {
    return this.text(name, { ...constraint, required: true }) ?? "";
  }

  integer(name: string, bounds: { readonly min: number; readonly max: number }) {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^-?\d{1,10}$/.test(text)) {
      throw new AwsError("MalformedInput", `Expected an integer for ${name}.`);
    }
    const value = Number(text);
    const fail = (problem: string) =>
      this.#problems.push(
        `Value '${value}' at '${camel(name)}' failed to satisfy constraint: ${problem}`,
      );
    if (value < bounds.min) fail(`Member must have value greater than or equal to ${bounds.min}`);
    if (value > bounds.max) fail(`Member must have value less than or equal to ${bounds.max}`);
    return value;
  }

  /** To be called when all were read. Throws AwsError (ValidationError). */
  end(): void {
    for (const name of this.#values.keys()) {
      // AWS would ignore it; a parameter without effect is better found here.
      if (!this.#read.has(name)) this.#problems.push(`Parameter '${name}' is not supported here`);
    }
    if (this.#problems.length > 0) {
      throw new AwsError("ValidationError", validationMessage(this.#problems));
    }
  }
}

function camel(name: string): string {
  return name.charAt(0).toLowerCase() + name.slice(1);
}
