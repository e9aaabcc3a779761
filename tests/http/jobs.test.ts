/** The re-encryption job, from its start to its last row. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { eventually } from "../stack/eventually.ts";
import { sharedStack } from "../support/stack.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  SERVER,
  sql,
  store,
  test,
  TIMESTAMP,
  UUID,
  VISA,
} from "./suite.ts";

interface Job {
  readonly id: string;
  readonly kind: string;
  readonly status: string;
  readonly dry_run: boolean;
  readonly data_class: string | null;
  readonly total: number;
  readonly done: number;
  readonly unchanged: number;
  readonly failed: number;
  readonly created_by: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly finished_at: string | null;
}

interface Failures {
  readonly failures: readonly {
    readonly table: string;
    readonly record_id: string;
    readonly field: string;
    readonly data_class: string;
    readonly error_code: string;
    readonly created_at: string;
  }[];
  readonly next_cursor: string | null;
}

const counts = ({ status, total, done, unchanged, failed }: Job) => ({
  status,
  total,
  done,
  unchanged,
  failed,
});

const start = (options: Record<string, unknown> = {}) =>
  adminData<Job>("POST", "/jobs/reencrypt", options);

/** Helps until the job has ended. */
async function finish({ id }: Job): Promise<Job> {
  return await eventually(
    () => adminData<Job>("POST", `/jobs/${id}/run`),
    ({ status }) => status !== "running",
  );
}

/** A running job that nobody works on until somebody is asked to. */
async function idleJob(dataClass: string | null): Promise<Job> {
  const [row] = await sql<{ id: string }>(
    `insert into kms.jobs (kind, data_class, dry_run, total, pass_epoch, created_by)
     select 'reencrypt', $1, false, kms.job_total($1), epoch, 'tests' from kms.key_epoch
     returning id`,
    [dataClass],
  );
  return await adminData<Job>("GET", `/jobs/${row?.id}`);
}

interface Ciphertext {
  readonly id: string;
  readonly message: string;
  readonly direct: boolean;
}

const ciphertexts = (dataClass: string) =>
  sql<Ciphertext>(
    `select record_id || field as id, message, branch_key_id is null as direct
     from kms.ciphertexts where data_class = $1 order by 1`,
    [dataClass],
  );

/** `kms-admin` with classes written under another keyring, for as long as `work` runs. */
async function withKeyring(env: Record<string, string>, work: () => Promise<void>): Promise<void> {
  const stack = await sharedStack();
  await stack.restartFunction(ADMIN, env);
  try {
    await work();
  } finally {
    stack.aws.faults.clear();
    await stack.restartFunction(ADMIN, {});
  }
}

async function logged(event: string): Promise<string[]> {
  return (await sharedStack()).functionLog(ADMIN).split("\n")
    .filter((line) => line.includes(`"event":"${event}"`));
}

test("a class without rows is done at once", async () => {
  const answer = await admin(SERVER, "POST", "/jobs/reencrypt", { data_class: "general" });
  assertEquals(answer.status, 202, answer.text);
  const { data: job } = answer.body as { data?: Job };
  assert(job !== undefined);
  assertEquals(answer.headers.get("location"), `/functions/v1/${ADMIN}/jobs/${job.id}`);
  const { id, created_at, updated_at, finished_at, ...rest } = job;
  assertMatch(id, UUID);
  for (const time of [created_at, updated_at, finished_at ?? ""]) assertMatch(time, TIMESTAMP);
  assertEquals(rest, {
    kind: "reencrypt",
    status: "completed",
    dry_run: false,
    data_class: "general",
    total: 0,
    done: 0,
    unchanged: 0,
    failed: 0,
    created_by: "default",
  });
  assertEquals(await adminData("GET", `/jobs/${id}`), job);
  assertEquals(await adminData("POST", "/jobs/run"), null);
});

