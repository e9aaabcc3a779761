/** Runs a program of this folder on another runtime, and hands back what it wrote. */
import { programPath, ROOT } from "./repository.ts";

export type Outcome = { readonly stdout: string } | { readonly skipped: string };

export interface Runtime {
  readonly title: string;
  run(program: string, args: readonly string[]): Promise<Outcome>;
}

/** What the edge runtime is. */
export const EDGE_DENO = "2.1.4";

export const onThisDeno: Runtime = {
  title: `Deno ${Deno.version.deno}`,
  run: (program, args) =>
    output(Deno.execPath(), ["run", "-A", "--no-check", programPath(program), ...args]),
};

export const onDeno214: Runtime = {
  title: `Deno ${EDGE_DENO}`,
  async run(program, args) {
    const deno = await edgeDeno();
    if (deno === undefined) return { skipped: "npx cannot fetch it" };
    // Its lock file format is older than ours.
    return await output(deno, [
      ...["run", "-A", "--no-check", "--no-lock", "--quiet"],
      programPath(program),
      ...args,
    ], { DENO_TLS_CA_STORE: "system" });
  },
};

export const onNode: Runtime = {
  title: "Node",
  /** Bundled first: Node before 22 reads no TypeScript. Its packages go to a temporary folder. */
  async run(program, args) {
    const folder = await Deno.makeTempDir({ prefix: "bench-node-" });
    try {
      const packages = await pinned([
        "@47ng/cloak",
        "@aws-crypto/client-node",
        "@aws-sdk/client-kms",
      ]);
      await Deno.writeTextFile(`${folder}/package.json`, JSON.stringify({ type: "module" }));
      const install = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", folder];
      const installed = await output("npm", [...install, "esbuild@0.28.2", ...packages]);
      if ("skipped" in installed) return installed;
      const bundle = `${folder}/bundle/${program.replace(/\.ts$/, ".js")}`;
      const types = "@aws-crypto/branch-keystore-node";
      const bundled = await output(`${folder}/node_modules/.bin/esbuild`, [
        programPath(program),
        ...["--bundle", "--splitting", "--format=esm", "--platform=node", "--packages=external"],
        ...["--log-level=error", "--target=node20", `--outdir=${folder}/bundle`],
        `--alias:${types}/types=${types}/build/main/src/types.js`,
      ]);
      if ("skipped" in bundled) return bundled;
      return await output("node", [bundle, ...args]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
};

/** The executable that `npx` keeps, so that no launcher's time is measured. */
export async function edgeDeno(): Promise<string | undefined> {
  const found = await output("npx", [
    ...["-y", `deno@${EDGE_DENO}`, "eval", "--no-lock", "console.log(Deno.execPath())"],
  ], { DENO_TLS_CA_STORE: "system" });
  return "stdout" in found ? found.stdout.trim().split("\n").at(-1) : undefined;
}

/** As the import map pins them. */
async function pinned(names: readonly string[]): Promise<string[]> {
  const { imports } = JSON.parse(await Deno.readTextFile(`${ROOT}/import_map.json`)) as {
    imports: Record<string, string>;
  };
  return names.map((name) => imports[name]!.replace(/^npm:/, ""));
}

async function output(
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  try {
    const result = await new Deno.Command(command, {
      args: [...args],
      cwd: ROOT,
      env,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    if (result.success) return { stdout: text(result.stdout) };
    return { skipped: `${command} ended with ${result.code}: ${text(result.stderr).slice(-400)}` };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { skipped: `there is no ${command}` };
    throw error;
  }
}
