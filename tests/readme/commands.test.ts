/**
 * Follows the README as a new user does, with its own words: what is tested is read from it. The
 * stack listens on its usual ports, so nothing else may.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { copyRepository, readText } from "../support/repository.ts";
import { ForegroundCommand, runScript } from "./session.ts";

const README = readText("README.md");

/** Downloads on a slow line included. */
const FIRST_START_MS = 180_000;
const NEXT_START_MS = 60_000;
/** The last line that `start` prints when it is ready. */
const READY = "Ctrl-C ends it";

function fencedBlocks(before: string): string[] {
  const fence = new RegExp(`${before}\`\`\`sh\\n([\\s\\S]*?)\`\`\``, "g");
  return [...README.matchAll(fence)].map(([, code = ""]) => code);
}

/** The calls that `start` offers to paste, each up to its empty line. */
function callsToPaste(output: string): string[] {
  return [...output.matchAll(/^# \d\. .*\n((?:.+\n)+)/gm)].map(([, call = ""]) => call);
}

async function pasted(call: string | undefined, folder: string) {
  assert(call, "nothing to paste");
  const { code, stdout, stderr } = await runScript(call, folder);
  assertEquals(code, 0, stderr);
  return JSON.parse(stdout);
}

Deno.test("the README as a new user tries it", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "readme-" });
  await copyRepository(folder);
  try {
    const opening = fencedBlocks("")[0]?.trim().split("\n").map((line) =>
      line.replace(/ +#.*$/, "")
    );
    const [start, test] = opening ?? [];

    await t.step("it opens with the two commands", () => {
      assertEquals(opening?.length, 2);
      assertEquals(start, "npx -y deno@2.9.6 task start");
      assertEquals(test, "npx -y deno@2.9.6 task test");
    });
    assert(start);

    let list = "";
    let kept: unknown[] = [];
    await t.step("start: ready, with calls that work when pasted", async (t) => {
      const startedAt = Date.now();
      await using stack = new ForegroundCommand(start, folder);
      await stack.printed(READY, FIRST_START_MS);
      console.log(`first start ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
      const [health, encrypt, listing] = callsToPaste(stack.output);
      list = listing ?? "";
      assertEquals((await pasted(health, folder)).status, "healthy");
      const stored = await pasted(encrypt, folder);
      assertMatch(stored.payment_method?.last4 ?? JSON.stringify(stored), /^4242$/);
      assertEquals(await pasted(encrypt, folder), stored, "the same Idempotency-Key");
      const { payment_methods } = await pasted(list, folder);
      assertEquals(payment_methods, [stored.payment_method]);

      await t.step("the API's commands run as they stand, one after the other", async () => {
        const blocks = fencedBlocks("<!-- runs -->\\n");
        assert(blocks.length >= 8, `${blocks.length} blocks`);
        const { code, stdout, stderr } = await runScript(blocks.join("\n"), folder);
        assertEquals(code, 0, `${stdout}\n${stderr}`);
      });

      await t.step("demo: exits 0 on the running stack", async () => {
        assert(README.includes("npx -y deno@2.9.6 task demo"));
        const { code, stdout, stderr } = await runScript("npx -y deno@2.9.6 task demo", folder);
        assertEquals(code, 0, `${stdout}\n${stderr}`);
      });

      kept = (await pasted(list, folder)).payment_methods;
      assert(kept.length > 0);

      await t.step("Ctrl-C: it ends by itself, in order", async () => {
        const status = await stack.interrupt();
        assertMatch(stack.output, /stopped/);
        // npm's own wrapper may report the signal; the stack itself has ended in order.
        assert(status.code === 0 || status.code === 130 || status.signal === "SIGINT");
      });
    });

    await t.step("a second start: the data of the first is there and decrypts", async () => {
      const startedAt = Date.now();
      await using stack = new ForegroundCommand(start, folder);
      await stack.printed(READY, NEXT_START_MS);
      console.log(`second start ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
      assertEquals((await pasted(list, folder)).payment_methods, kept);
      assertEquals((await pasted(callsToPaste(stack.output)[0], folder)).status, "healthy");
      await stack.interrupt();
    });

    await t.step("demo: exits 0 on a fresh stack of its own", async () => {
      const { code, stdout, stderr } = await runScript("npx -y deno@2.9.6 task demo", folder);
      assertEquals(code, 0, `${stdout}\n${stderr}`);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
