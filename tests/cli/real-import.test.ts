/** `kms import-key` from every place that a key may be in, and `kms import-rows` with what it opens. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type LocalGcp, startLocalGcp } from "../../local/gcp/mod.ts";
import { type LocalVault, startLocalVault } from "../../local/vault/mod.ts";
import { AMEX, manage, newUser, NEXT_YEAR, sql, test, VISA } from "../http/suite.ts";
import { putParameter } from "../support/parameter-store.ts";
import { LEGACY_KEY, legacyCiphertext } from "../unit/support/legacy.ts";
import { privateFile } from "./cli.ts";
import { done, neverSaid, operate, refused, spawn, stackOfOperator } from "./operator.ts";
import { allReadable, cards } from "./project.ts";

const PARAMETER = "/boosterbeacon/encryption-keys";
const SECRET = "boosterbeacon-encryption-key";
const VAULT_PATH = "boosterbeacon/encryption-keys";

const secrets: string[] = [];

function newKey(): Uint8Array {
  const key = crypto.getRandomValues(new Uint8Array(32));
  secrets.push(hexOf(key));
  return key;
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const textOf = (key: Uint8Array) => new TextEncoder().encode(hexOf(key));

/** With `kms-admin` as a setup of the guide would have it: credentials of all three services. */
async function withServices(
  work: (services: { readonly gcp: LocalGcp; readonly vault: LocalVault }) => Promise<void>,
): Promise<void> {
  const stack = await stackOfOperator();
  const gcp = await startLocalGcp();
  const vault = await startLocalVault({ namespace: "team" });
  secrets.push(vault.secretId, JSON.parse(gcp.credentialsJson).private_key);
  vault.setPolicy("suite", { [`secret/data/${VAULT_PATH}/*`]: ["read"] });
  try {
    await stack.restartFunction("kms-admin", {
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
    await work({ gcp, vault });
  } finally {
    await stack.restartFunction("kms-admin", {});
    await gcp.close();
    await vault.close();
  }
}

/** One row under the key: imported by the command, and readable as its owner's. */
async function opens(keyId: string, key: Uint8Array): Promise<void> {
  const user = await newUser();
  const row = {
    source_id: `rows/${keyId}`,
    user_id: user.userId,
    ciphertext: legacyCiphertext(AMEX, "v1_hex", key),
    as: { data_class: "payment", exp_month: 1, exp_year: NEXT_YEAR },
  };
  const run = ["import-rows", "--encoding", "v1_hex", "--key-id", keyId, "-"];
  const { run: { imported }, failed } = await done(run, { stdin: `${JSON.stringify(row)}\n` });
  assertEquals([imported, failed], [1, []]);
  const [mine] = (await manage(user, "GET", "")).body.payment_methods ?? [];
  cards.push({ user, id: mine?.id ?? "", number: AMEX });
  await allReadable();
}

test("import-key: from Parameter Store, Secret Manager and Vault, and the rows that it opens", () =>
  withServices(async ({ gcp, vault }) => {
    const { aws } = await stackOfOperator();
    const keys = { aws: newKey(), gcp: newKey(), vault: newKey() };
    await putParameter(aws, `${PARAMETER}/of-aws`, hexOf(keys.aws));
    gcp.putSecret(`${SECRET}-of-gcp`, textOf(keys.gcp));
    vault.putSecret(`${VAULT_PATH}/of-vault`, { key: hexOf(keys.vault) });
    for (const source of ["aws", "gcp", "vault"] as const) {
      const command = ["import-key", "--source", source, "--key-id", `of-${source}`];
      // As a process of its own, and again: the same key changes nothing.
      const first = await spawn(command);
      assertEquals(first.code, 0, first.stderr);
      const { key_id, source: from, existing, fingerprint } = first.json();
      assertEquals([key_id, from, existing], [`of-${source}`, source, false]);
      assertMatch(fingerprint, /^[0-9a-f]{16}$/);
      const again = await done(command);
      assertEquals([again.existing, again.fingerprint], [true, fingerprint]);
      await opens(`of-${source}`, keys[source]);
    }
  }));

test("import-key: another name, and a version from before the setup rotated its key", () =>
  withServices(async ({ gcp, vault }) => {
    const { aws } = await stackOfOperator();
    const [old, young] = [newKey(), newKey()];
    await putParameter(aws, `${PARAMETER}/mine`, hexOf(old));
    await putParameter(aws, `${PARAMETER}/mine`, hexOf(young), true);
    for (const key of [old, young]) {
      gcp.putSecret("mine", textOf(key));
      vault.putSecret(`${VAULT_PATH}/mine`, { key: hexOf(key) });
    }
    const names = {
      aws: `${PARAMETER}/mine`,
      gcp: "mine",
      vault: `secret/${VAULT_PATH}/mine`,
    };
    for (const [source, name] of Object.entries(names)) {
      const from = ["import-key", "--source", source, "--name", name];
      await done([...from, "--key-id", `${source}-1`, "--key-version", "1"]);
      await opens(`${source}-1`, old);
      await done([...from, "--key-id", `${source}-2`]);
      await opens(`${source}-2`, young);
      const taken = [...from, "--key-id", `${source}-1`];
      await refused(taken, 5, "legacy_key_conflict");
      await refused([...taken, "--key-version", "9"], 5, "key_import_failed");
    }
  }));

test("import-key: what is not there, not allowed, no key or not configured, in the guide's words", async () => {
  const why = async (args: string[]) => {
    const { errors } = await refused(["import-key", ...args], 5, "key_import_failed");
    return errors.map(({ code, detail }: { code: string; detail: string }) => `${code}: ${detail}`);
  };
  const without = "source_not_configured: The configuration has no credentials for this source";
  for (const source of ["gcp", "vault"]) assertEquals(await why(["--source", source]), [without]);

  await withServices(async ({ gcp, vault }) => {
    const { aws } = await stackOfOperator();
    for (const source of ["aws", "gcp", "vault"]) {
      assertEquals(await why(["--source", source, "--key-id", "gone"]), [
        "key_not_found: Encryption key not found: gone",
      ]);
    }
    const short = "00".repeat(31);
    await putParameter(aws, `${PARAMETER}/short`, short);
    gcp.putSecret(`${SECRET}-short`, new TextEncoder().encode(short));
    vault.putSecret(`${VAULT_PATH}/short`, { key: short });
    for (const source of ["aws", "gcp", "vault"]) {
      assertEquals(await why(["--source", source, "--key-id", "short"]), [
        "invalid_key_length: Invalid key length: expected 32 bytes",
      ]);
    }
    await putParameter(aws, "/elsewhere/mine", hexOf(newKey()));
    gcp.putSecret("hidden", textOf(newKey()));
    gcp.setPermissions([]);
    vault.putSecret("elsewhere/mine", { key: hexOf(newKey()) });
    const denied = ["access_denied: Access denied to encryption key"];
    for (
      const [source, name] of [
        ...[["aws", "/elsewhere/mine"], ["gcp", "hidden"], ["vault", "secret/elsewhere/mine"]],
      ] as const
    ) assertEquals(await why(["--source", source!, "--name", name!]), denied);
  });
});

test("import-key --source gcp with a service account's file: fetched here, handed over", async () => {
  const gcp = await startLocalGcp();
  secrets.push(JSON.parse(gcp.credentialsJson).private_key);
  try {
    const [key, older] = [newKey(), newKey()];
    for (const one of [older, key]) gcp.putSecret(`${SECRET}-of-file`, textOf(one));
    const file = privateFile(gcp.credentialsJson);
    const env = { GOOGLE_SECRET_MANAGER_ENDPOINT: gcp.endpoint };
    const command = ["import-key", "--source", "gcp", "--key-id", "of-file"];
    const byOption = await operate([...command, "--credentials-file", file], { env });
    assertEquals(byOption.code, 0, byOption.stderr);
    const { key_id, source, existing } = byOption.json();
    assertEquals([key_id, source, existing], ["of-file", "inline", false]);
    assertStringIncludes(byOption.stderr, "fetching the key of-file from here");
    const variable = { ...env, GOOGLE_APPLICATION_CREDENTIALS: file, KMS_KEY_ID: "of-file" };
    assertEquals((await done(["import-key", "--source", "gcp"], { env: variable })).existing, true);
    await opens("of-file", key);
    const first = ["--name", `${SECRET}-of-file`, "--key-version", "1"];
    await done(["import-key", "--source", "gcp", "--key-id", "of-file-1", ...first], {
      env: variable,
    });
    await opens("of-file-1", older);

    // Other credentials are the functions' own affair, and they have none.
    const others = { ...variable, GOOGLE_CREDENTIALS_JSON: gcp.credentialsJson };
    await refused(["import-key", "--source", "gcp"], 5, "key_import_failed", { env: others });
    const missing = [...command.slice(0, 3), "--key-id", "gone", "--credentials-file", file];
    const gone = await refused(missing, 5, "key_import_failed", { env });
    assertEquals(gone.title, "Encryption key not found: gone");
    const open = privateFile(gcp.credentialsJson, 0o644);
    const usage = async (path: string) =>
      (await refused([...command, "--credentials-file", path], 2, "usage", { env })).title;
    assertStringIncludes(await usage(open), "chmod 600");
    assertStringIncludes(
      await usage(privateFile("{}")),
      "must be the JSON key of a service account",
    );
    const other = ["import-key", "--source", "aws", "--credentials-file", file];
    await refused(other, 2, "usage", { env });
  } finally {
    await gcp.close();
  }
  const down = { GOOGLE_SECRET_MANAGER_ENDPOINT: gcp.endpoint };
  const file = privateFile(gcp.credentialsJson);
  const late = ["import-key", "--source", "gcp", "--credentials-file", file];
  await refused(late, 4, "kms_unavailable", { env: down });
});

test("import-key and import-rows: a key through stdin, and the rows that it opens", async () => {
  const hex = hexOf(LEGACY_KEY);
  const key = ["import-key", "--source", "stdin", "--key-id", "old"];
  const imported = await spawn(key, `${hex}\n`);
  assertEquals(imported.code, 0, imported.stderr);
  assertEquals([imported.json().key_id, imported.json().existing], ["old", false]);
  assertEquals((await done(key, { stdin: `${hex}\n` })).existing, true);
  await refused(key, 5, "legacy_key_conflict", { stdin: hex.replaceAll("0", "f") });

  const user = await newUser();
  const as = { data_class: "payment", exp_month: 1, exp_year: NEXT_YEAR };
  const row = (source_id: string, ciphertext: string) =>
    JSON.stringify({ source_id, user_id: user.userId, ciphertext, as });
  const rows = [
    row("1", legacyCiphertext(AMEX)),
    row("2", legacyCiphertext(VISA, "v1_hex", new Uint8Array(32))),
  ];
  const run = ["import-rows", "--encoding", "v1_hex", "--key-id", "old", "-"];
  const stored = await operate(run, { stdin: `${rows.join("\n")}\n` });
  const { run: { imported: good }, failed, refused: none } = stored.json();
  assertEquals([stored.code, good, none], [1, 1, []], stored.stdout);
  assertEquals(failed.map((one: { source_id: string }) => one.source_id), ["2"]);
  const [mine] = (await manage(user, "GET", "")).body.payment_methods ?? [];
  cards.push({ user, id: mine?.id ?? "", number: AMEX });
  await allReadable();
});

test("no key is anywhere: not in what a command printed, and not in the database", async () => {
  neverSaid([...secrets, hexOf(LEGACY_KEY), AMEX, VISA]);
  const kept = await sql<{ row: string }>("select to_jsonb(l)::text as row from kms.legacy_keys l");
  const trail = await sql<{ row: string }>("select to_jsonb(l)::text as row from kms.audit_log l");
  assert(kept.length > 8);
  for (const { row } of [...kept, ...trail]) {
    for (const secret of [...secrets, hexOf(LEGACY_KEY)]) assert(!row.includes(secret));
  }
});
