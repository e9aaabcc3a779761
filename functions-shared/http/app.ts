/**
 * The base of every function: request id, CORS, no-store, authentication, problem documents, one log line
 * a request. A function is its table of routes on top of this.
 */
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import type { RouteClass } from "../config-rate-limits.ts";
import type { Config } from "../config.ts";
import { ConfigError } from "../environment.ts";
import { type ErrorCode, SuiteError } from "../errors.ts";
import type { Actor } from "../telemetry/audit.ts";
import { type LogFields, Logger } from "../telemetry/log.ts";
import { withRequestId } from "../telemetry/request.ts";
import { serverTiming, timed, type Timings, withTimings } from "../telemetry/timing.ts";
import { addressHash } from "./address.ts";
import { actorOf, authenticate, type Caller } from "./auth.ts";
import { problemResponse, toSuiteError } from "./problem.ts";
import type { RateLimitStore } from "./rate-limit-store.ts";
import { admit, failurePolicies, policiesOf, type Policy } from "./rate-limit.ts";

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** What a handler gets. */
export interface Exchange<Services> {
  readonly request: Request;
  readonly url: URL;
  readonly requestId: string;
  /** Aborted when the client hangs up or the request's time for key work is over. */
  readonly signal: AbortSignal;
  /** What the services were made of: the environment, and the stored settings over it. */
  readonly config: Config;
  readonly services: Services;
  /** Path parameter by name; "" when the route has none of it. */
  param(name: string): string;
}

export interface AuthenticatedExchange<Services> extends Exchange<Services> {
  readonly caller: Caller;
  readonly actor: Actor;
  /** Resolves when the rate limit lets the request through, and rejects when it does not. */
  readonly admitted: Promise<void>;
}

export interface Route<Services> {
  readonly method: Method;
  /** Below the function's own path; parameters as `:name`. */
  readonly path: string;
  /** It works on metadata alone: a cold worker serves it before it knows which keys count. */
  readonly keyless?: boolean;
  readonly handle:
    | { readonly public: (exchange: Exchange<Services>) => Promise<Response> }
    | {
      readonly caller: (exchange: AuthenticatedExchange<Services>) => Promise<Response>;
      /** The rate limit that it counts against. */
      readonly limit: RouteClass;
      /**
       * Begun while the limit is still being asked: it awaits `admitted` itself before it changes data or
       * decrypts. Default false: begun after the limit has let it through. Either way nothing is answered before.
       */
      readonly early?: boolean;
    };
}

/** What a request runs on from its beginning to its end. */
export interface Serving<Services> {
  readonly config: Config;
  readonly services: Services;
}

export interface AppOptions<Services> {
  /** The function's name, which is the first segment of every path. */
  readonly name: string;
  /** Of the environment alone: who may call, and what is logged. @throws {ConfigError} */
  readonly config: () => Config;
  /**
   * Asked once a request; `keyless` when it will use no key.
   * @throws {SuiteError} when a cold worker cannot find out what counts.
   */
  readonly serving: (keyless: boolean) => Promise<Serving<Services>>;
  /** @throws {ConfigError} */
  readonly rateLimits: () => RateLimitStore;
  readonly routes: readonly Route<Services>[];
  /** Called when an answer is ready; what it starts must not delay or fail anything. */
  readonly afterResponse?: () => void;
  /**
   * What a public route answers while there is no configuration to serve with: it is invalid, or a cold
   * worker cannot read what is stored. A problem document unless given.
   */
  readonly unconfigured?: (code: ErrorCode, config: Config | undefined) => Response;
}

interface AppEnv {
  Variables: {
    requestId: string;
    log: { -readonly [Name in keyof LogFields]: LogFields[Name] };
    /** Present when the caller may see them. */
    timings?: Timings;
    /** What the caller is told about rate limits. */
    limitHeaders?: Readonly<Record<string, string>>;
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
    await withRequestId(requestId, next);
    c.header("x-request-id", requestId);
    c.header("cache-control", "no-store");
    for (const [name, value] of Object.entries(c.get("limitHeaders") ?? {})) c.header(name, value);
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
        "if-match",
        "x-client-info",
        "x-region",
        "x-retry-count",
      ],
      exposeHeaders: [
        "x-request-id",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "idempotent-replayed",
        "location",
        "etag",
      ],
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
    const { config: own, error } = configured();
    const unconfigured = "public" in route.handle ? options.unconfigured : undefined;
    if (own === undefined) {
      if (unconfigured === undefined) throw error;
      noteFailure(c, error);
      return unconfigured(error.code, undefined);
    }
    // A cold worker reads the stored settings while it authenticates.
    const asked = options.serving(route.keyless ?? false);
    asked.catch(() => {});
    const base = {
      request: c.req.raw,
      url: new URL(c.req.url),
      requestId: c.get("requestId"),
      signal: AbortSignal.any([c.req.raw.signal, AbortSignal.timeout(own.kmsTimeoutMs)]),
      param: (name: string) => c.req.param(name) ?? "",
    };
    if ("public" in route.handle) {
      const serving = await asked.catch(toSuiteError);
      if (!(serving instanceof SuiteError)) {
        return await route.handle.public({ ...base, ...serving });
      }
      if (unconfigured === undefined) throw serving;
      noteFailure(c, serving);
      return unconfigured(serving.code, own);
    }
    const caller = await identify(c, own);
    c.get("log").caller = caller.kind === "user" ? "user" : "secret_key";
    const actor = actorOf(caller, {
      id: base.requestId,
      functionName: options.name,
      addressHash: addressHash(c.req.raw, own.supabase.secretKeys),
    });
    const { caller: handle, limit, early = false } = route.handle;
    const limited = async () => {
      const admitted = pass(c, policiesOf(limit, caller, c.req.raw, own));
      // Heard below, unless another failure comes first.
      admitted.catch(() => {});
      if (!early) await admitted;
      const answer = asked.then((serving) =>
        handle({ ...base, ...serving, caller, actor, admitted })
      );
      // Whatever the handler came to, the limit is heard first; and nothing goes on behind the answer.
      const [limited] = await Promise.allSettled([admitted, answer]);
      if (limited.status === "rejected") throw limited.reason;
      return await answer;
    };
    if (caller.kind !== "secret_key") return await limited();
    // Servers may see where the time went; for others it would be an oracle.
    const timings: Timings = new Map();
    c.set("timings", timings);
    return await withTimings(timings, limited);
  }

  /** @throws {SuiteError} rate_limited, database_unavailable. */
  async function pass(c: Context<AppEnv>, policies: readonly Policy[]): Promise<void> {
    const { headers, refusal } = await timed("limit", admit(options.rateLimits(), policies));
    c.set("limitHeaders", headers);
    if (refusal !== undefined) throw refusal;
  }

  /**
   * Failures count against the address. Over the limit only they are refused as too many: who has good
   * credentials shall not be locked out by a stranger behind the same address.
   *
   * @throws {SuiteError} unauthorized, rate_limited.
   */
  async function identify(c: Context<AppEnv>, config: Config): Promise<Caller> {
    try {
      return await authenticate(c.req.raw, config.supabase);
    } catch (error) {
      if (isSuiteError(error, "unauthorized")) {
        await pass(c, failurePolicies(c.req.raw, config)).catch((limit) => {
          // A failure that cannot be counted is still a failure.
          if (isSuiteError(limit, "rate_limited")) throw limit;
        });
      }
      throw error;
    }
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

function isSuiteError(error: unknown, code: ErrorCode): error is SuiteError {
  return error instanceof SuiteError && error.code === code;
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
