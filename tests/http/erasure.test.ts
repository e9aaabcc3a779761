/** Erasing a person: what goes, what stays unreadable for ever, and the proof of it. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { databaseSinks } from "../security/canary/sinks.ts";
import { eventually } from "../stack/eventually.ts";
import { call, sharedStack, type TestUser } from "../support/stack.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import {
  type Answer,
  assertProblem,
  card,
  ENCRYPT,
  encrypt,
  HEALTH,
  MANAGE,
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

interface Erasure {
  readonly id: string;
  readonly user_id: string;
  readonly purpose: string | null;
  readonly erased_at: string;
  readonly signed_at: string;
  readonly actor: { readonly actor_type: string; readonly actor_id: string };
  readonly erased: Readonly<Record<string, number>>;
  readonly branch_keys: readonly { readonly id: string; readonly versions: readonly string[] }[];
  readonly audit: { readonly day: string; readonly seq: number; readonly hash: string };
}
interface Proof {
  readonly proof: string;
  readonly erasure: Erasure;
}
interface Verdict {
  readonly valid: boolean;
  readonly erasure: Erasure | null;
}

const PURPOSE = "gdpr:art-17";
const NOTHING = {
  payment_methods: 0,
  records: 0,
  ciphertexts: 0,
  card_fingerprints: 0,
  idempotency_answers: 0,
  branch_key_records: 0,
  legacy_rows: 0,
};
const OWNER_SCOPE = {
  KMS_PAYMENT_BRANCH_KEY_SCOPE: "owner",
  KMS_PII_BRANCH_KEY_SCOPE: "owner",
  KMS_GENERAL_BRANCH_KEY_SCOPE: "owner",
};

const erase = (userId: string) =>
  adminData<Proof>("POST", `/users/${userId}/erase`, { purpose: PURPOSE, confirm: userId });
const verify = (proof: string) => adminData<Verdict>("POST", "/users/erase/verify", { proof });

const CARD = card(VISA, { card: { cardholder_name: "Ada Lovelace" }, nickname: "Of Ada" });

/** A user with two cards (one with a second field) and a record, stored with one key each. */
async function withData() {
  const user = await newUser();
  const key = crypto.randomUUID();
  const first = await encrypt(user, CARD, key);
  const id = first.body.payment_method?.id ?? "";
  assertEquals(first.status, 201, first.text);
  const batch = await encrypt(user, {
    items: [card(MASTERCARD), { data_class: "pii", data: { number: "533401372" } }, card("1")],
  });
  assertEquals(batch.body.results?.map(({ status }) => status), [201, 201, 422], batch.text);
  const record = batch.body.results?.[1]?.record?.id ?? "";
  return { ...user, id, record, key };
}

const revealCard = (user: Pick<TestUser, "userId">, id: string): Promise<Answer> =>
  manage(SERVER, "POST", `/${id}/reveal`, { user_id: user.userId, purpose: "x" });

async function readable(user: Pick<TestUser, "userId">, id: string): Promise<void> {
  const answer = await revealCard(user, id);
  assertEquals(answer.status, 200, answer.text);
}

async function withOwnerKeys(work: () => Promise<void>): Promise<void> {
  const stack = await sharedStack();
  await Promise.all([ENCRYPT, MANAGE].map((name) => stack.restartFunction(name, OWNER_SCOPE)));
  try {
    await work();
  } finally {
    await Promise.all([ENCRYPT, MANAGE].map((name) => stack.restartFunction(name, {})));
  }
}

const auditOfOwner = (userId: string) =>
  sql<Record<string, unknown>>(
    `select action, outcome, actor_type, actor_id, function_name, purpose, record_id::text as record,
       branch_key_id as key
     from kms.audit_log
     where owner_id = $1 and (action like 'user.%' or action = 'branch_key.destroy')
     order by chain_day, seq`,
    [userId],
  );

test("with keys per class the ciphertext goes, and a proof says so", async () => {
  const [ada, bob] = [await withData(), await withData()];
  const { proof, erasure } = await erase(ada.userId);
  assertEquals(await rowsOf(ada.userId), NO_ROWS);
  await readable(bob, bob.id);

  assertEquals([erasure.user_id, erasure.purpose], [ada.userId, PURPOSE]);
  assertEquals(erasure.erased, {
    payment_methods: 2,
    records: 1,
    ciphertexts: 4,
    card_fingerprints: 2,
    idempotency_answers: 2,
    branch_key_records: 0,
    legacy_rows: 0,
  });
  assertEquals(erasure.branch_keys, []);
  assertEquals([erasure.actor.actor_type, erasure.actor.actor_id], ["secret_key", "default"]);
  assertMatch(erasure.id, UUID);
  assertMatch(erasure.erased_at, TIMESTAMP);
  assertMatch(erasure.signed_at, TIMESTAMP);
  assertEquals(await verify(proof), { valid: true, erasure });

  const [entry] = await sql<{ hash: string; action: string; record: string }>(
    `select hash, action, record_id::text as record from kms.audit_log
     where chain_day = $1::date and seq = $2`,
    [erasure.audit.day, erasure.audit.seq],
  );
  assertEquals(entry, { hash: erasure.audit.hash, action: "user.erase", record: erasure.id });
});

