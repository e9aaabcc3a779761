/**
 * Input shapes of JSON operations: read what was sent, collect what breaks a constraint, and word
 * both as AWS does. Wrong types are a SerializationException, broken constraints one
 * ValidationException for all of them.
 *
 * One deliberate difference: AWS ignores members that it does not know. Here they are refused, so
 * that a misspelt parameter is found before AWS silently does without it.
 */

import { Buffer } from "node:buffer";
import { AwsError } from "./errors.ts";

export interface Shape<T> {
  /** Returns the value; constraint violations go to `problems`. Throws SerializationException. */
  read(value: unknown, path: string, problems: string[]): T;
}

export type Infer<S> = S extends Shape<infer T> ? T : never;

export interface Required<T> {
  readonly required: true;
  readonly shape: Shape<T>;
}

type Member = Shape<unknown> | Required<unknown>;
type Members = Readonly<Record<string, Member>>;

export type Structure<M extends Members> =
  & { readonly [K in keyof M as M[K] extends Required<unknown> ? K : never]: MemberType<M[K]> }
  & { readonly [K in keyof M as M[K] extends Required<unknown> ? never : K]?: MemberType<M[K]> };

type MemberType<M> = M extends Required<infer T> ? T : M extends Shape<infer T> ? T : never;

export function required<T>(shape: Shape<T>): Required<T> {
  return { required: true, shape };
}

function mistyped(value: unknown, wanted: string): AwsError {
  const names: Readonly<Record<string, string>> = {
    string: "STRING_VALUE",
    number: "NUMBER_VALUE",
    boolean: value === true ? "TRUE_VALUE" : "FALSE_VALUE",
  };
  const found = Array.isArray(value)
    ? "Start of list"
    : names[typeof value] ?? "Start of structure or map";
  return new AwsError("SerializationException", `${found} can not be converted to ${wanted}`);
}

const failed = (what: string, path: string, constraint: string) =>
  `${what} at '${path}' failed to satisfy constraint: ${constraint}`;

interface Bounds {
  readonly min?: number;
  readonly max?: number;
}

function checkLength(what: string, length: number, path: string, b: Bounds, problems: string[]) {
  if (b.min !== undefined && length < b.min) {
    problems.push(
      failed(what, path, `Member must have length greater than or equal to ${b.min}`),
    );
  }
  if (b.max !== undefined && length > b.max) {
    problems.push(failed(what, path, `Member must have length less than or equal to ${b.max}`));
  }
}

export function string(
  bounds: Bounds & { readonly pattern?: string; readonly secret?: boolean } = {},
): Shape<string> {
  const pattern = bounds.pattern === undefined ? null : new RegExp(`^(?:${bounds.pattern})$`, "s");
  return {
    read(value, path, problems) {
      if (typeof value !== "string") throw mistyped(value, "a String");
      const what = bounds.secret === true ? "Value" : `Value '${value}'`;
      checkLength(what, [...value].length, path, bounds, problems);
      if (pattern !== null && !pattern.test(value)) {
        problems.push(
          failed(
            what,
            path,
            `Member must satisfy regular expression pattern: ${bounds.pattern}`,
          ),
        );
      }
      return value;
    },
  };
}

export function oneOf<const V extends readonly string[]>(values: V): Shape<V[number]> {
  return {
    read(value, path, problems) {
      if (typeof value !== "string") throw mistyped(value, "a String");
      if (!values.includes(value)) {
        problems.push(
          failed(
            `Value '${value}'`,
            path,
            `Member must satisfy enum value set: [${values.join(", ")}]`,
          ),
        );
      }
      return value;
    },
  };
}

export function integer(bounds: Bounds = {}): Shape<number> {
  return {
    read(value, path, problems) {
      if (typeof value !== "number" || !Number.isInteger(value)) {
        throw mistyped(value, "an Integer");
      }
      if (bounds.min !== undefined && value < bounds.min) {
        problems.push(
          failed(
            `Value '${value}'`,
            path,
            `Member must have value greater than or equal to ${bounds.min}`,
          ),
        );
      }
      if (bounds.max !== undefined && value > bounds.max) {
        problems.push(
          failed(
            `Value '${value}'`,
            path,
            `Member must have value less than or equal to ${bounds.max}`,
          ),
        );
      }
      return value;
    },
  };
}

