import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Stack } from "../../local/stack.ts";
import { startStack } from "../../local/stack.ts";
import { readStackFile, writeStackFile } from "../../local/stack-file.ts";
import { sharedStack, testOptions, WITH_STACK } from "../support/stack.ts";
import { management } from "./management.ts";

const KEYS = "api-keys?reveal=true";

/** The status with which each door answers a server that has this key. */
async function doors(stack: Stack, apikey: string): Promise<Record<string, number>> {
  const paths = {
    functions: "/functions/v1/kms-admin/health",
    data: "/rest/v1/",
    auth: "/auth/v1/admin/users?per_page=1",
  };
  const statuses = Object.entries(paths).map(async ([door, path]) => {
    const response = await fetch(stack.apiUrl + path, { headers: { apikey } });
    await response.body?.cancel();
    return [door, response.status] as const;
  });
  return Object.fromEntries(await Promise.all(statuses));
}
const OPEN = { functions: 200, data: 200, auth: 200 };
const SHUT = { functions: 401, data: 401, auth: 401 };

async function created(stack: Stack, name: string): Promise<{ id: string; api_key: string }> {
  const key = { type: "secret", name, secret_jwt_template: { role: "service_role" } };
  const { status, body } = await management(stack, "POST", KEYS, key);
  assertEquals(status, 201, JSON.stringify(body));
  return body;
}

async function idOf(stack: Stack, name: string): Promise<string> {
  const { body } = await management(stack, "GET", "api-keys");
  return body.find((key: { name: string; type: string }) =>
    key.name === name && key.type === "secret"
  ).id;
}

/** `kms-admin` as the server with this key. */
async function admin(stack: Stack, apikey: string, path: string, body?: object, method = "POST") {
  const response = await fetch(`${stack.apiUrl}/functions/v1/kms-admin${path}`, {
    headers: { apikey, "content-type": "application/json" },
    ...body ? { method, body: JSON.stringify(body) } : {},
  });
  const answer = await response.json();
  assertEquals(answer.success, true, JSON.stringify(answer));
  return answer.data;
}

