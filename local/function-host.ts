/**
 * What the platform's runtime is to a function, in the function's own process: a launcher imports
 * this file before the function. It takes the stack's own variables out of the environment, gives
 * `EdgeRuntime.waitUntil`, and ends the process when the stack is gone, however it ended (the
 * stack holds a connection open that the operating system closes with it).
 */
interface FunctionModule {
  readonly default?: { fetch?: unknown };
}

type Handler = (request: Request) => Response | Promise<Response>;

/** `<port>:<token>:<names of the function's own variables>`, from the supervisor. */
const [port, token, names = ""] = (Deno.env.get("STACK_CONTROL") ?? "").split(":");
// The rest is there for the executable (where its cache is), or put there by it.
const own = new Set(names.split(","));
for (const name of Object.keys(Deno.env.toObject())) if (!own.has(name)) Deno.env.delete(name);

const control = watchSupervisor(Number(port), token ?? "");

Reflect.set(globalThis, "EdgeRuntime", {
  /** Keeps the work alive after the response; a failure is logged, as on the platform. */
  waitUntil(work: Promise<unknown>): Promise<unknown> {
    Promise.resolve(work).catch((error) => console.error("EdgeRuntime.waitUntil:", error));
    return work;
  },
});

async function watchSupervisor(port: number, token: string): Promise<Deno.TcpConn> {
  try {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port });
    await connection.write(new TextEncoder().encode(`${token}\n`));
    void connection.read(new Uint8Array(1)).finally(() => Deno.exit(0)).catch(() => {});
    return connection;
  } catch {
    return Deno.exit(0);
  }
}

/** Checks the function's export and tells the supervisor that its code has run. */
export function host(module: FunctionModule): { fetch: Handler } {
  const handler = module.default?.fetch;
  if (typeof handler !== "function") {
    throw new TypeError("the function's entry point has no `export default { fetch }`");
  }
  void control.then((connection) => connection.write(new TextEncoder().encode("booted\n")));
  return { fetch: (request) => takingAll(request, (taken) => handler.call(module.default, taken)) };
}

/** A body of up to so many bytes fits into the sockets' buffers, read or not. */
const SMALL_BODY_BYTES = 65_536;

/**
 * An answer given before the body was read, such as 413, is lost on Deno 2.1: its server resets
 * the connection while the gateway still writes. The platform's relay takes the whole body in any
 * case, so the rest of one that the function ignored or cancelled is read here.
 */
async function takingAll(request: Request, handler: Handler): Promise<Response> {
  const length = request.headers.get("content-length");
  const small = length !== null && Number(length) <= SMALL_BODY_BYTES;
  if (!request.body || small) return await handler(request);
  const reader = request.body.getReader();
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => void (cancelled = true),
  }, { highWaterMark: 0 });
  const taken = new Request(request, { body });
  const response = await handler(taken);
  if (cancelled || !taken.bodyUsed) { while (!(await reader.read()).done); }
  return response;
}
