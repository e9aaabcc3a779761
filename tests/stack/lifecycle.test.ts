import { assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { accepts } from "../../local/ports.ts";
import { readStackFile, type StackFile } from "../../local/stack-file.ts";
import { runMain, type RunningCommand, runScript } from "./command.ts";
import { eventually } from "./eventually.ts";
import { entryPoint, FRAGILE, functionTree } from "./function-tree.ts";

const ON_FREE_PORTS = ["--port", "0", "--aws-port", "0"];

async function stackFile(dataDir: string): Promise<StackFile> {
  const file = await readStackFile(dataDir);
  if (!file) throw new Error("there is no stack.json");
  return file;
}

/** Runs a call as it was printed, in a shell. */
async function paste(call: string): Promise<Record<string, unknown>> {
  const { stdout, stderr } = await new Deno.Command("bash", { args: ["-c", call] }).output();
  const text = new TextDecoder().decode(stdout);
  if (!text.trim()) throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(text);
}

/** The card number that a server gets for the demo user's payment method `id`. */
async function revealedNumber(file: StackFile, id: string): Promise<unknown> {
  const url = `${file.api_url}/functions/v1/manage-payment-methods-kms/${id}/reveal`;
  const response = await fetch(url, {
    method: "POST",
    headers: {
      apikey: file.secret_key,
      "content-type": "application/json",
      "idempotency-key": crypto.randomUUID(),
    },
    body: JSON.stringify({ user_id: file.demo.user_id, purpose: "test" }),
  });
  const answer = await response.json();
  return answer.payment_method?.card?.number ?? answer;
}

Deno.test("lifecycle: start, paste, end, start again, be killed, start again", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "lifecycle-" });
  const dataDir = join(folder, "data");
  const start = () => runMain("start", ...ON_FREE_PORTS, "--data-dir", dataDir);
  let running: RunningCommand | undefined;
  let id = "";
  let first: StackFile | undefined;
  try {
    await t.step(
      "the first start shows progress, the ready line, the URL and the keys",
      async () => {
        running = start();
        await running.says("plays the whole job");
        const file = first = await stackFile(dataDir);
        assertMatch(running.stdout(), /^\[ +\d+\.\d s\] opening the database/m);
        assertMatch(running.stdout(), /^\[ +\d+\.\d s\] ready$/m);
        for (const value of [file.api_url, file.publishable_key, file.secret_key]) {
          assertStringIncludes(running.stdout(), value);
        }
        assertEquals(file.running, running.pid);
        if (Deno.build.os !== "windows") {
          assertEquals((await Deno.stat(join(dataDir, "stack.json"))).mode! & 0o777, 0o600);
        }
      },
    );

    await t.step("the three calls work as printed", async () => {
      const calls = running!.stdout().split(/^# \d\..*$/m).slice(1)
        .map((text) => text.split("\n\n")[0] ?? "");
      assertEquals(calls.length, 3);
      const [health, encrypt, list] = calls as [string, string, string];
      assertEquals((await paste(health)).status, "healthy");
      const encrypted = await paste(encrypt) as { payment_method: { id: string; last4: string } };
      id = encrypted.payment_method.id;
      assertEquals(encrypted.payment_method.last4, "4242");
      assertEquals(await paste(encrypt), encrypted, "pasted twice: the same answer");
      const { payment_methods } = await paste(list) as { payment_methods: unknown[] };
      assertEquals(payment_methods, [encrypted.payment_method]);
    });

    await t.step("a second stack on the same directory is refused", async () => {
      const { code, stderr } = await start().ended();
      assertEquals(code, 1);
      assertMatch(
        stderr,
        /^error: another stack \(process \d+\) is using .*data: stop it, or give/,
      );
    });

    await t.step("the demo plays on the running stack and exits with 0", async () => {
      const { code, stdout } = await runMain("demo", "--data-dir", dataDir).ended();
      assertStringIncludes(stdout, `playing on the running stack at ${first!.api_url}`);
      assertStringIncludes(stdout, "All of it holds.");
      assertEquals(code, 0);
    });

    await t.step("Ctrl-C ends it cleanly", async () => {
      running!.kill("SIGINT");
      running!.kill("SIGINT"); // a wrapper such as npx passes the terminal's signal on
      const { code, stdout } = await running!.ended();
      assertEquals(code, 0);
      assertMatch(stdout, /^\[ +\d+\.\d s\] stopped$/m);
      assertEquals((await stackFile(dataDir)).running, null);
      assertEquals(await accepts(Number(new URL(first!.api_url).port)), false);
    });

    await t.step("a second start has the same keys and reads what was stored", async () => {
      running = start();
      await running.says("plays the whole job");
      const file = await stackFile(dataDir);
      assertEquals(file.secret_key, first!.secret_key);
      assertEquals(file.demo, first!.demo);
      assertEquals(await revealedNumber(file, id), "4242424242424242");
    });

    await t.step("after it was killed, a start reads what was stored", async () => {
      running!.kill("SIGKILL");
      await running!.ended();
      running = start();
      await running.says("plays the whole job");
      const file = await stackFile(dataDir);
      assertEquals(file.running, running.pid);
      assertEquals(await revealedNumber(file, id), "4242424242424242");
    });

    await t.step("--reset makes everything new without a question", async () => {
      running!.kill("SIGTERM");
      assertEquals((await running!.ended()).code, 0);
      running = runMain("start", ...ON_FREE_PORTS, "--data-dir", dataDir, "--reset");
      await running.says("plays the whole job");
      const file = await stackFile(dataDir);
      assertNotEquals(file.secret_key, first!.secret_key);
      assertEquals((await revealedNumber(file, id) as { code: string }).code, "not_found");
      running.kill("SIGINT");
      assertEquals((await running.ended()).code, 0);
      running = undefined;
    });
  } finally {
    try {
      running?.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await running?.ended();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("lifecycle: functions end with the stack, also when it is killed", async () => {
  const tree = await functionTree({
    [entryPoint("one")]: FRAGILE,
    [entryPoint("two")]: FRAGILE,
  });
  try {
    const command = runScript(
      new URL("functions-alone.ts", import.meta.url).pathname,
      tree.root,
      join(tree.root, "data"),
    );
    await command.says(" .");
    const ports = [...command.stdout().matchAll(/127\.0\.0\.1:(\d+)/g)].map((match) =>
      Number(match[1])
    );
    assertEquals(await Promise.all(ports.map(accepts)), [true, true]);
    command.kill("SIGKILL");
    await command.ended();
    const answering = await eventually(
      async () => (await Promise.all(ports.map(accepts))).filter(Boolean).length,
      (count) => count === 0,
    );
    assertEquals(answering, 0);
  } finally {
    await tree.remove();
  }
});

Deno.test("lifecycle: what keeps it from starting is said in one line, exit code 1", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "lifecycle-" });
  const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr;
  const fault = async (...args: string[]) => {
    const { code, stderr } = await runMain("start", "--data-dir", join(folder, "data"), ...args)
      .ended();
    assertEquals(code, 1);
    return stderr.trim().split("\n")[0];
  };
  try {
    await t.step("a port of the API that is taken", async () => {
      assertEquals(
        await fault("--port", `${port}`, "--aws-port", "0"),
        `error: port ${port} for the API is taken by another process: stop it, or choose another ` +
          "port with --port",
      );
    });
    await t.step("a port of the local AWS that is taken", async () => {
      assertEquals(
        await fault("--port", "0", "--aws-port", `${port}`),
        `error: port ${port} for the local AWS is taken by another process: stop it, or choose ` +
          "another port with --aws-port",
      );
    });
    await t.step("a port that is none", async () => {
      assertEquals(
        await fault("--port", "70000"),
        "error: option '--port <port>' argument '70000' is invalid. A port is a whole number from " +
          "0 to 65535.",
      );
    });
    await t.step("--reset together with a Postgres", async () => {
      assertEquals(
        await fault(...ON_FREE_PORTS, "--reset", "--db-url", "postgresql://127.0.0.1:1/x"),
        "error: --reset removes the keys that the rows in your Postgres need: drop that database " +
          "yourself, or reset without --db-url",
      );
    });
    await t.step("an env file that is not there", async () => {
      const path = join(folder, "none");
      assertEquals(
        await fault(...ON_FREE_PORTS, "--env-file", path),
        `error: the env file ${path} does not exist`,
      );
    });
  } finally {
    taken.close();
    await Deno.remove(folder, { recursive: true });
  }
});
