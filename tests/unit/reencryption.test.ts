import { assert, assertEquals } from "@std/assert";
import { type Job, Jobs, type JobStore } from "../../functions-shared/admin/jobs.ts";
import { Reencryption } from "../../functions-shared/admin/reencryption.ts";
import type {
  Chunk,
  Claim,
  ReencryptionStore,
  RowResult,
  Targets,
} from "../../functions-shared/admin/reencryption-store.ts";
import type { StaleRow } from "../../functions-shared/admin/reencrypt-row.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { APP, bytes, IDENTITY } from "./support/identity.ts";
import { ACTOR } from "./support/memory-records.ts";
import { codeOf, suiteError } from "./support/thrown.ts";

const provider = new EnvKeyProvider(bytes("x".repeat(32)));
const cipher = new FieldCipher({
  ...APP,
  writers: { payment: provider, pii: provider, general: provider },
  readers: [provider],
});
const { message } = await cipher.encrypt(IDENTITY, bytes("4242"));
const ROW: StaleRow = {
  table_name: "payment_methods",
  record_id: IDENTITY.record,
  field: IDENTITY.field,
  owner_id: IDENTITY.owner,
  data_class: "payment",
  message,
  hash: "0".repeat(64),
};

function jobOf(overrides: Partial<Job> = {}): Job {
  return {
    id: crypto.randomUUID(),
    kind: "reencrypt",
    status: "running",
    dry_run: false,
    data_class: "payment",
    total: 3,
    done: 0,
    unchanged: 0,
    failed: 0,
    created_by: "tests",
    created_at: "",
    updated_at: "",
    finished_at: null,
    ...overrides,
  };
}

/** Jobs in memory: each is a number of chunks of one row, and ends with the last of them. */
class Memory implements JobStore, ReencryptionStore {
  readonly jobs = new Map<string, Job>();
  readonly left = new Map<string, number>();
  readonly committed: (readonly RowResult[])[] = [];
  readonly released: string[] = [];
  readonly targets: Targets[] = [];
  row = ROW;
  busy = 0;
  lost = 0;

  add(job: Job, chunks: number): Job {
    this.jobs.set(job.id, job);
    this.left.set(job.id, chunks);
    return job;
  }

