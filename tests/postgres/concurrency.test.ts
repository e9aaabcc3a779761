/** What holds when many call at once, and when one of them dies. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import postgres from "postgres";
import { startCluster } from "./cluster.ts";
import { createHostedDatabase, HOSTED_OWNER } from "./hosted.ts";
import {
  branchKeyRecords,
  card,
  healthEntry,
  MESSAGE,
  newVersion,
  rpc,
  STORE_ACTOR,
} from "./rpc.ts";
import { migrations } from "./schema.ts";

const CONNECTIONS = 16;
const CALLS = 40;
const RATE_CALLERS = 200;
/** As many as a busy project's Data API has. */
const RATE_CONNECTIONS = 60;
const LEASE_SECONDS = "60";
const RETENTION_SECONDS = "86400";

interface Stored {
  readonly results: { outcome: string; payment_method?: { id: string; is_default: boolean } }[];
}
type BranchKeyRecord = Readonly<Record<"type" | "enc" | "version", string>>;
interface BranchKey {
  readonly active: BranchKeyRecord;
  readonly beacon: BranchKeyRecord;
}
interface Rotation {
  readonly rotated: boolean;
  readonly active: BranchKeyRecord;
}
interface Taken {
  readonly allowed: boolean;
  readonly index: number;
  readonly remaining: number;
  readonly reset: number;
}
interface Begun {
  readonly state: "started" | "replay" | "mismatch" | "in_flight";
  readonly token?: string;
  readonly response?: Stored;
}

