/**
 * Twenty thousand rows and more are re-encrypted by workers that are killed at random, while other processes
 * change, delete and create rows under the old keys. Whoever comes last finishes the job, and then every row
 * holds what its last writer wrote, under the newest key.
 */
import { assert, assertEquals } from "@std/assert";
import postgres from "postgres";
import { startCluster } from "../postgres/cluster.ts";
import { createHostedDatabase, HOSTED_OWNER } from "../postgres/hosted.ts";
import { migrations } from "../postgres/schema.ts";
import type { Job } from "../../functions-shared/admin/jobs.ts";
import { seed } from "./seed.ts";
import {
  actor,
  connect,
  DATABASE,
  fieldsOf,
  identityOf,
  type Ledger,
  type Row,
  SCOPES,
  valueOf,
  worker,
} from "./suite.ts";

const OWNERS = 20;
/** With three fields each. */
const CARDS = 6_000;
const RECORDS = 3_000;
const WRITERS = 2;
const WORKERS = 2;
const KILLS = 12;

const SELF = actor("kill-test");

Deno.test("no row is lost, mixed up or left behind, whoever dies", async () => {
  const cluster = await startCluster();
  try {
    const { ownerUrl, adminUrl } = await createHostedDatabase(cluster, "killed", HOSTED_OWNER);
    const admin = postgres(adminUrl, { max: 2, onnotice: () => {} });
    const setup = postgres(ownerUrl, { max: 1, onnotice: () => {} });
    for (const { sql } of migrations()) await setup.unsafe(sql);
    await setup.end();
    try {
      await using database = connect(ownerUrl);
      await killed(admin, database.rpc, ownerUrl);
    } finally {
      await admin.end({ timeout: 5 });
    }
  } finally {
    await cluster.close();
  }
});

async function killed(
  admin: postgres.Sql,
  rpc: ReturnType<typeof connect>["rpc"],
  url: string,
): Promise<void> {
  const { jobs, store, seal } = worker(rpc);
  const rows = await seed(admin, seal, { owners: OWNERS, cards: CARDS, records: RECORDS });
  const owners = [...new Set(rows.map(({ owner }) => owner))];
  const [stored] = await admin<{ count: number }[]>`select count(*)::int from kms.ciphertexts`;
  assert((stored?.count ?? 0) >= 20_000);

  const writers = await Promise.all(
    Array.from(
      { length: WRITERS },
      (_, index) => startWriter(url, rows.filter((_, n) => n % WRITERS === index)),
    ),
  );

  const rotateAndStart = async (): Promise<Job> => {
    const ids = ["payment", "pii", ...owners.map((owner) => `general:${owner}`)] as const;
    for (const id of ids) {
      const dataClass = id === "payment" || id === "pii" ? id : "general";
      // Not every owner has general data, and only what is there can be rotated.
      await store.active(id, dataClass);
      assert((await store.rotate(SELF, id, dataClass)).rotated);
    }
    return await jobs.start(SELF, "reencrypt", {});
  };
  let job = await rotateAndStart();

  // Killed in the middle of their work: whenever some more rows are done, and a moment later.
  const all = Array.from({ length: WORKERS }, () => startWorker(url));
  const frozen: Deno.ChildProcess[] = [];
  for (let kills = 0; kills < KILLS; kills++) {
    const { done } = await jobs.get(job.id);
    for (;;) {
      const now = await jobs.get(job.id);
      if (now.status !== "running") {
        job = await rotateAndStart();
        break;
      }
      if (now.done >= done + 600) break;
      await pause(20);
    }
    await pause(Math.random() * 50);
    const [victim] = all.splice(Math.floor(Math.random() * all.length), 1);
    // Two only stop: they come back when others have had their chunks for long.
    if (kills % 5 === 0 && victim !== undefined) {
      victim.kill("SIGSTOP");
      frozen.push(victim);
    } else {
      kill(victim);
      await victim?.status;
    }
    all.push(startWorker(url));
  }
  for (const one of frozen) one.kill("SIGCONT");

  const ledger: Ledger = Object.assign({}, ...await Promise.all(writers.map((end) => end())));
  for (const one of [...all, ...frozen]) {
    kill(one);
    await one.status;
  }

  // The writers wrote under old keys to the end: a job that ended before them did not see it all.
  if ((await jobs.get(job.id)).status !== "running") {
    job = await jobs.start(SELF, "reencrypt", {});
  }
  // Fresh workers, who wait for the leases of the dead.
  const fresh = [startWorker(url), startWorker(url)];
  for (const one of fresh) assert((await one.status).success);
  const ended = await jobs.get(job.id);
  assertEquals([ended.status, ended.failed], ["completed", 0]);
  assertEquals(ended.total, ended.done + ended.unchanged);
  assertEquals(await staleRows(admin), 0);

  await assertRows(admin, rpc, rows, ledger);
  const [chunks] = await admin<{ open: number; taken: number }[]>`
    select count(*) filter (where finished_at is null)::int as open,
      count(*) filter (where attempts > 1)::int as taken from kms.job_chunks`;
  assertEquals(chunks?.open, 0);
  assert((chunks?.taken ?? 0) > 0, "no worker died with a chunk in its hands");
  const [audit] = await admin<{ broken: number; chunks: boolean }[]>`
    select count(kms.audit_verify(d.chain_day))::int as broken,
      (select count(*) from kms.audit_log where action = 'job.chunk')
        = (select count(*) from kms.job_chunks) as chunks
    from (select distinct chain_day from kms.audit_log) as d`;
  assertEquals({ ...audit }, { broken: 0, chunks: true });
}