test("the stored answers tell nothing more, and a repeated request stores nothing", async () => {
  const ada = await withData();
  await erase(ada.userId);
  const answers = await sql<{ response: string }>(
    "select response::text as response from kms.idempotency_keys where scope like $1",
    [`user:${ada.userId} %`],
  );
  assertEquals(answers.length, 2);
  for (const { response } of answers) {
    assert(!response.includes("last4") && !response.includes("Of Ada"), response);
  }
  assertProblem(await encrypt(ada, CARD, ada.key), 404, "not_found");
  assertEquals(await rowsOf(ada.userId), NO_ROWS);
});

test("again it is the first proof, and that is audited; new data makes another one", async () => {
  const ada = await withData();
  const first = await erase(ada.userId);
  assertEquals(await erase(ada.userId), first);
  assertEquals((await auditOfOwner(ada.userId)).map(({ action }) => action), [
    "user.erase",
    "user.erase.repeat",
  ]);
  await store(ada, VISA);
  const second = await erase(ada.userId);
  assertNotEquals(second.erasure.id, first.erasure.id);
  assertEquals(second.erasure.erased.payment_methods, 1);
  assertEquals((await verify(first.proof)).valid, true);
});

test("erasures of one user at once: one erases, and all have its proof", async () => {
  const ada = await withData();
  const proofs = await Promise.all(Array.from({ length: 5 }, () => erase(ada.userId)));
  assertEquals(new Set(proofs.map(({ proof }) => proof)).size, 1);
  const actions = (await auditOfOwner(ada.userId)).map(({ action }) => action);
  assertEquals(actions.filter((action) => action === "user.erase").length, 1);
  assertEquals(actions.length, 5);
});

test("a proof that was altered, or made elsewhere, is not valid", async () => {
  const { proof, erasure } = await erase((await withData()).userId);
  const [header = "", payload = "", signature = ""] = proof.split(".");
  const encode = (value: unknown) => btoa(JSON.stringify(value)).replaceAll("=", "");
  const forged = [
    [header, encode({ ...erasure, user_id: crypto.randomUUID() }), signature],
    [encode({ alg: "none" }), payload, ""],
    [encode({ alg: "none" }), payload, signature],
    [header, payload, ""],
    [header, payload, signature.slice(0, -1)],
    [header, payload, `${signature}=`],
    [header, payload, signature, ""],
    [header, `${payload}A`, signature],
    [""],
    ["x".repeat(60_000)],
  ];
  for (const parts of forged) {
    assertEquals(await verify(parts.join(".")), { valid: false, erasure: null });
  }
  assertEquals((await verify(proof)).valid, true);
});

test("what is not quite a request to erase erases nothing", async () => {
  const ada = await withData();
  const before = await rowsOf(ada.userId);
  const path = `/users/${ada.userId}/erase`;
  const good = { purpose: PURPOSE, confirm: ada.userId };
  const attempts: [unknown, string, string][] = [
    [{ ...good, confirm: crypto.randomUUID() }, "/confirm", "not_confirmed"],
    [{ ...good, confirm: true }, "/confirm", "wrong_type"],
    [{ purpose: PURPOSE }, "/confirm", "missing_field"],
    [{ confirm: ada.userId }, "/purpose", "missing_field"],
    [{ ...good, purpose: `a ${VISA}` }, "/purpose", "invalid_purpose"],
    [{ ...good, all: true }, "/all", "unknown_field"],
  ];
  for (const [body, pointer, code] of attempts) {
    const answer = await admin(SERVER, "POST", path, body);
    assertProblem(answer, 422, "validation_failed", [{ pointer, code }]);
  }
  assertProblem(await admin(ada, "POST", path, good), 403, "admin_required");
  assertProblem(await admin({}, "POST", path, good), 401, "unauthorized");
  assertProblem(await admin(SERVER, "POST", "/users/me/erase", good), 404, "not_found");
  assertProblem(
    await admin(ada, "POST", "/users/erase/verify", { proof: "" }),
    403,
    "admin_required",
  );
  assertEquals(await rowsOf(ada.userId), before);
  assertEquals(await auditOfOwner(ada.userId), []);
});

