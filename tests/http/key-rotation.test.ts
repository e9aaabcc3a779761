/** Rotation of wrapping keys and branch keys, and the retirement of old versions, through `kms-admin`. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { sharedStack } from "../support/stack.ts";
import { admin, adminData, newAdmin } from "./admin.ts";
import {
  assertProblem,
  auditOf,
  card,
  ENCRYPT,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  NO_ROWS,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  TIMESTAMP,
  UUID,
  VISA,
} from "./suite.ts";

interface Metadata {
  readonly keyId: string;
  readonly lastRotated: string | null;
  readonly createdAt: string;
  readonly rotation: { automatic: boolean; next: string; on_demand_left: number };
  readonly branch_key: {
    readonly id: string;
    readonly version: string;
    readonly versions: number;
    readonly old_versions: readonly { version: string; in_use: boolean }[];
  };
}

interface Rotation {
  readonly newKeyVersion: string | null;
  readonly rotated: readonly Record<string, string>[];
  readonly failed: readonly unknown[];
}

const metadata = (dataClass = "payment") =>
  adminData<Metadata>("GET", `/key/metadata?data_class=${dataClass}`);

/** The branch key and version under which a row's messages are. */
async function versionsOf(recordId: string | undefined): Promise<string[]> {
  const rows = await sql<{ key: string }>(
    `select distinct branch_key_id || ' ' || branch_key_version as key
     from kms.ciphertexts where record_id = $1`,
    [recordId],
  );
  return rows.map(({ key }) => key);
}

async function readable(id: string, userId: string, number: string): Promise<void> {
  const path = `/${id}/reveal`;
  const answer = await manage(SERVER, "POST", path, { user_id: userId, purpose: "support" });
  assertEquals(
    (answer.body.payment_method?.card as { number: string }).number,
    number,
    answer.text,
  );
}

test("before anything is stored there is no branch key to rotate or to retire", async () => {
  assertProblem(await admin(SERVER, "POST", "/key/rotate"), 404, "not_found");
  const retire = { branch_key_id: "payment", version: crypto.randomUUID() };
  assertProblem(await admin(SERVER, "POST", "/key/retire", retire), 404, "not_found");
  const answer = await adminData<Metadata>("GET", "/key/metadata");
  assertEquals(answer.branch_key, null as never);
});

test("metadata in the guide's shape, of each class", async () => {
  const user = await newUser();
  await store(user, VISA);
  const stack = await sharedStack();
  for (const caller of [SERVER, await newAdmin()]) {
    const data = await adminData<Record<string, unknown>>(
      "GET",
      "/key/metadata",
      undefined,
      caller,
    );
    const { keyId, createdAt, rotation, branch_key, ...rest } = data as unknown as Metadata;
    assertMatch(keyId, /^arn:aws:kms:us-east-1:\d{12}:key\/mrk-/);
    assertMatch(createdAt, TIMESTAMP);
    assertEquals(rest as unknown, {
      description: "parker-flight payment data, development",
      lastRotated: null,
      enabled: true,
      keyUsage: "ENCRYPT_DECRYPT",
      keySpec: "AES-256",
      provider: "aws",
      data_class: "payment",
      state: "Enabled",
    });
    assertEquals([rotation.automatic, rotation.on_demand_left], [true, 25]);
    assert(Date.parse(rotation.next) > Date.now());
    assertMatch(branch_key.version, UUID);
    assertEquals([branch_key.id, branch_key.versions, branch_key.old_versions], ["payment", 1, []]);
  }
  assertNotEquals((await metadata("pii")).keyId, (await metadata()).keyId);
  const wrong = await admin(SERVER, "GET", "/key/metadata?data_class=other");
  assertProblem(wrong, 422, "validation_failed", [
    { parameter: "data_class", code: "unknown_class" },
  ]);
  assertProblem(await admin(SERVER, "POST", "/key/rotate", []), 422, "validation_failed", [
    { pointer: "", code: "wrong_type" },
  ]);
  for (const path of ["/key/rotate", "/key/retire"]) {
    assertProblem(await admin(user, "POST", path, {}), 403, "admin_required");
  }
  assertEquals(stack.functionLog("kms-admin").includes(VISA), false);
});

