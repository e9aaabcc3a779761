/**
 * A strict stand-in for the functions: it answers what a test has put there for exactly this request, and
 * holds every other one against the command line. The key must be in its header and nowhere else.
 */
import { assertEquals } from "@std/assert";
import { type Finished, kms, type RunOptions } from "./cli.ts";

/** Not one that the hygiene check takes for real. */
export const KEY = "a-secret-key-of-tests-only";

export interface Seen {
  readonly method: string;
  /** Below `/functions/v1`. */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
}

export type Answer = (seen: Seen) => Response | Promise<Response>;

export interface FakeSuite {
  readonly url: string;
  readonly seen: readonly Seen[];
  /** Answers for "METHOD /path"; a list is used up one by one, its last stays. */
  on(route: string, ...answers: (Answer | unknown)[]): void;
  /** Runs a command against it. */
  run(args: readonly string[], options?: RunOptions): Promise<Finished>;
}

export async function withSuite(test: (suite: FakeSuite) => Promise<void>): Promise<void> {
  const routes = new Map<string, (Answer | unknown)[]>();
  const seen: Seen[] = [];
  const faults: string[] = [];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const url = new URL(request.url);
      const text = await request.text();
      const path = url.pathname.replace(/^\/functions\/v1/, "");
      const note = (fault: string) => void faults.push(`${request.method} ${path}: ${fault}`);
      if (request.headers.get("apikey") !== KEY) note("the key is not in apikey");
      if (request.url.includes(KEY) || text.includes(KEY)) {
        note(
          "the key is in the URL or the body",
        );
      }
      if (text !== "" && request.headers.get("content-type") !== "application/json") {
        note("a body that is not JSON");
      }
      const one: Seen = {
        method: request.method,
        path,
        query: Object.fromEntries(url.searchParams),
        body: text === "" ? undefined : JSON.parse(text),
      };
      seen.push(one);
      const answers = routes.get(`${request.method} ${path}`);
      if (answers === undefined) {
        note("nobody expected this");
        return problem(404, "not_found", "There is no such resource");
      }
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      return typeof answer === "function" ? await answer(one) : success(answer);
    },
  );
  try {
    const url = `http://127.0.0.1:${server.addr.port}`;
    await test({
      url,
      seen,
      on: (route, ...answers) => void routes.set(route, answers),
      run: async (args, options = {}) => {
        const finished = await kms([...args, "--api-url", url], {
          ...options,
          env: { KMS_SECRET_KEY: KEY, ...options.env },
        });
        if (`${finished.stdout}${finished.stderr}`.includes(KEY)) {
          faults.push("the key was printed");
        }
        return finished;
      },
    });
    assertEquals(faults, []);
  } finally {
    await server.shutdown();
  }
}

export function success(data: unknown, status = 200): Response {
  return Response.json({ success: true, data }, { status });
}

export function problem(
  status: number,
  code: string,
  title: string,
  extra: { readonly errors?: unknown; readonly retryAfter?: number } = {},
): Response {
  return new Response(
    JSON.stringify({
      type: `urn:supabase-kms:problem:${code}`,
      ...{ title, status, code, request_id: "7d9f4c1e-0000-4000-8000-000000000001" },
      ...extra.errors === undefined ? {} : { errors: extra.errors },
    }),
    {
      status,
      headers: {
        "content-type": "application/problem+json",
        ...extra.retryAfter === undefined ? {} : { "retry-after": String(extra.retryAfter) },
      },
    },
  );
}
