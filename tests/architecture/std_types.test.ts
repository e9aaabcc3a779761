import * as std from "@std/assert";
import {
  assert,
  assertEquals,
  assertExists,
  AssertionError,
  assertRejects,
  assertThrows,
  equal,
} from "@std/assert";
import { timingSafeEqual } from "@std/crypto";

// The declaration files are ours, the code is not: a name that is declared and missing would be
// undefined at run time, and one that never throws would let every test pass.

const failing: readonly [name: string, fails: () => unknown][] = [
  ["assert", () => std.assert(0)],
  ["assertFalse", () => std.assertFalse(1)],
  ["assertExists", () => std.assertExists(null)],
  ["assertEquals", () => std.assertEquals([1, { a: 2 }], [1, { a: 3 }])],
  ["assertNotEquals", () => std.assertNotEquals({ a: [1] }, { a: [1] })],
  ["assertStrictEquals", () => std.assertStrictEquals({}, {})],
  ["assertNotStrictEquals", () => std.assertNotStrictEquals("a", "a")],
  ["assertAlmostEquals", () => std.assertAlmostEquals(1, 1.1)],
  ["assertGreater", () => std.assertGreater(1, 1)],
  ["assertGreaterOrEqual", () => std.assertGreaterOrEqual(1, 2)],
  ["assertLess", () => std.assertLess(1, 1)],
  ["assertLessOrEqual", () => std.assertLessOrEqual(2, 1)],
  ["assertStringIncludes", () => std.assertStringIncludes("abc", "d")],
  ["assertMatch", () => std.assertMatch("abc", /d/)],
  ["assertNotMatch", () => std.assertNotMatch("abc", /b/)],
  ["assertArrayIncludes", () => std.assertArrayIncludes([1, 2], [3])],
  ["assertObjectMatch", () => std.assertObjectMatch({ a: 1, b: 2 }, { a: 2 })],
  ["assertInstanceOf", () => std.assertInstanceOf(new Error("x"), TypeError)],
  ["assertNotInstanceOf", () => std.assertNotInstanceOf(new TypeError("x"), Error)],
  ["assertIsError", () => std.assertIsError(new Error("one"), Error, "two")],
  ["assertThrows", () => std.assertThrows(() => {})],
  ["fail", () => std.fail("on purpose")],
];

Deno.test("every declared assertion exists and fails when it should", async (t) => {
  for (const [name, fails] of failing) {
    await t.step(name, () => {
      let thrown: unknown;
      try {
        fails();
      } catch (error) {
        thrown = error;
      }
      if (!(thrown instanceof AssertionError)) throw new Error(`${name} did not fail: ${thrown}`);
    });
  }
});

Deno.test("assertRejects and assertThrows return the error they caught, by class and text", async () => {
  const caught = await assertRejects(
    () => Promise.reject(new RangeError("too long: 65")),
    RangeError,
    "too long",
  );
  assertEquals(caught.message, "too long: 65");
  assertEquals(
    assertThrows(() => {
      throw new RangeError("too short");
    }, RangeError).message,
    "too short",
  );
  await assertRejects(
    () => assertRejects(() => Promise.reject(new Error("x")), RangeError),
    AssertionError,
  );
  await assertRejects(() => assertRejects(() => Promise.resolve(1)), AssertionError);
});

Deno.test("the declarations narrow", () => {
  const value: string | undefined = ["a", undefined][0];
  assertExists(value);
  assertEquals(value.length, 1);
  const error: unknown = new TypeError("typed");
  std.assertInstanceOf(error, TypeError);
  assertEquals(error.message, "typed");
  assert(equal(new Uint8Array([1]), new Uint8Array([1])));
});

Deno.test("timingSafeEqual compares digests and refuses different lengths", async () => {
  const digest = (text: string) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  assert(timingSafeEqual(await digest("a"), await digest("a")));
  assert(!timingSafeEqual(await digest("a"), await digest("b")));
  assertThrows(() => timingSafeEqual(new Uint8Array(1), new Uint8Array(2)), TypeError);
});
