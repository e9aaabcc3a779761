import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { legacyKey } from "../../local/tokens.ts";
import { AMPLE_LIMITS, call, mintJwt, startTestStack, WITH_STACK } from "../support/stack.ts";
import { eventually } from "./eventually.ts";
import { ECHO, entryPoint, FRAGILE, functionTree, INSPECT } from "./function-tree.ts";

const PLATFORM_NAMES = [
  "SUPABASE_ANON_KEY",
  "SUPABASE_DB_URL",
  "SUPABASE_JWKS",
  "SUPABASE_PUBLISHABLE_KEYS",
  "SUPABASE_SECRET_KEYS",
  "SUPABASE_SERVICE_ROLE_KEY",
  "SUPABASE_URL",
];
const OWN_NAMES = [
  "APP_ENVIRONMENT",
  "APP_NAME",
  "AWS_ACCESS_KEY_ID",
  "AWS_ENDPOINT_URL",
  "AWS_EXTERNAL_ID",
  "AWS_REGION",
  "AWS_ROLE_ARN",
  "AWS_SECRET_ACCESS_KEY",
  "GOOGLE_KMS_ENDPOINT",
  "GOOGLE_SECRET_MANAGER_ENDPOINT",
  "KMS_ENABLE_LOGGING",
  "KMS_FALLBACK_REGIONS",
  "KMS_GENERAL_ALIAS",
  "KMS_PAYMENT_ALIAS",
  "KMS_PII_ALIAS",
];

