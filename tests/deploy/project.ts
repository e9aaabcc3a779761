/** A copy of the repository to deploy from, and what a deployment of it has to contain. */

import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { copyRepository } from "../support/repository.ts";
import { output } from "./command.ts";

export interface Project {
  readonly root: string;
  /** A random text in every planted file: it may not appear anywhere in what is sent. */
  readonly canary: string;
  remove(): Promise<void>;
}

/**
 * Copies the repository to a temporary folder and plants files that must stay at home: environment
 * files where developers keep them, a secret among the tests, a test beside the code it tests, and
 * notes beside a function.
 */
export async function copyProject(functions: readonly string[]): Promise<Project> {
  const root = await Deno.makeTempDir({ prefix: "deploy-" });
  await copyRepository(root);
  const canary = `canary-${crypto.randomUUID()}`;
  const planted = [
    ...[".env", ".env.local", "supabase/.env", "supabase/functions/.env", "supabase/signing.json"],
    ...["tests/secret", "local/secret", "functions-shared/secret.json"],
    ...["functions-shared/planted.test.ts", "functions-shared/.env", "supabase/functions/.npmrc"],
    ...functions.flatMap((name) => [
      `supabase/functions/${name}/.env`,
      `supabase/functions/${name}/notes.txt`,
      `supabase/functions/${name}/index.test.ts`,
    ]),
  ];
  for (const path of planted) {
    await Deno.mkdir(dirname(join(root, path)), { recursive: true });
    const text = path.endsWith(".ts") ? `// ${canary}` : `SECRET=${canary}`;
    await Deno.writeTextFile(join(root, path), `${text}\n`);
  }
  return { root, canary, remove: () => Deno.remove(root, { recursive: true }) };
}

export interface Needs {
  /** Paths relative to the root: the import map and every local module the entry point reaches. */
  readonly files: ReadonlySet<string>;
  /** Imports that lead to no file. */
  readonly unresolved: readonly string[];
}

/** Asks Deno's module graph, which shares no code with the deploy tool. */
export async function needsOf(root: string, name: string): Promise<Needs> {
  const graph = await moduleGraph(root, name);
  const files = new Set(["import_map.json"]);
  const unresolved: string[] = [];
  for (const { specifier, error } of graph.modules) {
    if (!specifier.startsWith("file:")) continue;
    const path = relative(root, fileURLToPath(specifier));
    if (error) unresolved.push(path);
    else files.add(path);
  }
  return { files, unresolved };
}

export interface ModuleGraph {
  readonly modules: readonly { readonly specifier: string; readonly error?: string }[];
  /** By name and version; `localPath` is the unpacked folder in Deno's cache. */
  readonly npmPackages: Readonly<Record<string, { readonly localPath: string }>>;
}

/** Asks the Deno that runs this; it downloads what the function imports. */
export async function moduleGraph(root: string, name: string): Promise<ModuleGraph> {
  const entrypoint = `supabase/functions/${name}/index.ts`;
  const resolution = ["--no-config", "--no-lock", "--import-map", "import_map.json"];
  return JSON.parse(
    await output(Deno.execPath(), ["info", "--json", ...resolution, entrypoint], root),
  );
}

/** @returns what is needed and did not arrive, and what arrived and is not needed */
export function compare(
  needs: Needs,
  sent: Iterable<string>,
): { missing: string[]; surplus: string[] } {
  const arrived = new Set(sent);
  return {
    missing: [...needs.unresolved, ...needs.files].filter((path) => !arrived.has(path)).sort(),
    surplus: [...arrived].filter((path) => !needs.files.has(path)).sort(),
  };
}
