import { dirname, join } from "node:path";

/** A tree with `supabase/` to serve functions from, in a temporary folder. */
export interface FunctionTree {
  readonly root: string;
  write(path: string, text: string): Promise<void>;
  remove(): Promise<void>;
}

/** Writes `files` (paths relative to the tree) into a new temporary folder. */
export async function functionTree(files: Readonly<Record<string, string>>): Promise<FunctionTree> {
  const root = await Deno.makeTempDir({ prefix: "functions-" });
  const write = async (path: string, text: string) => {
    await Deno.mkdir(dirname(join(root, path)), { recursive: true });
    await Deno.writeTextFile(join(root, path), text);
  };
  for (const [path, text] of Object.entries(files)) await write(path, text);
  return { root, write, remove: () => Deno.remove(root, { recursive: true }) };
}

/** Path of a function's entry point in a tree. */
export function entryPoint(name: string): string {
  return `supabase/functions/${name}/index.ts`;
}

/** Answers the request as the function saw it. */
export const ECHO = `
export default {
  fetch: async (request: Request): Promise<Response> => {
    const { pathname, search } = new URL(request.url);
    return Response.json({
      method: request.method,
      path: pathname + search,
      headers: Object.fromEntries(request.headers),
      bytes: (await request.arrayBuffer()).byteLength,
    }, { status: 299, headers: { "x-own": "kept" } });
  },
};
`;

/** Answers what the process may do and what it finds around it. */
export const INSPECT = `
const names = ["read", "write", "net", "env", "run", "ffi", "sys"] as const;
export default {
  fetch: async (): Promise<Response> => {
    const permissions: Record<string, string> = {};
    for (const name of names) {
      permissions[name] = (await Deno.permissions.query({ name })).state;
    }
    const environment = Reflect.get(globalThis, "EdgeRuntime");
    return Response.json({
      permissions,
      env: Object.keys(Deno.env.toObject()).sort(),
      value: Deno.env.get("OWN_SECRET") ?? null,
      waitUntil: typeof environment?.waitUntil,
    });
  },
};
`;

/** Ends its process on \`/crash\`, holds the answer back on \`/hang\`, works after it on \`/later\`. */
export const FRAGILE = `
let hangups = 0;
export default {
  fetch: async (request: Request): Promise<Response> => {
    const path = new URL(request.url).pathname;
    if (path.endsWith("/crash")) {
      setTimeout(() => { throw new Error("crashed as asked"); });
      await new Promise((resolve) => setTimeout(resolve, 10_000));
    }
    if (path.endsWith("/hang")) {
      request.signal.addEventListener("abort", () => hangups++);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    if (path.endsWith("/later")) {
      EdgeRuntime.waitUntil((async () => {
        await new Promise((resolve) => setTimeout(resolve, 10));
        console.log("worked after the answer");
        throw new Error("failed after the answer");
      })());
    }
    return Response.json({ hangups });
  },
};
declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void };
`;
