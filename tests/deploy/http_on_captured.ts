/**
 * Deploys with the Supabase CLI, lays what arrived into an empty folder, and runs the HTTP tests
 * against functions served from there alone, by the Deno that the hosted runtime is compatible
 * with. Exit code and summary are those of the tests. Arguments name other tests to run.
 */

import { dirname, join } from "node:path";
import { functionNames, ROOT } from "../support/repository.ts";
import type { CapturedFunction } from "./capture.ts";
import { lastLine, output } from "./command.ts";
import { copyProject } from "./project.ts";
import { deploy } from "./supabase_cli.ts";

const EDGE_DENO = "2.1.4";

const home = await Deno.makeTempDir({ prefix: "captured-" });
let exitCode = 1;
try {
  const tree = join(home, "project");
  await layOut(tree);
  const { wrapper, log } = await recordingDeno(home);
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", ...(Deno.args.length > 0 ? Deno.args : ["tests/http"])],
    cwd: ROOT,
    env: {
      STACK_FUNCTIONS_DIR: tree,
      STACK_DENO: wrapper,
      STACK_DENO_ARGS: JSON.stringify(["--no-lock"]),
      // This Deno does not read the system's certificates unless told.
      DENO_TLS_CA_STORE: "system",
    },
    stdin: "null",
  }).spawn().status;
  exitCode = code || await faultsOfRuns(log);
} finally {
  await Deno.remove(home, { recursive: true });
}
Deno.exit(exitCode);

/** Writes the captured files, and the settings that came as metadata, where a stack finds them. */
async function layOut(tree: string): Promise<void> {
  const names = functionNames();
  const project = await copyProject(names);
  const deployment = await deploy(project.root).finally(project.remove);
  if (deployment.exitCode !== 0 || deployment.faults.length > 0) {
    throw new Error([deployment.output, ...deployment.faults].join("\n"));
  }
  const settings: string[] = [];
  for (const captured of deployment.functions.values()) {
    for (const [path, content] of captured.files) {
      await Deno.mkdir(dirname(join(tree, path)), { recursive: true });
      await Deno.writeFile(join(tree, path), content);
    }
    settings.push(settingsOf(captured));
  }
  await Deno.writeTextFile(join(tree, "supabase/config.toml"), settings.join("\n"));
  console.log(`${deployment.functions.size} functions captured: ${names.join(", ")}`);
}

function settingsOf({ slug, metadata }: CapturedFunction): string {
  return [
    `[functions.${slug}]`,
    `verify_jwt = ${metadata.verify_jwt}`,
    `entrypoint = ${JSON.stringify(`../${metadata.entrypoint_path}`)}`,
    `import_map = ${JSON.stringify(`../${metadata.import_map_path}`)}`,
    "",
  ].join("\n");
}

/** A program that notes its arguments and becomes the real Deno: the proof of what was run. */
async function recordingDeno(folder: string): Promise<{ wrapper: string; log: string }> {
  // In an empty folder, since this Deno cannot read the repository's lock file.
  const real = lastLine(
    await output(
      "npx",
      ["-y", `deno@${EDGE_DENO}`, "eval", "--no-lock", "console.log(Deno.execPath())"],
      folder,
    ),
  );
  const version = await output(real, ["--version"], folder);
  if (!version.startsWith(`deno ${EDGE_DENO} `)) throw new Error(`not ${EDGE_DENO}: ${version}`);
  const wrapper = join(folder, "deno");
  const log = join(folder, "runs.log");
  await Deno.writeTextFile(log, "");
  await Deno.writeTextFile(wrapper, `#!/bin/sh\necho "$*" >> '${log}'\nexec '${real}' "$@"\n`);
  await Deno.chmod(wrapper, 0o755);
  return { wrapper, log };
}

/** @returns 0 when every function ran on this Deno with network and environment alone, else 1 */
async function faultsOfRuns(log: string): Promise<number> {
  const runs = (await Deno.readTextFile(log)).split("\n").filter((line) =>
    /^(run|serve) /.test(line)
  );
  const faults: string[] = [];
  for (const name of functionNames()) {
    if (!runs.some((line) => line.includes(name))) faults.push(`${name} never ran`);
  }
  for (const line of runs) {
    const allowed = line.split(" ").filter((word) => /^(-A|-[RWENSI]|--allow-.*)$/.test(word))
      .sort();
    if (allowed.join(" ") !== "--allow-env --allow-net") faults.push(`permissions of: ${line}`);
  }
  for (const fault of faults) console.error(fault);
  if (faults.length === 0) {
    console.log(`${runs.length} starts on Deno ${EDGE_DENO}, network and environment alone`);
  }
  return faults.length === 0 ? 0 : 1;
}
