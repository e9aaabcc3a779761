import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { SuiteError } from "../../functions-shared/errors.ts";
import { MAX_BODY_BYTES, MAX_DRAINED_BYTES, readJson } from "../../functions-shared/http/body.ts";
import { codeOf, everythingShown, suiteError, violationsOf } from "./support/thrown.ts";

const JSON_TYPE = { "content-type": "application/json" };
/** Visa's published test number. */
const PAN = "4000056655665556";

function post(body: BodyInit | null, headers: HeadersInit = JSON_TYPE): Request {
  return new Request("http://localhost/", { method: "POST", body, headers });
}

function readText(text: string): Promise<unknown> {
  return readJson(post(text));
}

function readValue(value: unknown): Promise<unknown> {
  return readText(JSON.stringify(value));
}

Deno.test("a JSON document is read, with a byte order mark and under any JSON media type", async () => {
  assertEquals(await readText('{"a":[1,"ä"]}'), { a: [1, "ä"] });
  assertEquals(await readText('\ufeff{"a":1}'), { a: 1 });
  for (
    const type of [
      "application/json; charset=utf-8",
      "Application/JSON",
      "application/merge-patch+json",
    ]
  ) {
    assertEquals(await readJson(post("1", { "content-type": type })), 1, type);
  }
});

Deno.test("another media type is refused before the body is read", async () => {
  for (
    const type of [
      "text/plain",
      "application/jsonp",
      "text/json",
      "application/x-www-form-urlencoded",
      "",
    ]
  ) {
    const request = post("{}", { "content-type": type });
    assertEquals(await codeOf(() => readJson(request)), "unsupported_media_type", type);
    assertEquals(request.bodyUsed, false);
  }
});

Deno.test("what is no JSON is malformed, and the error holds nothing of it", async () => {
  for (
    const text of [
      "",
      "{",
      `{"number": ${PAN}x}`,
      `{"number":"${PAN}"`,
      "{'a':1}",
      '{"a":1}{}',
      "NaN",
    ]
  ) {
    const error = await suiteError(() => readText(text));
    assertEquals(error.code, "malformed_json", text);
    assertEquals(error.cause, undefined);
    assert(!everythingShown(error).includes(PAN));
  }
  assertEquals(await codeOf(() => readJson(post(null))), "malformed_json");
});

Deno.test("bytes that are not UTF-8 are malformed", async () => {
  for (
    const bytes of [[0x22, 0xff, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22], [0xff, 0xfe, 0x31, 0x00]]
  ) {
    assertEquals(await codeOf(() => readJson(post(new Uint8Array(bytes)))), "malformed_json");
  }
});

Deno.test("exactly 64 KiB are read, one byte more is not", async () => {
  const text = `"${"a".repeat(MAX_BODY_BYTES - 2)}"`;
  assertEquals(await readText(text), "a".repeat(MAX_BODY_BYTES - 2));
  assertEquals(await codeOf(() => readText(`${text} `)), "payload_too_large");
});

Deno.test("a stream without a length is dropped beyond the limit, then cut off, and its source is told", async () => {
  let sent = 0;
  let cancelled = false;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += 1024;
      controller.enqueue(new Uint8Array(1024).fill(0x20));
    },
    cancel() {
      cancelled = true;
    },
  });
  assertEquals(await codeOf(() => readJson(post(endless))), "payload_too_large");
  assert(cancelled);
  assert(sent <= MAX_DRAINED_BYTES + 4096, `${sent} bytes were taken`);
});

Deno.test("an announced length over the limit is refused; a false small one is not believed", async () => {
  const large = post("{}", { ...JSON_TYPE, "content-length": String(MAX_BODY_BYTES + 1) });
  assertEquals(await codeOf(() => readJson(large)), "payload_too_large");
  const lying = post(" ".repeat(MAX_BODY_BYTES + 1), { ...JSON_TYPE, "content-length": "2" });
  assertEquals(await codeOf(() => readJson(lying)), "payload_too_large");
});

Deno.test("nesting is bounded, however it is made", async () => {
  const nested = (depth: number, open: string, close: string) =>
    readText(open.repeat(depth) + "1" + close.repeat(depth));
  assertEquals(JSON.stringify(await nested(32, "[", "]")), "[".repeat(32) + "1" + "]".repeat(32));
  assertEquals(await violationsOf(() => nested(33, "[", "]")), [" nested_too_deeply"]);
  assertEquals(await violationsOf(() => nested(32_000, "[", "]")), [" nested_too_deeply"]);
  assertEquals(await violationsOf(() => nested(10_000, '{"":', "}")), [" nested_too_deeply"]);
});

Deno.test("codes, PINs and tracks are refused by name, wherever and however the name is written", async () => {
  for (
    const name of [
      "cvv",
      "CVC",
      "cvv2",
      "cid",
      "pin",
      "PIN_block",
      "track1",
      "Track 2",
      "security-code",
      "card_cvv",
      "cardCVC",
      "creditCardCvv",
      "billing_cvc_2",
      "payment.cvv2.value",
      "ｃｖｖ",
      "c\u200bv\u200bv",
      "verificationCode",
      "magstripe_data",
      "c.v.v",
    ]
  ) {
    const error = await suiteError(() =>
      readValue({ data_class: "pii", data: { deep: [{ [name]: 1 }] } })
    );
    assertEquals(error.code, "sensitive_authentication_data", name);
    assertEquals(error.status, 422);
  }
});

