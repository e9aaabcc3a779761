/**
 * What the Data API gives to whom, after it has served requests: `@supabase/lite` is known to change
 * privileges then. Runs on PGlite, and on the Postgres of STACK_DB_URL.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { call, dataApi, sharedStack, signUp, type TestUser, WITH_STACK } from "../support/stack.ts";

const API_ROLES = ["anon", "authenticated"];
const OWN_SCHEMAS = `n.nspname <> 'information_schema' and n.nspname !~ '^pg_'`;
const MASKED = ["encrypted_records", "payment_methods"];

interface Persona {
  readonly name: string;
  readonly role: "anon" | "authenticated";
  readonly headers: Record<string, string>;
}

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

Deno.test({
  name: "data api: nothing secret for anon, a user, another user",
  ...WITH_STACK,
  fn: async (t) => {
    const stack = await sharedStack();
    const [owner, stranger] = [await signUp(stack), await signUp(stack)];
    const asUser = (name: string, { token }: TestUser): Persona => ({
      name,
      role: "authenticated",
      headers: { apikey: stack.publishableKey, authorization: `Bearer ${token}` },
    });
    const anon: Persona = {
      name: "anon",
      role: "anon",
      headers: { apikey: stack.publishableKey },
    };
    const personas = [anon, asUser("the owner", owner), asUser("a stranger", stranger)];
    const denied = ({ role }: Persona) => role === "anon" ? 401 : 403;

    const request = async (
      { headers }: Persona,
      path: string,
      { method = "GET", body, profile }: { method?: string; body?: unknown; profile?: string } = {},
    ): Promise<Reply> => {
      const response = await fetch(`${stack.apiUrl}/rest/v1/${path}`, {
        method,
        headers: {
          ...headers,
          "content-type": "application/json",
          prefer: "return=representation",
          ...(profile ? { "accept-profile": profile, "content-profile": profile } : {}),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return { status: response.status, body: text ? JSON.parse(text) : null };
    };
    const codeOf = ({ body }: Reply) => (body as { code?: string }).code;

    const encrypt = async (body: unknown) => {
      const response = await call(stack, "encrypt-payment-data", "", {
        token: owner.token,
        json: body,
        headers: { "idempotency-key": crypto.randomUUID() },
      });
      const answer = await response.json();
      assertEquals(response.status, 201, JSON.stringify(answer));
      return answer;
    };
    const card = { number: "5555555555554444", exp_month: 12, exp_year: 2031 };
    const { payment_method } = await encrypt({ data_class: "payment", card });
    const { record } = await encrypt({ data_class: "pii", data: { passport: "X1234567" } });

    await t.step("requests of every persona and of a server are served first", async () => {
      for (const persona of personas.slice(1)) {
        for (const table of MASKED) {
          assertEquals((await request(persona, table)).status, 200, `${persona.name} ${table}`);
        }
      }
      const { status } = await dataApi(stack, stack.secretKey).rpc("kms_payment_methods_list", {
        p_owner_id: owner.userId,
        p_limit: 10,
        p_before: null,
      });
      assertEquals(status, 200);
    });

    await t.step(
      "catalog: the API roles may select the masked tables, and nothing else",
      async () => {
        const held = await stack.sql(
          `select r.role, n.nspname || '.' || c.relname as relation, p.privilege
           from pg_class c join pg_namespace n on n.oid = c.relnamespace,
                unnest($1::text[]) as r(role),
                unnest(array['SELECT','INSERT','UPDATE','DELETE','TRUNCATE','REFERENCES','TRIGGER'])
                  as p(privilege)
          where ${OWN_SCHEMAS} and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and (has_table_privilege(r.role, c.oid, p.privilege)
                 or p.privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                    and has_any_column_privilege(r.role, c.oid, p.privilege))
          order by 1, 2, 3`,
          [API_ROLES],
        );
        assertEquals(
          held,
          MASKED.map((table) => ({
            role: "authenticated",
            relation: `public.${table}`,
            privilege: "SELECT",
          })),
        );
      },
    );

    await t.step("catalog: the API roles may use no sequence", async () => {
      const held = await stack.sql(
        `select r.role, c.oid::regclass::text as sequence
           from pg_class c join pg_namespace n on n.oid = c.relnamespace,
                unnest($1::text[]) as r(role), unnest(array['SELECT','UPDATE','USAGE']) as p(p)
          where ${OWN_SCHEMAS} and c.relkind = 'S' and has_sequence_privilege(r.role, c.oid, p.p)`,
        [API_ROLES],
      );
      assertEquals(held, []);
    });

    await t.step(
      "catalog: the API roles may execute the claim readers of auth, and nothing else",
      async () => {
        const held = await stack.sql<{ role: string; function: string }>(
          `select distinct r.role, n.nspname || '.' || f.proname as function
           from pg_proc f join pg_namespace n on n.oid = f.pronamespace,
                unnest($1::text[]) as r(role)
          where ${OWN_SCHEMAS} and has_function_privilege(r.role, f.oid, 'EXECUTE')
            and not exists (select from pg_depend d where d.objid = f.oid and d.deptype = 'e')
          order by 1, 2`,
          [API_ROLES],
        );
        assertEquals(
          held,
          API_ROLES.flatMap((role) =>
            ["auth.email", "auth.jwt", "auth.role", "auth.uid"].map((name) => ({
              role,
              function: name,
            }))
          ),
        );
      },
    );

    await t.step(
      "catalog: the API roles reach the schemas public and auth, and make nothing in any",
      async () => {
        const held = await stack.sql(
          `select r.role, n.nspname as schema, p.p as privilege
           from pg_namespace n, unnest($1::text[]) as r(role),
                unnest(array['CREATE','USAGE']) as p(p)
          where ${OWN_SCHEMAS} and has_schema_privilege(r.role, n.oid, p.p)
            and n.nspname in ('kms', 'auth', 'public', 'supabase_migrations')
          order by 1, 2, 3`,
          [API_ROLES],
        );
        assertEquals(
          held,
          API_ROLES.flatMap((role) =>
            ["auth", "public"].map((schema) => ({ role, schema, privilege: "USAGE" }))
          ),
        );
      },
    );

    await t.step("catalog: what is made in kms later is not granted to them either", async () => {
      const granted = await stack.sql(
        `select d.defaclobjtype as type, g.grantee::regrole::text as role
           from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace,
                aclexplode(d.defaclacl) g
          where n.nspname = 'kms' and g.grantee::regrole::text = any($1::text[])`,
        [[...API_ROLES, "service_role"]],
      );
      assertEquals(granted, []);
    });

    const kmsTables = (await stack.sql<{ name: string }>(
      `select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'kms' and c.relkind in ('r', 'p', 'v') order by 1`,
    )).map(({ name }) => name);
    const kmsFunctions = await stack.sql<{ name: string; args: string[] }>(
      `select f.proname as name, coalesce(f.proargnames, '{}') as args
         from pg_proc f join pg_namespace n on n.oid = f.pronamespace
        where n.nspname = 'public' and f.proname like 'kms\\_%' order by 1`,
    );

    await t.step("there is something to protect", () => {
      for (const name of ["audit_log", "branch_keys", "card_fingerprints", "ciphertexts"]) {
        assert(kmsTables.includes(name), name);
      }
      assert(kmsFunctions.length >= 15);
    });

    for (const persona of personas) {
      await t.step(`${persona.name}: no table of kms can be named, in any schema`, async () => {
        for (const table of kmsTables) {
          for (const profile of ["kms", "auth", "supabase_migrations", "pg_catalog"]) {
            const reply = await request(persona, table, { profile });
            assertEquals([reply.status, codeOf(reply)], [406, "PGRST106"], `${profile}.${table}`);
          }
          const reply = await request(persona, table);
          assertEquals([reply.status, codeOf(reply)], [404, "PGRST205"], table);
        }
        const users = await request(persona, "users", { profile: "auth" });
        assertEquals(users.status, 406);
      });

      await t.step(`${persona.name}: no RPC of kms can be executed`, async () => {
        for (const { name, args } of kmsFunctions) {
          const body = Object.fromEntries(args.map((arg) => [arg, null]));
          const reply = await request(persona, `rpc/${name}`, { method: "POST", body });
          assertEquals([reply.status, codeOf(reply)], [denied(persona), "42501"], name);
        }
      });

      await t.step(`${persona.name}: every write to the masked tables is refused`, async () => {
        for (const table of MASKED) {
          const id = table === "payment_methods" ? payment_method.id : record.id;
          const writes: Array<[string, string, unknown]> = [
            ["POST", table, { id: crypto.randomUUID(), user_id: owner.userId }],
            ["PATCH", `${table}?id=eq.${id}`, { user_id: stranger.userId }],
            ["DELETE", `${table}?id=eq.${id}`, undefined],
          ];
          for (const [method, path, body] of writes) {
            const reply = await request(persona, path, { method, body });
            assertEquals(
              [reply.status, codeOf(reply)],
              [denied(persona), "42501"],
              `${method} ${path}`,
            );
          }
        }
      });
    }

    await t.step("the owner sees own masked rows", async () => {
      const methods = await request(personas[1]!, "payment_methods");
      assertEquals((methods.body as Array<{ id: string }>).map(({ id }) => id), [
        payment_method.id,
      ]);
      const records = await request(personas[1]!, "encrypted_records");
      assertEquals((records.body as Array<{ id: string }>).map(({ id }) => id), [record.id]);
      const text = JSON.stringify([methods.body, records.body]);
      for (const secret of [card.number, "X1234567", "AgR4"]) {
        assert(!text.includes(secret), secret);
      }
    });

    await t.step("a stranger sees none of them, however they are asked for", async () => {
      for (
        const [table, id] of [["payment_methods", payment_method.id], [
          "encrypted_records",
          record.id,
        ]]
      ) {
        for (
          const filter of [
            "",
            `?id=eq.${id}`,
            `?user_id=eq.${owner.userId}`,
            "?or=(id.not.is.null)",
          ]
        ) {
          assertEquals(await request(personas[2]!, table + filter), { status: 200, body: [] });
        }
      }
    });

    await t.step("anon sees no masked row", async () => {
      for (const table of MASKED) {
        const reply = await request(anon, table);
        assertEquals([reply.status, codeOf(reply)], [401, "42501"]);
      }
    });

    await t.step("a token of another project, an expired one and none are refused", async () => {
      const forged = { ...anon, headers: { ...anon.headers, authorization: "Bearer a.b.c" } };
      assertEquals((await request(forged, "payment_methods")).status, 401);
      assertEquals((await request({ ...anon, headers: {} }, "payment_methods")).status, 401);
    });

    await t.step(
      "a server with the secret key has the RPCs, and no table of kms either",
      async () => {
        const server: Persona = {
          name: "server",
          role: "authenticated",
          headers: { apikey: stack.secretKey },
        };
        assertEquals((await request(server, "ciphertexts", { profile: "kms" })).status, 406);
        const read = await dataApi(stack, stack.secretKey).rpc("kms_ciphertexts_read", {
          p_owner_id: owner.userId,
          p_table: "payment_methods",
          p_id: payment_method.id,
        });
        assertEquals(read.status, 200);
        assertNotEquals(read.data, null);
      },
    );
  },
});
