import { assert, assertEquals, assertMatch } from "@std/assert";
import { OPERATOR_HEADER } from "../../local/operator.ts";
import { call, signUp, startTestStack, WITH_STACK } from "../support/stack.ts";
import { ECHO, entryPoint, functionTree } from "./function-tree.ts";

const MIB = 1024 * 1024;

/** Sends bytes as they are and gives the status line back: `fetch` does not send every Host. */
async function rawRequest(apiUrl: string, head: string[]): Promise<string> {
  const connection = await Deno.connect({
    hostname: "127.0.0.1",
    port: Number(new URL(apiUrl).port),
  });
  try {
    await connection.write(new TextEncoder().encode(head.join("\r\n") + "\r\n\r\n"));
    const buffer = new Uint8Array(512);
    const n = await connection.read(buffer);
    return new TextDecoder().decode(buffer.subarray(0, n ?? 0)).split("\r\n")[0] ?? "";
  } finally {
    connection.close();
  }
}

Deno.test({
  name: "gateway: one door, on this machine only",
  ...WITH_STACK,
  fn: async (t) => {
    const streaming = `
      export default {
        fetch: () => {
          let n = 0;
          const body = new ReadableStream({
            async pull(controller) {
              if (++n > 3) return controller.close();
              controller.enqueue(new TextEncoder().encode("part " + n + ";"));
              if (n < 3) await new Promise((resolve) => setTimeout(resolve, 100));
            },
          });
          return new Response(body, { headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"]] });
        },
      };`;
    // Ignores the body, or reads some of it and gives up.
    const large = `
      export default {
        fetch: async (request) => {
          if (new URL(request.url).pathname.endsWith("/some")) {
            const reader = request.body.getReader();
            await reader.read();
            await reader.cancel();
          }
          return new Response("too large", { status: 413 });
        },
      };`;
    const tree = await functionTree({
      "supabase/config.toml": ["echo", "streaming", "large"]
        .map((name) => `[functions.${name}]\nverify_jwt = false\n`).join(""),
      [entryPoint("echo")]: ECHO,
      [entryPoint("streaming")]: streaming,
      [entryPoint("large")]: large,
    });
    const stack = await startTestStack({ functionsDir: tree.root });
    const { apiUrl } = stack;
    try {
      await t.step("a function sees its path without /functions/v1, as it was sent", async () => {
        const echo = await (await call(stack, "echo", "/a%20b/%2F?x=1&y=%C3%A9")).json();
        assertEquals(echo.path, "/echo/a%20b/%2F?x=1&y=%C3%A9");
        assertEquals((await (await call(stack, "echo")).json()).path, "/echo");
      });

      await t.step("status, headers and body pass unchanged in both directions", async () => {
        const response = await call(stack, "echo", "", {
          method: "PUT",
          body: "x".repeat(70_000),
          headers: { "idempotency-key": "k", "x-custom": "c" },
        });
        assertEquals(response.status, 299);
        assertEquals(response.headers.get("x-own"), "kept");
        const { method, bytes, headers } = await response.json();
        assertEquals({ method, bytes }, { method: "PUT", bytes: 70_000 });
        assertEquals(headers["content-length"], "70000");
        assertEquals(headers["idempotency-key"], "k");
        assertEquals(headers["x-custom"], "c");
        assertEquals(headers.host, new URL(apiUrl).host);
      });

      await t.step("a request without a body stays without one", async () => {
        const { bytes, headers } = await (await call(stack, "echo", "", { method: "POST" })).json();
        assertEquals(bytes, 0);
        assertEquals(headers["transfer-encoding"], undefined);
        assertEquals(headers["content-type"], undefined);
      });

      await t.step("answers stream, and every set-cookie arrives", async () => {
        const response = await call(stack, "streaming");
        assertEquals(response.headers.getSetCookie(), ["a=1", "b=2"]);
        const parts: string[] = [];
        for await (const part of response.body!) parts.push(new TextDecoder().decode(part));
        assertEquals(parts.join(""), "part 1;part 2;part 3;");
        assert(parts.length > 1, "arrived in pieces");
      });

      await t.step("headers that the gateway sets are not taken from clients", async () => {
        const response = await call(stack, "echo", "", {
          headers: {
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-host": "evil.example",
            "x-real-ip": "203.0.113.7",
            "forwarded": "for=203.0.113.7",
            "cf-connecting-ip": "203.0.113.7",
            "sb-request-id": "mine",
            "x-sb-edge-region": "mars",
          },
        });
        const { headers } = await response.json();
        assertEquals(headers["x-forwarded-for"], "127.0.0.1");
        assertEquals(headers["x-forwarded-host"], new URL(apiUrl).host);
        assertEquals(headers["x-forwarded-proto"], "http");
        for (const name of ["x-real-ip", "forwarded", "cf-connecting-ip", "x-sb-edge-region"]) {
          assertEquals(headers[name], undefined, name);
        }
        assertMatch(headers["sb-request-id"], /^[0-9a-f-]{36}$/);
        assertEquals(response.headers.get("sb-request-id"), headers["sb-request-id"]);
      });

      await t.step(
        "an answer given before the body was read arrives, whatever its size",
        async () => {
          for (const bytes of [1_000, 70_000, MIB, 9 * MIB]) {
            const response = await call(stack, "large", "", {
              method: "POST",
              body: new Uint8Array(bytes),
            });
            assertEquals({ bytes, status: response.status }, { bytes, status: 413 });
            assertEquals(await response.text(), "too large");
          }
        },
      );

      await t.step("a body over 10 MiB is refused before anything reads it", async () => {
        for (const path of ["/functions/v1/echo", "/rest/v1/payment_methods"]) {
          const answer = await rawRequest(apiUrl, [
            `POST ${path} HTTP/1.1`,
            `Host: 127.0.0.1`,
            `Content-Length: ${10 * MIB + 1}`,
          ]);
          assertEquals(answer, "HTTP/1.1 413 Payload Too Large");
        }
      });

      await t.step("an unknown function and an unknown path are 404", async () => {
        const unknown = await call(stack, "nothing-here");
        assertEquals(unknown.status, 404);
        assertEquals(await unknown.json(), {
          code: "NOT_FOUND",
          message: "Requested function was not found",
        });
        for (
          const path of [
            "/",
            "/_system/info",
            "/storage/v1/bucket",
            "/restless/v1",
            "/functions/v1",
          ]
        ) {
          const response = await fetch(apiUrl + path);
          assertEquals({ path, status: response.status }, { path, status: 404 });
          await response.body?.cancel();
        }
      });

      await t.step("only loopback names are answered (DNS rebinding)", async () => {
        const get = (host: string) =>
          rawRequest(apiUrl, ["GET /functions/v1/echo HTTP/1.1", `Host: ${host}`]);
        assertEquals(await get("rebound.example"), "HTTP/1.1 403 Forbidden");
        assertEquals(await get("127.0.0.1.evil.example:54321"), "HTTP/1.1 403 Forbidden");
        assertEquals(await get("localhost:54321"), "HTTP/1.1 299 ");
        assertEquals(await get("127.0.0.1"), "HTTP/1.1 299 ");
      });

      await t.step("API keys count in the header apikey only", async () => {
        const table = `${apiUrl}/rest/v1/payment_methods`;
        const status = async (url: string, headers: Record<string, string>) => {
          const response = await fetch(url, { headers });
          await response.body?.cancel();
          return response.status;
        };
        assertEquals(await status(table, {}), 401);
        assertEquals(await status(`${table}?apikey=${stack.secretKey}`, {}), 401);
        assertEquals(await status(table, { authorization: `Bearer ${stack.secretKey}` }), 401);
        assertEquals(await status(table, { apikey: "sb_secret_wrong" }), 401);
        const user = await signUp(stack);
        assertEquals(await status(table, { authorization: `Bearer ${user.token}` }), 401);
        assertEquals(
          await status(table, {
            apikey: stack.publishableKey,
            authorization: `Bearer ${user.token}`,
          }),
          200,
        );
      });

      await t.step("tokens have the header and the claims of hosted Supabase", async () => {
        const { token, userId, email } = await signUp(stack);
        const [header, claims] = token.split(".").slice(0, 2)
          .map((part) => JSON.parse(atob(part.replaceAll("-", "+").replaceAll("_", "/"))));
        assertEquals(header.alg, "HS256");
        assertMatch(header.kid, /^[0-9a-f]{32}$/);
        assertEquals(claims.sub, userId);
        assertEquals(claims.email, email);
        assertEquals(claims.iss, `${apiUrl}/auth/v1`);
        assertEquals(claims.role, "authenticated");
        assertEquals(claims.aal, "aal1");
        assertEquals(claims.exp - claims.iat, 3600);
      });

      await t.step(
        "the operator's endpoint reads for its token alone, and never writes",
        async () => {
          const ask = async (query: string, headers: Record<string, string>) => {
            const response = await fetch(`${apiUrl}/_local/sql`, {
              method: "POST",
              headers,
              body: JSON.stringify({ query, params: [7] }),
            });
            return { status: response.status, ...await response.json() };
          };
          const operator = { [OPERATOR_HEADER]: stack.identity.operatorToken };
          const query = "select $1::int as n";
          assertEquals(await ask(query, operator), { status: 200, rows: [{ n: 7 }] });
          assertEquals((await ask(query, {})).status, 401);
          assertEquals((await ask(query, { apikey: stack.secretKey })).status, 401);
          assertEquals(
            (await ask(query, { ...operator, origin: "http://evil.example" })).status,
            401,
          );
          const written = await ask(
            "insert into supabase_migrations.schema_migrations (version) select $1::text",
            operator,
          );
          assertEquals(written.status, 400);
          assertEquals(written.message, "cannot execute INSERT in a read-only transaction");
        },
      );
    } finally {
      await stack.close();
      await tree.remove();
    }
  },
});
