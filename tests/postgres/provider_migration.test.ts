/**
 * A migration of providers by two callers, in small pieces, while workers under either setting make, rotate
 * and erase branch keys: none is lost, and none is left behind that was there before the end.
 */

import { assert, assertEquals } from "@std/assert";
import postgres from "postgres";
import {
  type MigrationStep,
  type MigrationStore,
  ProviderMigration,
} from "../../functions-shared/admin/provider-migration.ts";
import { migrationStore } from "../../functions-shared/database/migration.ts";
import type { Rpc } from "../../functions-shared/database/rpc.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import type { BranchKeyRecord } from "../../functions-shared/keys/branch-key-store.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { startCluster } from "./cluster.ts";
import { createHostedDatabase, HOSTED_OWNER } from "./hosted.ts";
import { branchKeyRecords, newVersion, rpc, STORE_ACTOR } from "./rpc.ts";
import { migrations } from "./schema.ts";

const WORKERS = 6;
/** Of each worker before the switch, and as many while the migration ends. */
const TURNS = 40;
/** Small, so that every step takes many calls. */
const PORTION = 9;
const ARNS = { aws: "arn:aws:kms:us-east-1:000000000000:key/mrk-1", vault: "vault:transit/keys/k" };
type Name = keyof typeof ARNS;

/** A wrapped key that tells its provider and its key: what the other wrapped does not open. */
const wrap = (name: Name, key: string) => btoa(`${name.padEnd(6)}${key}`.padEnd(66, "."));
const wrapped = (name: Name, key: string) => ({
  "kms-arn": ARNS[name],
  enc: wrap(name, key),
  "aws-crypto-ec:key": key,
});
function opens(record: BranchKeyRecord): boolean {
  const name = record["kms-arn"] === ARNS.aws ? "aws" : "vault";
  return record.enc === wrap(name, record["aws-crypto-ec:key"] ?? "");
}

const provider = (name: Name) =>
  ({ name, holds: (id: string) => id === ARNS[name] }) as Partial<KeyProvider> as KeyProvider;

/** By name, as the Data API calls. */
function namedRpc(sql: postgres.Sql): Rpc {
  return async <Result>(name: string, args: Readonly<Record<string, unknown>>) => {
    const list = Object.keys(args).map((key, index) => `${key} => $${index + 1}`).join(", ");
    const [row] = await sql.unsafe<{ answer: Result }[]>(
      `select public.${name}(${list}) as answer`,
      Object.values(args) as (string | number | null)[],
    );
    return row?.answer as Result;
  };
}

