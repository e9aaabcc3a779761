/**
 * The base of every function: request id, CORS, no-store, authentication, problem documents, one log line
 * a request. A function is its table of routes on top of this.
 */
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { type Config, platformSecret } from "../config.ts";
import { ConfigError } from "../environment.ts";
import { SuiteError } from "../errors.ts";
import type { Actor } from "../telemetry/audit.ts";
import { type LogFields, Logger } from "../telemetry/log.ts";
import { serverTiming, type Timings, withTimings } from "../telemetry/timing.ts";
import { addressHash, clientAddress } from "./address.ts";
import { actorOf, authenticate, type Caller } from "./auth.ts";
import { problemResponse, toSuiteError } from "./problem.ts";

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** What a handler gets. */
export interface Exchange<Services> {
  readonly request: Request;
  readonly url: URL;
  readonly requestId: string;
  /** Aborted when the client hangs up or the request's time for key work is over. */
  readonly signal: AbortSignal;
  readonly config: Config;
  readonly services: Services;
  /** Path parameter by name; "" when the route has none of it. */
  param(name: string): string;
}

export interface AuthenticatedExchange<Services> extends Exchange<Services> {
  readonly caller: Caller;
  readonly actor: Actor;
}

export interface Route<Services> {
  readonly method: Method;
  /** Below the function's own path; parameters as `:name`. */
  readonly path: string;
  readonly handle:
    | { readonly public: (exchange: Exchange<Services>) => Promise<Response> }
    | { readonly caller: (exchange: AuthenticatedExchange<Services>) => Promise<Response> };
}

export interface AppOptions<Services> {
  /** The function's name, which is the first segment of every path. */
  readonly name: string;
  /** @throws {ConfigError} */
  readonly config: () => Config;
  readonly services: () => Services;
  readonly routes: readonly Route<Services>[];
  /** Called when an answer is ready; what it starts must not delay or fail anything. */
  readonly afterResponse?: () => void;
  /** What a known route answers while the configuration is invalid; a problem document unless given. */
  readonly misconfigured?: () => Response;
}

interface AppEnv {
  Variables: {
    requestId: string;
    log: { -readonly [Name in keyof LogFields]: LogFields[Name] };
    /** Present when the caller may see them. */
    timings?: Timings;
  };
}

/** An object with the `fetch` that the platform calls. */
export function createApp<Services>(options: AppOptions<Services>): Hono<AppEnv> {
  const app = new Hono<AppEnv>({ strict: false }).basePath(`/${options.name}`);
  const configured = () => readConfig(options.config);

  app.use("*", async (c, next) => {
    // Always our own id: a client's could carry anything into logs and audit.
    const requestId = crypto.randomUUID();
    const started = performance.now();
    c.set("requestId", requestId);
    c.set("log", {});
    await next();
    c.header("x-request-id", requestId);
    c.header("cache-control", "no-store");
    const timings = c.get("timings");
    if (timings !== undefined) {
      timings.set("total", performance.now() - started);
      c.header("server-timing", serverTiming(timings));
    }
    const { config } = configured();
    options.afterResponse?.();
    const fields = c.get("log");
    const status = c.res.status;
    new Logger(config?.logLevel ?? "info").log(
      status >= 500 ? "error" : "info",
      "request",
      {
        function: options.name,
        request_id: requestId,
        method: knownMethod(c.req.method),
        status,
        duration_ms: Math.round(performance.now() - started),
        ...fields,
      },
    );
  });
  app.use(
    "*",
    cors({
      origin: (origin) => {
        const allowed = configured().config?.corsOrigins ?? [];
        return allowed.includes("*") ? "*" : allowed.includes(origin) ? origin : null;
      },
      allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
      // Named, because the default echoes whatever the preflight asks for.
      allowHeaders: [
        "authorization",
        "apikey",
        "content-type",
        "idempotency-key",
        "x-client-info",
        "x-region",
        "x-retry-count",
      ],
      exposeHeaders: ["x-request-id", "retry-after", "idempotent-replayed", "location"],
      maxAge: 600,
    }),
  );

  // Path by path, each with its answer to other methods: the first path that fits is the one meant.
  const paths = Map.groupBy(options.routes, (route) => route.path);
  for (const [path, routes] of paths) {
    for (const route of routes) app.on(route.method, path, (c) => run(c, route));
    const methods = routes.map((route) => route.method);
    app.all(path, (c) => {
      c.get("log").route = path;
      throw new SuiteError("method_not_allowed", {
        headers: { allow: [...methods, ...methods.includes("GET") ? ["HEAD"] : []].join(", ") },
      });
    });
  }
  app.notFound((c) => fail(c, new SuiteError("not_found")));
  app.onError((error, c) => fail(c, toSuiteError(error)));
  return app;

  async function run(c: Context<AppEnv>, route: Route<Services>): Promise<Response> {
    c.get("log").route = route.path;
    const { config, error } = configured();
    if (config === undefined) {
      if (options.misconfigured === undefined) throw error;
      noteFailure(c, error);
      return options.misconfigured();
    }
    const exchange: Exchange<Services> = {
      request: c.req.raw,
      url: new URL(c.req.url),
      requestId: c.get("requestId"),
      signal: AbortSignal.any([c.req.raw.signal, AbortSignal.timeout(config.kmsTimeoutMs)]),
      config,
      services: options.services(),
      param: (name) => c.req.param(name) ?? "",
    };
    if ("public" in route.handle) return await route.handle.public(exchange);
    const caller = await authenticate(c.req.raw, config.supabase);
    c.get("log").caller = caller.kind === "user" ? "user" : "secret_key";
    const actor = actorOf(caller, {
      id: exchange.requestId,
      functionName: options.name,
      addressHash: addressHash(platformSecret(config.supabase), clientAddress(c.req.raw)),
    });
    const { caller: handle } = route.handle;
    if (caller.kind !== "secret_key") return await handle({ ...exchange, caller, actor });
    // Servers may see where the time went; for others it would be an oracle.
    const timings: Timings = new Map();
    c.set("timings", timings);
    return await withTimings(timings, () => handle({ ...exchange, caller, actor }));
  }

  function fail(c: Context<AppEnv>, error: SuiteError): Response {
    noteFailure(c, error);
    return problemResponse(error, c.get("requestId"));
  }
}

function noteFailure(c: Context<AppEnv>, error: SuiteError): void {
  c.set("log", {
    ...c.get("log"),
    code: error.code,
    ...error.status >= 500 ? { error } : {},
    ...error.cause instanceof ConfigError ? { faults: error.cause.faults } : {},
  });
}

type Configured =
  | { readonly config: Config; readonly error?: undefined }
  | { readonly config?: undefined; readonly error: SuiteError };

function readConfig(config: () => Config): Configured {
  try {
    return { config: config() };
  } catch (cause) {
    return { error: new SuiteError("configuration_invalid", { cause, retryAfterSeconds: 60 }) };
  }
}

function knownMethod(method: string): string {
  return /^[A-Z]{1,7}$/.test(method) ? method : "OTHER";
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json", ...headers },
  });
}