Deno.test({
  name: "functions: processes as the platform runs them",
  ...WITH_STACK,
  fn: async (t) => {
    const tree = await functionTree({
      "supabase/config.toml": [
        "[functions.open]",
        "verify_jwt = false",
        "[functions.guarded]",
        "verify_jwt = true",
        "[functions.inspect]",
        "verify_jwt = false",
        "[functions.fragile]",
        "verify_jwt = false",
        "[functions.broken]",
        "verify_jwt = false",
        "[functions.off]",
        "enabled = false",
      ].join("\n"),
      [entryPoint("open")]: ECHO,
      [entryPoint("guarded")]: ECHO,
      [entryPoint("unnamed")]: ECHO,
      [entryPoint("off")]: ECHO,
      [entryPoint("_shared")]: ECHO,
      [entryPoint("inspect")]: INSPECT,
      [entryPoint("fragile")]: FRAGILE,
      [entryPoint("broken")]: "export default {};\n",
      "functions-shared/value.ts": "export const value = 1;\n",
    });
    const stack = await startTestStack({ functionsDir: tree.root, watch: true });
    try {
      await t.step(
        "a function gets the platform's variables and its own secrets, no other",
        async () => {
          const { env } = await (await call(stack, "inspect")).json();
          const given = [...OWN_NAMES, ...PLATFORM_NAMES, ...Object.keys(AMPLE_LIMITS)];
          assertEquals(env, given.sort());
        },
      );

      await t.step(
        "a function has network and environment, and cannot even ask for more",
        async () => {
          const { permissions, waitUntil } = await (await call(stack, "inspect")).json();
          assertEquals(permissions, {
            read: "prompt",
            write: "prompt",
            net: "granted",
            env: "granted",
            run: "prompt",
            ffi: "prompt",
            sys: "prompt",
          });
          assertEquals(waitUntil, "function");
        },
      );

      await t.step("disabled functions and folders that begin with _ are not served", () => {
        assertEquals(stack.functions, [
          "broken",
          "fragile",
          "guarded",
          "inspect",
          "open",
          "unnamed",
        ]);
      });

      await t.step("verify_jwt = false lets every request through", async () => {
        const response = await call(stack, "open");
        await response.body?.cancel();
        assertEquals(response.status, 299);
      });

      const statusOf = async (name: string, headers: Record<string, string>, method = "GET") => {
        const response = await call(stack, name, "", { method, headers });
        const body = await response.text();
        return response.status === 299 ? 299 : { status: response.status, ...JSON.parse(body) };
      };
      const missing = {
        status: 401,
        code: "UNAUTHORIZED_NO_AUTH_HEADER",
        message: "Missing authorization header",
      };
      const invalid = {
        status: 401,
        code: "UNAUTHORIZED_INVALID_JWT_FORMAT",
        message: "Invalid JWT",
      };

      for (const name of ["guarded", "unnamed"]) {
        await t.step(`verify_jwt = true (${name}) refuses a request without a JWT`, async () => {
          assertEquals(await statusOf(name, {}), missing);
          assertEquals(await statusOf(name, { apikey: stack.secretKey }), missing);
        });
      }

      await t.step("verify_jwt = true refuses what is no JWT of this project", async () => {
        const foreign = await mintJwt({ ...stack, jwtSecret: "x".repeat(40) }, { role: "anon" });
        const expired = await mintJwt(stack, { role: "authenticated", exp: 1_000_000_000 });
        for (const token of [stack.secretKey, stack.publishableKey, "x.y.z", foreign, expired]) {
          assertEquals(await statusOf("guarded", { authorization: `Bearer ${token}` }), invalid);
        }
        assertEquals(await statusOf("guarded", { authorization: "Basic eDp5" }), invalid);
      });

      await t.step("verify_jwt = true takes a user's JWT and the legacy anon key", async () => {
        const user = await mintJwt(stack, { sub: crypto.randomUUID(), role: "authenticated" });
        const anon = await legacyKey(stack.jwtSecret, "anon", stack.identity.createdAt);
        for (const token of [user, anon]) {
          assertEquals(await statusOf("guarded", { authorization: `Bearer ${token}` }), 299);
        }
      });

      await t.step("verify_jwt = true leaves OPTIONS to the function", async () => {
        assertEquals(await statusOf("guarded", {}, "OPTIONS"), 299);
      });

      await t.step("a function that fails to boot answers 503 BOOT_ERROR", async () => {
        const response = await call(stack, "broken");
        assertEquals(response.status, 503);
        assertEquals(response.headers.get("sb-error-code"), "BOOT_ERROR");
        assertEquals(await response.json(), {
          code: "BOOT_ERROR",
          message: "Function failed to start (please check logs)",
        });
        assertStringIncludes(
          stack.functionLog("broken"),
          "the function's entry point has no `export default { fetch }`",
        );
      });

      await t.step("a change of its file restarts a function, also one that failed", async () => {
        await tree.write(
          entryPoint("broken"),
          `import { value } from "../../../functions-shared/value.ts";
           export default { fetch: () => new Response(\`mended \${value}\`) };`,
        );
        const text = await eventually(
          async () => await (await call(stack, "broken")).text(),
          (answer) => answer.startsWith("mended"),
        );
        assertEquals(text, "mended 1");
      });

      await t.step("a change of a shared file restarts the functions", async () => {
        const before = stack.functionPids();
        await tree.write("functions-shared/value.ts", "export const value = 2;\n");
        const text = await eventually(
          async () => await (await call(stack, "broken")).text(),
          (answer) => answer === "mended 2",
        );
        assertEquals(text, "mended 2");
        const kept = () => stack.functionPids().filter((pid) => before.includes(pid));
        assertEquals(await eventually(kept, (pids) => pids.length === 0), []);
        assertEquals((await (await call(stack, "open")).json()).method, "GET");
      });

      await t.step(
        "a crash is 500 WORKER_ERROR for its request; the next one is served",
        async () => {
          const crashed = await call(stack, "fragile", "/crash");
          assertEquals(crashed.status, 500);
          assertEquals(await crashed.json(), {
            code: "WORKER_ERROR",
            message: "Function exited due to an error (please check logs)",
          });
          const next = await call(stack, "fragile");
          assertEquals(next.status, 200);
          await next.body?.cancel();
          assertStringIncludes(stack.functionLog("fragile"), "crashed as asked");
        },
      );

      await t.step("a client that hangs up is seen by the function", async () => {
        const abort = new AbortController();
        setTimeout(() => abort.abort(), 200);
        const outcome = await call(stack, "fragile", "/hang", { signal: abort.signal })
          .then(() => "answered", () => "aborted");
        assertEquals(outcome, "aborted");
        const { hangups } = await eventually(
          async () => await (await call(stack, "fragile")).json(),
          (answer) => answer.hangups > 0,
        );
        assertEquals(hangups, 1);
      });

      await t.step(
        "EdgeRuntime.waitUntil works after the answer, and its failure is logged",
        async () => {
          await (await call(stack, "fragile", "/later")).body?.cancel();
          const log = await eventually(
            () => stack.functionLog("fragile"),
            (text) => text.includes("failed after the answer"),
          );
          assertStringIncludes(log, "worked after the answer");
          assertStringIncludes(log, "failed after the answer");
          const next = await call(stack, "fragile");
          assertEquals((await next.json()).hangups, 1, "the same process goes on");
        },
      );

      await t.step(
        "restartFunction lays variables over the environment, and takes them back",
        async () => {
          assert(await stack.restartFunction("inspect", { OWN_SECRET: "set", AWS_REGION: "" }));
          const changed = await (await call(stack, "inspect")).json();
          assertEquals(changed.value, "set");
          assertEquals(changed.env.includes("AWS_REGION"), false);
          assert(await stack.restartFunction("inspect", {}));
          const restored = await (await call(stack, "inspect")).json();
          assertEquals(restored.value, null);
          assertEquals(restored.env.includes("AWS_REGION"), true);
        },
      );

      await t.step("logs are files that only their owner can read", async () => {
        if (Deno.build.os === "windows") return;
        const path = `${stack.dataDir}/logs/fragile.log`;
        assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
        assertStringIncludes(await Deno.readTextFile(path), "crashed as asked");
      });
    } finally {
      await stack.close();
      await tree.remove();
    }
  },
});
