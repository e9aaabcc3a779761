import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  type ErrorCode,
  ERRORS,
  SuiteError,
  validationFailed,
} from "../../functions-shared/errors.ts";
import {
  problemDocument,
  problemResponse,
  toSuiteError,
} from "../../functions-shared/http/problem.ts";
import { listFiles, readText } from "../support/repository.ts";

const REQUEST_ID = "0b9bd1a5-3333-4333-8333-333333333333";
const CODES = Object.keys(ERRORS) as ErrorCode[];

Deno.test("every code has a status of its family, and a title of its own", () => {
  for (const code of CODES) {
    const { status, title } = ERRORS[code];
    assertMatch(code, /^[a-z]+(_[a-z]+)*$/);
    assert([400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503].includes(status), code);
    assertMatch(title, /^[A-Z][^.]*$/);
  }
  assertEquals(new Set(CODES.map((code) => ERRORS[code].title)).size, CODES.length);
});

/** Conflicts that no repetition settles, or that would do another thing than was asked for. */
const FINAL = new Set<ErrorCode>([
  "rotation_conflict",
  "rotation_limit_reached",
  "rotation_not_supported",
  "branch_key_in_use",
  "migration_conflict",
  "migration_incomplete",
]);

Deno.test("what is retryable is an outage, a conflict or one request too many, and every outage says when", () => {
  for (const code of CODES) {
    const error = new SuiteError(code);
    const passes = error.status === 409 && !FINAL.has(code);
    assertEquals(error.retryable, passes || [429, 503].includes(error.status), code);
    assertEquals(error.retryAfterSeconds !== undefined, error.status === 503, code);
  }
});

Deno.test("every code is thrown somewhere: the table promises nothing else", () => {
  const source = listFiles("functions-shared").filter((path) => !path.endsWith("/errors.ts"))
    .concat("functions-shared/keys/providers/aws/errors.ts").map(readText).join("\n");
  for (const code of CODES.filter((code) => code !== "validation_failed")) {
    assert(source.includes(`"${code}"`), `${code} is never thrown`);
  }
});

Deno.test("a problem document says code, title, status and request, and nothing of the cause", async () => {
  for (const code of CODES) {
    const error = new SuiteError(code, { cause: new Error("secret of the cause") });
    const response = problemResponse(error, REQUEST_ID);
    assertEquals(response.status, ERRORS[code].status);
    assertEquals(response.headers.get("content-type"), "application/problem+json");
    assertEquals(await response.json(), {
      type: `urn:supabase-kms:problem:${code}`,
      title: ERRORS[code].title,
      status: ERRORS[code].status,
      code,
      request_id: REQUEST_ID,
    });
  }
});

Deno.test("violations, Retry-After and further headers are in the response", async () => {
  const invalid = validationFailed([{ pointer: "/a", code: "b", detail: "c" }]);
  assertEquals(problemDocument(invalid).errors, [{ pointer: "/a", code: "b", detail: "c" }]);
  assertEquals(problemDocument(invalid).request_id, undefined);
  const response = problemResponse(
    new SuiteError("kms_unavailable", { retryAfterSeconds: 9, headers: { allow: "GET" } }),
    REQUEST_ID,
  );
  assertEquals([response.headers.get("retry-after"), response.headers.get("allow")], ["9", "GET"]);
  await response.body?.cancel();
});

Deno.test("whatever is thrown becomes an internal error, whose text stays inside", () => {
  for (const thrown of [new Error("secret"), "secret", undefined, null, { code: "not_found" }]) {
    const error = toSuiteError(thrown);
    assertEquals(error.code, "internal_error");
    assert(!JSON.stringify(problemDocument(error)).includes("secret"));
  }
  const own = new SuiteError("not_found");
  assertEquals(toSuiteError(own), own);
});
