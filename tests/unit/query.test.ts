import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  decodeCursor,
  encodeCursor,
  readLimit,
  readQuery,
} from "../../functions-shared/http/query.ts";
import { idempotencyKey } from "../../functions-shared/http/idempotency.ts";
import { isUuid } from "../../functions-shared/http/uuid.ts";
import { codeOf, suiteError, violationsOf } from "./support/thrown.ts";

const PAN = "5200828282828210";
const query = (text: string) => () =>
  readQuery(new URL(`http://localhost/${text}`), ["limit", "cursor"]);

Deno.test("known parameters are read, each once", async () => {
  assertEquals(query("?limit=1&cursor=a%20b")(), { limit: "1", cursor: "a b" });
  assertEquals(query("")(), {});
  assertEquals(await violationsOf(query("?limit=1&limit=2")), ["limit repeated_parameter"]);
});

Deno.test("an unknown parameter is refused without its name or value", async () => {
  for (const text of [`?${PAN}=1`, `?x=${PAN}`, "?__proto__=1", "?constructor=1", "?Limit=1"]) {
    const error = await suiteError(query(text));
    assertEquals(error.violations.map(({ code }) => code), ["unknown_parameter"]);
    assertEquals(JSON.stringify(error.violations).includes(PAN), false);
  }
});

Deno.test("a hundred unknown parameters make twenty violations", async () => {
  const many = Array.from({ length: 100 }, (_, index) => `a${index}=1`).join("&");
  assertEquals((await violationsOf(query(`?${many}`))).length, 20);
});

Deno.test("a limit is 1 to 100, 20 unless given", async () => {
  assertEquals([readLimit(undefined), readLimit("1"), readLimit("100")], [20, 1, 100]);
  for (const value of ["0", "101", "-1", "1.5", "1e1", "", " 1", "٣", "99999999999"]) {
    assertEquals(await violationsOf(() => readLimit(value)), ["limit out_of_range"], value);
  }
});

const position = fc.tuple(
  fc.date({ min: new Date("1970-01-01"), max: new Date("2999-12-31"), noInvalidDate: true }),
  fc.uuid(),
).map(([date, id]) => `${date.toISOString().replace("Z", "123Z")}|${id}`);

Deno.test("a cursor that was given out is taken back, whatever its position", () => {
  fc.assert(fc.property(position, (text) => {
    assertEquals(decodeCursor(encodeCursor(text) ?? ""), text);
  }));
  assertEquals(encodeCursor(undefined), null);
  assertEquals(decodeCursor(undefined), undefined);
});

Deno.test("a cursor of one list is none of another", async () => {
  const at = "2026-11-22T00:00:00.000000Z|0b9bd1a5-1111-4111-8111-111111111111";
  const cursor = encodeCursor(at, "job 1 ") ?? "";
  assertEquals(decodeCursor(cursor, "job 1 "), at);
  for (const scope of ["", "job 2 ", "job 1", "job 1  "]) {
    assertEquals(await violationsOf(() => decodeCursor(cursor, scope)), ["cursor invalid_cursor"]);
    assertEquals(
      await violationsOf(() => decodeCursor(encodeCursor(at, scope) ?? "", "job 1 ")),
      ["cursor invalid_cursor"],
    );
  }
});

Deno.test("any other text is no cursor", async () => {
  const encode = (text: string) => encodeCursor(text) ?? "";
  const id = "0b9bd1a5-1111-4111-8111-111111111111";
  for (
    const cursor of [
      "",
      "x",
      "%",
      PAN,
      encode(PAN),
      encode(""),
      encode(id),
      encode(`2026-02-31T00:00:00.000000Z|${id}`),
      encode(`2026-13-01T00:00:00.000000Z|${id}`),
      encode(`2026-01-01T24:00:00.000000Z|${id}`),
      encode(`0000-01-01T00:00:00.000000Z|${id}`),
      encode(`2026-01-01T00:00:00.000000Z|${id}' or 1=1 --`),
      encode(`2026-01-01T00:00:00.000000Z|${id}\n`),
    ]
  ) {
    assertEquals(await violationsOf(() => decodeCursor(cursor)), ["cursor invalid_cursor"], cursor);
  }
  await fc.assert(fc.asyncProperty(fc.string(), async (cursor) => {
    assertEquals(await codeOf(() => decodeCursor(cursor)), "validation_failed");
  }));
});

Deno.test("an idempotency key is read with or without quotes", async () => {
  const read = (key: string) =>
    idempotencyKey(new Request("http://localhost", { headers: { "idempotency-key": key } }));
  assertEquals([read("a"), read('"a"'), read('"'), read("x".repeat(255))], [
    "a",
    "a",
    '"',
    "x".repeat(255),
  ]);
  assertEquals(
    await codeOf(() => idempotencyKey(new Request("http://localhost"))),
    "idempotency_key_required",
  );
  for (const key of ["", '""']) {
    assertEquals(await codeOf(() => read(key)), "idempotency_key_required");
  }
  for (const key of ["a b", "x".repeat(256), "ä", "a, b"]) {
    const error = await suiteError(() => read(key));
    assertEquals([error.code, error.status], ["invalid_request", 400]);
    assertEquals(JSON.stringify(error.violations).includes(key), false);
  }
});

Deno.test("a UUID has its text form, and nothing around it", () => {
  assertEquals(isUuid("0B9BD1A5-1111-4111-8111-11111111111f"), true);
  for (
    const value of [
      "",
      "0b9bd1a5111141118111111111111111",
      "0b9bd1a5-1111-4111-8111-111111111111\n",
      null,
      1,
    ]
  ) {
    assertEquals(isUuid(value), false);
  }
});
