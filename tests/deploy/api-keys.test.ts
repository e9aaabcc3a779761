import { assert, assertEquals } from "@std/assert";
import type { Stack } from "../../local/stack.ts";
import { management } from "../stack/management.ts";
import { withStack } from "../support/stack.ts";
import { supabase } from "./supabase_cli.ts";

async function listed(stack: Stack, ...flags: string[]): Promise<Record<string, string>[]> {
  const { code, stdout, stderr } = await supabase(
    { apiUrl: stack.apiUrl, token: stack.identity.accessToken },
    ["projects", "api-keys", `--remote=${stack.projectRef}`, "--output", "json", ...flags],
  );
  assertEquals(code, 0, stderr);
  return JSON.parse(stdout);
}

Deno.test("the Supabase CLI lists the embedded stack's API keys, as it does a hosted project's", async () => {
  await withStack({}, async (stack) => {
    const template = { role: "service_role" };
    const key = { type: "secret", name: "servers_2", secret_jwt_template: template };
    const { body: made } = await management(stack, "POST", "api-keys?reveal=true", key);
    const named = (keys: Record<string, string>[]) => keys.map(({ type, name }) => [type, name]);
    const all = [["publishable", "default"], ["secret", "default"], ["secret", "servers_2"]];
    const hidden = await listed(stack);
    assertEquals(named(hidden), all);
    for (const secret of [stack.secretKey, made.api_key]) {
      assert(!JSON.stringify(hidden).includes(secret));
    }
    const revealed = await listed(stack, "--reveal");
    assertEquals(named(revealed), all);
    assertEquals(revealed[2]?.api_key, made.api_key);
  });
});