test("a rotated branch key: new messages under the new version, old ones still open", async () => {
  const user = await newUser();
  const old = await store(user, VISA);
  const [before] = await versionsOf(old.id);
  const answer = await admin(SERVER, "POST", "/key/rotate");
  assertEquals(answer.status, 200, answer.text);
  const { success, message, data } = answer.body as unknown as {
    success: boolean;
    message: string;
    data: Rotation;
  };
  assertEquals([success, message], [true, "Encryption key rotated successfully"]);
  const [first] = data.rotated;
  assertEquals([first?.target, first?.branch_key_id], ["branch_key", "payment"]);
  assertEquals([data.newKeyVersion, data.failed], [first?.version as string, []]);

  // Another worker notices within its cache time; a new one at once.
  await (await sharedStack()).restartFunction(ENCRYPT);
  const fresh = await store(user, MASTERCARD);
  assertEquals(await versionsOf(fresh.id), [`payment ${data.newKeyVersion}`]);
  assertNotEquals(await versionsOf(fresh.id), [before]);
  await readable(old.id, user.userId, VISA);
  await readable(fresh.id, user.userId, MASTERCARD);
  const { branch_key } = await metadata();
  assertEquals([branch_key.version, branch_key.versions], [data.newKeyVersion as string, 2]);
  assertEquals(branch_key.old_versions.map(({ in_use }) => in_use), [true]);
  // The same card is recognised: its fingerprint hangs on no version.
  assertEquals((await encrypt(user, card(VISA))).status, 200);
});

test("an owner's branch key is rotated alone", async () => {
  const stack = await sharedStack();
  await stack.restartFunction(ENCRYPT, { KMS_PII_BRANCH_KEY_SCOPE: "owner" });
  try {
    const [ada, bob] = [await newUser(), await newUser()];
    const pii = { data_class: "pii", data: { name: "Ada" } };
    for (const user of [ada, bob]) await encrypt(user, pii);
    const rotate = { user_id: ada.userId.toUpperCase() };
    const { rotated } = await adminData<Rotation>("POST", "/key/rotate", rotate);
    assertEquals(rotated.map((key) => key.branch_key_id), [`pii:${ada.userId}`]);
    const versions = await sql<{ id: string; count: number }>(
      `select branch_key_id as id, count(version)::int as count from kms.branch_keys
       where branch_key_id like 'pii:%' group by 1`,
    );
    assertEquals(
      Object.fromEntries(versions.map(({ id, count }) => [id, count])),
      { [`pii:${ada.userId}`]: 2, [`pii:${bob.userId}`]: 1 },
    );
    const nobody = await admin(SERVER, "POST", "/key/rotate", { user_id: crypto.randomUUID() });
    assertProblem(nobody, 404, "not_found");
  } finally {
    await stack.restartFunction(ENCRYPT);
  }
});

test("of rotations at once each version has one winner, and the others are told", async () => {
  const { versions } = (await metadata()).branch_key;
  const answers = await Promise.all(
    Array.from(
      { length: 6 },
      () => admin(SERVER, "POST", "/key/rotate", { data_class: "payment" }),
    ),
  );
  const won = answers.filter(({ status }) => status === 200).length;
  assert(won > 0);
  for (const answer of answers.filter(({ status }) => status !== 200)) {
    assertProblem(answer, 409, "rotation_conflict");
  }
  assertEquals((await metadata()).branch_key.versions, versions + won);
});

test("a wrapping key is rotated once its id was repeated, and in the primary's region", async () => {
  const stack = await sharedStack();
  const rotate = (body: Record<string, unknown>) =>
    admin(SERVER, "POST", "/key/rotate", { target: "kms_key", ...body });
  const { keyId } = await metadata("general");
  const at = (pointer: string, code: string) => [{ pointer, code }];
  const refused = [
    [{}, at("/data_class", "missing_field")],
    [{ data_class: "general" }, at("/confirm", "missing_field")],
    [{ data_class: "pii", confirm: keyId }, at("/confirm", "confirmation_mismatch")],
    [{ data_class: "general", confirm: "yes" }, at("/confirm", "confirmation_mismatch")],
    [
      { data_class: "general", confirm: keyId, user_id: crypto.randomUUID() },
      at("/user_id", "unknown_field"),
    ],
    [{ target: "branch_key", confirm: keyId }, at("/confirm", "unknown_field")],
    [{ target: "everything" }, at("/target", "unknown_value")],
    [{ more: 1 }, at("/more", "unknown_field")],
  ] as const;
  stack.aws.resetCalls();
  for (const [body, errors] of refused) {
    assertProblem(await rotate(body), 422, "validation_failed", errors);
  }
  const rotations = () =>
    stack.aws.calls().filter(({ operation }) => operation === "RotateKeyOnDemand");
  assertEquals(rotations(), []);

  const elsewhere = keyId.replace("us-east-1", "eu-west-1");
  for (const confirm of [keyId, elsewhere]) {
    const answer = await rotate({ data_class: "general", confirm });
    assertEquals(answer.status, 200, answer.text);
    const { data } = answer.body as unknown as { data: Rotation };
    const rotated = [{ target: "kms_key", data_class: "general", key_id: confirm, version: null }];
    assertEquals(data as unknown, { newKeyVersion: null, rotated, failed: [] });
  }
  assertEquals(rotations().map(({ region }) => region), ["us-east-1", "us-east-1"]);
  const after = await metadata("general");
  assertEquals(after.rotation.on_demand_left, 23);
  assertMatch(after.lastRotated ?? "", TIMESTAMP);

  for (let left = 23; left > 0; left--) {
    await stack.aws.asOperator("us-east-1", "RotateKeyOnDemand", { KeyId: keyId });
  }
  assertProblem(
    await rotate({ data_class: "general", confirm: keyId }),
    409,
    "rotation_limit_reached",
  );
  const entries = await sql<{ action: string; code: string | null; kms_region: string }>(
    `select action, error_code as code, kms_region from kms.audit_log
     where action like 'kms_key.%' and data_class = 'general' order by chain_day, seq`,
  );
  const ends = entries.filter(({ action }) => action === "kms_key.rotate");
  assertEquals(ends.map(({ code }) => code), [null, null, "rotation_limit_reached"]);
  assertEquals(entries.length, 6, "each is audited before it is asked for, too");
  assertEquals(await sql("select * from kms.key_rotations"), []);
});