/** A double; JSON spells what is no number as a string. */
export function number(): Shape<number> {
  return {
    read(value) {
      if (value === "NaN" || value === "Infinity" || value === "-Infinity") return Number(value);
      if (typeof value !== "number") throw mistyped(value, "a Double");
      return value;
    },
  };
}

/** Seconds since the epoch on the wire, milliseconds in the result. */
export function timestamp(): Shape<number> {
  return {
    read(value) {
      if (typeof value !== "number" || !Number.isFinite(value)) {
        throw mistyped(value, "a Timestamp");
      }
      return Math.round(value * 1000);
    },
  };
}

export function boolean(): Shape<boolean> {
  return {
    read(value) {
      if (typeof value !== "boolean") throw mistyped(value, "a Boolean");
      return value;
    },
  };
}

/** Base64 on the wire. Bounds are in bytes; the value never appears in a message. */
export function blob(bounds: Bounds): Shape<Uint8Array> {
  return {
    read(value, path, problems) {
      if (typeof value !== "string") throw mistyped(value, "a ByteBuffer");
      if (value.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) {
        throw new AwsError("SerializationException", "Unable to decode a Base64 value");
      }
      const bytes = new Uint8Array(Buffer.from(value, "base64"));
      checkLength("Value", bytes.length, path, bounds, problems);
      return bytes;
    },
  };
}

export function list<T>(item: Shape<T>, bounds: Bounds = {}): Shape<readonly T[]> {
  return {
    read(value, path, problems) {
      if (!Array.isArray(value)) throw mistyped(value, "a List");
      checkLength("Value", value.length, path, bounds, problems);
      return value.map((entry, index) => item.read(entry, `${path}.${index + 1}.member`, problems));
    },
  };
}

export function map(bounds: Bounds = {}): Shape<Readonly<Record<string, string>>> {
  return {
    read(value, path, problems) {
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw mistyped(value, "a Map");
      }
      const entries = Object.entries(value);
      checkLength("Value", entries.length, path, bounds, problems);
      return Object.fromEntries(entries.map(([key, entry]) => {
        if (typeof entry !== "string") throw mistyped(entry, "a String");
        return [key, entry];
      }));
    },
  };
}

export function structure<M extends Members>(members: M): Shape<Structure<M>> {
  return {
    read(value, path, problems) {
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw mistyped(value, "a Structure");
      }
      const given = value as Readonly<Record<string, unknown>>;
      const result: Record<string, unknown> = {};
      for (const name of Object.keys(given)) {
        if (!Object.hasOwn(members, name)) {
          problems.push(failed("Value", pathOf(path, name), "Member must be known"));
        }
      }
      for (const [name, member] of Object.entries(members)) {
        const at = pathOf(path, name);
        const entry = given[name];
        const shape = "required" in member ? member.shape : member;
        if (entry !== undefined && entry !== null) {
          result[name] = shape.read(entry, at, problems);
        } else if ("required" in member) {
          problems.push(failed("Value null", at, "Member must not be null"));
        }
      }
      return result as Structure<M>;
    },
  };
}

function pathOf(path: string, name: string): string {
  const camel = name.charAt(0).toLowerCase() + name.slice(1);
  return path === "" ? camel : `${path}.${camel}`;
}

/** Throws AwsError: SerializationException, or ValidationException for all broken constraints. */
export function readInput<T>(shape: Shape<T>, json: unknown): T {
  const problems: string[] = [];
  const input = shape.read(json, "", problems);
  if (problems.length > 0) throw new AwsError("ValidationException", validationMessage(problems));
  return input;
}

export function validationMessage(problems: readonly string[]): string {
  const errors = problems.length === 1 ? "error" : "errors";
  return `${problems.length} validation ${errors} detected: ${problems.join("; ")}`;
}
