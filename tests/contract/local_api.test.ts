import { assertEquals } from "@std/assert";
import { ListKeysCommand } from "@aws-sdk/client-kms";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import type { LocalAws } from "../../local/aws/mod.ts";
import { assertRefused, withAws } from "./support.ts";
import { assumeRole } from "./role.ts";

async function ask(aws: LocalAws, method: string, path: string, body?: unknown) {
  const response = await fetch(`${aws.endpoint}/_local/${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
}

/** A request with headers that `fetch` does not let a program set. */
async function rawLines(aws: LocalAws, lines: readonly string[]): Promise<string> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port: aws.port });
  try {
    const text = [...lines, "Connection: close", "", ""].join("\r\n");
    await connection.write(new TextEncoder().encode(text));
    return await new Response(connection.readable).text();
  } finally {
    try {
      connection.close();
    } catch {
      // Reading to the end has closed it.
    }
  }
}

Deno.test("/_local: the switches for other processes", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const kms = setting.kms();

    await t.step("health", async () => {
      assertEquals(await ask(aws, "GET", "health"), { status: 200, body: { status: "ok" } });
    });

    await t.step("faults are set, shown and cleared", async () => {
      const rules = [{ service: "kms", effect: { kind: "error", name: "KMSInternalException" } }];
      assertEquals(await ask(aws, "PUT", "faults", rules), { status: 200, body: { rules } });
      const refusal = { name: "KMSInternalException", status: 500, message: "UnknownError" };
      await assertRefused(kms.send(new ListKeysCommand({})), refusal);
      assertEquals(await ask(aws, "GET", "faults"), { status: 200, body: { rules } });
      assertEquals(await ask(aws, "PUT", "faults", { rules }), { status: 200, body: { rules } });
      assertEquals(await ask(aws, "DELETE", "faults"), { status: 200, body: { rules: [] } });
      await kms.send(new ListKeysCommand({}));
    });

    await t.step("malformed rules are 400 and change nothing", async () => {
      const rules = [{ effect: { kind: "refuse" }, times: 0 }];
      await ask(aws, "PUT", "faults", rules);
      const bad = await ask(aws, "PUT", "faults", [{ effect: { kind: "no" } }]);
      assertEquals(bad, {
        status: 400,
        body: { error: "effect.kind must be refuse, blackhole, latency, error or drop_after" },
      });
      const none = await ask(aws, "PUT", "faults", "x");
      assertEquals(none.body, { error: "the body must be a list of rules" });
      const syntax = await fetch(`${aws.endpoint}/_local/faults`, { method: "PUT", body: "{" });
      assertEquals(syntax.status, 400);
      await syntax.body?.cancel();
      assertEquals((await ask(aws, "GET", "faults")).body, { rules });
      await ask(aws, "DELETE", "faults");
    });

    await t.step("calls are shown and forgotten; these requests are none", async () => {
      await ask(aws, "DELETE", "calls");
      await kms.send(new ListKeysCommand({}));
      const { calls } = (await ask(aws, "GET", "calls")).body;
      assertEquals(calls.length, 1);
      assertEquals([calls[0].operation, calls[0].region, calls[0].status], [
        "ListKeys",
        "us-east-1",
        200,
      ]);
      assertEquals((await ask(aws, "DELETE", "calls")).body, { calls: [] });
      assertEquals(aws.calls(), []);
    });

    await t.step(
      "the clock can be set off: credentials expire, signatures are refused",
      async () => {
        const credentials = await assumeRole(setting);
        const moved = await ask(aws, "PUT", "clock", { offset_ms: 3_600_000 });
        assertEquals(moved, { status: 200, body: { offset_ms: 3_600_000 } });
        const expired = setting.sts("us-east-1", credentials).send(
          new GetCallerIdentityCommand({}),
        );
        const message = "The security token included in the request is expired";
        await assertRefused(expired, { name: "ExpiredToken", status: 403, message });
        const skewed = await setting.kms().send(new ListKeysCommand({})).catch((error) => error);
        assertEquals(skewed.name, "InvalidSignatureException");
        assertEquals(skewed.message.startsWith("Signature expired: "), true);
        assertEquals((await ask(aws, "DELETE", "clock")).body, { offset_ms: 0 });
        await setting.kms().send(new ListKeysCommand({}));
        const wrong = await ask(aws, "PUT", "clock", { offset_ms: "1h" });
        assertEquals(wrong, { status: 400, body: { error: "offset_ms must be a number" } });
      },
    );

    await t.step("no other path, no other method", async () => {
      assertEquals((await ask(aws, "GET", "secrets")).status, 404);
      assertEquals((await ask(aws, "GET", "toString")).status, 404);
      assertEquals((await ask(aws, "POST", "faults", [])).status, 405);
    });
  }));

Deno.test("/_local is closed to web pages", (t) =>
  withAws(async ({ aws }) => {
    const request = (host: string, ...more: readonly string[]) =>
      rawLines(aws, [`DELETE /_local/faults HTTP/1.1`, `Host: ${host}`, ...more]);
    const status = async (reply: Promise<string>) => (await reply).split(" ")[1];
    const own = `127.0.0.1:${aws.port}`;

    for (const host of [own, `localhost:${aws.port}`, `[::1]:${aws.port}`, "LOCALHOST"]) {
      await t.step(`host ${host.replace(/\d{4,5}/, "PORT")} is loopback's`, async () => {
        assertEquals(await status(request(host)), "200");
      });
    }

    const foreign = ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "127.0.0.1@evil"];
    for (const host of foreign) {
      await t.step(`host ${host} is refused: a name rebound to loopback`, async () => {
        assertEquals(await status(request(`${host}:${aws.port}`)), "403");
      });
    }

    for (const origin of ["https://evil.example", `http://${own}`, "null"]) {
      await t.step(`origin ${origin.replace(/\d{4,5}/, "PORT")} is refused`, async () => {
        assertEquals(await status(request(own, `Origin: ${origin}`)), "403");
      });
    }

    await t.step("a request that a browser made for another site is refused", async () => {
      assertEquals(await status(request(own, "Sec-Fetch-Site: cross-site")), "403");
      assertEquals(await status(request(own, "Sec-Fetch-Site: none")), "200");
    });
  }));