Deno.test("concurrent callers on Postgres", async (t) => {
  const cluster = await startCluster();
  const database = await createHostedDatabase(cluster, "concurrent", HOSTED_OWNER);
  const admin = postgres(database.adminUrl, { max: 2, onnotice: () => {} });
  const service = postgres(database.ownerUrl, {
    max: CONNECTIONS,
    onnotice: () => {},
    connection: { role: "service_role" },
  });

  const newUser = async (): Promise<string> => {
    const id = crypto.randomUUID();
    await admin`insert into auth.users (id) values (${id})`;
    return id;
  };
  const store = async (items: readonly unknown[], claim: string | null = null): Promise<Stored> => {
    const stored = await rpc<Stored>(service, "kms_store", [
      STORE_ACTOR,
      JSON.stringify(items),
      claim,
    ]);
    assert(stored);
    return stored;
  };
  const begin = async (key: string): Promise<Begun> => {
    const begun = await rpc<Begun>(service, "kms_idempotency_begin", [
      ...["test|route", key, "r".repeat(64)],
      ...[LEASE_SECONDS, RETENTION_SECONDS],
    ]);
    assert(begun);
    return begun;
  };
  const newKey = () => crypto.randomUUID().replaceAll("-", "").repeat(2);
  const claimOf = (key: string, token: string) =>
    JSON.stringify({ scope: "test|route", key_hash: key, token });
  const scalar = async (expression: string, query: string): Promise<number> => {
    const [row] = await admin.unsafe<{ value: string }[]>(
      `select ${expression} as value ${query}`,
    );
    return Number(row?.value);
  };
  const count = (query: string) => scalar("count(*)", query);
  const epoch = () => scalar("epoch", "from kms.key_epoch");
  const activeVersion = async (): Promise<string> => {
    const known = await rpc<{ record: BranchKeyRecord }>(service, "kms_branch_key_get", [
      ...["payment", "branch:ACTIVE"],
    ]);
    return known?.record.version ?? "";
  };
  const rotate = async (expected: string, id = "payment"): Promise<Rotation> => {
    const records = branchKeyRecords({ "branch-key-id": id }, newVersion(), false);
    const answer = await rpc<Rotation>(service, "kms_branch_key_rotate", [
      ...[STORE_ACTOR, records, expected],
    ]);
    assert(answer);
    return answer;
  };
  const takeTogether = async (callers: number, keys: (index: number) => string) => {
    const connections = postgres(database.ownerUrl, {
      max: RATE_CONNECTIONS,
      onnotice: () => {},
      connection: { role: "service_role" },
    });
    try {
      const takes = await together(
        callers,
        (index) => rpc<Taken>(connections, "kms_rate_limit_take", [keys(index)]),
      );
      return takes.map((taken) => {
        assert(taken && taken.reset >= 1 && taken.reset <= 3600);
        return taken;
      });
    } finally {
      await connections.end({ timeout: 5 });
    }
  };
  const used = (key: string) => scalar("used", `from kms.rate_limits where key = '${key}'`);
  const defaultsOf = (owner: string) =>
    count(`from public.payment_methods where user_id = '${owner}' and is_default`);

  try {
    const setup = postgres(database.ownerUrl, { max: 1, onnotice: () => {} });
    for (const { sql } of migrations()) await setup.unsafe(sql);
    await setup.end();

    await t.step("the same card at once is one payment method", async () => {
      const owner = await newUser();
      const { fingerprint } = card(owner);
      const all = await together(
        CALLS,
        () => store([card(owner, { fingerprint, set_default: true })]),
      );
      const results = all.flatMap(({ results }) => results);
      assertEquals(results.filter(({ outcome }) => outcome === "created").length, 1);
      assertEquals(results.filter(({ outcome }) => outcome === "existing").length, CALLS - 1);
      assertEquals(new Set(results.map((result) => result.payment_method?.id)).size, 1);
      assertEquals(await count(`from kms.ciphertexts where owner_id = '${owner}'`), 1);
      assertEquals(await defaultsOf(owner), 1);
    });

    await t.step(
      "the same Idempotency-Key at once starts once and replays one answer",
      async () => {
        const owner = await newUser();
        const key = newKey();
        const begun = await together(CALLS, () => begin(key));
        const started = begun.filter(({ state }) => state === "started");
        assertEquals(started.length, 1);
        assertEquals(begun.filter(({ state }) => state === "in_flight").length, CALLS - 1);

        const claim = claimOf(key, started[0]?.token ?? "");
        const answers = await together(CALLS, () => store([card(owner)], claim));
        assertEquals(new Set(answers.map((answer) => JSON.stringify(answer))).size, 1);
        const replays = await together(CALLS, () => begin(key));
        for (const replay of replays) {
          assertEquals(replay, { state: "replay", response: answers[0] } as Begun);
        }
        assertEquals(await count(`from public.payment_methods where user_id = '${owner}'`), 1);
      },
    );

    await t.step("an expired lease is taken over once, and its former holder fenced", async () => {
      const owner = await newUser();
      const key = newKey();
      const { token: former } = await begin(key);
      await admin`
        update kms.idempotency_keys set lease_expires_at = now() - interval '1 second'
        where key_hash = ${key}`;
      const begun = await together(CALLS, () => begin(key));
      const started = begun.filter(({ state }) => state === "started");
      assertEquals(started.length, 1);

      const outcomes = await Promise.allSettled([
        store([card(owner)], claimOf(key, former ?? "")),
        store([card(owner)], claimOf(key, started[0]?.token ?? "")),
      ]);
      assertEquals(outcomes.map(({ status }) => status), ["rejected", "fulfilled"]);
      const [lost] = outcomes;
      assert(lost?.status === "rejected" && lost.reason instanceof postgres.PostgresError);
      assertEquals([lost.reason.code, lost.reason.message], ["KM409", "idempotency_lease_lost"]);
      assertEquals(await count(`from public.payment_methods where user_id = '${owner}'`), 1);
    });

    await t.step("defaults set at once leave exactly one", async () => {
      const owner = await newUser();
      const cards = Array.from({ length: 5 }, () => card(owner));
      await store(cards);
      const answers = await together(
        CALLS,
        (index) =>
          rpc<{ is_default: boolean }>(service, "kms_payment_method_set_default", [
            ...[STORE_ACTOR, owner, cards[index % cards.length]?.id ?? ""],
          ]),
      );
      assert(answers.every((answer) => answer?.is_default === true));
      assertEquals(await defaultsOf(owner), 1);
    });

    await t.step("default, update, delete and store at once neither fail nor tear", async () => {
      const owner = await newUser();
      const cards = Array.from({ length: 8 }, () => card(owner));
      await store(cards);
      await together(CALLS * 2, (index) => {
        const one = cards[index % cards.length];
        assert(one);
        const { id } = one;
        switch (Math.floor(index / cards.length) % 4) {
          case 0:
            return rpc(service, "kms_payment_method_set_default", [STORE_ACTOR, owner, id]);
          case 1:
            return rpc(service, "kms_payment_method_update", [
              ...[STORE_ACTOR, owner, id, '{"exp_year": 2040}'],
              JSON.stringify([{
                ...(one.ciphertexts as unknown[])[0] as object,
                field: "cardholder_name",
              }]),
            ]);
          case 2:
            return rpc(service, "kms_payment_method_delete", [STORE_ACTOR, owner, id]);
          default:
            return store([{ ...one, id: crypto.randomUUID(), set_default: true }]);
        }
      });
      assert(await defaultsOf(owner) <= 1);
      assertEquals(
        await count(`from public.payment_methods where user_id = '${owner}'`),
        await count(`from kms.card_fingerprints where owner_id = '${owner}'`),
      );
      assertEquals(
        await count(`from public.payment_methods where user_id = '${owner}'`),
        await count(`from kms.ciphertexts where owner_id = '${owner}' and field = 'number'`),
      );
    });

    await t.step("batches over the same owners in opposite orders do not deadlock", async () => {
      const owners = await Promise.all(Array.from({ length: 6 }, newUser));
      const shared = owners.map((owner) => card(owner));
      const batches = await together(CALLS, (index) => {
        const items = shared.map((item) => ({ ...item, id: crypto.randomUUID() }));
        return store(index % 2 ? items : items.reverse());
      });
      const outcomes = batches.flatMap(({ results }) => results.map(({ outcome }) => outcome));
      assertEquals(outcomes.filter((outcome) => outcome === "created").length, owners.length);
      assertEquals(
        outcomes.filter((outcome) => outcome === "existing").length,
        (CALLS - 1) * owners.length,
      );
    });

    await t.step("a user deleted while cards arrive leaves nothing behind", async () => {
      const owner = await newUser();
      const [stored] = await Promise.all([
        together(CALLS, () => store([card(owner)])),
        new Promise((resolve) => setTimeout(resolve, 20)).then(() =>
          admin`delete from auth.users where id = ${owner}`
        ),
      ]);
      const outcomes = stored.flatMap(({ results }) => results.map(({ outcome }) => outcome));
      assert(outcomes.every((outcome) => outcome === "created" || outcome === "owner_not_found"));
      for (const table of ["kms.ciphertexts", "kms.card_fingerprints"]) {
        assertEquals(await count(`from ${table} where owner_id = '${owner}'`), 0, table);
      }
    });

    await t.step("workers at first start agree on one branch key, all of one maker", async () => {
      const made = Array.from({ length: CALLS }, () => branchKeyRecords());
      const answers = await together(
        CALLS,
        (index) => rpc<BranchKey>(service, "kms_branch_key_create", [made[index] ?? ""]),
      );
      assertEquals(new Set(answers.map((answer) => JSON.stringify(answer))).size, 1);
      const stored = await admin<{ record: BranchKeyRecord }[]>`
        select record from kms.branch_keys where branch_key_id = 'payment' order by type`;
      const { active } = answers[0] ?? {};
      const winner = made.map((records): BranchKeyRecord[] => JSON.parse(records))
        .find((records) => records.some(({ enc }) => enc === active?.enc));
      assert(winner);
      const byType = (a: BranchKeyRecord, b: BranchKeyRecord) => a.type < b.type ? -1 : 1;
      assertEquals(stored.map(({ record }) => record), winner.sort(byType));
      assertEquals(await epoch(), 1);
    });

    await t.step("of rotations at once, one wins for each version expected", async () => {
      const versions = [await activeVersion()];
      for (let round = 0; round < 4; round++) {
        const expected = versions.at(-1) ?? "";
        const answers = await together(CALLS, (index) =>
          // Some are late by a version or more.
          rotate(versions[index % versions.length] ?? ""));
        const late = await rotate(versions[0] ?? "");
        const rotated = answers.filter((answer) => answer.rotated);
        assertEquals(rotated.length, 1, expected);
        const now = rotated[0]?.active.version ?? "";
        assert(!versions.includes(now));
        versions.push(now);
        assertEquals(await activeVersion(), now);
        assertEquals(late, { rotated: false, active: rotated[0]?.active } as Rotation);
        assertEquals(await epoch(), versions.length);
      }
      const stored = await admin<{ type: string }[]>`
        select type from kms.branch_keys
        where branch_key_id = 'payment' and type like 'branch:version:%'`;
      assertEquals(stored.map(({ type }) => type).sort(), versions.toSorted());
      // Who won and who came too late: of each round one won, and all others and the late one lost.
      const audited = (outcome: string) =>
        count(`from kms.audit_log where action = 'branch_key.rotate' and outcome = '${outcome}'`);
      assertEquals(await audited("success"), versions.length - 1);
      assertEquals(await audited("failure"), (versions.length - 1) * CALLS);
    });

    await t.step("rotations of several branch keys at once each count", async () => {
      const ids = Array.from({ length: 8 }, (_, index) => `general:${index}`);
      const before = await epoch();
      await Promise.all(ids.map(async (id) => {
        const version = newVersion();
        await rpc(service, "kms_branch_key_create", [
          branchKeyRecords({ "branch-key-id": id }, version),
        ]);
        assertEquals((await rotate(version, id)).rotated, true);
      }));
      assertEquals(await epoch(), before + ids.length);
    });

    await t.step("a version is retired or has messages, whoever comes first", async () => {
      const id = "general:retired";
      let version = newVersion();
      await rpc(service, "kms_branch_key_create", [
        branchKeyRecords({ "branch-key-id": id }, version),
      ]);
      const owners = await together(CALLS, newUser);
      for (let round = 0; round < 6; round++) {
        const old = version.replace("branch:version:", "");
        const { active } = await rotate(version, id);
        version = active.version ?? "";
        const message = { field: "number", message: MESSAGE, branch_key_id: id };
        const ciphertexts = [{ ...message, branch_key_version: old }];
        const outcomes = await together(CALLS, async (index) => {
          if (index === round) {
            const args = [STORE_ACTOR, id, old];
            return (await rpc<{ outcome: string }>(service, "kms_branch_key_retire", args))
              ?.outcome;
          }
          try {
            const item = card(owners[index] ?? "", { ciphertexts });
            return (await store([item])).results[0]?.outcome;
          } catch (error) {
            return (error as postgres.PostgresError).constraint_name;
          }
        });
        const versions = await count(
          `from kms.branch_keys where branch_key_id = '${id}' and version = '${old}'`,
        );
        const stored = await count(`from kms.ciphertexts where branch_key_version = '${old}'`);
        const [outcome] = outcomes.splice(round, 1);
        assertEquals(stored, outcomes.filter((one) => one === "created").length);
        const refused = outcomes.filter((one) => one === "ciphertexts_branch_key_version_fkey");
        assertEquals(stored + refused.length, CALLS - 1, outcomes.join());
        assertEquals([outcome, versions], stored > 0 ? ["in_use", 1] : ["retired", 0]);
      }
    });

    await t.step("reports about one region at once leave the latest time", async () => {
      await together(
        CALLS,
        (index) => rpc(service, "kms_region_report", ["us-west-2", String(500_000 - index * 1000)]),
      );
      const known = await rpc<{ dead_regions: { region: string; for_ms: number }[] }>(
        service,
        "kms_branch_key_get",
        ["payment", "branch:ACTIVE"],
      );
      assertEquals(known?.dead_regions.map(({ region }) => region), ["us-west-2"]);
      const [row] = await admin<{ left: number }[]>`
        select extract(epoch from dead_until - reported_at)::float8 as left
        from kms.region_health`;
      assert(row && row.left > 490 && row.left <= 500, String(row?.left));
    });

    await t.step("outcomes of the health check at once are one row, and none waits", async () => {
      const record = async (sql: postgres.Sql | postgres.TransactionSql) =>
        (await rpc<{ recorded: boolean }>(sql, "kms_health_record", [healthEntry()]))?.recorded;
      await service.begin(async (sql) => {
        assertEquals(await record(sql), true);
        assertEquals(new Set(await together(CALLS, () => record(service))), new Set([false]));
      });
      assertEquals(await count("from kms.health_history"), 1);
    });

    await t.step("of 200 callers at once exactly the limit passes, in each window", async () => {
      const keys = JSON.stringify([
        { key: "reveal_address:shared", limit: 1000, seconds: 3600 },
        { key: "reveal:user:one", limit: 60, seconds: 3600 },
      ]);
      for (const window of ["a new one", "the next one, while the last is purged"]) {
        const [takes] = await Promise.all([
          takeTogether(RATE_CALLERS, () => keys),
          together(10, () => rpc(service, "kms_purge_expired", [])),
        ]);
        const passed = takes.filter(({ allowed }) => allowed);
        assertEquals(passed.length, 60, window);
        // Each was told of another place: nobody was counted twice or not at all.
        const places = passed.map(({ remaining }) => remaining).sort((a, b) => a - b);
        assertEquals(places, Array.from({ length: 60 }, (_, place) => place), window);
        const refused = takes.filter(({ allowed }) => !allowed);
        assert(refused.every(({ index, remaining }) => index === 1 && remaining === 0), window);
        assertEquals(await used("reveal:user:one"), 60, window);
        assertEquals(await used("reveal_address:shared"), 60, window);
        await admin`update kms.rate_limits set ends_at = now() - interval '1 second'`;
      }
    });

    await t.step("limits shared in either order neither deadlock nor lend", async () => {
      const addresses = ["a", "b", "c"];
      const takes = await takeTogether(RATE_CALLERS, (index) => {
        const pair = [
          { key: `read:user:${index % 20}`, limit: 1000, seconds: 3600 },
          { key: `read_address:${addresses[index % 3]}`, limit: 30, seconds: 3600 },
        ];
        return JSON.stringify(index % 2 ? pair : pair.reverse());
      });
      assertEquals(takes.filter(({ allowed }) => allowed).length, 3 * 30);
      for (const address of addresses) assertEquals(await used(`read_address:${address}`), 30);
      // Whoever was refused for the address has got back what was taken of their own.
      const users = await scalar("sum(used)", "from kms.rate_limits where key like 'read:user:%'");
      assertEquals(users, 3 * 30);
    });

    await t.step("of jobs started at once one runs, and hands each row out once", async () => {
      const owner = await newUser();
      await store(Array.from({ length: CALLS }, () => card(owner)));
      const options = [STORE_ACTOR, "reencrypt", '{"data_class": "payment"}'];
      const starts = await together(
        CALLS,
        () =>
          rpc<{ state: string; job: { id: string; total: number } }>(
            service,
            "kms_job_start",
            options,
          ),
      );
      assertEquals(starts.filter((start) => start?.state === "started").length, 1);
      assertEquals(new Set(starts.map((start) => start?.job.id)).size, 1);

      const { id = "", total = 0 } = starts[0]?.job ?? {};
      const targets = '{"payment": {"keyring": "direct", "key_id": "another"}}';
      const limits = JSON.stringify({ rows: 2, bytes: 1e6, lease_seconds: 600 });
      const claims = await together(
        total,
        () =>
          rpc<{ state: string; chunk?: { rows: { record_id: string; field: string }[] } }>(
            service,
            "kms_reencrypt_claim",
            [STORE_ACTOR, id, targets, limits],
          ),
      );
      const rows = claims.flatMap((claim) => claim?.chunk?.rows ?? []);
      assertEquals(rows.length, total);
      assertEquals(new Set(rows.map((row) => row.record_id + row.field)).size, total);
      assert(claims.some((claim) => claim?.state === "busy"));
    });

    await t.step("a backend killed in the middle loses nothing and leaves nothing", async () => {
      const owner = await newUser();
      const key = newKey();
      const { token } = await begin(key);
      const claim = claimOf(key, token ?? "");
      const before = await count("from kms.audit_log");

      // One message to the server, which stops in the open transaction after the store.
      const victim = postgres(database.ownerUrl, { max: 1, onnotice: () => {} });
      const literals = [STORE_ACTOR, JSON.stringify([card(owner)]), claim].map((text) =>
        `'${text.replaceAll("'", "''")}'`
      );
      const cut = victim.unsafe(`
        begin; set local role service_role;
        select public.kms_store(${literals.join(", ")}); select pg_sleep(60)`);
      const died = assertRejects(() => cut);
      Deno.kill(await sleepingBackend(admin), "SIGKILL");
      await died;
      await victim.end({ timeout: 1 });
      await recovered(database.adminUrl); // the server restarts every backend

      assertEquals(await count(`from public.payment_methods where user_id = '${owner}'`), 0);
      assertEquals(await count("from kms.audit_log"), before);
      assertEquals((await begin(key)).state, "in_flight");
      assertEquals((await store([card(owner)], claim)).results[0]?.outcome, "created");
      assertEquals((await begin(key)).state, "replay");
    });

    await t.step("the crash cost the rate limits' counters, and nothing but them", async () => {
      assertEquals(await count("from kms.rate_limits"), 0);
      const keys = JSON.stringify([{ key: "reveal:user:one", limit: 60, seconds: 3600 }]);
      const [taken] = await takeTogether(1, () => keys);
      assertEquals(taken, { allowed: true, index: 0, remaining: 59, reset: 3600 });
    });

    await t.step("the audit chain of all this holds, without a gap", async () => {
      const days = await admin<
        { day: string; entries: string; last: string; bad: string | null }[]
      >`
        select chain_day::text as day, count(*) as entries, max(seq) as last,
          kms.audit_verify(chain_day) as bad
        from kms.audit_log group by chain_day`;
      assert(days.length > 0);
      for (const { day, entries, last, bad } of days) {
        assertEquals(bad, null, day);
        assertEquals(entries, last, day);
      }
      assert(days.reduce((sum, { entries }) => sum + Number(entries), 0) > CALLS * 8);
    });
  } finally {
    await Promise.all([admin.end({ timeout: 5 }), service.end({ timeout: 5 })]);
    await cluster.close();
  }
});

/** All at once, over as many connections as there are. */
function together<T>(calls: number, call: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: calls }, (_, index) => call(index)));
}

/** @returns the process that is in `pg_sleep`, once there is one */
async function sleepingBackend(sql: postgres.Sql): Promise<number> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const [row] = await sql<{ pid: number }[]>`
      select pid from pg_stat_activity where wait_event = 'PgSleep'`;
    if (row) return row.pid;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("the transaction to be cut never came to its sleep");
}

/** Waits for the server to take connections again. */
async function recovered(url: string): Promise<void> {
  for (let attempt = 0;; attempt++) {
    const sql = postgres(url, { max: 1, connect_timeout: 5, onnotice: () => {} });
    try {
      await sql`select 1`;
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}
