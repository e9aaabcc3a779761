/** Erasing people on a real Postgres: at once with all that else goes on, and by roles that may little. */

import { assert, assertEquals } from "@std/assert";
import postgres from "postgres";
import { startCluster } from "./cluster.ts";
import { createHostedDatabase, HOSTED_OWNER } from "./hosted.ts";
import { branchKeyRecords, card, MESSAGE, newVersion, rpc, STORE_ACTOR } from "./rpc.ts";
import { migrations } from "./schema.ts";

const CONNECTIONS = 16;
const CALLS = 64;
const ROUNDS = 6;

interface Stored {
  readonly results: { outcome: string; payment_method?: { id: string } }[];
}
interface BranchKey {
  readonly active: { readonly version: string };
}

/** A database of its own, with connections of the functions and of GoTrue. */
Deno.test("erasures on Postgres", async (t) => {
  const cluster = await startCluster();
  const database = await createHostedDatabase(cluster, "erasures", HOSTED_OWNER);
  const admin = postgres(database.adminUrl, { max: CONNECTIONS, onnotice: () => {} });
  const service = postgres(database.ownerUrl, {
    max: CONNECTIONS,
    onnotice: () => {},
    connection: { role: "service_role" },
  });
  const count = async (query: string): Promise<number> => {
    const [row] = await admin.unsafe<{ count: string }[]>(`select count(*) as count ${query}`);
    return Number(row?.count);
  };
  const newUser = async (): Promise<string> => {
    const id = crypto.randomUUID();
    await admin`insert into auth.users (id) values (${id})`;
    return id;
  };
  const keyOf = async (id: string): Promise<string> => {
    const key = await rpc<BranchKey>(service, "kms_branch_key_create", [
      branchKeyRecords({ "branch-key-id": id }),
    ]);
    return key?.active.version ?? "";
  };
  const store = (owner: string, version: string, overrides = {}) =>
    rpc<Stored>(service, "kms_store", [
      STORE_ACTOR,
      JSON.stringify([card(owner, { ciphertexts: [messageUnder(owner, version)], ...overrides })]),
      null,
    ]);
  /** Messages whose owner's key is not there. */
  const unreadable = () =>
    count(`from kms.ciphertexts c where c.branch_key_id like '%:%' and not exists (
      select from kms.branch_keys k where k.branch_key_id = c.branch_key_id
        and k.type = 'branch:version:' || c.branch_key_version)`);
  /** Branch keys of which some records are there and others are not. */
  const halves = () =>
    count(`from (
      select from kms.branch_keys where branch_key_id like '%:%' group by branch_key_id
      having count(*) filter (where type = 'branch:ACTIVE') <> 1
        or count(*) filter (where type = 'beacon:ACTIVE') <> 1
        or count(*) filter (where type = (select a.record ->> 'version' from kms.branch_keys a
          where a.branch_key_id = branch_keys.branch_key_id and a.type = 'branch:ACTIVE')) <> 1
    ) as h`);

  try {
    const setup = postgres(database.ownerUrl, { max: 1, onnotice: () => {} });
    for (const { sql } of migrations()) await setup.unsafe(sql);
    await setup.end();

    await t.step("a role that may only delete users erases them", async () => {
      await admin.unsafe(`
        create role gotrue; grant usage on schema auth to gotrue;
        grant select, delete on auth.users to gotrue`);
      const user = await newUser();
      const stored = await store(user, await keyOf(`payment:${user}`));
      assertEquals(stored?.results[0]?.outcome, "created");
      await admin.begin(async (sql) => {
        await sql.unsafe("set local role gotrue; set local search_path = auth");
        await sql`delete from users where id = ${user}`;
      });
      const [erasure] = await admin<{ erased: unknown; action: string; actor_type: string }[]>`
        select e.erased, a.action, a.actor_type from kms.erasures e
        join kms.audit_log a on (a.chain_day, a.seq, a.hash) = (e.audit_day, e.audit_seq, e.audit_hash)
        where e.owner_id = ${user}`;
      assertEquals({ ...erasure }, {
        erased: {
          payment_methods: 1,
          records: 0,
          ciphertexts: 1,
          card_fingerprints: 1,
          idempotency_answers: 0,
          branch_key_records: 3,
          legacy_rows: 0,
        },
        action: "user.erase",
        actor_type: "system",
      });
      assertEquals(await count(`from kms.branch_keys where branch_key_id like '%:${user}'`), 0);
    });

    await t.step("a migration of providers waits for nobody who is being erased", async () => {
      const step = async (name: string) => {
        const args = [STORE_ACTOR, "aws", "vault", name];
        return (await rpc<{ outcome: string }>(service, "kms_migration_step", args))?.outcome;
      };
      const uncopied = async () =>
        await rpc<Record<string, string>[]>(
          service,
          "kms_migration_work",
          ["aws", "vault", "copy", "100"],
        ) ?? [];
      const asCopies = (records: Record<string, string>[]) =>
        JSON.stringify(records.map((record) => ({
          record,
          copy: { ...record, "kms-arn": "vault:transit/keys/payment" },
        })));
      const calls = (records: Record<string, string>[]): [string, string[]][] => [
        ["kms_migration_copy", [STORE_ACTOR, "aws", "vault", asCopies(records)]],
        ["kms_migration_swap", [STORE_ACTOR, "aws", "vault", "1000"]],
        ["kms_migration_confirm", ["aws", "vault", JSON.stringify(records)]],
      ];
      assertEquals(await step("prepare"), "ok");
      for (let left = await uncopied(); left.length > 0; left = await uncopied()) {
        await rpc(service, "kms_migration_copy", [STORE_ACTOR, "aws", "vault", asCopies(left)]);
      }
      assertEquals(await step("switch"), "ok");
      await rpc(service, "kms_migration_swap", [STORE_ACTOR, "aws", "vault", "1000"]);

      // All that is left to move is of two people who are being erased; one of them has no copies yet.
      const [copied, bare] = [await newUser(), await newUser()];
      await keyOf(`payment:${copied}`);
      const records = await uncopied();
      await rpc(service, "kms_migration_copy", [STORE_ACTOR, "aws", "vault", asCopies(records)]);
      await keyOf(`payment:${bare}`);
      records.push(...await uncopied());
      assertEquals(records.length, 6);
      const answers: unknown[] = [];
      await service.begin(async (erasing) => {
        for (const user of [copied, bare]) {
          await rpc(erasing, "kms_user_erase", [STORE_ACTOR, user, "race"]);
        }
        await admin.begin(async (moving) => {
          await moving`set local role service_role`;
          await moving`set local lock_timeout = '10s'`;
          for (const [name, args] of calls(records)) answers.push(await rpc(moving, name, args));
        });
      });
      assertEquals(answers, [{ stored: 0 }, { swapped: 0 }, { confirmed: 0 }]);
    });

    await t.step(
      "whatever comes while a person is erased can be read, or is not there",
      async () => {
        const outcomes = new Set<string>();
        for (let round = 0; round < ROUNDS; round++) {
          const owner = await newUser();
          const id = `payment:${owner}`;
          let held = await keyOf(id);
          await together(CALLS, async (index) => {
            try {
              if (index % 16 === 7) {
                await rpc(service, "kms_user_erase", [STORE_ACTOR, owner, "race"]);
              } else if (index % 16 === 3) {
                await rpc(service, "kms_branch_key_rotate", [
                  STORE_ACTOR,
                  branchKeyRecords({ "branch-key-id": id }, newVersion(), false),
                  held,
                ]);
              } else if (index % 16 === 11) held = await keyOf(id);
              else {
                const stored = await store(owner, held);
                const card = stored?.results[0]?.payment_method?.id ?? null;
                await rpc(service, "kms_payment_method_update", [
                  ...[STORE_ACTOR, owner, card, "{}"],
                  JSON.stringify([{ ...messageUnder(owner, held), field: "cardholder_name" }]),
                ]);
                outcomes.add("stored");
              }
            } catch (error) {
              assert(
                error instanceof postgres.PostgresError && error.code === "23503",
                String(error),
              );
              outcomes.add("refused");
            }
          });
          assertEquals([await unreadable(), await halves()], [0, 0]);
          await rpc(service, "kms_user_erase", [STORE_ACTOR, owner, "at last"]);
          assertEquals(await count(`from kms.branch_keys where branch_key_id = '${id}'`), 0);
          assertEquals(await count(`from kms.ciphertexts where owner_id = '${owner}'`), 0);
        }
        assertEquals([...outcomes].sort(), ["refused", "stored"]);
      },
    );

    await t.step(
      "many users deleted at once, while others write for them: no deadlock",
      async () => {
        for (let round = 0; round < ROUNDS; round++) {
          const owners = await Promise.all(Array.from({ length: 8 }, newUser));
          const cards = await Promise.all(owners.map(async (owner) => {
            const version = await keyOf(`payment:${owner}`);
            const stored = await store(owner, version);
            return { owner, version, id: stored?.results[0]?.payment_method?.id ?? null };
          }));
          await Promise.all([
            together(CALLS, async (index) => {
              const { owner, version, id } = cards[index % cards.length]!;
              if (index % 3 === 0) {
                await rpc(service, "kms_payment_method_update", [
                  ...[STORE_ACTOR, owner, id, "{}"],
                  JSON.stringify([{ ...messageUnder(owner, version), field: "cardholder_name" }]),
                ]);
              } else if (index % 3 === 1) {
                await rpc(service, "kms_payment_method_set_default", [STORE_ACTOR, owner, id]);
              } else {
                await rpc(service, "kms_branch_key_rotate", [
                  STORE_ACTOR,
                  branchKeyRecords({ "branch-key-id": `payment:${owner}` }, newVersion(), false),
                  version,
                ]);
              }
            }),
            admin`delete from auth.users where id = any (${owners.toReversed()}::uuid[])`,
          ]);
          const of = `= any ('{${owners}}'::uuid[])`;
          assertEquals(await count(`from kms.erasures where owner_id ${of}`), owners.length);
          assertEquals(await count(`from kms.ciphertexts where owner_id ${of}`), 0);
          assertEquals([await unreadable(), await halves()], [0, 0]);
        }
        const [chain] = await admin<{ bad: string | null }[]>`
        select kms.audit_verify(max(chain_day)) as bad from kms.audit_log`;
        assertEquals(chain?.bad, null);
      },
    );

    await t.step("a deletion that is rolled back erases nothing", async () => {
      const user = await newUser();
      await store(user, await keyOf(`payment:${user}`));
      await admin.begin(async (sql) => {
        await sql`delete from auth.users where id = ${user}`;
        throw new Error("rolled back");
      }).catch(() => {});
      assertEquals(await count(`from kms.ciphertexts where owner_id = '${user}'`), 1);
      assertEquals(await count(`from kms.branch_keys where branch_key_id like '%:${user}'`), 3);
      assertEquals(await count(`from kms.erasures where owner_id = '${user}'`), 0);
    });
  } finally {
    await Promise.all([admin.end({ timeout: 5 }), service.end({ timeout: 5 })]);
    await cluster.close();
  }
});

function messageUnder(owner: string, version: string) {
  return {
    field: "number",
    message: MESSAGE,
    branch_key_id: `payment:${owner}`,
    branch_key_version: version.replace("branch:version:", ""),
  };
}

/** All at once, over as many connections as there are. */
function together<T>(calls: number, call: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: calls }, (_, index) => call(index)));
}
