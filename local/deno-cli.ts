import { join } from "node:path";
import type { FunctionSettings } from "./config-toml.ts";
import { StackError } from "./errors.ts";

/** The Deno that runs the functions. */
export interface DenoCli {
  readonly executable: string;
  /** Extra flags for every command, such as `--no-lock`. */
  readonly args: readonly string[];
  /** Folder whose deno.lock applies, when it has one. */
  readonly root: string;
}

/** Variables that the executable itself reads; the functions never see them. */
const PASSED_ON = ["DENO_TLS_CA_STORE", "DENO_CERT"] as const;

/**
 * Flags that make `deno` resolve a function's imports as the platform does: by its import map
 * alone (a deno.json in the root is not read there), held to the versions of the lock file.
 */
export async function resolutionFlags(
  deno: DenoCli,
  importMap: string | null,
): Promise<string[]> {
  const lock = join(deno.root, "deno.lock");
  const locked = !deno.args.includes("--no-lock") &&
    await Deno.stat(lock).then((stat) => stat.isFile, () => false);
  return [
    "--no-config",
    "--node-modules-dir=none",
    ...(locked ? [`--lock=${lock}`] : ["--no-lock"]),
    ...(importMap ? [`--import-map=${importMap}`] : []),
    ...deno.args.filter((arg) => arg !== "--no-lock"),
  ];
}

/**
 * The environment the executable needs to find its cache. The folder is asked from it, since the
 * functions' own environment has no HOME to derive it from.
 */
export async function runtimeEnv(deno: DenoCli): Promise<Record<string, string>> {
  const { stdout } = await run(deno, ["info", "--json", "--no-config"]);
  const { denoDir } = JSON.parse(stdout) as { denoDir: string };
  const env: Record<string, string> = { DENO_DIR: denoDir };
  for (const name of PASSED_ON) {
    const value = Deno.env.get(name);
    if (value) env[name] = value;
  }
  return env;
}

/**
 * Downloads what the functions import, so that they themselves can run with `--cached-only`. Code
 * that cannot be resolved is no fault here: it shows when that function boots, in its log.
 */
export async function cacheDependencies(
  deno: DenoCli,
  functions: readonly FunctionSettings[],
): Promise<void> {
  const byImportMap = Map.groupBy(functions, (fn) => fn.importMap);
  for (const [importMap, group] of byImportMap) {
    const flags = await resolutionFlags(deno, importMap);
    const entrypoints = group.map((fn) => fn.entrypoint);
    await run(deno, ["cache", "--quiet", ...flags, ...entrypoints], { tolerant: true });
  }
}

async function run(
  deno: DenoCli,
  args: string[],
  { tolerant = false }: { tolerant?: boolean } = {},
): Promise<{ stdout: string }> {
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(deno.executable, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new StackError(`there is no Deno at ${deno.executable}`);
    }
    throw error;
  }
  const decoder = new TextDecoder();
  if (!output.success && !tolerant) {
    throw new StackError(`deno ${args[0]} failed: ${decoder.decode(output.stderr).trim()}`);
  }
  return { stdout: decoder.decode(output.stdout) };
}
