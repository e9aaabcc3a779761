/**
 * A management API on 127.0.0.1 that knows what `supabase functions deploy --use-api` calls, and
 * keeps what arrives. Anything else that is asked of it is refused and recorded as a fault.
 */

import { parseMultipart, type Part } from "./multipart.ts";

export interface CapturedFunction {
  readonly slug: string;
  /** Paths relative to the project's root, as sent. */
  readonly files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  readonly metadata: FunctionMetadata;
}

export interface FunctionMetadata {
  readonly name: string;
  readonly entrypoint_path: string;
  readonly import_map_path: string;
  readonly static_patterns: readonly string[];
  readonly verify_jwt: boolean;
}

export interface CaptureServer {
  readonly url: string;
  readonly functions: ReadonlyMap<string, CapturedFunction>;
  /** Names that the closing bulk update made live; empty when a single function was deployed. */
  readonly activated: readonly string[];
  /** What the client did that the API does not know; empty after a clean deployment. */
  readonly faults: readonly string[];
  close(): Promise<void>;
}

export function startCapture(expected: { projectRef: string; accessToken: string }): CaptureServer {
  const functions = new Map<string, CapturedFunction>();
  const activated: string[] = [];
  const faults: string[] = [];
  const root = `/v1/projects/${expected.projectRef}`;

  const refuse = (status: number, message: string): Response => {
    faults.push(message);
    return Response.json({ message }, { status });
  };

  const handle = async (request: Request): Promise<Response> => {
    const url = new URL(request.url);
    if (request.headers.get("authorization") !== `Bearer ${expected.accessToken}`) {
      return refuse(401, `${request.method} ${url.pathname} without the access token`);
    }
    switch (`${request.method} ${url.pathname}`) {
      case `POST ${root}/functions/deploy`: {
        const slug = url.searchParams.get("slug") ?? "";
        if (functions.has(slug)) return refuse(409, `${slug} was deployed twice`);
        const body = new Uint8Array(await request.arrayBuffer());
        const captured = readFunction(
          slug,
          parseMultipart(request.headers.get("content-type") ?? "", body),
        );
        functions.set(slug, captured);
        return Response.json(answer(captured), { status: 201 });
      }
      case `PUT ${root}/functions`: {
        const updates: { slug: string }[] = await request.json();
        activated.push(...updates.map(({ slug }) => slug));
        return Response.json({ functions: updates });
      }
      case `GET ${root}`:
        return Response.json({
          id: expected.projectRef,
          ref: expected.projectRef,
          name: "capture",
        });
      default:
        return refuse(404, `unexpected request: ${request.method} ${url.pathname}`);
    }
  };

  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) =>
      handle(request).catch((error) => refuse(400, `${request.url}: ${error.message ?? error}`)),
  );
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    functions,
    activated,
    faults,
    close: () => server.shutdown(),
  };
}

function readFunction(slug: string, parts: readonly Part[]): CapturedFunction {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  let metadata: FunctionMetadata | undefined;
  for (const part of parts) {
    if (part.name === "metadata" && part.fileName === undefined && !metadata) {
      metadata = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(part.content));
      continue;
    }
    if (part.name !== "file" || part.fileName === undefined) {
      throw new Error(`unexpected part ${part.name}`);
    }
    if (!isInside(part.fileName)) throw new Error(`a file outside the project: ${part.fileName}`);
    if (files.has(part.fileName)) throw new Error(`sent twice: ${part.fileName}`);
    files.set(part.fileName, part.content);
  }
  if (!metadata) throw new Error(`${slug} came without metadata`);
  return { slug, files, metadata };
}

function isInside(path: string): boolean {
  return !/^\/|\\|^[A-Za-z]:/.test(path) &&
    path.split("/").every((segment) => segment !== "" && segment !== "." && segment !== "..");
}

/** What the real API answers, as far as the CLI reads it. */
function answer({ slug, metadata }: CapturedFunction) {
  return {
    id: crypto.randomUUID(),
    slug,
    name: metadata.name,
    status: "ACTIVE",
    version: 1,
    created_at: 0,
    updated_at: 0,
    verify_jwt: metadata.verify_jwt,
    import_map: true,
    entrypoint_path: metadata.entrypoint_path,
    import_map_path: metadata.import_map_path,
  };
}