test("an administrator may, and of a user who never was it is proved that there is nothing", async () => {
  const boss = await newAdmin();
  const nobody = crypto.randomUUID();
  const body = { purpose: PURPOSE, confirm: nobody.toUpperCase() };
  const { erasure, proof } = await adminData<Proof>(
    "POST",
    `/users/${nobody.toUpperCase()}/erase`,
    body,
    boss,
  );
  assertEquals([erasure.user_id, erasure.erased], [nobody, NOTHING]);
  assertEquals([erasure.actor.actor_type, erasure.actor.actor_id], ["admin", boss.userId]);
  assertEquals((await verify(proof)).valid, true);
});

test("while the key service is down nothing is erased", async () => {
  const ada = await withData();
  const before = await rowsOf(ada.userId);
  const { aws, restartFunction } = await sharedStack();
  await restartFunction(ADMIN, { KMS_TIMEOUT_MS: "3000", KMS_RETRY_ATTEMPTS: "1" });
  try {
    aws.faults.set([{
      service: "kms",
      effect: { kind: "error", name: "KMSInternalException" },
    }]);
    const answer = await admin(SERVER, "POST", `/users/${ada.userId}/erase`, {
      purpose: PURPOSE,
      confirm: ada.userId,
    });
    assertProblem(answer, 503, "kms_unavailable");
    assertEquals(await rowsOf(ada.userId), before);
  } finally {
    aws.faults.clear();
    await restartFunction(ADMIN, {});
  }
  assertEquals((await erase(ada.userId)).erasure.erased.payment_methods, 2);
});

test("a user deleted elsewhere is erased as well, and proved later", () =>
  withOwnerKeys(async () => {
    const [ada, bob] = [await withData(), await withData()];
    await sql("delete from auth.users where id = any ($1::uuid[])", [
      `{${ada.userId},${bob.userId}}`,
    ]);
    assertEquals(await rowsOf(ada.userId), NO_ROWS);
    const keys = await sql("select 1 from kms.branch_keys where branch_key_id like $1", [
      `%:${ada.userId}`,
    ]);
    assertEquals(keys, []);
    const entries = await auditOfOwner(ada.userId);
    assertEquals(entries.map(({ action, key }) => [action, key]), [
      ["branch_key.destroy", `payment:${ada.userId}`],
      ["branch_key.destroy", `pii:${ada.userId}`],
      ["user.erase", null],
    ]);
    const { actor_type, function_name, purpose } = entries.at(-1) ?? {};
    assertEquals([actor_type, function_name, purpose], ["system", "auth", null]);

    const { proof, erasure } = await erase(ada.userId);
    assertEquals([erasure.purpose, erasure.erased.ciphertexts], [null, 4]);
    assertEquals((await verify(proof)).valid, true);
    // Any verification also signs what is unsigned.
    const [signed] = await sql<{ proof: string }>(
      "select proof from kms.erasures where owner_id = $1",
      [bob.userId],
    );
    assertEquals((await verify(signed?.proof ?? "")).erasure?.user_id, bob.userId);
  }));

test("what a crash left without a proof is signed with the health check, whoever asks", async () => {
  const ada = await withData();
  const stack = await sharedStack();
  // The transaction of `erase`, after which its worker was gone.
  const actor = { actor_type: "secret_key", actor_id: "default", function: ADMIN };
  await sql("select kms_user_erase($1, $2, $3)", [
    JSON.stringify({ ...actor, request_id: crypto.randomUUID() }),
    ada.userId,
    PURPOSE,
  ]);
  const proofOf = async () => {
    await (await call(stack, HEALTH, "")).body?.cancel();
    const [row] = await sql<{ proof: string | null }>(
      "select proof from kms.erasures where owner_id = $1",
      [ada.userId],
    );
    return row?.proof ?? null;
  };
  const proof = await eventually(proofOf, (found) => found !== null) ?? "";
  assertEquals((await verify(proof)).erasure?.user_id, ada.userId);
  const { erasure } = await erase(ada.userId);
  assertEquals([erasure.purpose, erasure.erased.ciphertexts], [PURPOSE, 4]);
  assertMatch(
    stack.functionLog(HEALTH),
    /"event":"upkeep","operation":"sign_erasures","count":\d+/,
  );
});

