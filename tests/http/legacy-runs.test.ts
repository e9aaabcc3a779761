/** Imports of older rows under workers that die, outages, and users who go. */
import { assertEquals } from "@std/assert";
import { sharedStack } from "../support/stack.ts";
import { eventually } from "../stack/eventually.ts";
import { legacyCiphertext } from "../unit/support/legacy.ts";
import { ADMIN, admin, adminData } from "./admin.ts";
import {
  importKey,
  inline,
  payment,
  revealData,
  revealNumber,
  rowOf,
  runAll,
  stage,
} from "./legacy.ts";
import { assertProblem, newUser, SERVER, sql, test, VISA } from "./suite.ts";

test("workers at once and a worker that is killed: every row once", async () => {
  const stack = await sharedStack();
  await importKey("many");
  const user = await newUser();
  const rows = 120;
  const text = (n: number) => JSON.stringify({ n });
  for (let from = 0; from < rows; from += 60) {
    await stage(
      "many",
      Array.from({ length: 60 }, (_, n) => ({
        user_id: user.userId,
        source_id: `many/${from + n}`,
        ciphertext: legacyCiphertext(text(from + n)),
        as: { data_class: "general" },
      })),
    );
  }
  const imported = async () =>
    (await sql<{ n: number }>(
      "select count(*)::int as n from kms.legacy_rows where source_id like 'many/%' and status = 'imported'",
    ))[0]?.n ?? 0;
  const killed = admin(SERVER, "POST", "/legacy/run", {}).catch(() => undefined);
  await eventually(imported, (count) => count > 0, 60);
  await stack.restartFunction(ADMIN, {});
  await killed;
  // What the dead worker had is free when its lease is over.
  await sql(
    "update kms.legacy_rows set lease_expires_at = clock_timestamp() where lease_token is not null",
  );
  await Promise.all([runAll(), runAll(), runAll()]);
  assertEquals(await imported(), rows);
  const stored = await sql<{ id: string }>(
    "select id::text from public.encrypted_records where user_id = $1",
    [user.userId],
  );
  assertEquals(stored.length, rows);
  const values = await Promise.all(stored.map(({ id }) => revealData(user.userId, id)));
  assertEquals(
    values.map((value) => (value as { n: number }).n).sort((a, b) => a - b),
    Array.from({ length: rows }, (_, n) => n),
  );
});

test("an outage ends the run, fails no row, takes no key in, and is audited", async () => {
  const stack = await sharedStack();
  await importKey("outage");
  const user = await newUser();
  await stage("outage", [payment(user.userId, "outage/1", VISA)]);
  await stack.restartFunction(ADMIN, { KMS_RETRY_ATTEMPTS: "1", KMS_TIMEOUT_MS: "2000" });
  stack.aws.faults.set([{
    service: "kms",
    effect: { kind: "error", name: "KMSInternalException" },
  }]);
  try {
    assertProblem(await admin(SERVER, "POST", "/legacy/run", {}), 503, "kms_unavailable");
    const refused = await admin(SERVER, "POST", "/legacy/keys", inline("outage-2"));
    assertProblem(refused, 503, "kms_unavailable");
  } finally {
    stack.aws.faults.clear();
    await stack.restartFunction(ADMIN, {});
  }
  const audited = await sql<{ action: string; data_class: string; key_id: string | null }>(
    `select a.action, a.data_class, k.key_id
     from kms.audit_log as a left join kms.legacy_keys as k on k.id = a.record_id
     where a.error_code = 'kms_unavailable' and a.table_name = 'legacy_keys' and a.outcome = 'failure'
     order by a.chain_day, a.seq`,
  );
  assertEquals(audited, [
    { action: "legacy_key.open", data_class: "payment", key_id: "outage" },
    { action: "legacy_key.import", data_class: "payment", key_id: null },
  ]);
  assertEquals((await rowOf("outage/1")).status, "pending");
  assertEquals((await runAll()).imported, 1);
  assertEquals(await revealNumber(user.userId, (await rowOf("outage/1")).record_id), VISA);
});

test("a user's rows go with the user", async () => {
  await importKey("gone");
  const user = await newUser();
  await stage("gone", [payment(user.userId, "gone/1", VISA)]);
  await sql("delete from auth.users where id = $1", [user.userId]);
  const left = await sql("select id from kms.legacy_rows where user_id = $1", [user.userId]);
  assertEquals(left, []);
  await adminData("DELETE", "/legacy/keys/gone");
});
