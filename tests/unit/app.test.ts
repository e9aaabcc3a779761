import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { loadConfig } from "../../functions-shared/config.ts";
import type { Environment } from "../../functions-shared/environment.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { type AppOptions, createApp, json, type Route } from "../../functions-shared/http/app.ts";
import { AWS } from "./support/environment.ts";

const PAN = "5200828282828210";
const NAME = "tested";
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

interface Sent {
  readonly response: Response;
  readonly body: Record<string, unknown>;
  /** What the function logged meanwhile. */
  readonly log: string;
}

/** Public routes have no limit. */
const NONE = () => ({ take: () => Promise.reject(new Error("a limit was asked")) });

/** A function of one public route, and what it answers and logs. */
async function send(
  handle: () => Promise<Response>,
  request: {
    path?: string;
    method?: string;
    headers?: HeadersInit;
    env?: Environment;
    serving?: AppOptions<object>["serving"];
    unconfigured?: AppOptions<object>["unconfigured"];
  } = {},
): Promise<Sent> {
  const config = () => loadConfig(request.env ?? AWS);
  const routes: Route<object>[] = [{ method: "GET", path: "/", handle: { public: handle } }];
  const serving = request.serving ??
    (() => Promise.resolve({ config: config(), services: {} }));
  const { unconfigured } = request;
  const app = createApp({
    name: NAME,
    config,
    serving,
    rateLimits: NONE,
    routes,
    ...unconfigured === undefined ? {} : { unconfigured },
  });
  const lines: string[] = [];
  const print = console.log;
  console.log = (line: string) => lines.push(line);
  try {
    const { path = "", method = "GET", headers = {} } = request;
    const response = await app.fetch(
      new Request(`http://localhost/${NAME}${path}`, { method, headers }),
    );
    const text = await response.text();
    return { response, body: text === "" ? {} : JSON.parse(text), log: lines.join("\n") };
  } finally {
    console.log = print;
  }
}

const ok = () => Promise.resolve(json({}));

Deno.test("every answer has its own request id, no-store, and one log line", async () => {
  const first = await send(ok, { headers: { "x-request-id": PAN } });
  const second = await send(ok);
  const id = first.response.headers.get("x-request-id") ?? "";
  assertMatch(id, UUID);
  assertNotEquals(second.response.headers.get("x-request-id"), id);
  assertEquals(first.response.headers.get("cache-control"), "no-store");
  const { duration_ms: _, time: __, ...line } = JSON.parse(first.log);
  assertEquals(line, {
    level: "info",
    event: "request",
    function: NAME,
    request_id: id,
    method: "GET",
    route: "/",
    status: 200,
  });
});

Deno.test("a preflight is answered from a list and echoes nothing", async () => {
  const { response } = await send(ok, {
    method: "OPTIONS",
    headers: {
      origin: `https://${PAN}.example`,
      "access-control-request-method": "POST",
      "access-control-request-headers": `x-${PAN}`,
    },
  });
  assertEquals(response.status, 204);
  assertEquals(JSON.stringify([...response.headers]).includes(PAN), false);
  const allowed = (response.headers.get("access-control-allow-headers") ?? "").split(",");
  for (
    const name of ["authorization", "apikey", "content-type", "idempotency-key", "x-client-info"]
  ) {
    assert(allowed.includes(name), name);
  }
});

Deno.test("only listed origins are allowed, and answers vary by origin", async () => {
  const env = { ...AWS, CORS_ALLOWED_ORIGINS: "https://shop.example" };
  const origin = async (value: string) => {
    const { response } = await send(ok, { env, headers: { origin: value } });
    assertEquals(response.headers.get("vary"), "Origin");
    return response.headers.get("access-control-allow-origin");
  };
  assertEquals(await origin("https://shop.example"), "https://shop.example");
  for (
    const other of [
      "https://shop.example.evil",
      "https://evil.example",
      "null",
      "http://shop.example",
    ]
  ) {
    assertEquals(await origin(other), null, other);
  }
});

Deno.test("what a handler throws by mistake is answered without its text, and logged without it", async () => {
  const { response, body, log } = await send(() => Promise.reject(new TypeError(`about ${PAN}`)));
  assertEquals([response.status, body.code], [500, "internal_error"]);
  assertMatch(String(body.request_id), UUID);
  assert(!JSON.stringify(body).includes(PAN));
  assert(!log.includes(PAN));
  assertEquals(JSON.parse(log).error.map(({ name }: { name: string }) => name), [
    "SuiteError",
    "TypeError",
  ]);
});

Deno.test("neither an unknown path nor an unknown method is logged as it was sent", async () => {
  const path = await send(ok, { path: `/${PAN}` });
  assertEquals([path.response.status, path.body.code], [404, "not_found"]);
  const method = await send(ok, { method: "DELETE" });
  assertEquals([method.response.status, method.response.headers.get("allow")], [405, "GET, HEAD"]);
  const odd = await send(ok, { method: `M${PAN}` });
  assertEquals(odd.response.status, 405);
  assertEquals(JSON.parse(odd.log).method, "OTHER");
  assert(!(path.log + odd.log).includes(PAN));
});

Deno.test("a configuration with faults answers 503 and names variables in the log only", async () => {
  const env = { ...AWS, AWS_REGION: PAN, AWS_SECRET_ACCESS_KEY: undefined };
  const { response, body, log } = await send(ok, { env });
  assertEquals([response.status, body.code], [503, "configuration_invalid"]);
  assertEquals(response.headers.get("retry-after"), "60");
  assert(!JSON.stringify(body).includes("AWS_"));
  assertEquals(JSON.parse(log).faults, [
    "AWS_REGION must be an AWS region such as us-east-1",
    "AWS_SECRET_ACCESS_KEY is required when KMS_PROVIDER is aws",
  ]);
  assert(!log.includes(PAN));
});

Deno.test("a cold worker that cannot read its settings answers 503, or as a public route would", async () => {
  const serving = () => Promise.reject(new SuiteError("database_unavailable"));
  const problem = await send(ok, { serving });
  assertEquals([problem.response.status, problem.body.code], [503, "database_unavailable"]);
  const shaped = await send(ok, {
    serving,
    unconfigured: (code, config) => json({ code, environment: config?.environment }, 503),
  });
  assertEquals([shaped.response.status, shaped.body], [503, {
    code: "database_unavailable",
    environment: "development",
  }]);
  assertEquals(JSON.parse(shaped.log).code, "database_unavailable");
});
