import { assertEquals, assertThrows } from "@std/assert";
import { parseMultipart } from "./multipart.ts";

const TYPE = "multipart/form-data; boundary=----b0undary";
const bytes = (text: string) => new TextEncoder().encode(text);
const file = (name: string, content: string) =>
  `------b0undary\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\n` +
  `Content-Type: application/octet-stream\r\n\r\n${content}\r\n`;
const END = "------b0undary--\r\n";

Deno.test("parseMultipart returns parts byte for byte, line ends and near-boundaries included", () => {
  const content = "a\r\n\r\n------b0undar\r\n--\r\n\u0000\u00ff\r\n";
  const metadata =
    `------b0undary\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{}\r\n`;
  assertEquals(parseMultipart(TYPE, bytes(file("a/b.ts", content) + metadata + END)), [
    {
      name: "file",
      fileName: "a/b.ts",
      contentType: "application/octet-stream",
      content: bytes(content),
    },
    { name: "metadata", fileName: undefined, contentType: undefined, content: bytes("{}") },
  ]);
});

Deno.test("parseMultipart refuses what a lenient parser would repair", async (t) => {
  const hostile: readonly [criterion: string, type: string, body: string, message: string][] = [
    ["another type", "text/plain", file("a", "") + END, "not multipart/form-data"],
    ["no boundary", "multipart/form-data", file("a", "") + END, "not multipart/form-data"],
    ["a preamble", TYPE, "x" + file("a", "") + END, "bytes before the first boundary"],
    ["an epilogue", TYPE, file("a", "") + END + "x", "bytes after the last boundary"],
    ["no closing boundary", TYPE, file("a", "x"), "the last boundary is missing"],
    ["an unknown header", TYPE, file("a", "").replace("Type", "Size") + END, "unexpected header"],
    ["a quoted name", TYPE, file('a"; x="', "") + END, "unreadable content-disposition"],
    ["an escaped name", TYPE, file("a%22", "") + END, "unreadable content-disposition"],
    [
      "headers without an end",
      TYPE,
      "------b0undary\r\nx\r\n" + END,
      "without an end of its headers",
    ],
    ["a part without a name", TYPE, "------b0undary\r\n\r\n\r\nx\r\n" + END, "unexpected header"],
  ];
  for (const [criterion, type, body, message] of hostile) {
    await t.step(criterion, () => {
      assertThrows(() => parseMultipart(type, bytes(body)), Error, message);
    });
  }
});
