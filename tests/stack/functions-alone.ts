/** Starts the functions of a tree, says where they answer, and waits to be killed. */
import { findFunctions, readProjectConfig } from "../../local/config-toml.ts";
import { openDataDir } from "../../local/data-dir.ts";
import { startFunctions } from "../../local/functions.ts";

const [root = "", dataDir = ""] = Deno.args;
const functions = await startFunctions({
  settings: await findFunctions(root, await readProjectConfig(root, root)),
  deno: { executable: Deno.execPath(), args: [], root },
  env: {},
  dataDir: await openDataDir(dataDir),
});
const origins = await Promise.all(
  [...functions.settings.keys()].map((name) => functions.origin(name)),
);
console.log(`answering at ${origins.join(" ")} .`);
await new Promise(() => {});
