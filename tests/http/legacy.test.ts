/** Setups of the key management guide: their key from each place it may be in, and their rows with it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import { startLocalVault } from "../../local/vault/mod.ts";
import { putParameter as putParameterOf } from "../support/parameter-store.ts";
import { sharedStack } from "../support/stack.ts";
import { eventually } from "../stack/eventually.ts";
import {
  DERIVED,
  LEGACY_KEY,
  legacyCiphertext,
  type LegacyEncoding,
} from "../unit/support/legacy.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import {
  AMEX,
  assertNowhere,
  assertProblem,
  auditOf,
  card,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  NEXT_YEAR,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "./suite.ts";

interface Key {
  readonly key_id: string;
  readonly source: string;
  readonly fingerprint: string;
  readonly existing?: boolean;
  readonly rows?: { readonly pending: number; readonly failed: number };
}

interface Row {
  readonly id: string;
  readonly source_id: string;
  readonly status: string;
  readonly error_code: string | null;
  readonly error_detail: string | null;
  readonly table: string | null;
  readonly record_id: string | null;
}

interface Run {
  readonly imported: number;
  readonly failed: number;
  readonly remaining: { readonly pending: number; readonly failed: number };
}

const HEX = Array.from(LEGACY_KEY, (byte) => byte.toString(16).padStart(2, "0")).join("");

const inline = (keyId: string, key = HEX, more = {}) => ({
  key_id: keyId,
  source: "inline",
  key,
  ...more,
});

/** Each test has a key of its own: fingerprints may be equal, ids may not. */
async function importKey(keyId: string, key = LEGACY_KEY): Promise<void> {
  await adminData("POST", "/legacy/keys", inline(keyId, hexOf(key)));
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function payment(
  userId: string,
  sourceId: string,
  text: string,
  more = {},
  encoding?: LegacyEncoding,
) {
  return {
    user_id: userId,
    source_id: sourceId,
    ciphertext: legacyCiphertext(text, encoding),
    as: { data_class: "payment", exp_month: 12, exp_year: NEXT_YEAR, ...more },
  };
}

async function stage(
  keyId: string,
  items: readonly unknown[],
  encoding: LegacyEncoding = "v1_hex",
) {
  const { results } = await adminData<{
    results: { source_id: string; outcome: string; id: string | null }[];
  }>("POST", "/legacy/rows", { key_id: keyId, encoding, items });
  return results;
}

/** Until nothing is pending. */
async function runAll(): Promise<Run> {
  let run: Run;
  let [imported, failed] = [0, 0];
  do {
    run = await adminData<Run>("POST", "/legacy/run", {});
    imported += run.imported;
    failed += run.failed;
  } while (run.remaining.pending > 0);
  return { ...run, imported, failed };
}

async function rowOf(sourceId: string): Promise<Row> {
  let cursor: string | null = null;
  do {
    const page: { rows: Row[]; next_cursor: string | null } = await adminData(
      "GET",
      `/legacy/rows?limit=100${cursor === null ? "" : `&cursor=${cursor}`}`,
    );
    const found = page.rows.find((row) => row.source_id === sourceId);
    if (found !== undefined) return found;
    cursor = page.next_cursor;
  } while (cursor !== null);
  throw new Error(`there is no row ${sourceId}`);
}

async function revealNumber(userId: string, id: string | null): Promise<unknown> {
  const answer = await manage(SERVER, "POST", `/${id}/reveal`, {
    user_id: userId,
    purpose: "support",
  });
  assertEquals(answer.status, 200, answer.text);
  return (answer.body.payment_method?.card as { number: string }).number;
}

async function revealData(userId: string, id: string | null): Promise<unknown> {
  const answer = await manage(SERVER, "POST", `/records/${id}/reveal`, {
    user_id: userId,
    purpose: "support",
  });
  assertEquals(answer.status, 200, answer.text);
  return answer.body.record?.data;
}

async function putParameter(name: string, value: string, overwrite = false): Promise<void> {
  await putParameterOf((await sharedStack()).aws, name, value, overwrite);
}

test("a key and its rows come from Parameter Store, Secret Manager and Vault", async () => {
  const stack = await sharedStack();
  const gcp = await startLocalGcp();
  const vault = await startLocalVault({ namespace: "team" });
  const keys: Record<string, Uint8Array> = {};
  const keyOf = (source: string) => keys[source] ??= crypto.getRandomValues(new Uint8Array(32));
  try {
    await putParameter("/boosterbeacon/encryption-keys/of-aws", hexOf(keyOf("aws")));
    gcp.putSecret(
      "boosterbeacon-encryption-key-of-gcp",
      new TextEncoder().encode(hexOf(keyOf("gcp"))),
    );
    vault.setPolicy("suite", { "secret/data/boosterbeacon/encryption-keys/*": ["read"] });
    vault.putSecret("boosterbeacon/encryption-keys/of-vault", {
      key: hexOf(keyOf("vault")),
      created_at: "2025-01-01T00:00:00Z",
      description: "BoosterBeacon encryption key",
    });
    await stack.restartFunction(ADMIN, {
      GOOGLE_CLOUD_PROJECT: gcp.project,
      GOOGLE_KMS_LOCATION: gcp.location,
      GOOGLE_KMS_KEY_RING: gcp.keyRing,
      GOOGLE_KMS_ENDPOINT: gcp.endpoint,
      GOOGLE_SECRET_MANAGER_ENDPOINT: gcp.endpoint,
      GOOGLE_CREDENTIALS_JSON: gcp.credentialsJson,
      VAULT_ADDR: vault.endpoint,
      VAULT_NAMESPACE: "team",
      VAULT_ROLE_ID: vault.roleId,
      VAULT_SECRET_ID: vault.secretId,
    });
    const user = await newUser();
    for (const source of ["aws", "gcp", "vault"]) {
      const answer = await admin(SERVER, "POST", "/legacy/keys", {
        key_id: `of-${source}`,
        source,
      });
      assertEquals(answer.status, 201, answer.text);
      assertNowhere(answer, [hexOf(keyOf(source))]);
      const { data, message } = answer.body as unknown as { data: Key; message: string };
      assertEquals(message, "Encryption key imported successfully");
      assertEquals([data.key_id, data.source, data.existing], [`of-${source}`, source, false]);
      assertMatch(data.fingerprint, /^[0-9a-f]{16}$/);

      const text = JSON.stringify({ from: source });
      const ciphertext = legacyCiphertext(text, "v1_hex", keyOf(source));
      const as = { data_class: "pii", label: `from ${source}` };
      const item = { user_id: user.userId, source_id: `${source}/1`, ciphertext, as };
      assertEquals((await stage(`of-${source}`, [item]))[0]?.outcome, "staged");
      assertEquals((await runAll()).failed, 0);
      const row = await rowOf(`${source}/1`);
      assertEquals([row.status, row.table], ["imported", "encrypted_records"]);
      assertEquals(await revealData(user.userId, row.record_id), { from: source });
    }
    const { keys: listed } = await adminData<{ keys: Key[] }>("GET", "/legacy/keys");
    assertEquals(
      listed.filter(({ key_id }) => key_id.startsWith("of-")).map(({ rows }) => rows),
      [0, 1, 2].map(() => ({ pending: 0, failed: 0 })),
    );

    // An older version, from before the setup rotated its key.
    const second = crypto.getRandomValues(new Uint8Array(32));
    await putParameter("/boosterbeacon/encryption-keys/of-aws", hexOf(second), true);
    assertProblem(
      await admin(SERVER, "POST", "/legacy/keys", { key_id: "of-aws", source: "aws" }),
      409,
      "legacy_key_conflict",
    );
    const first = { key_id: "of-aws", source: "aws", version: 1 };
    const again = await admin(SERVER, "POST", "/legacy/keys", first);
    assertEquals(again.status, 200, again.text);
    assertEquals((again.body as unknown as { data: Key }).data.existing, true);
  } finally {
    await stack.restartFunction(ADMIN, {});
    await gcp.close();
    await vault.close();
  }
});

test("what is wrong with a key is said in the guide's words, and audited", async () => {
  const wrong = async (body: unknown, code: string, detail: string) => {
    const answer = await admin(SERVER, "POST", "/legacy/keys", body);
    assertProblem(answer, 422, "key_import_failed", [{ pointer: "/key_id", code }]);
    assertEquals(answer.body.errors?.[0]?.detail, detail);
  };
  const at = (name: string) => ({ key_id: "default", source: "aws", name });
  await wrong(
    { source: "aws" },
    "key_not_found",
    "Encryption key not found: default",
  );
  await putParameter("/elsewhere/default", HEX);
  await wrong(at("/elsewhere/default"), "access_denied", "Access denied to encryption key");
  await putParameter("/boosterbeacon/encryption-keys/short", HEX.slice(2));
  const short = "Invalid key length: expected 32 bytes";
  await wrong({ key_id: "short", source: "aws" }, "invalid_key_length", short);
  await wrong(inline("short", "0".repeat(63) + "g"), "invalid_key_length", short);
  await wrong({ source: "env" }, "key_not_found", "Encryption key not found: default");
  await wrong(
    { source: "vault" },
    "source_not_configured",
    "The configuration has no credentials for this source",
  );
  const rows = await sql<{ n: number }>(
    `select count(*)::int as n from kms.audit_log where action = 'legacy_key.import'
     and outcome = 'failure' and error_code = 'key_import_failed'`,
  );
  assertEquals(rows[0]?.n, 6);
  const invalid: [unknown, string, string][] = [
    [{ source: "inline" }, "/key", "missing_field"],
    [{ source: "aws", key: HEX }, "/key", "contradiction"],
    [{ source: "env", name: "x" }, "/name", "contradiction"],
    [{ source: "aws", name: "../x" }, "/name", "invalid_name"],
    [{ source: "aws", name: "/a/../x" }, "/name", "invalid_name"],
    [{ source: "s3" }, "/source", "invalid_source"],
    [{ source: "aws", key_id: "../x" }, "/key_id", "invalid_id"],
    [{ source: "aws", version: 0 }, "/version", "out_of_range"],
  ];
  for (const [body, pointer, code] of invalid) {
    const answer = await admin(SERVER, "POST", "/legacy/keys", body);
    assertProblem(answer, 422, "validation_failed", [{ pointer, code }]);
    assertNowhere(answer, [HEX]);
  }
});

test("only administrators may import, and what they do carries their name", async () => {
  const user = await newUser();
  for (
    const [method, path, body] of [
      ["POST", "/legacy/keys", inline("denied")],
      ["GET", "/legacy/keys", undefined],
      ["DELETE", "/legacy/keys/denied", undefined],
      ["POST", "/legacy/rows", {}],
      ["GET", "/legacy/rows", undefined],
      ["DELETE", `/legacy/rows/${crypto.randomUUID()}`, undefined],
      ["POST", "/legacy/run", {}],
    ] as const
  ) {
    assertProblem(await admin(user, method, path, body), 403, "admin_required");
  }
  const by = await newAdmin();
  await adminData("POST", "/legacy/keys", inline("of-an-admin"), by);
  const [entry] = await sql<{ actor_type: string; actor_id: string; branch_key_id: string }>(
    `select actor_type, actor_id, branch_key_id from kms.audit_log
     where action = 'legacy_key.import' and outcome = 'success' and actor_type = 'admin'`,
  );
  assertEquals([entry?.actor_type, entry?.actor_id], ["admin", by.userId]);
  assert(entry?.branch_key_id);
});

test("the key is kept under ours, and nowhere as it is", async () => {
  await importKey("sealed");
  const [row] = await sql<Record<string, unknown>>(
    "select * from kms.legacy_keys where key_id = 'sealed'",
  );
  const everything = JSON.stringify(row).toLowerCase();
  for (const spelling of [HEX, btoa(String.fromCharCode(...LEGACY_KEY)).toLowerCase()]) {
    assert(!everything.includes(spelling));
  }
  assertMatch(String(row?.message), /^AgR4/);
});

test("rows in every encoding become cards and records, and leave nothing behind", async () => {
  await importKey("encodings");
  const user = await newUser();
  const encodings = [
    "v1_hex",
    "hex",
    "base64_iv_tag_ciphertext",
    "base64_iv_ciphertext_tag",
  ] as const;
  for (const encoding of encodings) {
    const items = [
      {
        user_id: user.userId,
        source_id: `encodings/${encoding}/text`,
        ciphertext: legacyCiphertext("Ünïcode, and { no JSON", encoding),
        as: { data_class: "general" },
      },
      {
        user_id: user.userId,
        source_id: `encodings/${encoding}/field`,
        ciphertext: legacyCiphertext('{"kept":"as it is"}', encoding),
        as: { data_class: "pii", field: "passport", label: "passport" },
      },
    ];
    const results = await stage("encodings", items, encoding);
    assertEquals(results.map(({ outcome }) => outcome), ["staged", "staged"]);
  }
  await stage("encodings", [
    payment(user.userId, "encodings/card", "4242-4242-4242-4242", { nickname: "Old" }),
    payment(
      user.userId,
      "encodings/object",
      JSON.stringify({ number: AMEX, cardholder_name: "Ada Lovelace" }),
    ),
  ]);
  assertEquals((await runAll()).failed, 0);
  for (const encoding of encodings) {
    const text = await rowOf(`encodings/${encoding}/text`);
    assertEquals(await revealData(user.userId, text.record_id), {
      value: "Ünïcode, and { no JSON",
    });
    const field = await rowOf(`encodings/${encoding}/field`);
    assertEquals(await revealData(user.userId, field.record_id), {
      passport: '{"kept":"as it is"}',
    });
  }
  const imported = await rowOf("encodings/card");
  assertEquals([imported.status, imported.table], ["imported", "payment_methods"]);
  assertEquals(await revealNumber(user.userId, imported.record_id), VISA);
  const list = await manage(user, "GET", "");
  assertEquals(
    list.body.payment_methods?.map(({ brand, last4, nickname }) => [brand, last4, nickname]).sort(),
    [["amex", "0005", null], ["visa", "4242", "Old"]],
  );
  const left = await sql<{ n: number }>(
    "select count(*)::int as n from kms.legacy_rows where user_id = $1 and ciphertext is not null",
    [user.userId],
  );
  assertEquals(left[0]?.n, 0);
  const [created] = await auditOf(imported.record_id ?? "");
  assertEquals([created?.action, created?.actor_type], ["payment_method.create", "secret_key"]);
  const actions = (await auditOf(imported.id)).map(({ action, outcome }) => `${action} ${outcome}`);
  assertEquals(actions, ["legacy_row.stage success", "legacy_row.import success"]);
});

test("what may not be stored fails its row, is listed, and is not lost", async () => {
  await importKey("failures");
  const other = crypto.getRandomValues(new Uint8Array(32));
  const user = await newUser();
  const cases: [string, string, object, string, string | null][] = [
    ["no-card", "4242424242424241", {}, "validation_failed", "invalid_card_number"],
    ["words", "not a number", {}, "validation_failed", "invalid_card_number"],
    ["expired", VISA, { exp_year: 2001 }, "validation_failed", "expired_card"],
    ["bar", `${VISA}|123`, {}, "sensitive_authentication_data", "sensitive_authentication_data"],
    ["space", `${VISA} 123`, {}, "sensitive_authentication_data", "sensitive_authentication_data"],
    [
      "object",
      JSON.stringify({ number: VISA, cvv: "123" }),
      {},
      "sensitive_authentication_data",
      "sensitive_authentication_data",
    ],
  ];
  await stage(
    "failures",
    cases.map(([name, text, as]) => payment(user.userId, `failures/${name}`, text, as)),
  );
  const foreign = {
    ...payment(user.userId, "failures/foreign", VISA),
    ciphertext: legacyCiphertext(VISA, "v1_hex", other),
  };
  const pii = (name: string, text: string) => ({
    user_id: user.userId,
    source_id: `failures/${name}`,
    ciphertext: legacyCiphertext(text),
    as: { data_class: "pii" },
  });
  await stage("failures", [foreign, pii("pin", '{"name":"Ada","card":{"pin":"1234"}}')]);
  const run = await runAll();
  assertEquals([run.imported, run.failed], [0, 8]);
  for (const [name, , , code, detail] of cases) {
    const row = await rowOf(`failures/${name}`);
    assertEquals([row.status, row.error_code, row.error_detail], ["failed", code, detail], name);
  }
  assertEquals((await rowOf("failures/foreign")).error_code, "decryption_failed");
  assertEquals((await rowOf("failures/pin")).error_code, "sensitive_authentication_data");
  assertEquals(await rowsOf(user.userId), {
    payment_methods: 0,
    encrypted_records: 0,
    ciphertexts: 0,
    card_fingerprints: 0,
  });
  const { rows } = await adminData<{ rows: Row[] }>("GET", "/legacy/rows?status=failed&limit=100");
  assertEquals(rows.filter(({ source_id }) => source_id.startsWith("failures/")).length, 8);
  const failure = (await auditOf((await rowOf("failures/bar")).id)).at(-1);
  assertEquals([failure?.action, failure?.error_code], [
    "legacy_row.import",
    "sensitive_authentication_data",
  ]);

  // The key stays while one of them needs it.
  assertProblem(await admin(SERVER, "DELETE", "/legacy/keys/failures"), 409, "legacy_key_in_use");
  // One is put right, the others are given up.
  const { ciphertext } = (await sql<{ ciphertext: string }>(
    "select ciphertext from kms.legacy_rows where source_id = 'failures/expired'",
  ))[0] ?? { ciphertext: "" };
  const put = { ...payment(user.userId, "failures/expired", VISA), ciphertext };
  assertEquals((await stage("failures", [put]))[0]?.outcome, "staged");
  assertEquals((await runAll()).imported, 1);
  assertEquals((await rowOf("failures/expired")).status, "imported");
  for (const { id, source_id } of rows) {
    if (source_id.startsWith("failures/") && source_id !== "failures/expired") {
      await adminData("DELETE", `/legacy/rows/${id}`);
    }
  }
  assertProblem(
    await admin(SERVER, "DELETE", `/legacy/rows/${(await rowOf("failures/expired")).id}`),
    404,
    "not_found",
  );
  await adminData("DELETE", "/legacy/keys/failures");
  assertProblem(await admin(SERVER, "DELETE", "/legacy/keys/failures"), 404, "not_found");
  assertProblem(
    await admin(SERVER, "POST", "/legacy/rows", {
      key_id: "failures",
      encoding: "v1_hex",
      items: [payment(user.userId, "failures/late", VISA)],
    }),
    422,
    "validation_failed",
    [{ pointer: "/key_id", code: "unknown_key" }],
  );
});

test("a source id is imported once, and other ciphertext under it is refused", async () => {
  await importKey("once");
  const user = await newUser();
  const stranger = await newUser();
  const item = payment(user.userId, "once/1", VISA);
  const outcomeOf = async (one: unknown) => (await stage("once", [one]))[0]?.outcome;
  assertEquals(await outcomeOf(item), "staged");
  assertEquals(await outcomeOf(item), "known");
  assertEquals(await outcomeOf({ ...item, ciphertext: legacyCiphertext(VISA) }), "conflict");
  assertEquals(await outcomeOf({ ...item, user_id: stranger.userId }), "conflict");
  assertEquals((await runAll()).imported, 1);
  assertEquals(await outcomeOf(item), "imported");
  assertEquals(await outcomeOf({ ...item, ciphertext: legacyCiphertext(VISA) }), "conflict");
  assertEquals(await outcomeOf({ ...item, user_id: stranger.userId }), "conflict");
  assertEquals(
    await outcomeOf(payment(crypto.randomUUID(), "once/nobody", VISA)),
    "owner_not_found",
  );
  const pair = [payment(user.userId, "once/b", AMEX), payment(user.userId, "once/a", AMEX)];
  assertEquals(
    (await stage("once", pair)).map(({ source_id, outcome }) => [source_id, outcome]),
    [["once/b", "staged"], ["once/a", "staged"]],
  );
  assertEquals((await runAll()).imported, 2);
  // Two rows of the same card are one card.
  assertEquals((await rowsOf(user.userId)).payment_methods, 2);
  assertEquals((await rowOf("once/a")).record_id, (await rowOf("once/b")).record_id);
});

test("a card that its owner has by now keeps the later expiry", async () => {
  await importKey("expiry");
  const user = await newUser();
  const stored = await store(user, MASTERCARD, { card: { exp_year: NEXT_YEAR + 3 } });
  await stage("expiry", [payment(user.userId, "expiry/1", MASTERCARD, { exp_month: 1 })]);
  assertEquals((await runAll()).imported, 1);
  const row = await rowOf("expiry/1");
  assertEquals(row.record_id, stored.id);
  const after = (await manage(user, "GET", `/${stored.id}`)).body.payment_method;
  assertEquals([after?.exp_month, after?.exp_year], [12, NEXT_YEAR + 3]);
  await stage("expiry", [
    payment(user.userId, "expiry/2", MASTERCARD, { exp_year: NEXT_YEAR + 4 }),
  ]);
  assertEquals((await runAll()).imported, 1);
  const later = (await manage(user, "GET", `/${stored.id}`)).body.payment_method;
  assertEquals(later?.exp_year, NEXT_YEAR + 4);
});

test("bad rows are refused before anything is staged", async () => {
  await importKey("bad");
  const { userId } = await newUser();
  const good = payment(userId, "bad/1", VISA);
  const item = (change: object) => ({
    encoding: "v1_hex",
    key_id: "bad",
    items: [good, { ...good, ...change }],
  });
  const v1 = good.ciphertext;
  const cases: [unknown, string, string][] = [
    [item({ ciphertext: v1.slice(0, -1) }), "/items/1/ciphertext", "invalid_ciphertext"],
    [item({ ciphertext: v1.replace("v1:", "v2:") }), "/items/1/ciphertext", "invalid_ciphertext"],
    [item({ ciphertext: `${v1} ` }), "/items/1/ciphertext", "invalid_ciphertext"],
    [{ ...item({}), encoding: "hex" }, "/items/0/ciphertext", "invalid_ciphertext"],
    [{ ...item({}), encoding: "rot13" }, "/encoding", "invalid_encoding"],
    [{ ...item({}), items: [] }, "/items", "invalid_length"],
    [item({ source_id: `card-${VISA}` }), "/items/1/source_id", "card_number_in_text"],
    [item({ source_id: "card/4242-4242-4242-4242" }), "/items/1/source_id", "card_number_in_text"],
    [item({ source_id: "a b" }), "/items/1/source_id", "invalid_id"],
    [item({ user_id: "me" }), "/items/1/user_id", "invalid_uuid"],
    [item({ as: { ...good.as, nickname: VISA } }), "/items/1/as/nickname", "card_number_in_text"],
    [item({ as: { ...good.as, exp_month: 13 } }), "/items/1/as/exp_month", "out_of_range"],
  ];
  for (const [body, pointer, code] of cases) {
    const answer = await admin(SERVER, "POST", "/legacy/rows", body);
    assertProblem(answer, 422, "validation_failed", [{ pointer, code }]);
    assertNowhere(answer, [VISA]);
  }
  assertProblem(
    await admin(SERVER, "POST", "/legacy/rows", item({ as: { data_class: "pii", field: "cvv" } })),
    422,
    "sensitive_authentication_data",
  );
  const staged = await sql<{ n: number }>(
    "select count(*)::int as n from kms.legacy_rows where source_id like 'bad/%'",
  );
  assertEquals(staged[0]?.n, 0);
  // Digits as of track 2, by chance: such a ciphertext is as good as any.
  const tag = "4242424242424242d30121234567890a";
  const lookalike = { ...good, ciphertext: v1.split(":").with(2, tag).join(":") };
  assertEquals((await stage("bad", [lookalike]))[0]?.outcome, "staged");
  // Snowflakes, UUIDs and serial numbers are no card numbers.
  const ids = ["1834567890123456789", crypto.randomUUID(), "550e8400-e29b-41d4-a716-446655440000"];
  const results = await stage("bad", ids.map((id) => payment(userId, id, VISA)));
  assertEquals(results.map(({ outcome }) => outcome), ["staged", "staged", "staged"]);
  await runAll();
});

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

test("an outage ends the run and fails no row", async () => {
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
  } finally {
    stack.aws.faults.clear();
    await stack.restartFunction(ADMIN, {});
  }
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

test("the program's own key derivation", async () => {
  const key = { key_id: "derived", source: "inline", key: DERIVED.text, derivation: "pbkdf2" };
  await adminData("POST", "/legacy/keys", key);
  const user = await newUser();
  await stage("derived", [{
    user_id: user.userId,
    source_id: "derived/1",
    ciphertext: DERIVED.ciphertext,
    as: { data_class: "pii" },
  }]);
  assertEquals((await runAll()).imported, 1);
  const row = await rowOf("derived/1");
  assertEquals(await revealData(user.userId, row.record_id), { value: DERIVED.plaintext });
  // And cards go on as ever beside all this.
  assertEquals((await encrypt(user, card(VISA))).status, 201);
});