test("cards move to another keyring and back, tried first, and stay what they were", async () => {
  const user = await newUser();
  const more = { card: { cardholder_name: "Ada", billing_address: { city: "London" } } };
  const ids = [(await store(user, VISA, more)).id, (await store(user, MASTERCARD)).id];
  const reveal = async () => {
    const body = { user_id: user.userId, purpose: "test" };
    const answers = await Promise.all(
      ids.map((id) => manage(SERVER, "POST", `/${id}/reveal`, body)),
    );
    return answers.map(({ status, body }) => [status, body.payment_method?.card]);
  };
  const cards = await reveal();
  const before = await ciphertexts("payment");
  assertEquals(before.map(({ direct }) => direct), [false, false, false, false]);

  await withKeyring({ KMS_PAYMENT_KEYRING: "direct" }, async () => {
    const tried = await finish(await start({ data_class: "payment", dry_run: true }));
    assertEquals(counts(tried), {
      status: "completed",
      total: 4,
      done: 4,
      unchanged: 0,
      failed: 0,
    });
    assertEquals(await ciphertexts("payment"), before);

    const moved = await finish(await start({ data_class: "payment" }));
    assertEquals(counts(moved), counts(tried));
    const after = await ciphertexts("payment");
    assertEquals(after.map(({ id }) => id), before.map(({ id }) => id));
    assert(after.every(({ direct }) => direct));
    assert(after.every(({ message }, index) => message !== before[index]?.message));
    assertEquals(await reveal(), cards);

    const again = await finish(await start({ data_class: "payment" }));
    assertEquals(counts(again), { ...counts(moved), done: 0, unchanged: 4 });
    assertEquals(await ciphertexts("payment"), after);
  });
  const back = await finish(await start());
  assertEquals(counts(back), { status: "completed", total: 4, done: 4, unchanged: 0, failed: 0 });
  assert((await ciphertexts("payment")).every(({ direct }) => !direct));
  assertEquals(await reveal(), cards);
  const answer = await encrypt(user, {
    data_class: "payment",
    card: { number: VISA, exp_month: 1, exp_year: 2031 },
  });
  assertEquals([answer.status, answer.body.payment_method?.id], [200, ids[0]]);
});

test("who started, worked, cancelled and what came of it is audited; no value is", async () => {
  const caller = await newAdmin();
  await withKeyring({ KMS_PAYMENT_KEYRING: "direct" }, async () => {
    const job = await adminData<Job>(
      "POST",
      "/jobs/reencrypt",
      { data_class: "payment" },
      caller,
    );
    assertEquals(job.created_by, caller.userId);
    const ended = await finish(job);
    const entries = await sql<{ action: string; purpose: string; actor: string }>(
      `select action, purpose, actor_type || ':' || actor_id as actor from kms.audit_log
       where record_id = $1 or record_id in (select id from kms.job_chunks where job_id = $1)
       order by chain_day, seq`,
      [job.id],
    );
    assertEquals(entries.map(({ action }) => action), ["job.start", "job.chunk", "job.complete"]);
    assertEquals(entries[0]?.actor, `admin:${caller.userId}`);
    assertEquals(entries[1]?.purpose, `reencrypt: ${ended.done} done, 0 unchanged, 0 failed`);
  });
  await finish(await start());
});

test("a job that would overlap is told which one runs; it can be cancelled, once", async () => {
  await encrypt(await newUser(), { data_class: "pii", data: { name: "Ada" } });
  const job = await idleJob("pii");
  for (const options of [{ data_class: "pii" }, {}, { dry_run: true }]) {
    const answer = await admin(SERVER, "POST", "/jobs/reencrypt", options);
    assertProblem(answer, 409, "job_running", [{ pointer: "/data_class", code: "job_running" }]);
    assert(answer.body.errors?.[0]?.detail?.includes(job.id));
    assertEquals(answer.headers.get("location"), `/functions/v1/${ADMIN}/jobs/${job.id}`);
  }
  const other = await finish(await start({ data_class: "payment" }));
  assertEquals(other.status, "completed");
  assertEquals(await adminData("POST", `/jobs/${other.id}/cancel`), other);

  for (let again = 0; again < 2; again++) {
    const cancelled = await adminData<Job>("POST", `/jobs/${job.id}/cancel`);
    assertEquals(cancelled.status, "cancelled");
    assertMatch(cancelled.finished_at ?? "", TIMESTAMP);
  }
  assertEquals(counts(await finish(job)), { ...counts(job), status: "cancelled" });
  const entries = await sql<{ action: string }>(
    "select action from kms.audit_log where record_id = $1",
    [job.id],
  );
  assertEquals(entries.map(({ action }) => action), ["job.cancel"]);
});

