import type { FunctionSettings } from "./config-toml.ts";
import { gatewayError } from "./gateway-errors.ts";
import { isValidJwt, type SigningKey } from "./signing-keys.ts";

/** What the gateway needs of the functions. */
export interface FunctionOrigins {
  readonly settings: ReadonlyMap<string, FunctionSettings>;
  origin(name: string): Promise<string | null>;
  ended(name: string, origin: string, ms: number): Promise<void>;
}

export interface FunctionProxy {
  fetch(request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>): Promise<Response>;
  close(): void;
}

const PREFIX = "/functions/v1/";
/** The platform's limit to the first byte of the answer, in milliseconds. */
const FIRST_BYTE_MS = 150_000;
/** Longest a request waits for a function that is starting, in milliseconds. */
const BOOT_WAIT_MS = 15_000;

/** Of one connection, not of the message (RFC 9110, section 7.6.1). */
const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];
/** Set by the gateway; what a client sends under these names is dropped. */
const OWN_HEADERS = /^(x-forwarded-|forwarded$|x-real-ip$|true-client-ip$|cf-|(x-)?sb-)/;

interface Target {
  readonly name: string;
  readonly origin: string;
  readonly path: string;
  readonly request: Request;
  readonly headers: Headers;
}

/**
 * Passes `/functions/v1/<name>/rest` to the process of that function as `/<name>/rest`. Bodies are
 * streamed; status and headers come back unchanged, plus `sb-request-id`.
 */
export function createFunctionProxy(
  functions: FunctionOrigins,
  signingKeys: () => readonly SigningKey[],
): FunctionProxy {
  const client = Deno.createHttpClient({ allowHost: true });

  async function forward(target: Target, abort: AbortController): Promise<Response> {
    const { request, headers } = target;
    const timer = setTimeout(() => abort.abort(FIRST_BYTE_MS), FIRST_BYTE_MS);
    try {
      const answer = await fetch(target.origin + target.path, {
        client,
        method: request.method,
        headers,
        body: hasBody(request) ? request.body : null,
        redirect: "manual",
        signal: abort.signal,
      });
      const passed = new Headers(answer.headers);
      HOP_BY_HOP.forEach((name) => passed.delete(name));
      passed.set("sb-request-id", headers.get("sb-request-id") ?? "");
      return new Response(answer.body, { status: answer.status, headers: passed });
    } catch {
      if (abort.signal.reason === FIRST_BYTE_MS) {
        return gatewayError(504, "IDLE_TIMEOUT", "Function did not answer within 150 s");
      }
      // The next request shall wait for the next process, not find this one's remains.
      await functions.ended(target.name, target.origin, 250);
      return gatewayError(
        500,
        "WORKER_ERROR",
        "Function exited due to an error (please check logs)",
      );
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    close: () => client.close(),
    fetch: async (request, { remoteAddr }) => {
      const url = new URL(request.url);
      const [name = ""] = url.pathname.slice(PREFIX.length).split("/");
      const settings = functions.settings.get(name);
      if (!settings) return gatewayError(404, "NOT_FOUND", "Requested function was not found");
      if (settings.verifyJwt && request.method !== "OPTIONS") {
        const refusal = await refuseWithoutJwt(request, signingKeys());
        if (refusal) return refusal;
      }
      const origin = await within(BOOT_WAIT_MS, functions.origin(name));
      if (!origin) {
        return gatewayError(503, "BOOT_ERROR", "Function failed to start (please check logs)");
      }
      const path = url.pathname.slice(PREFIX.length - 1) + url.search;
      const headers = passedHeaders(request, url, remoteAddr);
      const abort = new AbortController();
      // When the client hangs up, the function shall see that too.
      request.signal.addEventListener("abort", () => abort.abort());
      return forward({ name, origin, path, request, headers }, abort);
    },
  };
}

/** Whether the message has content (RFC 9112, section 6.3); `request.body` is there either way. */
function hasBody({ headers }: Request): boolean {
  return headers.has("transfer-encoding") || Number(headers.get("content-length") ?? 0) > 0;
}

/**
 * `verify_jwt = true`: the platform wants `Authorization: Bearer <JWT of this project>`. The legacy
 * anon key is such a JWT, so this proves no user.
 */
async function refuseWithoutJwt(
  request: Request,
  keys: readonly SigningKey[],
): Promise<Response | null> {
  const header = request.headers.get("authorization");
  if (!header) {
    return gatewayError(401, "UNAUTHORIZED_NO_AUTH_HEADER", "Missing authorization header");
  }
  const token = /^Bearer (\S+)$/i.exec(header)?.[1];
  if (token && await isValidJwt(keys, token)) return null;
  return gatewayError(401, "UNAUTHORIZED_INVALID_JWT_FORMAT", "Invalid JWT");
}

function passedHeaders(request: Request, url: URL, remote: Deno.NetAddr): Headers {
  const headers = new Headers();
  const named = (request.headers.get("connection") ?? "").toLowerCase().split(/\s*,\s*/);
  for (const [name, value] of request.headers) {
    if (HOP_BY_HOP.includes(name) || named.includes(name) || OWN_HEADERS.test(name)) continue;
    headers.append(name, value);
  }
  // Otherwise the client below would undo a compression that the function chose itself.
  headers.set("accept-encoding", "identity");
  headers.set("host", url.host);
  headers.set("x-forwarded-for", remote.hostname);
  headers.set("x-forwarded-host", url.host);
  headers.set("x-forwarded-proto", "http");
  headers.set("sb-request-id", crypto.randomUUID());
  return headers;
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => timer = setTimeout(() => resolve(null), ms));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
