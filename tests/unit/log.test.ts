import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { type LogFields, Logger } from "../../functions-shared/telemetry/log.ts";
import { SuiteError } from "../../functions-shared/errors.ts";

const SECRET = "4000056655665556";

/** The lines that `fields` become. */
function lines(fields: LogFields, level: "debug" | "info" = "debug"): string[] {
  const written: string[] = [];
  new Logger(level, { write: (line) => written.push(line), now: () => 0 })
    .log("info", "request", fields);
  return written;
}

function entry(fields: LogFields): Record<string, unknown> {
  const [line = ""] = lines(fields);
  return JSON.parse(line);
}

function chain(error: unknown): Record<string, unknown>[] {
  return entry({ error }).error as Record<string, unknown>[];
}

Deno.test("a line is one JSON object with time, level and event", () => {
  assertEquals(entry({ status: 200, route: "/:id" }), {
    time: "1970-01-01T00:00:00.000Z",
    level: "info",
    event: "request",
    route: "/:id",
    status: 200,
  });
});

Deno.test("a field that is not on the list is not logged", () => {
  const smuggled = { status: 200, body: SECRET, card: { number: SECRET }, path: `/${SECRET}` };
  assertEquals(Object.keys(entry(smuggled as LogFields)), ["time", "level", "event", "status"]);
});

Deno.test("a line stays one line, whatever a field holds", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    const [line = ""] = lines({ route: text, faults: [text] });
    assert(!/[\n\r]/.test(line));
    assertEquals(JSON.parse(line).route, JSON.parse(JSON.stringify(text)));
  }));
});

Deno.test("lines below the level are not written, and silent writes none", () => {
  const written: string[] = [];
  const write = (line: string) => written.push(line);
  const levels = ["debug", "info", "warn", "error"] as const;
  for (const threshold of [...levels, "silent"] as const) {
    const logger = new Logger(threshold, { write });
    for (const level of levels) logger.log(level, `${threshold}<${level}`);
  }
  assertEquals(written.map((line) => JSON.parse(line).event), [
    "debug<debug",
    "debug<info",
    "debug<warn",
    "debug<error",
    "info<info",
    "info<warn",
    "info<error",
    "warn<warn",
    "warn<error",
    "error<error",
  ]);
});

Deno.test("of an error and its causes, names, codes and statuses are logged", () => {
  const cause = Object.assign(new TypeError("x"), { code: "ECONNREFUSED", status: 500 });
  const [first, second] = chain(new SuiteError("kms_unavailable", { cause }));
  assertEquals([first?.name, first?.code, first?.status], ["SuiteError", "kms_unavailable", 503]);
  assertEquals(second, { name: "TypeError", code: "ECONNREFUSED", status: 500 });
});

Deno.test("messages are never logged, neither the error's nor a cause's", () => {
  const error = new Error(`near ${SECRET}`, {
    cause: new Error(`value ${SECRET}`, { cause: `text ${SECRET}` }),
  });
  const [line = ""] = lines({ error });
  assert(!line.includes(SECRET));
  assertEquals(chain(error).map(({ name }) => name), ["Error", "Error", "string"]);
});

Deno.test("a message with lines like stack frames does not pass for one", () => {
  for (
    const message of [
      `bad\n    at ${SECRET} (file.ts:1:1)`,
      `\n    at ${SECRET}:1:1`,
      `Error\n    at ${SECRET}`,
    ]
  ) {
    const [line = ""] = lines({ error: new Error(message) });
    assert(!line.includes(SECRET), line);
  }
  const changed = new Error("first");
  changed.stack = `Error: other\n    at ${SECRET}`;
  assert(!lines({ error: changed }).join().includes(SECRET));
});

Deno.test("frames say where an error was made", () => {
  const [{ frames } = {}] = chain(new Error("x"));
  assert(Array.isArray(frames) && frames.length > 0 && frames.length <= 8);
  assertMatch(String(frames[0]), /log\.test\.ts:\d+:\d+/);
});

Deno.test("names and codes that look like values are left out", () => {
  for (
    const code of [SECRET, "4000-0566-5566-5556", "4000.0566.5566.5556", "a b", "x".repeat(65), ""]
  ) {
    const error = Object.assign(new Error("x"), { code, name: code });
    assert(!JSON.stringify(chain(error)).includes(code || '"code"'), code);
  }
  for (const code of ["22P02", "PGRST204", "ThrottlingException", "EAI_AGAIN", "ERR_INVALID_ARG"]) {
    assertEquals(chain(Object.assign(new Error("x"), { code }))[0]?.code, code);
  }
});

Deno.test("a chain of causes is bounded, also when it is a ring", () => {
  const ring: Error & { cause?: unknown } = new Error("x");
  ring.cause = ring;
  assertEquals(chain(ring).length, 5);
});