Deno.test({
  name: "secret keys: made, listed and deleted through the Management API",
  ...WITH_STACK,
  fn: async (t) => {
    const stack = await sharedStack({ functionEnv: { KMS_CONFIG_CACHE_MS: "0" } });
    const first = stack.secretKey;

    await t.step("it opens for its token alone, and never for a browser", async () => {
      const foreign = { authorization: `Bearer sbp_${"0".repeat(40)}` };
      const secret = { authorization: `Bearer ${first}` };
      for (const headers of [foreign, secret, { authorization: "" }, { origin: stack.apiUrl }]) {
        const answer = await management(stack, "GET", "api-keys", undefined, headers);
        assertEquals(answer, { status: 401, body: { message: "Unauthorized" } });
      }
      for (const path of ["secrets", "api-keys/legacy/x", "../api-keys", "constructor"]) {
        assertEquals((await management(stack, "GET", path)).status, 404, path);
      }
      assertEquals(
        (await management({ ...stack, projectRef: "x" }, "GET", "api-keys")).status,
        404,
      );
    });

    await t.step("a key's value is shown to who asks for it, and to nobody else", async () => {
      const hidden = await management(stack, "GET", "api-keys");
      assert(!JSON.stringify(hidden.body).includes(first));
      const { body } = await management(stack, "GET", KEYS);
      assertEquals(
        body.map(({ type, name, api_key }: Record<string, string>) => [type, name, api_key]),
        [["publishable", "default", stack.publishableKey], ["secret", "default", first]],
      );
    });

    await t.step("what is no key is refused by name", async () => {
      const refusal = async (body: object) => {
        const answer = await management(stack, "POST", "api-keys", body);
        assertEquals(answer.status, 400);
        return answer.body.message;
      };
      assertMatch(await refusal({}), /^type: /);
      assertMatch(await refusal({ type: "publishable", name: "another" }), /^type: /);
      for (const name of ["abc", "Servers", "1servers", "a-b-c", "x".repeat(65), 7, "servers\n"]) {
        assertMatch(await refusal({ type: "secret", name }), /^name: /);
      }
      const service = { secret_jwt_template: { role: "service_role" } };
      assertMatch(await refusal({ type: "secret", name: "default", ...service }), /exists already/);
      // Hosted, a key without a template has no role.
      for (const template of [{ role: "anon" }, {}, null, undefined]) {
        assertMatch(
          await refusal({ type: "secret", name: "weaker", secret_jwt_template: template }),
          /^secret_jwt_template: /,
        );
      }
      assertEquals(
        await management(stack, "DELETE", `api-keys/${await idOf(stack, "default")}`),
        {
          status: 400,
          body: { message: "the embedded stack keeps one secret key: create another first" },
        },
      );
    });

    let second = { id: "", api_key: "" };
    await t.step(
      "a new one opens every door at once, under its own name in the audit",
      async () => {
        second = await created(stack, "servers_2");
        assertMatch(second.api_key, /^sb_secret_[\w-]{31}$/);
        assertEquals(await doors(stack, second.api_key), OPEN);
        assertEquals(await doors(stack, first), OPEN);
        await admin(stack, second.api_key, "/key/rotate", { data_class: "general" });
        const rows = await stack.sql<{ actor_id: string }>(
          "select actor_id from kms.audit_log where action = 'branch_key.rotate'",
        );
        assertEquals(rows, [{ actor_id: "servers_2" }]);
      },
    );

    await t.step(
      "stored settings that were sealed anew open after the old key is gone",
      async () => {
        const regions = { region: "us-west-2", fallback_regions: ["us-east-1"] };
        const stored = { provider: "aws", ...regions, reason: "test" };
        // Sealed before the second key: by a function that knows the first alone.
        await stack.restartFunction("kms-admin", {
          SUPABASE_SECRET_KEYS: JSON.stringify({ default: first }),
        });
        const { revision } = await admin(stack, first, "/config", stored, "PUT");
        await stack.restartFunction("kms-admin", {});
        await admin(stack, second.api_key, "/config/rollback", { revision, reason: "sealed anew" });
        const leaked = await idOf(stack, "default");
        const gone = await management(stack, "DELETE", `api-keys/${leaked}?was_compromised=true`);
        assertEquals([gone.status, gone.body.name], [200, "default"]);
        assert(!JSON.stringify(gone.body).includes(first));
        const config = await admin(stack, second.api_key, "/config");
        assertEquals([config.source, config.settings.region], ["database", "us-west-2"]);
        assertEquals(config.warnings.filter((text: string) => /open/.test(text)), []);
      },
    );

    await t.step("a deleted key opens nothing", async () => {
      assertEquals(await doors(stack, first), SHUT);
      assertEquals(await doors(stack, second.api_key), OPEN);
      assertEquals(stack.secretKey, second.api_key);
      assert(!JSON.stringify(stack.functionEnv).includes(first));
      assert(!(await Deno.readTextFile(`${stack.dataDir}/identity.json`)).includes(first));
      assertEquals((await management(stack, "DELETE", "api-keys/x")).status, 404);
    });

    await t.step("settings that were not sealed anew are lost with the key", async () => {
      const third = await created(stack, "servers_3");
      await management(stack, "DELETE", `api-keys/${second.id}`);
      const config = await admin(stack, third.api_key, "/config");
      assertEquals([config.source, config.settings.region], ["environment", "us-east-1"]);
      assertMatch(config.warnings.join(), /open/);
    });
  },
});

Deno.test({
  name: "secret keys: kept over a restart, and in stack.json for the command line",
  ...WITH_STACK,
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "keys-" });
    try {
      const dataDir = `${folder}/data`;
      let stack = await startStack(await testOptions(dataDir));
      const first = stack.secretKey;
      stack.onKeysChanged(() => writeStackFile(stack, { userId: "x", running: true }));
      const { api_key: second } = await created(stack, "servers_2");
      assertEquals((await readStackFile(dataDir))?.secret_key, first);
      await management(stack, "DELETE", `api-keys/${await idOf(stack, "default")}`);
      const file = await readStackFile(dataDir);
      assertEquals(file?.secret_key, second);
      assertEquals(file?.function_env.SUPABASE_SECRET_KEYS, JSON.stringify({ servers_2: second }));
      await stack.close();
      stack = await startStack(await testOptions(dataDir));
      try {
        assertEquals(await doors(stack, second), OPEN);
        assertEquals(await doors(stack, first), SHUT);
      } finally {
        await stack.close();
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
