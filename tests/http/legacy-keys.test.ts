/** Setups of the key management guide: their key from each place it may be in. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import { startLocalVault } from "../../local/vault/mod.ts";
import { sharedStack } from "../support/stack.ts";
import { DERIVED, LEGACY_KEY, legacyCiphertext } from "../unit/support/legacy.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import {
  HEX,
  hexOf,
  importKey,
  inline,
  type Key,
  putParameter,
  revealData,
  rowOf,
  runAll,
  stage,
} from "./legacy.ts";
import {
  assertNowhere,
  assertProblem,
  card,
  encrypt,
  newUser,
  SERVER,
  sql,
  test,
  VISA,
} from "./suite.ts";

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
