import { PGlite as Postgres17 } from "@electric-sql/pglite";
import { PGlite as Postgres18 } from "@electric-sql/pglite-18";
import { assertEquals, assertRejects } from "@std/assert";
import { EFFECTIVE_PRIVILEGES, EXPECTED_PRIVILEGES } from "../postgres/privileges.ts";
import { branchKeyRecords, healthEntry, newVersion } from "../postgres/rpc.ts";
import { foundation, migrations } from "../postgres/schema.ts";

const OWNER = "11111111-1111-4111-8111-111111111111";
const CARD = "22222222-2222-4222-8222-222222222222";
const MESSAGE = "AgR4" + "A".repeat(176);
const ACTOR = JSON.stringify({
  actor_type: "user",
  actor_id: OWNER,
  request_id: "33333333-3333-4333-8333-333333333333",
  function: "encrypt-payment-data",
});
const ITEM = {
  kind: "payment_method",
  id: CARD,
  owner_id: OWNER,
  fingerprint: "f".repeat(44),
  brand: "visa",
  last4: "4242",
  exp_month: 12,
  exp_year: 2030,
  nickname: null,
  set_default: true,
  ciphertexts: [{ field: "number", message: MESSAGE }],
};

/** What the test uses of either version; @supabase/lite embeds the one on Postgres 17. */
interface Database {
  query<T>(sql: string, params?: unknown[]): Promise<{ rows: T[] }>;
  exec(sql: string): Promise<unknown>;
  close(): Promise<void>;
}

const DATABASES: Record<string, () => Promise<Database>> = {
  "17": () => Postgres17.create(),
  "18": () => Postgres18.create(),
};

for (const [major, create] of Object.entries(DATABASES)) {
  // A refused statement sets the process's exit code until the database is closed.
  Deno.test({
    name: `migrations on PGlite, Postgres ${major}`,
    sanitizeExit: false,
    fn: (t) => migrated(t, major, create),
  });
}

async function migrated(t: Deno.TestContext, major: string, create: () => Promise<Database>) {
  const db = await create();
  const one = async <T>(sql: string, params: unknown[] = []): Promise<T | undefined> =>
    (await db.query<{ value: T }>(sql, params)).rows[0]?.value;
  const as = async <T>(role: string, sql: string, params: unknown[] = []) => {
    await db.exec(`set role ${role}`);
    try {
      return await one<T>(sql, params);
    } finally {
      await db.exec("reset role");
    }
  };

  try {
    await t.step("it is the version it is tested as", async () => {
      const version = await one<string>("select current_setting('server_version') as value");
      assertEquals(version?.split(".")[0], major);
    });

    await t.step("the foundation applies, twice", async () => {
      await db.exec(foundation());
      await db.exec(foundation());
    });

    await t.step("every migration applies unchanged", async () => {
      for (const { sql } of migrations()) await db.exec(sql);
    });

    await t.step("the API roles hold exactly the privileges meant for them", async () => {
      const { rows } = await db.query<{ privilege: string }>(EFFECTIVE_PRIVILEGES);
      assertEquals(rows.map((row) => row.privilege), EXPECTED_PRIVILEGES);
    });

    await t.step(
      "a card is stored, seen by its owner alone and deleted with its user",
      async () => {
        await db.query("insert into auth.users (id) values ($1)", [OWNER]);
        const stored = await as<{ results: { outcome: string }[] }>(
          "service_role",
          "select public.kms_store($1, $2, null) as value",
          [ACTOR, JSON.stringify([ITEM])],
        );
        assertEquals(stored?.results.map((result) => result.outcome), ["created"]);

        const visible = "select count(*)::int as value from public.payment_methods";
        await db.query("select set_config('request.jwt.claims', $1, false)", [
          JSON.stringify({ sub: OWNER, role: "authenticated" }),
        ]);
        assertEquals(await as("authenticated", visible), 1);
        await db.query("select set_config('request.jwt.claims', $1, false)", [
          JSON.stringify({ sub: CARD, role: "authenticated" }),
        ]);
        assertEquals(await as("authenticated", visible), 0);
        const refused = await assertRejects(() => as("anon", visible), Error);
        assertEquals((refused as Error & { code?: string }).code, "42501");

        assertEquals(await one("select count(*)::int as value from kms.ciphertexts"), 1);
        await db.query("delete from auth.users where id = $1", [OWNER]);
        assertEquals(await one("select count(*)::int as value from kms.ciphertexts"), 0);
        assertEquals(
          await one("select erased as value from kms.erasures where audit_seq = 2"),
          {
            payment_methods: 1,
            records: 0,
            ciphertexts: 1,
            card_fingerprints: 1,
            idempotency_answers: 0,
            branch_key_records: 0,
            legacy_rows: 0,
          },
        );
      },
    );

    await t.step("a branch key is made, rotated, and otherwise never changes", async () => {
      const version = newVersion();
      await as("service_role", "select public.kms_branch_key_create($1) as value", [
        branchKeyRecords({}, version),
      ]);
      const rotation = [ACTOR, branchKeyRecords({}, newVersion(), false), version];
      const rotate = "select public.kms_branch_key_rotate($1, $2, $3)";
      const rotated = `${rotate} -> 'rotated' as value`;
      assertEquals(await as("service_role", rotated, rotation), true);
      const known = await as<{ record: { version: string }; epoch: number }>(
        "service_role",
        "select public.kms_branch_key_get('payment', 'branch:ACTIVE') as value",
      );
      assertEquals(known?.epoch, 2);
      assertEquals(
        known?.record,
        (JSON.parse(rotation[1] ?? "") as { type: string; version: string }[])
          .find(({ type }) => type === "branch:ACTIVE"),
      );
      for (
        const change of [
          "update kms.branch_keys set record = record",
          "delete from kms.branch_keys",
        ]
      ) {
        const refused = await assertRejects(() => db.exec(change), Error);
        assertEquals((refused as Error & { code?: string }).code, "KM403");
        assertEquals(refused.message, "branch_key_record_immutable");
      }
    });

    await t.step("an outcome of the health check is recorded, once", async () => {
      const record = "select public.kms_health_record($1) -> 'recorded' as value";
      assertEquals(await as("service_role", record, [healthEntry()]), true);
      assertEquals(await as("service_role", record, [healthEntry()]), false);
    });

    await t.step("a rate limit lets through what it says", async () => {
      const take = "select public.kms_rate_limit_take($1) - 'reset' as value";
      const keys = [JSON.stringify([
        { key: "read:user:a", limit: 1, seconds: 3600 },
        { key: "read_address:a", limit: 9, seconds: 3600 },
      ])];
      const first = await as("service_role", take, keys);
      assertEquals(first, { allowed: true, index: 0, remaining: 0 });
      const second = await as("service_role", take, keys);
      assertEquals(second, { allowed: false, index: 0, remaining: 0 });
      assertEquals(await one("select sum(used)::int as value from kms.rate_limits"), 2);
    });

    await t.step("the audit entry stays, chained, and cannot be removed", async () => {
      assertEquals(await one("select count(*)::int as value from kms.audit_log"), 4);
      assertEquals(
        await one("select kms.audit_verify(max(chain_day)) as value from kms.audit_log"),
        null,
      );
      const refused = await assertRejects(() => db.exec("delete from kms.audit_log"), Error);
      assertEquals((refused as Error & { code?: string }).code, "KM403");
      assertEquals(refused.message, "audit_log_append_only");
    });
  } finally {
    await db.close();
  }
}