test("while one caller rotates a wrapping key, another is told", async () => {
  const { keyId } = await metadata("pii");
  const body = { target: "kms_key", data_class: "pii", confirm: keyId };
  await sql(
    `insert into kms.key_rotations (data_class, expires_at)
     values ('pii', clock_timestamp() + interval '1 minute')`,
  );
  assertProblem(await admin(SERVER, "POST", "/key/rotate", body), 409, "rotation_conflict");
  await sql("update kms.key_rotations set expires_at = clock_timestamp()");
  assertEquals((await admin(SERVER, "POST", "/key/rotate", body)).status, 200);
});

test("a version is retired when nothing hangs on it, and no worker can store under it any more", async () => {
  const user = await newUser();
  const general = { data_class: "general", data: { note: "n" } };
  const stored = await encrypt(user, general);
  const id = stored.body.record?.id ?? "";
  const [before = ""] = await versionsOf(id);
  const version = before.replace("general ", "");
  const retire = () => admin(SERVER, "POST", "/key/retire", { branch_key_id: "general", version });
  const refusal = async (code: string) => {
    const answer = await retire();
    assertProblem(answer, 409, "branch_key_in_use", [{ pointer: "/version", code }]);
    return answer.body.errors?.[0]?.detail ?? "";
  };
  await refusal("active");
  await adminData("POST", "/key/rotate", { data_class: "general" });
  assertMatch(await refusal("in_use"), /: 1\. /);
  assertEquals((await manage(user, "DELETE", `/records/${id}`)).status, 204);
  const answer = await retire();
  assertEquals(answer.body as unknown, {
    success: true,
    data: { branch_key_id: "general", version },
  });
  assertProblem(await retire(), 404, "not_found");

  // The function that stored it still has the version in its cache.
  const other = await newUser();
  const late = await encrypt(other, general);
  assertProblem(late, 503, "branch_key_retired");
  assertEquals(late.headers.get("retry-after"), "1");
  assertEquals(await rowsOf(other.userId), NO_ROWS);
  const again = await encrypt(other, general);
  assertEquals(again.status, 201, again.text);
  const { branch_key } = await metadata("general");
  assertEquals(await versionsOf(again.body.record?.id), [`general ${branch_key.version}`]);
  assertEquals((await auditOf(again.body.record?.id ?? "")).length, 1);
});

test("a retirement reads its body strictly", async () => {
  const version = crypto.randomUUID();
  const at = (pointer: string, code: string) => [{ pointer, code }];
  for (
    const [body, errors] of [
      [{ branch_key_id: "payment" }, at("/version", "missing_field")],
      [{ version }, at("/branch_key_id", "missing_field")],
      [{ branch_key_id: "payment", version: "1" }, at("/version", "invalid_version")],
      [{ branch_key_id: "", version }, at("/branch_key_id", "invalid_length")],
      [{ branch_key_id: "x".repeat(257), version }, at("/branch_key_id", "invalid_length")],
      [{ branch_key_id: "payment", version, force: true }, at("/force", "unknown_field")],
    ] as const
  ) {
    assertProblem(
      await admin(SERVER, "POST", "/key/retire", body),
      422,
      "validation_failed",
      errors,
    );
  }
  assertProblem(await admin(SERVER, "POST", "/key/retire"), 415, "unsupported_media_type");
});
