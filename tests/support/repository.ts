/** The repository as its tests see it: everything in the tree that is not generated or private. */

import { dirname, join } from "node:path";

export const ROOT = join(import.meta.dirname ?? ".", "..", "..");

const GENERATED = new Set([".git", ".local", "node_modules"]);
const isPrivate = (name: string) => /^\.env($|\.(?!example$))/.test(name) || name.endsWith(".log");

/** @returns paths relative to the root, sorted, with `/` between folders */
export function listFiles(folder = ""): string[] {
  const paths: string[] = [];
  for (const entry of Deno.readDirSync(join(ROOT, folder))) {
    if (GENERATED.has(entry.name) || isPrivate(entry.name)) continue;
    const path = folder ? `${folder}/${entry.name}` : entry.name;
    if (entry.isDirectory) paths.push(...listFiles(path));
    else if (entry.isFile) paths.push(path);
  }
  return paths.sort();
}

export function readText(path: string): string {
  return Deno.readTextFileSync(join(ROOT, path));
}

/** Copies what `listFiles` lists into `folder`: a checkout without anything private or generated. */
export async function copyRepository(folder: string): Promise<void> {
  for (const path of listFiles()) {
    await Deno.mkdir(dirname(join(folder, path)), { recursive: true });
    await Deno.copyFile(join(ROOT, path), join(folder, path));
  }
}

/** The import map's names and where each points. */
export function importMap(): Record<string, string> {
  return JSON.parse(readText("import_map.json")).imports;
}

/** The functions: folders with an `index.ts`, as the deploy tool finds them. */
export function functionNames(root = ROOT): string[] {
  const names: string[] = [];
  for (const entry of Deno.readDirSync(join(root, "supabase/functions"))) {
    if (!entry.isDirectory || entry.name.startsWith("_")) continue;
    try {
      if (Deno.statSync(join(root, "supabase/functions", entry.name, "index.ts")).isFile) {
        names.push(entry.name);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return names.sort();
}
