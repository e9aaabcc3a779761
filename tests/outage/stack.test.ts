/** Outages seen from outside: the functions, each in a process of its own, on the embedded stack. */
import { assert, assertEquals } from "@std/assert";
import {
  AMEX,
  type Answer,
  card,
  ENCRYPT,
  encrypt,
  MANAGE,
  manage,
  MASTERCARD,
  newUser,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "../http/suite.ts";
import { eventually } from "../stack/eventually.ts";
import { sharedStack } from "../support/stack.ts";
import { callsIn, counts, dead, PRIMARY, SECOND } from "./workers.ts";

const reveal = (userId: string, id: string): Promise<Answer> =>
  manage(SERVER, "POST", `/${id}/reveal`, { user_id: userId, purpose: "test" });

const numberOf = (answer: Answer): string =>
  (answer.body.payment_method?.card as { number: string } | undefined)?.number ?? answer.text;

/** New processes: cold workers with nothing cached. */
async function coldStart(env: Record<string, string> = {}): Promise<void> {
  const stack = await sharedStack();
  await Promise.all([ENCRYPT, MANAGE].map((name) => stack.restartFunction(name, env)));
}

async function healed(): Promise<void> {
  const { aws } = await sharedStack();
  aws.faults.clear();
  await sql("delete from kms.region_health");
  await coldStart();
}

test("two functions at first start make one branch key a class, and read each other's data", async () => {
  const user = await newUser();
  const answers = await Promise.all([
    encrypt(user, card(VISA)),
    encrypt(user, card(AMEX)),
    encrypt(user, { data_class: "pii", data: { a: 1 } }),
    encrypt(user, { data_class: "general", data: { a: 1 } }),
  ]);
  assertEquals(answers.map(({ status }) => status), [201, 201, 201, 201]);
  const rows = await sql<{ branch_key_id: string; count: number }>(
    `select branch_key_id, count(*)::int as count from kms.branch_keys
     group by branch_key_id order by branch_key_id`,
  );
  assertEquals(rows.map(({ branch_key_id, count }) => [branch_key_id, count]), [
    ["general", 3],
    ["payment", 3],
    ["pii", 3],
  ]);
  const id = answers[0]?.body.payment_method?.id ?? "";
  assertEquals(numberOf(await reveal(user.userId, id)), VISA);
});

test("the primary dies, cold workers: every request is served, for one call each there", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  for (const effect of [{ kind: "refuse" }, { kind: "blackhole" }] as const) {
    await coldStart({ KMS_ATTEMPT_TIMEOUT_MS: "500" });
    aws.faults.set(dead(PRIMARY, effect));
    aws.resetCalls();
    const created = await Promise.all(
      [AMEX, MASTERCARD].map((number) => encrypt(user, card(number))),
    );
    assert(created.every(({ status }) => status === 201 || status === 200), created[0]?.text);
    assertEquals(numberOf(await reveal(user.userId, id)), VISA);
    // One of each process, and at most a probe of each beside it.
    assert(callsIn(aws, PRIMARY) <= 4, JSON.stringify(counts(aws)));
    assert(callsIn(aws, SECOND) > 0);
    await healed();
  }
  assertEquals((await rowsOf(user.userId)).payment_methods, 3);
});

test("workers tell each other: the table learns of the dead region, and a cold worker asks it nothing", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  await coldStart();
  aws.faults.set(dead(PRIMARY));
  assertEquals((await encrypt(user, card(AMEX))).status, 201);
  const reported = () =>
    sql<{ region: string }>("select region from kms.region_health where region = $1", [PRIMARY]);
  assertEquals((await eventually(reported, (rows) => rows.length > 0)).length, 1);
  // Long enough for a process to start in.
  await sql("select public.kms_region_report($1, 60000)", [PRIMARY]);
  await coldStart();
  aws.resetCalls();
  assertEquals(numberOf(await reveal(user.userId, id)), VISA);
  assertEquals((await encrypt(user, card(MASTERCARD))).status, 201);
  assertEquals(callsIn(aws, PRIMARY), 0, JSON.stringify(counts(aws)));
  await healed();
});

test("all of AWS dies: warm workers serve from their branch keys without a call, cold ones say 503", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  assertEquals(numberOf(await reveal(user.userId, id)), VISA);
  aws.faults.set([{ effect: { kind: "refuse" } }]);
  aws.resetCalls();
  for (const number of [AMEX, MASTERCARD]) {
    assertEquals((await encrypt(user, card(number))).status, 201);
    assertEquals(numberOf(await reveal(user.userId, id)), VISA);
  }
  assertEquals(counts(aws), {});
  await coldStart();
  const key = crypto.randomUUID();
  const pii = { data_class: "pii", data: { a: 1 } };
  const refused = await encrypt(user, pii, key);
  assertEquals([refused.status, refused.body.code], [503, "kms_unavailable"]);
  assertEquals((await reveal(user.userId, id)).body.code, "kms_unavailable");
  await healed();
  const retried = await encrypt(user, pii, key);
  assertEquals([retried.status, retried.headers.get("idempotent-replayed")], [201, null]);
  assertEquals(numberOf(await reveal(user.userId, id)), VISA);
});

test("KMS_DATA_KEY_TTL_MS=0: a disabled key is refused by the very next request", async () => {
  const { aws } = await sharedStack();
  const user = await newUser();
  const { id } = await store(user, VISA);
  const [key] = await sql<{ arn: string }>(
    "select kms_key_arn as arn from kms.ciphertexts where record_id = $1 limit 1",
    [id],
  );
  await coldStart({ KMS_DATA_KEY_TTL_MS: "0" });
  assertEquals(numberOf(await reveal(user.userId, id)), VISA);
  await aws.asOperator(PRIMARY, "DisableKey", { KeyId: key?.arn });
  try {
    assertEquals((await reveal(user.userId, id)).body.code, "kms_key_unusable");
    assertEquals((await encrypt(user, card(AMEX))).body.code, "kms_key_unusable");
  } finally {
    await aws.asOperator(PRIMARY, "EnableKey", { KeyId: key?.arn });
  }
  assertEquals(numberOf(await reveal(user.userId, id)), VISA);
  await healed();
});