test("cron works on whatever job there is", async () => {
  const job = await idleJob("pii");
  const worked = await adminData<Job>("POST", "/jobs/run", { budget_ms: 20_000 });
  assertEquals([worked.id, worked.status, worked.unchanged], [job.id, "completed", job.total]);
  assertEquals(await adminData("POST", "/jobs/run"), null);
});

test("a key service that is down fails no row: 503, and the job runs on", async () => {
  const { aws } = await sharedStack();
  await withKeyring({
    KMS_PAYMENT_KEYRING: "direct",
    KMS_FALLBACK_REGIONS: "",
    KMS_RETRY_ATTEMPTS: "1",
    KMS_CIRCUIT_BREAKER_THRESHOLD: "100",
  }, async () => {
    const job = await idleJob("payment");
    const failing = { kind: "error", name: "KMSInternalException" } as const;
    aws.faults.set([{ service: "kms", operation: "GenerateDataKey", effect: failing }]);
    assertProblem(await admin(SERVER, "POST", `/jobs/${job.id}/run`), 503, "kms_unavailable");
    const waiting = await adminData<Job>("GET", `/jobs/${job.id}`);
    assertEquals(counts(waiting), counts(job));
    await adminData("POST", `/jobs/${job.id}/cancel`);

    // No answer tells how the run fares that a start begins: the log does.
    const begun = await admin(SERVER, "POST", "/jobs/reencrypt", { data_class: "payment" });
    const { data } = begun.body as { data?: Job };
    assert(data !== undefined, begun.text);
    const [line = ""] = await eventually(
      () => logged("job_run_failed"),
      ({ length }) => length > 0,
    );
    const { error: _, time: __, ...entry } = JSON.parse(line);
    assertEquals(entry, {
      level: "error",
      event: "job_run_failed",
      function: ADMIN,
      request_id: begun.headers.get("x-request-id"),
      code: "kms_unavailable",
      job_id: data.id,
    });
    aws.faults.clear();
    assertEquals(counts(await finish(data)), {
      ...counts(data),
      status: "completed",
      done: job.total,
    });
  });
  await finish(await start({ data_class: "payment" }));
});

test("rows that cannot be read are listed, page by page, and the rest is done", async () => {
  const user = await newUser();
  const { id } = await store(user, AMEX, {
    card: { cardholder_name: "Ada", billing_address: { city: "London" } },
  });
  // Each holds what belongs elsewhere.
  await sql(
    `update kms.ciphertexts c set message = o.message from kms.ciphertexts o
     where c.record_id = $1 and c.field <> 'number' and o.record_id = $1 and o.field = 'number'`,
    [id],
  );
  await withKeyring({ KMS_PAYMENT_KEYRING: "direct" }, async () => {
    const job = await finish(await start({ data_class: "payment" }));
    assertEquals([job.status, job.failed, job.done + job.unchanged + job.failed], [
      "completed",
      2,
      job.total,
    ]);
    const path = `/jobs/${job.id}/failures`;
    const first = await adminData<Failures>("GET", `${path}?limit=1`);
    const second = await adminData<Failures>("GET", `${path}?limit=1&cursor=${first.next_cursor}`);
    assertEquals(second.next_cursor, null);
    const failures = [...first.failures, ...second.failures];
    assertEquals(failures.map(({ field }) => field).sort(), ["billing_address", "cardholder_name"]);
    for (const { created_at, field: _, ...failure } of failures) {
      assertMatch(created_at, TIMESTAMP);
      assertEquals(failure, {
        table: "payment_methods",
        record_id: id,
        data_class: "payment",
        error_code: "decryption_failed",
      });
    }
    const audited = await sql<{ error_code: string; owner_id: string }>(
      `select error_code, owner_id from kms.audit_log where action = 'job.row' and record_id = $1`,
      [id],
    );
    const entry = { error_code: "decryption_failed", owner_id: user.userId };
    assertEquals(audited, [entry, entry]);

    const page = await adminData<{ jobs: readonly Job[]; next_cursor: string }>(
      "GET",
      "/jobs?limit=1",
    );
    assertEquals(page.jobs.map(({ id }) => id), [job.id]);
    const older = await adminData<{ jobs: readonly Job[] }>(
      "GET",
      `/jobs?cursor=${page.next_cursor}`,
    );
    assert(older.jobs.length > 0 && older.jobs.every((one) => one.id !== job.id));
    const refused = [{ parameter: "cursor", code: "invalid_cursor" }];
    for (
      const elsewhere of [
        `/jobs?cursor=${first.next_cursor}`,
        `${path}?cursor=${page.next_cursor}`,
        `/jobs/${older.jobs[0]?.id}/failures?cursor=${first.next_cursor}`,
      ]
    ) {
      assertProblem(await admin(SERVER, "GET", elsewhere), 422, "validation_failed", refused);
    }
  });
  await manage(user, "DELETE", `/${id}`);
});