Deno.test("names that only resemble them pass", async () => {
  for (
    const name of [
      "pinned",
      "opinion",
      "tracking_number",
      "cv_category",
      "cvVersion",
      "lucid",
      "cardholder",
      "spin",
    ]
  ) {
    assertEquals(await readValue({ [name]: "x" }), { [name]: "x" });
  }
});

Deno.test("track data is refused in any string, and the answer points at it without showing it", async () => {
  const tracks = [
    `%B${PAN}^DOE/JANE^30121010000000000000?`,
    `B${PAN}^DOE/JANE             ^3012101000000000`,
    `;${PAN}=30121010000000000000?`,
    `${PAN}D30121010000000000000F`,
  ];
  for (const track of tracks) {
    const error = await suiteError(() => readValue({ data: { note: ["x", `swiped ${track}`] } }));
    assertEquals(error.code, "sensitive_authentication_data");
    assertEquals(error.violations, [{
      pointer: "/data/note/1",
      code: "sensitive_authentication_data",
      detail: "must not be sent, not even encrypted",
    }]);
    assert(!everythingShown(error).includes(PAN));
  }
});

Deno.test("long digits beside an equals sign are no track without a month in them", async () => {
  const value = { a: `${PAN}=3013101`, b: `${PAN}=x`, c: "order 1234567890123=9999999" };
  assertEquals(await readValue(value), value);
});

Deno.test("hostile text costs linear time: no pattern backtracks over 64 KiB", async () => {
  const budget = 60_000;
  for (
    const text of [
      "1".repeat(budget),
      "%B".repeat(budget / 2),
      `B${"1".repeat(budget)}`,
      `B${"4".repeat(19)}^`.repeat(2_000),
      "4".repeat(19).concat("=").repeat(3_000),
      "cV".repeat(budget / 2),
      "_".repeat(budget),
    ]
  ) {
    // A quadratic pattern would keep this test for minutes; deno test has no limit of its own.
    assertEquals(await readValue([text]), [text]);
    assertEquals(Object.keys(await readValue({ [text]: 1 }) as object), [text]);
  }
});

Deno.test("a name that could be a card number is not shown in the pointer", async () => {
  for (
    const name of [
      PAN,
      "a4000-0566-5566-5556",
      "_4000_0566_5566_5556",
      "number 4000",
      "a/b",
      "~",
      "x".repeat(41),
    ]
  ) {
    assertEquals(
      await violationsOf(() => readValue({ data: { [name]: { cvv: "1" } } })),
      ["/data sensitive_authentication_data"],
      name,
    );
  }
});

Deno.test("__proto__ and constructor are members like any other and change no prototype", async () => {
  const value = await readText(
    '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
  );
  assertEquals(Object.keys(value as object), ["__proto__", "constructor"]);
  assertEquals(({} as Record<string, unknown>).polluted, undefined);
  assertEquals((value as Record<string, unknown>).polluted, undefined);
  assertEquals(
    await codeOf(() => readText('{"__proto__":{"cvv":"1"}}')),
    "sensitive_authentication_data",
  );
});

Deno.test("of a repeated name the last one counts, and a forbidden repeat is still refused", async () => {
  assertEquals(await readText('{"a":1,"a":2}'), { a: 2 });
  assertEquals(await codeOf(() => readText('{"cvv":1,"cvv":2}')), "sensitive_authentication_data");
});

Deno.test("a number that could not be given back as it was sent is refused", async () => {
  for (const number of ["1e400", "-1e400", "9007199254740993", "12345678901234567890"]) {
    const text = `{"data":{"list":[0,${number}]}}`;
    assertEquals(await violationsOf(() => readText(text)), ["/data/list/1 inexact_number"], number);
  }
  assertEquals(await readText("[9007199254740991,-0.1,1.5e-300,1e308]"), [
    9007199254740991,
    -0.1,
    1.5e-300,
    1e308,
  ]);
});

Deno.test("a body that breaks off is the client's fault, not an error of ours", async () => {
  const broken = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.error(new TypeError("connection closed"));
    },
  });
  assertEquals(await codeOf(() => readJson(post(broken))), "invalid_request");
});

Deno.test("any JSON value without forbidden names comes back as it was sent", async () => {
  await fc.assert(
    fc.asyncProperty(fc.json({ maxDepth: 8 }), async (text) => {
      let read: unknown;
      try {
        read = await readText(text);
      } catch (error) {
        // Random names may be forbidden ones ("pin"), and random numbers too long.
        const { code, violations } = error as SuiteError;
        const why = code === "validation_failed" ? violations[0]?.code : code;
        assert(["sensitive_authentication_data", "inexact_number"].includes(why ?? ""), why);
        return;
      }
      assertEquals(JSON.stringify(read), JSON.stringify(JSON.parse(text)));
    }),
    { numRuns: 200 },
  );
});

Deno.test("lone surrogates survive as escapes and do not become other text", async () => {
  const value = await readText('{"a":"\\ud800"}') as { a: string };
  assertEquals(value.a.charCodeAt(0), 0xd800);
  assertEquals(JSON.stringify(value), '{"a":"\\ud800"}');
});