test("with keys per owner their wrapped copies go, and copies of ciphertext stay unreadable", () =>
  withOwnerKeys(async () => {
    const [ada, bob] = [await withData(), await withData()];
    for (const user of [ada, bob]) await readable(user, user.id);
    const copied = {
      parents: await copy("public.payment_methods", "user_id", ada.userId),
      ciphertexts: await copy("kms.ciphertexts", "owner_id", ada.userId),
      keys: await copy("kms.branch_keys", "right(branch_key_id, 36)", ada.userId),
    };
    assertEquals([copied.ciphertexts.length, copied.keys.length], [4, 6]);

    const { erasure, proof } = await erase(ada.userId);
    assertEquals(erasure.erased.branch_key_records, 6);
    assertEquals(erasure.branch_keys.map(({ id }) => id), [
      `payment:${ada.userId}`,
      `pii:${ada.userId}`,
    ]);
    assertEquals(
      erasure.branch_keys.flatMap(({ versions }) => versions).sort(),
      [...new Set(copied.ciphertexts.map(({ branch_key_version }) => branch_key_version))].sort(),
    );
    assertEquals((await verify(proof)).valid, true);

    const secrets = [
      ...copied.ciphertexts.map(({ message }) => String(message)),
      ...copied.keys.map(({ record }) => (record as { enc: string }).enc),
    ];
    for (const { name, content } of await databaseSinks(await sharedStack())) {
      for (const secret of secrets) assert(!String(content).includes(secret), name);
    }

    // The worker that stored for Ada still holds her key. What it encrypts under it is not stored.
    const stale = await encrypt(ada, card(VISA));
    assertProblem(stale, 503, "branch_key_retired");
    assertEquals(stale.headers.get("retry-after"), "1");
    assertEquals(await rowsOf(ada.userId), NO_ROWS);
    const fresh = await store(ada, VISA);
    await readable(ada, fresh.id);

    const refused = await restore(copied).then(() => "stored", (error) => String(error));
    assertMatch(refused, /ciphertexts_branch_key_version_fkey/);
    const foreignKey = "constraint ciphertexts_branch_key_version_fkey";
    await sql(`alter table kms.ciphertexts drop ${foreignKey}`);
    try {
      await restore(copied);
    } finally {
      await sql(
        `alter table kms.ciphertexts add ${foreignKey} foreign key (branch_key_id, branch_key_version)
         references kms.branch_keys (branch_key_id, version) not valid`,
      );
    }
    // This worker held the old key too, and heard with the new one that it is to forget it.
    assertProblem(await revealCard(ada, ada.id), 500, "decryption_failed");
    await readable(ada, fresh.id);
    await readable(bob, bob.id);
  }));

test("stores and erasures at once: every card that is there afterwards can be read", () =>
  withOwnerKeys(async () => {
    const ada = await withData();
    const numbers = [VISA, MASTERCARD, "4000056655665556", "5200828282828210", "4012888888881881"];
    const [answers] = await Promise.all([
      Promise.all(
        [...numbers, ...numbers].map(async (number, index) => {
          const { promise, resolve } = Promise.withResolvers<void>();
          setTimeout(resolve, index * 20);
          await promise;
          return await encrypt(ada, card(number));
        }),
      ),
      Promise.all([erase(ada.userId), erase(ada.userId)]),
    ]);
    for (const answer of answers) {
      if (![200, 201].includes(answer.status)) assertProblem(answer, 503, "branch_key_retired");
    }
    // Other workers, who hold no key.
    const stack = await sharedStack();
    await stack.restartFunction(MANAGE, OWNER_SCOPE);
    const list = await manage(ada, "GET", "?limit=100");
    for (const { id } of list.body.payment_methods ?? []) await readable(ada, id);
  }));

/** Rows as they are, without what the database makes of them. */
async function copy(table: string, column: string, owner: string) {
  const rows = await sql<{ row: Record<string, unknown> }>(
    `select to_jsonb(t) - array['payment_method_id', 'encrypted_record_id'] as row
     from ${table} t where ${column}::text = $1`,
    [owner],
  );
  return rows.map(({ row }) => row);
}

/** A backup of cards and their ciphertext, put back. */
async function restore(
  { parents, ciphertexts }: Readonly<Record<"parents" | "ciphertexts", Record<string, unknown>[]>>,
): Promise<void> {
  const ofCards = ciphertexts.filter(({ table_name }) => table_name === "payment_methods");
  for (
    const [table, rows] of [
      ["public.payment_methods", parents],
      ["kms.ciphertexts", ofCards],
    ] as const
  ) {
    for (const row of rows) {
      const columns = Object.keys(row).join(", ");
      await sql(
        `insert into ${table} (${columns})
         select ${columns} from jsonb_populate_record(null::${table}, $1::text::jsonb)
         on conflict do nothing`,
        [JSON.stringify(row)],
      );
    }
  }
}