test("what is no job, no option or no administrator is refused", async () => {
  const nothing = crypto.randomUUID();
  for (const id of [nothing, "nothing"]) {
    assertProblem(await admin(SERVER, "GET", `/jobs/${id}`), 404, "not_found");
    assertProblem(await admin(SERVER, "GET", `/jobs/${id}/failures`), 404, "not_found");
    assertProblem(await admin(SERVER, "POST", `/jobs/${id}/run`), 404, "not_found");
    assertProblem(await admin(SERVER, "POST", `/jobs/${id}/cancel`), 404, "not_found");
  }
  for (
    const [path, body, violation] of [
      ["/jobs/reencrypt", { data_class: VISA }, { pointer: "/data_class", code: "unknown_value" }],
      ["/jobs/reencrypt", { dry_run: "yes" }, { pointer: "/dry_run", code: "wrong_type" }],
      ["/jobs/reencrypt", { class: "pii" }, { pointer: "/class", code: "unknown_field" }],
      ["/jobs/run", { budget_ms: 0 }, { pointer: "/budget_ms", code: "out_of_range" }],
      ["/jobs/run", { budget_ms: 100_001 }, { pointer: "/budget_ms", code: "out_of_range" }],
      [`/jobs/${nothing}/cancel`, { id: 1 }, { pointer: "/id", code: "unknown_field" }],
      ["/jobs/run?budget_ms=1", {}, { code: "unknown_parameter" }],
    ] as const
  ) {
    const answer = await admin(SERVER, "POST", path, body);
    assertProblem(answer, 422, "validation_failed", [violation]);
    assertNowhere(answer, [VISA]);
  }
  assertProblem(await admin(await newUser(), "POST", "/jobs/reencrypt"), 403, "admin_required");
  assertProblem(await admin(SERVER, "GET", "/jobs/run"), 405, "method_not_allowed");
});

test("a job that was purged is not found, nor are its failures", async () => {
  const { id } = await start({ data_class: "general", dry_run: true });
  const purge = () => sql("select kms.purge_expired()");
  await purge();
  assertEquals((await adminData<Job>("GET", `/jobs/${id}`)).id, id);
  await sql(
    `update kms.jobs set created_at = created_at - interval '366 days',
       finished_at = finished_at - interval '366 days' where id = $1`,
    [id],
  );
  await purge();
  for (const path of ["", "/failures"]) {
    assertProblem(await admin(SERVER, "GET", `/jobs/${id}${path}`), 404, "not_found");
  }
  for (const path of ["/run", "/cancel"]) {
    assertProblem(await admin(SERVER, "POST", `/jobs/${id}${path}`), 404, "not_found");
  }
});
