import { assertEquals } from "@std/assert";
import { boundCursor, readBoundCursor } from "../../functions-shared/http/bound-cursor.ts";
import { suiteError } from "./support/thrown.ts";

const FILTER = { action: "a.b" };
const isNumber = (position: string) => /^\d+$/.test(position);

async function violation(cursor: string, filter: unknown = FILTER): Promise<string | undefined> {
  const error = await suiteError(() =>
    Promise.resolve().then(() => readBoundCursor(cursor, filter, isNumber))
  );
  return error.violations[0]?.code;
}

Deno.test("a cursor leads back to its position, for its own filter", () => {
  const cursor = boundCursor(17, FILTER) ?? "";
  assertEquals(readBoundCursor(cursor, { ...FILTER }, isNumber), "17");
  assertEquals(/^[\w-]+$/.test(cursor), true);
  assertEquals(boundCursor(undefined, FILTER), null);
  assertEquals(readBoundCursor(undefined, FILTER, isNumber), undefined);
});

Deno.test("a cursor of another filter is refused as such", async () => {
  const cursor = boundCursor(17, FILTER) ?? "";
  for (const other of [{}, { action: "a.c" }, { ...FILTER, outcome: "failure" }]) {
    assertEquals(await violation(cursor, other), "cursor_mismatch");
  }
});

Deno.test("what was never a cursor, or has no such position, is refused", async () => {
  for (const cursor of ["", "AAAA", "%", "\u0000", btoa("17"), btoa("17~0123"), "A".repeat(500)]) {
    assertEquals(await violation(cursor), "invalid_cursor");
  }
  assertEquals(await violation(boundCursor("x", FILTER) ?? ""), "invalid_cursor");
});