Deno.test("a migration of providers among writers on Postgres", async (t) => {
  const cluster = await startCluster();
  const database = await createHostedDatabase(cluster, "moving", HOSTED_OWNER);
  const admin = postgres(database.adminUrl, { max: 2, onnotice: () => {} });
  const service = postgres(database.ownerUrl, {
    max: WORKERS + 4,
    onnotice: () => {},
    connection: { role: "service_role", lock_timeout: 20_000 },
  });
  const query = async <Row>(statement: string): Promise<Row[]> => [
    ...await admin.unsafe<(Row & object)[]>(statement),
  ];

  /** Records that were opened as what stands, by what wraps them. */
  const opened = new Set<string>();
  const copied = new Set<string>();
  const stored = migrationStore(namedRpc(service));
  const store: MigrationStore = {
    ...stored,
    work: (from, to, kind) => stored.work(from, to, kind, PORTION),
    swap: (actor, from, to) => stored.swap(actor, from, to, PORTION),
    end: async (actor, from, to, step) => {
      // Between the look at what the step needs and the end.
      if (late-- > 0) await create("aws");
      return await stored.end(actor, from, to, step, PORTION);
    },
  };
  /** Branch keys that the old provider makes at the last moment. */
  let late = 0;
  const name = (record: BranchKeyRecord) =>
    `${record["branch-key-id"]} ${record.type} ${record.enc}`;
  const migration = new ProviderMigration({
    providers: [provider("aws"), provider("vault")],
    branchKeys: {
      copy: (record, to) => {
        assert(opens(record), "what is read opens");
        const copy = { ...record, ...wrapped(to.name as Name, record["aws-crypto-ec:key"] ?? "") };
        copied.add(name(copy));
        return Promise.resolve(copy);
      },
      confirm: (record) => {
        assert(opens(record), "what is read opens");
        opened.add(name(record));
        return Promise.resolve();
      },
    },
    store,
    isProduction: true,
  });

  /** What a worker made, or was the last to rotate: the key of each version. */
  const ledger = new Map<string, { readonly versions: string[] }>();
  const rotate = async (id: string, by: Name) => {
    const known = ledger.get(id);
    const version = newVersion();
    const answer = await rpc<{ rotated: boolean }>(service, "kms_branch_key_rotate", [
      STORE_ACTOR,
      branchKeyRecords(
        { "branch-key-id": id, ...wrapped(by, crypto.randomUUID()) },
        version,
        false,
      ),
      known?.versions.at(-1) ?? "",
    ]);
    if (answer?.rotated) known?.versions.push(version);
  };
  const create = async (by: Name) => {
    const owner = crypto.randomUUID();
    await admin`insert into auth.users (id) values (${owner})`;
    const id = `pii:${owner}`;
    const version = newVersion();
    await rpc(service, "kms_branch_key_create", [
      branchKeyRecords({ "branch-key-id": id, ...wrapped(by, crypto.randomUUID()) }, version),
    ]);
    ledger.set(id, { versions: [version] });
    return id;
  };
  const readable = async (id: string) => {
    for (const type of ["branch:ACTIVE", "beacon:ACTIVE"]) {
      const { record, copy } = (await rpc<{ record: BranchKeyRecord; copy?: BranchKeyRecord }>(
        service,
        "kms_branch_key_get",
        [id, type],
      ))!;
      assert(opens(record) && (copy === undefined || opens(copy)), `${id} ${type}`);
    }
  };
  /** Each has branch keys of its own: what it knows of them is so. */
  const worker = async (by: (turn: number) => Name) => {
    const own: string[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      const one = own[turn % 5];
      if (turn % 10 === 9 && own.length > 5) {
        const gone = own.pop()!;
        await rpc(service, "kms_user_erase", [STORE_ACTOR, gone.slice(4), "race"]);
        ledger.delete(gone);
      } else if (turn % 3 === 2 && one !== undefined) {
        await rotate(one, by(turn));
        await readable(one);
      } else own.push(await create(by(turn)));
    }
  };
  const workers = (by: (turn: number) => Name) =>
    Promise.all(Array.from({ length: WORKERS }, () => worker(by)));

  const isWaiting = async () =>
    (await query("select 1 from pg_locks where locktype = 'advisory' and not granted")).length > 0;

  /** Calls a step until nothing remains; what is not ready for it is made so. */
  const whole = async (step: MigrationStep): Promise<void> => {
    for (;;) {
      try {
        if ((await migration.run(JSON.parse(STORE_ACTOR), "aws", "vault", step)).remaining === 0) {
          return;
        }
      } catch (error) {
        if (!(error instanceof SuiteError)) throw error;
        // The other caller ended it, and the old setting has made a branch key since.
        if (error.code === "migration_conflict" && await store.status() === undefined) return;
        if (error.code !== "migration_incomplete") throw error;
        await whole(step === "finish" ? "switch" : "prepare");
      }
    }
  };
  const twice = (step: MigrationStep) => Promise.all([whole(step), whole(step)]);

  try {
    const setup = postgres(database.ownerUrl, { max: 1, onnotice: () => {} });
    for (const { sql } of migrations()) await setup.unsafe(sql);
    await setup.end();

    await t.step("whoever is in the audit before the end is seen by it", async () => {
      await create("aws");
      for (const step of ["prepare", "switch"] as const) await whole(step);
      const records = await stored.work("aws", "vault", "confirm", 100);
      await stored.confirm("aws", "vault", records);
      const version = newVersion();
      let ending: ReturnType<MigrationStore["end"]> | undefined;
      await service.begin(async (writing) => {
        const id = "general";
        const made = branchKeyRecords({ "branch-key-id": id, ...wrapped("aws", "late") }, version);
        await rpc(writing, "kms_branch_key_create", [made]);
        ledger.set(id, { versions: [version] });
        ending = stored.end(JSON.parse(STORE_ACTOR), "aws", "vault", "finish", 1000);
        while (await isWaiting() === false) await new Promise((resolve) => setTimeout(resolve, 5));
      });
      assertEquals((await ending)?.remaining, 1);
      await whole("finish");
      assertEquals(await query("select 1 from kms.branch_keys where provider = 'aws'"), []);
    });

    await t.step("messages under branch keys hold no exchange up, nor it them", async () => {
      const ids = [await create("aws"), await create("aws")];
      await whole("prepare");
      await store.step(JSON.parse(STORE_ACTOR), "aws", "vault", "switch");
      const hold = (sql: postgres.TransactionSql, id: string) =>
        // As the foreign key of a message does.
        sql`select from kms.branch_keys where branch_key_id = ${id} and version is not null for key share`;
      await admin.begin(async (storing) => {
        await storing`set local lock_timeout = '5s'`;
        await hold(storing, ids[0]!);
        await stored.swap(JSON.parse(STORE_ACTOR), "aws", "vault", 1000);
        await hold(storing, ids[1]!);
      });
      const left = await query("select 1 from kms.branch_keys where provider = 'aws'");
      assertEquals(left, [], "all of them changed places meanwhile");
      await whole("finish");
    });

    await t.step("two callers and many writers: no branch key is lost or left behind", async () => {
      await Promise.all([workers(() => "aws"), twice("prepare")]);
      // Half of the workers have the new setting; the last ones of the old still write as it ends.
      await Promise.all([workers((turn) => turn % 2 ? "aws" : "vault"), twice("switch")]);
      late = 5;
      await Promise.all([workers((turn) => turn % 20 === 19 ? "aws" : "vault"), twice("finish")]);

      const records = await query<{ record: BranchKeyRecord; copy: BranchKeyRecord | null }>(
        "select record, copy from kms.branch_keys",
      );
      assert(records.every(({ record, copy }) => opens(record) && copy === null));
      assertEquals(
        records.map(({ record }) => `${record["branch-key-id"]} ${record.type}`).sort(),
        [...ledger].flatMap(([id, { versions }]) =>
          ["beacon:ACTIVE", "branch:ACTIVE", ...versions].map((type) => `${id} ${type}`)
        ).sort(),
      );
      for (const { record } of records) {
        const moved = copied.has(name(record)) && record["kms-arn"] === ARNS.vault;
        assert(!moved || opened.has(name(record)), "no copy goes whose record was not opened");
      }
      // In the audit's order: what the old provider wraps was made after the end.
      assertEquals(
        await query(`
          select k.branch_key_id, k.type from kms.branch_keys as k
          where k.provider = 'aws' and not exists (
            select from kms.audit_log as made
            where (made.chain_day, made.seq) > (
              select chain_day, seq from kms.audit_log where action = 'provider.end'
              order by chain_day desc, seq desc limit 1
            ) and made.branch_key_id = k.branch_key_id and made.kms_key_arn = k.record ->> 'kms-arn'
              and made.action in ('branch_key.create', 'branch_key.rotate')
              and (k.type = 'beacon:ACTIVE' or made.branch_key_version
                = substr(coalesce(k.record ->> 'version', k.type), 16))
          )`),
        [],
      );
      const drops = await query<{ action: string; n: number }>(`
        select action, count(*)::int as n from kms.audit_log
        where action in ('provider.drop', 'provider.end') group by 1 order by 1`);
      assertEquals(drops.at(-1), { action: "provider.end", n: 3 });
      assert((drops[0]?.n ?? 0) > 10, "the end took many pieces");
      assertEquals(
        await query(`
          select provider, stage, is_active, sum(records) from (
            select provider, stage, is_active, records from kms.branch_key_counts
            union all
            select provider, stage, type = 'branch:ACTIVE', -1 from kms.branch_keys
          ) as c group by 1, 2, 3 having sum(records) <> 0`),
        [],
        "the counts are what there is",
      );
      const [changes] = await query<{ n: number }>(
        "select count(*)::int as n from kms.branch_key_counts",
      );
      assert((changes?.n ?? 0) < 500, "and were summed meanwhile");
    });
  } finally {
    await Promise.all([admin.end({ timeout: 5 }), service.end({ timeout: 5 })]);
    await cluster.close();
  }
});
