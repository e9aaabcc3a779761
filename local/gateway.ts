import type { ApiHandler } from "./data-api.ts";
import type { FunctionProxy } from "./function-proxy.ts";
import { gatewayError } from "./gateway-errors.ts";
import type { ManagementHandler } from "./management-api.ts";
import type { OperatorHandler } from "./operator.ts";
import { portTaken } from "./ports.ts";

/** Largest request body, in bytes, for any route. */
const MAX_BODY_BYTES = 10 * 1024 * 1024;

/** Where requests go. Every one waits until it is there. */
export interface Routes {
  readonly api: Promise<ApiHandler>;
  readonly functions: Promise<FunctionProxy>;
  readonly operator: Promise<OperatorHandler>;
  readonly management: Promise<ManagementHandler>;
}

export interface Gateway {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * The one door of the stack, on 127.0.0.1 only: `/auth/v1` and `/rest/v1` to the Data API in this
 * process, `/functions/v1/<name>` to the functions, `/v1/projects/` to the Management API.
 *
 * @throws {StackError} when `port` is taken
 */
export function openGateway(port: number, routes: Routes): Gateway {
  const handle = async (request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>) => {
    const { pathname } = new URL(request.url);
    if (!isLoopbackHost(request.headers.get("host"))) {
      return gatewayError(403, "FORBIDDEN_HOST", "this stack answers to 127.0.0.1 and localhost");
    }
    if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES) return tooLarge();
    if (pathname.startsWith("/functions/v1/")) {
      return (await routes.functions).fetch(request, info);
    }
    if (/^\/(auth|rest)\/v1(\/|$)/.test(pathname)) {
      return await serveApi(await routes.api, request);
    }
    if (pathname.startsWith("/_local/")) return (await routes.operator)(request, pathname);
    if (pathname.startsWith("/v1/projects/")) return (await routes.management)(request, pathname);
    return gatewayError(404, "NOT_FOUND", "no route matched with those values");
  };
  try {
    const server = Deno.serve({
      hostname: "127.0.0.1",
      port,
      onListen: () => {},
      onError: (error) => {
        console.error("[gateway]", error);
        return gatewayError(500, "INTERNAL_ERROR", "the stack failed: see its output");
      },
    }, handle);
    return { port: server.addr.port, close: () => closeSoon(server) };
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) throw portTaken(port, "the API", "--port");
    throw error;
  }
}

/**
 * A page on the web can make its own name resolve to 127.0.0.1 and so reach this port as its own
 * origin; it cannot make the browser send another Host.
 */
export function isLoopbackHost(host: string | null): boolean {
  return /^(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$/i.test(host ?? "");
}

/** The body is read first: the Data API may be serving one request at a time. */
async function serveApi(api: ApiHandler, request: Request): Promise<Response> {
  const body = await readBody(request);
  if (body === null) return tooLarge();
  const url = new URL(request.url);
  // Keys in URLs end up in logs and histories; only the header counts.
  url.searchParams.delete("apikey");
  const headers = new Headers(request.headers);
  headers.delete("x-forwarded-for");
  return await api(
    new Request(url, {
      method: request.method,
      headers,
      body: body.length > 0 ? body : null,
    }),
  );
}

async function readBody(request: Request): Promise<Uint8Array<ArrayBuffer> | null> {
  if (!request.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  const body = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.length;
  }
  return body;
}

function tooLarge(): Response {
  return gatewayError(413, "PAYLOAD_TOO_LARGE", `request bodies end at ${MAX_BODY_BYTES} bytes`);
}

/** Lets requests under way finish for two seconds. */
async function closeSoon(server: Deno.HttpServer): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => timer = setTimeout(resolve, 2000));
  await Promise.race([server.shutdown(), late]);
  clearTimeout(timer);
}
