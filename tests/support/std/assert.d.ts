/**
 * Types for Deno's `@std/assert`, which the npm package `deno-std` carries as JavaScript only. They
 * follow the signatures of `@std/assert` 1.x, narrowing included. The import map points at the
 * package itself, and `compilerOptions.types` in deno.json brings this file in: an import map entry
 * that names a local file would be uploaded with every function (the Supabase CLI sends them all).
 */
declare module "@std/assert" {
  /** Any class with instances of type `T`: `never[]` accepts every parameter list. */
  type Class<T> = abstract new (...args: never[]) => T;
  type Falsy = false | 0 | 0n | "" | null | undefined;

  /** What every failed assertion throws. */
  export class AssertionError extends Error {
    constructor(message: string, options?: ErrorOptions);
  }

  /** Deep equality by value, as used by `assertEquals`. @throws TypeError for a WeakMap or WeakSet */
  export function equal(a: unknown, b: unknown): boolean;

  export function assert(expr: unknown, msg?: string): asserts expr;
  export function assertFalse(expr: unknown, msg?: string): asserts expr is Falsy;
  export function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T>;

  export function assertEquals<T>(actual: T, expected: T, msg?: string): void;
  export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void;
  export function assertStrictEquals<T>(
    actual: unknown,
    expected: T,
    msg?: string,
  ): asserts actual is T;
  export function assertNotStrictEquals<T>(actual: T, expected: T, msg?: string): void;
  /** `tolerance` defaults to a millionth of the larger magnitude. */
  export function assertAlmostEquals(
    actual: number,
    expected: number,
    tolerance?: number,
    msg?: string,
  ): void;

  export function assertGreater<T>(actual: T, expected: T, msg?: string): void;
  export function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void;
  export function assertLess<T>(actual: T, expected: T, msg?: string): void;
  export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void;

  export function assertStringIncludes(actual: string, expected: string, msg?: string): void;
  export function assertMatch(actual: string, expected: RegExp, msg?: string): void;
  export function assertNotMatch(actual: string, expected: RegExp, msg?: string): void;
  export function assertArrayIncludes<T>(
    actual: ArrayLike<T>,
    expected: ArrayLike<T>,
    msg?: string,
  ): void;
  /** `expected` is a subset of `actual`, at every depth. */
  export function assertObjectMatch(
    actual: object,
    expected: Record<PropertyKey, unknown>,
    msg?: string,
  ): void;

  export function assertInstanceOf<T extends Class<unknown>>(
    actual: unknown,
    expectedType: T,
    msg?: string,
  ): asserts actual is InstanceType<T>;
  export function assertNotInstanceOf<A, T>(
    actual: A,
    unexpectedType: Class<T>,
    msg?: string,
  ): asserts actual is Exclude<A, T>;
  export function assertIsError<E extends Error = Error>(
    error: unknown,
    ErrorClass?: Class<E>,
    msgMatches?: string | RegExp,
    msg?: string,
  ): asserts error is E;

  /** @returns what was thrown; with an error class, an instance of it whose message has the text */
  export function assertThrows(fn: () => unknown, msg?: string): unknown;
  export function assertThrows<E extends Error = Error>(
    fn: () => unknown,
    ErrorClass: Class<E>,
    msgIncludes?: string,
    msg?: string,
  ): E;

  /** As `assertThrows`, for a promise. A function that throws before it returns a promise fails. */
  export function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
  export function assertRejects<E extends Error = Error>(
    fn: () => PromiseLike<unknown>,
    ErrorClass: Class<E>,
    msgIncludes?: string,
    msg?: string,
  ): Promise<E>;

  export function fail(msg?: string): never;
  export function unimplemented(msg?: string): never;
  export function unreachable(msg?: string): never;
}
