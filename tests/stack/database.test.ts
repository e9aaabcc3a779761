import { assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { createDataApi } from "../../local/data-api.ts";
import { openDataDir } from "../../local/data-dir.ts";
import { openPglite, openPostgres, provision } from "../../local/database.ts";
import { StackError } from "../../local/errors.ts";
import { loadIdentity, mainSecretKey } from "../../local/identity.ts";
import { migrate } from "../../local/migrations.ts";
import { freePort } from "../../local/ports.ts";
import { ProjectKeys } from "../../local/project-keys.ts";
import { REPOSITORY } from "../../local/stack.ts";
import { WITH_STACK } from "../support/stack.ts";

const CONFIG = { apiSchemas: ["public"], apiMaxRows: 1000, auth: {}, functions: {} };

Deno.test({
  name: "database: one PGlite for all requests, migrated once",
  ...WITH_STACK,
  fn: async (t) => {
    const folder = await Deno.makeTempDir({ prefix: "database-" });
    const database = await openPglite(join(folder, "db"));
    const root = join(folder, "project");
    const migration = async (file: string, text: string) => {
      await Deno.mkdir(join(root, "supabase", "migrations"), { recursive: true });
      await Deno.writeTextFile(join(root, "supabase", "migrations", file), text);
    };
    const versions = async () =>
      (await database.query<{ version: string }>(
        "select version from supabase_migrations.schema_migrations order by version",
      )).map(({ version }) => version);
    try {
      await provision(database, REPOSITORY);

      await t.step(
        "requests at once keep their own roles, each in its own transaction",
        async () => {
          await database.script(
            `create function public.whoami() returns text language sql as 'select current_user::text';
           grant execute on function public.whoami() to anon, service_role;`,
          );
          const dir = await openDataDir(join(folder, "identity"));
          const identity = await loadIdentity(dir);
          dir.close();
          const { publishableKey } = identity;
          const secretKey = mainSecretKey(identity);
          const unchanging = new ProjectKeys(identity, () => Promise.reject(new Error("kept")));
          const api = await createDataApi(database, CONFIG, unchanging);
          const keys = Array.from(
            { length: 20 },
            (_, i) => i % 2 ? publishableKey : secretKey,
          );
          const roles = await Promise.all(keys.map(async (apikey) => {
            const request = new Request("http://127.0.0.1/rest/v1/rpc/whoami", {
              headers: { apikey },
            });
            return await (await api.fetch(request)).json();
          }));
          assertEquals(
            roles,
            keys.map((key) => key === secretKey ? "service_role" : "anon"),
          );
        },
      );

      await t.step("a script is all or nothing", async () => {
        await assertRejects(
          () => database.script("create table public.half (id int); select 1/0;"),
          Error,
          "division by zero",
        );
        assertEquals(await database.query("select to_regclass('public.half') as name"), [
          { name: null },
        ]);
      });

      await t.step("a read-only query cannot write", async () => {
        await assertRejects(
          () => database.readOnlyQuery("create table public.written (id int)"),
          Error,
          "cannot execute CREATE TABLE in a read-only transaction",
        );
      });

      await t.step("migrations are applied in order, once, with text of any kind", async () => {
        await migration("20260102000000_second.sql", "insert into public.things values ('b\\n');");
        await migration(
          "20260101000000_first.sql",
          "create table public.things (name text); -- it's \\ quoted; $$ and all\n",
        );
        assertEquals(await migrate(database, root), [
          "20260101000000_first.sql",
          "20260102000000_second.sql",
        ]);
        assertEquals(await migrate(database, root), []);
        assertEquals(await versions(), ["20260101000000", "20260102000000"]);
        assertEquals(await database.query("select name from public.things"), [{ name: "b\\n" }]);
      });

      await t.step("the history is what the Supabase CLI writes and reads", async () => {
        assertEquals(
          await database.query(
            `select column_name as name, data_type as type from information_schema.columns
             where table_schema = 'supabase_migrations' and table_name = 'schema_migrations'
             order by column_name`,
          ),
          [
            { name: "name", type: "text" },
            { name: "statements", type: "ARRAY" },
            { name: "version", type: "text" },
          ],
        );
        // Split into statements and trimmed, as the CLI records it.
        await database.query(
          `update supabase_migrations.schema_migrations set statements = $1
           where version = '20260102000000'`,
          [["insert into public.things values ('b\\n')"]],
        );
        assertEquals(await migrate(database, root), []);
      });

      await t.step("a migration that fails leaves nothing and names its file", async () => {
        await migration("20260103000000_bad.sql", "create table public.gone (id int); select 1/0;");
        await assertRejects(
          () => migrate(database, root),
          StackError,
          "migration 20260103000000_bad.sql failed: division by zero",
        );
        assertEquals(await versions(), ["20260101000000", "20260102000000"]);
        await Deno.remove(join(root, "supabase", "migrations", "20260103000000_bad.sql"));
      });

      await t.step("a migration that changed after it was applied is refused", async () => {
        await migration("20260102000000_second.sql", "insert into public.things values ('c');");
        await assertRejects(
          () => migrate(database, root),
          StackError,
          "supabase/migrations/20260102000000_second.sql has changed since it was applied: add a " +
            "new migration instead, or start afresh with --reset (this removes all rows)",
        );
      });

      await t.step("a migration that is gone after it was applied is refused", async () => {
        await Deno.remove(join(root, "supabase", "migrations", "20260102000000_second.sql"));
        await assertRejects(
          () => migrate(database, root),
          StackError,
          "the database has migration 20260102000000, which is not in supabase/migrations",
        );
      });
    } finally {
      await database.close();
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("database: a Postgres that does not answer is said in words", async () => {
  const url = `postgresql://postgres@127.0.0.1:${freePort()}/postgres`;
  await assertRejects(
    () => openPostgres(url),
    StackError,
    "the database given with --db-url does not answer: connect ECONNREFUSED",
  );
});
