import { assertEquals } from "@std/assert";
import { asPostgrestError } from "../../local/postgrest-errors.ts";
import { dataApi, sharedStack, signUp, WITH_STACK } from "../support/stack.ts";

/** As a driver throws it. */
function driverError(code: string, message = "text", severity: string | undefined = "ERROR") {
  return Object.assign(
    new Error(message),
    { code, detail: "d", hint: "h" },
    severity && { severity },
  );
}

/** Status and body that `@supabase/lite` makes of the error. */
function answerTo(error: unknown): { status: number; code: string } | null {
  const { code, message, detail } = asPostgrestError(error) as Record<string, string>;
  if (code !== "PGRST") return null;
  return { status: JSON.parse(detail ?? "").status, code: JSON.parse(message ?? "").code };
}

Deno.test("data api errors: SQLSTATEs get the status that PostgREST gives them", () => {
  const cases: Array<[string, number]> = [
    ["KM409", 400],
    ["P0001", 400],
    ["40001", 500],
    ["40P01", 500],
    ["08006", 503],
    ["53300", 503],
    ["57014", 500],
    ["XX000", 500],
    ["28000", 403],
  ];
  for (const [code, status] of cases) assertEquals(answerTo(driverError(code)), { status, code });
});

Deno.test("data api errors: a database that is away is 503 PGRST000", () => {
  for (const code of ["ECONNREFUSED", "ECONNRESET", "CONNECTION_CLOSED", "CONNECT_TIMEOUT"]) {
    assertEquals(answerTo(driverError(code, "x", undefined)), { status: 503, code: "PGRST000" });
  }
  assertEquals(answerTo(driverError("57P01")), { status: 503, code: "PGRST000" });
});

Deno.test("data api errors: codes that @supabase/lite knows stay with it", () => {
  for (const code of ["42501", "42P01", "23505", "23503", "22P02", "PT402"]) {
    assertEquals(answerTo(driverError(code)), null);
    assertEquals((asPostgrestError(driverError(code)) as { code: string }).code, code);
  }
});

Deno.test("data api errors: what is printed holds no parameter", () => {
  const error = Object.assign(driverError("23505", "duplicate key"), { params: ["canary"] });
  assertEquals(Deno.inspect(asPostgrestError(error)), "[data api] 23505 duplicate key");
  assertEquals(Deno.inspect(asPostgrestError(new Error("own"))), "[data api] own");
});

Deno.test({
  name: "data api errors: as supabase-js shows them",
  ...WITH_STACK,
  fn: async (t) => {
    const stack = await sharedStack();
    const server = dataApi(stack, stack.secretKey);
    const anon = dataApi(stack, stack.publishableKey);
    const define = async (name: string, args: string, body: string) => {
      await stack.sql(
        `create or replace function public.${name}(${args}) returns jsonb language plpgsql
         security definer set search_path = '' as $$ begin ${body} end $$`,
      );
      await stack.sql(`revoke all on function public.${name} from public, anon, authenticated`);
      await stack.sql(`grant execute on function public.${name} to service_role`);
    };
    await define(
      "test_echo",
      "p_json text, p_n int, p_id uuid, p_none text",
      `
      return jsonb_build_object('json', p_json::jsonb, 'n', p_n, 'id', p_id, 'none', p_none);`,
    );
    await define(
      "test_raise",
      "p_code text",
      `
      raise exception 'the message' using errcode = p_code, detail = 'd', hint = 'h';`,
    );
    await define(
      "test_reference",
      "p_id uuid",
      `
      insert into auth.sessions (id, user_id) values (p_id, p_id); return null;`,
    );
    const id = crypto.randomUUID();

    await t.step("an RPC takes text and scalars and returns jsonb, unchanged", async () => {
      const value = { quote: `a'b"c\\`, list: [1, null, "é"], nested: { empty: {} } };
      const { data } = await server.rpc("test_echo", {
        p_json: JSON.stringify(value),
        p_n: 5,
        p_id: id,
        p_none: null,
      });
      assertEquals(data, { json: value, n: 5, id, none: null });
    });

    await t.step("an own SQLSTATE arrives with message, details and hint", async () => {
      const { error, status } = await server.rpc("test_raise", { p_code: "KM409" });
      assertEquals(status, 400);
      assertEquals({ ...error }, {
        code: "KM409",
        message: "the message",
        details: "d",
        hint: "h",
      } as never);
    });

    await t.step("a missing reference is 409 with 23503", async () => {
      const { error, status } = await server.rpc("test_reference", { p_id: id });
      assertEquals([status, error?.code], [409, "23503"]);
    });

    await t.step("a refused RPC is 401 for anon and 403 for a user, with 42501", async () => {
      const { client } = await signUp(stack);
      for (const [persona, expected] of [[anon, 401], [client, 403]] as const) {
        const { error, status } = await persona.rpc("test_raise", { p_code: "KM409" });
        assertEquals([status, error?.code], [expected, "42501"]);
      }
    });

    await t.step("an unknown RPC is 404 with PGRST202", async () => {
      const { error, status } = await server.rpc("test_unknown");
      assertEquals([status, error?.code], [404, "PGRST202"]);
    });

    for (const name of ["test_echo", "test_raise", "test_reference"]) {
      await stack.sql(`drop function public.${name}`);
    }
  },
});