async function assertRows(
  admin: postgres.Sql,
  rpc: ReturnType<typeof connect>["rpc"],
  rows: readonly Row[],
  ledger: Ledger,
): Promise<void> {
  const { open } = worker(rpc);
  const expected: Ledger = { ...ledger };
  for (const row of rows) {
    for (const field of fieldsOf(row)) {
      if (!(`${row.id} ${field}` in expected)) expected[`${row.id} ${field}`] = 0;
    }
  }
  const stored = await admin<
    {
      table: Row["table"];
      id: string;
      field: string;
      owner: string;
      dataClass: Row["dataClass"];
      message: string;
    }[]
  >`
    select table_name as table, record_id as id, field, owner_id as owner, data_class as "dataClass",
      message from kms.ciphertexts`;
  for (const { field, message, ...row } of stored) {
    const revision = expected[`${row.id} ${field}`];
    assert(typeof revision === "number", `${row.id} ${field} was deleted, or never written`);
    const identity = identityOf(row, field);
    assertEquals(await open(identity, message), valueOf(identity, revision));
  }
  const standing = Object.values(expected).filter((revision) => revision !== null).length;
  assertEquals(stored.length, standing);
  const written = Object.values(ledger);
  assert(written.some((revision) => revision === null), "nothing was deleted meanwhile");
  assert(written.some((revision) => revision !== null), "nothing was changed meanwhile");
}

/** Rows that are not under the active version of the branch key that their class is written under. */
async function staleRows(admin: postgres.Sql): Promise<number> {
  const [row] = await admin<{ count: number }[]>`
    select count(*)::int from kms.ciphertexts as c
    join jsonb_each_text(${JSON.stringify(SCOPES)}::text::jsonb) as s on s.key = c.data_class
    left join kms.branch_keys as b on b.type = 'branch:ACTIVE' and b.branch_key_id = c.branch_key_id
      and b.branch_key_id = c.data_class || case s.value when 'owner' then ':' || c.owner_id else '' end
      and b.record ->> 'version' = 'branch:version:' || c.branch_key_version
    where b.type is null`;
  return row?.count ?? -1;
}

function spawn(script: string, url: string): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", new URL(script, import.meta.url).pathname],
    env: { [DATABASE]: url },
    stdin: script === "writer.ts" ? "piped" : "null",
    stdout: script === "writer.ts" ? "piped" : "inherit",
    stderr: "inherit",
  });
}

function startWorker(url: string): Deno.ChildProcess {
  return spawn("worker.ts", url).spawn();
}

/** Resolves once it writes; what it resolves to ends it and gives its ledger. */
async function startWriter(url: string, rows: readonly Row[]): Promise<() => Promise<Ledger>> {
  const child = spawn("writer.ts", url).spawn();
  const input = child.stdin.getWriter();
  await input.write(new TextEncoder().encode(`${JSON.stringify(rows)}\n`));
  const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const readTo = async (holds: () => boolean) => {
    while (!holds()) {
      const { done, value } = await output.read();
      if (done) return;
      text += value;
    }
  };
  await readTo(() => text.startsWith("begun\n"));
  return async () => {
    await input.close();
    await readTo(() => false);
    assert((await child.status).success, "a writer failed");
    return JSON.parse(text.slice("begun\n".length));
  };
}

function kill(child: Deno.ChildProcess | undefined): void {
  try {
    child?.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // has ended: there was no job for a moment
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