  start(): Promise<{ started: boolean; job: Job }> {
    const [running] = [...this.jobs.values()].filter(({ status }) => status === "running");
    if (running !== undefined) return Promise.resolve({ started: false, job: running });
    return Promise.resolve({ started: true, job: this.add(jobOf(), 1) });
  }
  get(id: string): Promise<Job | undefined> {
    return Promise.resolve(this.jobs.get(id));
  }
  next(): Promise<Job | undefined> {
    return Promise.resolve([...this.jobs.values()].find(({ status }) => status === "running"));
  }
  list(): Promise<never> {
    throw new Error("not here");
  }
  failures(): Promise<undefined> {
    return Promise.resolve(undefined);
  }
  cancel(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  claim(_actor: unknown, id: string, targets: Targets): Promise<Claim | undefined> {
    this.targets.push(targets);
    const job = this.jobs.get(id);
    const left = this.left.get(id) ?? 0;
    if (job === undefined) return Promise.resolve(undefined);
    if (this.busy-- > 0) return Promise.resolve({ state: "busy", job });
    if (left > 0) {
      this.left.set(id, left - 1);
      const chunk: Chunk = { id, token: crypto.randomUUID(), rows: [this.row] };
      return Promise.resolve({ state: "chunk", job, chunk });
    }
    const ended: Job = { ...job, status: "completed" };
    this.jobs.set(id, ended);
    return Promise.resolve({ state: "ended", job: ended });
  }
  commit(_actor: unknown, { id }: Chunk, results: readonly RowResult[]): Promise<Job | undefined> {
    if (this.lost-- > 0) return Promise.resolve(undefined);
    this.committed.push(results);
    const job = this.jobs.get(id) ?? jobOf();
    this.jobs.set(id, { ...job, done: job.done + results.length });
    return Promise.resolve(this.jobs.get(id));
  }
  release({ id }: Chunk): Promise<void> {
    this.released.push(id);
    return Promise.resolve();
  }
}

function setting(
  overrides: Partial<ConstructorParameters<typeof Reencryption>[0]> = {},
  memory = new Memory(),
) {
  const kicked: Promise<unknown>[] = [];
  const failures: unknown[] = [];
  const reencryption = new Reencryption({
    cipher,
    direct: cipher,
    jobs: new Jobs(memory),
    store: memory,
    provider,
    keyrings: { payment: "hierarchical", pii: "direct", general: "hierarchical" },
    branchKeyScopes: { payment: "class", pii: "class", general: "owner" },
    background: (work) => kicked.push(work),
    failed: (...failure) => failures.push(failure),
    ...overrides,
  });
  return { memory, reencryption, kicked, failures };
}

Deno.test("a run works chunk by chunk until the job has ended", async () => {
  const { memory, reencryption } = setting();
  const { id } = memory.add(jobOf(), 3);
  const job = await reencryption.run(ACTOR, id, 60_000);
  assertEquals([job.status, job.done], ["completed", 3]);
  const [result] = memory.committed[0] ?? [];
  assert(result?.ciphertext !== undefined);
  assertEquals({ ...result, ciphertext: null }, {
    table_name: ROW.table_name,
    record_id: ROW.record_id,
    field: ROW.field,
    hash: ROW.hash,
    ciphertext: null,
  });
  assertEquals(await reencryption.run(ACTOR, id, 60_000), job);
  assertEquals(await codeOf(() => reencryption.run(ACTOR, "nothing", 1)), "not_found");
});

Deno.test("a run ends with its budget of time or of work, never without one chunk", async () => {
  for (const [maxWork, budgetMs, chunks] of [[2, 60_000, 2], [1e9, 0, 1]] as const) {
    const { memory, reencryption } = setting({ maxWork });
    const { id } = memory.add(jobOf(), 5);
    const job = await reencryption.run(ACTOR, id, budgetMs);
    assertEquals([job.status, job.done], ["running", chunks]);
  }
  const { memory, reencryption } = setting({ maxWork: 20 });
  const { id } = memory.add(jobOf(), 5);
  memory.row = { ...ROW, message: `${message}${"A".repeat(15 * 4096)}` };
  await reencryption.run(ACTOR, id, 60_000);
  assertEquals(memory.committed.length, 2, "a long message counts for many");
});

Deno.test("the store is told how each class of the job is written", async () => {
  const { memory, reencryption } = setting();
  await reencryption.run(ACTOR, memory.add(jobOf({ data_class: null }), 0).id, 1);
  await reencryption.run(ACTOR, memory.add(jobOf({ data_class: "pii" }), 0).id, 1);
  const pii = { keyring: "direct", key_id: await provider.wrappingKeyId("pii") } as const;
  assertEquals(memory.targets, [{
    payment: { keyring: "hierarchical", scope: "class" },
    pii,
    general: { keyring: "hierarchical", scope: "owner" },
  }, { pii }]);
});

Deno.test("a dry run decrypts and verifies, and hands no message on", async () => {
  const { memory, reencryption } = setting();
  const { id } = memory.add(jobOf({ dry_run: true }), 1);
  await reencryption.run(ACTOR, id, 60_000);
  const { message: _, owner_id: __, data_class: ___, ...result } = ROW;
  assertEquals(memory.committed, [[result]]);
  memory.row = { ...ROW, field: "cardholder_name" };
  await reencryption.run(ACTOR, memory.add(jobOf({ dry_run: true }), 1).id, 60_000);
  assertEquals(memory.committed[1], [{
    ...result,
    field: "cardholder_name",
    error_code: "decryption_failed",
  }]);
});

Deno.test("an outage gives the chunk back and is told; nothing is stored", async () => {
  const down = new SuiteError("kms_unavailable");
  const { memory, reencryption } = setting({
    cipher: {
      encrypt: () => Promise.reject(down),
      decrypt: cipher.decrypt.bind(cipher),
    },
  });
  const { id } = memory.add(jobOf(), 2);
  assertEquals(await suiteError(() => reencryption.run(ACTOR, id, 60_000)), down);
  assertEquals([memory.released, memory.committed], [[id], []]);
  assertEquals((await memory.get(id))?.status, "running");
});

Deno.test("a database that takes no results is told as well", async () => {
  const memory = new Memory();
  memory.commit = () => Promise.reject(new SuiteError("database_unavailable"));
  memory.release = () => Promise.reject(new SuiteError("internal_error"));
  const { reencryption } = setting({}, memory);
  const { id } = memory.add(jobOf(), 1);
  assertEquals(await codeOf(() => reencryption.run(ACTOR, id, 1)), "database_unavailable");
});

Deno.test("a lease that was lost, and others that are busy, end nothing", async () => {
  const { memory, reencryption } = setting();
  memory.lost = 1;
  memory.busy = 2;
  const job = await reencryption.run(ACTOR, memory.add(jobOf(), 2).id, 60_000);
  assertEquals([job.status, job.done], ["completed", 1]);
  memory.busy = 1e9;
  const waiting = await reencryption.run(ACTOR, memory.add(jobOf(), 1).id, 300);
  assertEquals([waiting.status, waiting.done], ["running", 0]);
});

Deno.test("cron works on one job after the other, while its budget lasts", async () => {
  const { memory, reencryption } = setting();
  assertEquals(await reencryption.runNext(ACTOR, 60_000), null);
  memory.add(jobOf(), 2);
  const { id } = memory.add(jobOf({ data_class: "general" }), 1);
  const last = await reencryption.runNext(ACTOR, 60_000);
  assertEquals([last?.id, last?.status, memory.committed.length], [id, "completed", 3]);
});

Deno.test("a start works in the background; one that would overlap names the running job", async () => {
  const { memory, reencryption, kicked, failures } = setting();
  const job = await reencryption.start(ACTOR, {});
  assertEquals([job.status, kicked.length], ["running", 1]);
  const error = await suiteError(() => reencryption.start(ACTOR, {}));
  assertEquals([error.code, error.status], ["job_running", 409]);
  assertEquals(error.headers, { location: `/functions/v1/tests/jobs/${job.id}` });
  assert(error.violations[0]?.detail.includes(job.id));
  await Promise.all(kicked);
  assertEquals((await memory.get(job.id))?.status, "completed");
  assertEquals(failures, []);

  memory.start = () => Promise.resolve({ started: true, job: jobOf({ status: "completed" }) });
  await reencryption.start(ACTOR, {});
  assertEquals(kicked.length, 1, "a job without rows needs no worker");
});

Deno.test("a run in the background that fails is told of, with its job, and ends nothing", async () => {
  const down = new SuiteError("database_unavailable");
  const memory = new Memory();
  memory.claim = () => Promise.reject(down);
  const { reencryption, kicked, failures } = setting({}, memory);
  const job = await reencryption.start(ACTOR, {});
  await Promise.all(kicked);
  assertEquals(failures, [[ACTOR, job, down]]);
  assertEquals((await memory.get(job.id))?.status, "running");
});
