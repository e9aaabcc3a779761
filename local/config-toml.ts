import { dirname, join, resolve } from "node:path";
import { parse, type TomlTable } from "smol-toml";
import { messageOf, StackError } from "./errors.ts";
import { readTextFileIfAny } from "./private-file.ts";

/** One function as `[functions.<name>]` of `supabase/config.toml` describes it. Paths absolute. */
export interface FunctionSettings {
  readonly name: string;
  /** The gateway refuses requests without a JWT of this project. Default true, as hosted. */
  readonly verifyJwt: boolean;
  readonly entrypoint: string;
  readonly importMap: string | null;
}

/** What the stack reads of `supabase/config.toml`. */
export interface ProjectConfig {
  /** Schemas the Data API serves. */
  readonly apiSchemas: string[];
  readonly apiMaxRows: number;
  /** `[auth]`, as far as plain values go; handed to the auth server. */
  readonly auth: Readonly<Record<string, unknown>>;
  /** `[functions.*]` by name. */
  readonly functions: Readonly<Record<string, TomlTable>>;
}

/**
 * Reads `supabase/config.toml` of `root`; when there is none, that of `fallbackRoot`.
 *
 * @throws {StackError} when it is not TOML
 */
export async function readProjectConfig(
  root: string,
  fallbackRoot: string,
): Promise<ProjectConfig> {
  const file = join("supabase", "config.toml");
  const path = join(root, file);
  const text = await readTextFileIfAny(path) ??
    await readTextFileIfAny(join(fallbackRoot, file)) ?? "";
  let toml: TomlTable;
  try {
    toml = parse(text);
  } catch (error) {
    throw new StackError(`${path} cannot be read: ${messageOf(error)}`);
  }
  const api = table(toml.api);
  return {
    apiSchemas: Array.isArray(api.schemas) ? api.schemas.map(String) : ["public"],
    apiMaxRows: typeof api.max_rows === "number" ? api.max_rows : 1000,
    auth: table(toml.auth),
    functions: Object.fromEntries(
      Object.entries(table(toml.functions)).map(([name, value]) => [name, table(value)]),
    ),
  };
}

/**
 * The functions to serve from `root`: every folder of `supabase/functions` whose entry point
 * exists and whose name does not begin with `_` or `.`, unless the configuration disables it.
 */
export async function findFunctions(
  root: string,
  config: ProjectConfig,
): Promise<FunctionSettings[]> {
  const supabase = resolve(root, "supabase");
  const found: FunctionSettings[] = [];
  for (const name of await folders(join(supabase, "functions"))) {
    const settings = config.functions[name] ?? {};
    if (settings.enabled === false) continue;
    const entrypoint = typeof settings.entrypoint === "string"
      ? resolve(supabase, settings.entrypoint)
      : join(supabase, "functions", name, "index.ts");
    if (!await isFile(entrypoint)) continue;
    found.push({
      name,
      verifyJwt: settings.verify_jwt !== false,
      entrypoint,
      importMap: await importMapOf(settings, supabase, entrypoint),
    });
  }
  return found.sort((a, b) => a.name < b.name ? -1 : 1);
}

async function importMapOf(
  settings: TomlTable,
  supabase: string,
  entrypoint: string,
): Promise<string | null> {
  if (typeof settings.import_map === "string") return resolve(supabase, settings.import_map);
  // The platform's own defaults, in its order.
  const candidates = [
    join(dirname(entrypoint), "deno.json"),
    join(dirname(entrypoint), "import_map.json"),
    join(supabase, "functions", "import_map.json"),
  ];
  for (const candidate of candidates) if (await isFile(candidate)) return candidate;
  return null;
}

async function folders(path: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(path)) {
      if (entry.isDirectory && /^[A-Za-z0-9]/.test(entry.name)) names.push(entry.name);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}

function table(value: unknown): TomlTable {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
      !(value instanceof Date)
    ? value as TomlTable
    : {};
}
