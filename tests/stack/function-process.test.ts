import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { findFunctions, readProjectConfig } from "../../local/config-toml.ts";
import { ControlSocket } from "../../local/control-socket.ts";
import { resolutionFlags, runtimeEnv } from "../../local/deno-cli.ts";
import { FunctionLog } from "../../local/function-log.ts";
import { FunctionProcess } from "../../local/function-process.ts";
import { entryPoint, functionTree, INSPECT } from "./function-tree.ts";

Deno.test({
  name: "function process: a restart asked for during another has the environment of that one",
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    const tree = await functionTree({ [entryPoint("inspect")]: INSPECT });
    const deno = { executable: Deno.execPath(), args: [], root: tree.root };
    const [settings] = await findFunctions(
      tree.root,
      await readProjectConfig(tree.root, tree.root),
    );
    assert(settings !== undefined);
    const control = new ControlSocket();
    const log = new FunctionLog(join(tree.root, "log"), () => {});
    const process = new FunctionProcess({
      settings,
      executable: deno.executable,
      flags: await resolutionFlags(deno, settings.importMap),
      runtimeEnv: await runtimeEnv(deno),
      launcher: join(tree.root, "launcher.ts"),
      control,
      log,
    });
    const secret = async () => {
      const origin = await process.origin();
      assert(origin !== null, log.text);
      return (await (await fetch(origin)).json()).value;
    };
    try {
      await process.restart({ OWN_SECRET: "revoked" });
      assertEquals(await secret(), "revoked");
      // A file changes while a key is being revoked.
      await Promise.all([process.restart({ OWN_SECRET: "valid" }), process.restart()]);
      assertEquals(await secret(), "valid");
    } finally {
      await process.stop();
      control.close();
      log.close();
      await tree.remove();
    }
  },
});
