/** The command line against the real functions, as an operator would use it in the life of one project. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { daysAgo, history, tamper } from "../http/audit-trail.ts";
import {
  AMEX,
  encrypt,
  manage,
  MASTERCARD,
  newUser,
  NEXT_YEAR,
  NO_ROWS,
  rowsOf,
  SERVER,
  sql,
  store,
  test,
  VISA,
} from "../http/suite.ts";
import type { TestUser } from "../support/stack.ts";
import { LEGACY_KEY, legacyCiphertext } from "../unit/support/legacy.ts";
import { kms, privateFile } from "./cli.ts";
import { done, neverSaid, operate, refused, spawn, stackOfOperator } from "./operator.ts";

const [LONG_AGO, LATELY] = [daysAgo(500), daysAgo(400)];
/** Of the provider `env`, from the start of this run to its end. */
const ENCRYPTION_KEY = crypto.randomUUID().replaceAll("-", "").repeat(2);
const ENV = { provider: "env", credentials: { encryption_key: ENCRYPTION_KEY } };

interface Card {
  readonly user: TestUser;
  readonly id: string;
  readonly number: string;
}

const cards: Card[] = [];

async function newCard(number: string): Promise<Card> {
  const user = await newUser();
  const { id } = await store(user, number, { card: { cardholder_name: "Ada Lovelace" } });
  return { user, id, number };
}

/** Every card of before, as long as it was not erased. */
async function allReadable(): Promise<void> {
  for (const { user, id, number } of cards) {
    const reveal = { user_id: user.userId, purpose: "support" };
    const { body, text } = await manage(SERVER, "POST", `/${id}/reveal`, reveal);
    assertEquals(
      (body.payment_method?.card as { number: string } | undefined)?.number,
      number,
      text,
    );
  }
}

const keyOf = (dataClass = "payment") => done(["key", "--class", dataClass]);

test("a project in use: days of audit, cards of users, keys that are shown", async () => {
  await stackOfOperator();
  await history([LONG_AGO, LATELY], 3);
  for (const number of [VISA, MASTERCARD, AMEX]) cards.push(await newCard(number));
  await encrypt(cards[0]!.user, { data_class: "pii", data: { passport: "533401372" } });
  const key = await keyOf();
  assertEquals([key.provider, key.enabled, key.rotation.on_demand_left], ["aws", true, 25]);
  assertEquals([key.branch_key.id, key.branch_key.versions], ["payment", 1]);
  assertEquals((await done(["health"])).status, "healthy");
});

test("rotate, reencrypt, retire: an old version goes when the last row has left it", async () => {
  const before = (await keyOf()).branch_key.version;
  const { rotated, failed, newKeyVersion } = await done(["rotate", "--class", "payment"]);
  assertEquals([rotated.length, rotated[0].branch_key_id, failed], [1, "payment", []]);
  const { branch_key } = await keyOf();
  assertEquals([branch_key.version, branch_key.versions], [newKeyVersion, 2]);
  assertEquals(branch_key.old_versions, [{ ...branch_key.old_versions[0], version: before }]);

  const retire = ["retire", "payment", before];
  const error = await refused(retire, 5, "branch_key_in_use");
  assertEquals(error.errors[0].code, "in_use");
  const active = await refused(["retire", "payment", newKeyVersion], 5, "branch_key_in_use");
  assertEquals(active.errors[0].code, "active");

  const dry = await done(["reencrypt", "--class", "payment", "--dry-run"]);
  assertEquals([dry.status, dry.dry_run, dry.failed], ["completed", true, 0]);
  await refused(retire, 5, "branch_key_in_use");

  const moved = await spawn(["reencrypt", "--class", "payment", "--workers", "2"]);
  assertEquals(moved.code, 0, moved.stderr);
  const job = moved.json();
  assertEquals([job.status, job.done, job.total, job.failed], ["completed", 6, 6, 0]);
  assertMatch(moved.stderr, /^started job .*\n(.*\n)*100\.0 % {2}6\/6 rows .*completed$/m);
  assertEquals(await done(["jobs", "show", job.id]), job);
  assertEquals((await done(["jobs", "list", "--limit", "1"])).jobs, [job]);
  assertEquals((await done(["jobs", "failures", job.id])).failures, []);

  assertEquals(await done(retire), { branch_key_id: "payment", version: before });
  await refused(retire, 5, "not_found");
  assertEquals((await keyOf()).branch_key.old_versions, []);
  await allReadable();
});

test("reencrypt: a row that somebody changed is a failure with a name, and the rest is done", async () => {
  const { id } = cards[0]!;
  await done(["rotate", "--class", "payment"]);
  const swap = `update kms.ciphertexts c set message = o.message from kms.ciphertexts o
    where c.record_id = $1 and o.record_id = $1 and c.field <> o.field`;
  await sql(swap, [id]);
  const found = await operate(["reencrypt", "--class", "payment"]);
  const job = found.json();
  assertEquals([found.code, job.status, job.failed, job.done], [1, "completed", 2, 4]);
  assertMatch(found.stderr, /2 FAILED$/m);
  assertEquals((await operate(["jobs", "show", job.id])).code, 1);
  const page = await operate(["jobs", "failures", job.id, "--limit", "1"]);
  assertEquals(page.code, 1);
  const [first] = page.json().failures;
  assertEquals([first.record_id, first.error_code], [id, "decryption_failed"]);
  const rest = ["jobs", "failures", job.id, "--cursor", page.json().next_cursor];
  assertEquals((await operate(rest)).json().failures.length, 1);

  await sql(swap, [id]);
  assertEquals((await done(["reencrypt", "--class", "payment"])).failed, 0);
  await allReadable();
});

test("audit: anchors, an export, a valid trail, and the place where one is not", async () => {
  const { anchors } = await done(["audit", "anchors"]);
  assertEquals(anchors.map((one: { day: string }) => one.day), [LONG_AGO, LATELY]);
  const kept = privateFile(JSON.stringify({ anchors }));
  const whole = await done(["audit", "verify", "--anchors", kept]);
  assertEquals([whole.valid, whole.faults, whole.days], [true, [], 3]);

  const { dataDir } = await stackOfOperator();
  const exported = async (day: string) => {
    const out = join(dataDir, `audit-${day}.ndjson`);
    const args = ["audit", "export", "--from", day, "--out", out];
    const { file, entries } = await done(args);
    const text = await Deno.readTextFile(out);
    const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals([file, lines.length], [out, entries]);
    assertEquals((await Deno.stat(out)).mode! & 0o777, 0o600);
    await refused(args, 2, "usage");
    return lines;
  };
  assertEquals((await exported(LATELY)).map(({ seq }) => seq), [1, 2, 3]);
  const actions = new Set((await exported(daysAgo(0))).map(({ action }) => action));
  for (const one of ["branch_key.rotate", "branch_key.retire", "job.row", "audit.verify"]) {
    assert(actions.has(one), `${one} is not in ${[...actions]}`);
  }

  const reveals = ["audit", "list", "--action", "payment_method.reveal", "--limit", "2"];
  const page = await done([...reveals, "--record", cards[1]!.id]);
  assertEquals(page.entries.map((one: { record_id: string }) => one.record_id), [
    ...[cards[1]!.id, cards[1]!.id],
  ]);

  const actor = (name: string) =>
    tamper(
      `update kms.audit_log set actor_id = '${name}' where (chain_day, seq) = ('${LATELY}', 2)`,
    );
  await actor("nobody");
  try {
    const broken = await operate(["audit", "verify"]);
    assertEquals([broken.code, broken.json().valid], [1, false]);
    assertEquals(broken.json().faults, [{ day: LATELY, seq: 2, kind: "changed" }]);
    const text = await kms(["audit", "verify", "--data-dir", dataDir]);
    assertEquals(text.code, 1);
    assertMatch(text.stdout, new RegExp(`^${LATELY} +2 +changed$`, "m"));
    const alerts = await operate(["audit", "alerts"]);
    assertEquals(alerts.code, 1, "what has failed is worth a look");
    const names = alerts.json().alerts.map((alert: { name: string }) => alert.name);
    assertEquals(names.toSorted(), ["audit_chain_broken", "decryption_failed"]);
  } finally {
    await actor("default");
  }
  assertEquals((await done(["audit", "verify"])).valid, true);

  const prune = ["audit", "prune", "--before", LATELY];
  assertStringIncludes((await refused(prune, 2, "usage")).title, `--confirm ${LATELY}`);
  const young = daysAgo(300);
  const early = ["audit", "prune", "--before", young, "--confirm", young];
  assertEquals((await refused(early, 5, "validation_failed")).errors[0].pointer, "/before");
  const pruned = await done([...prune, "--confirm", LATELY]);
  assertEquals([pruned.days, pruned.entries, pruned.anchor.day], [1, 3, LONG_AGO]);
  const rest = await done(["audit", "verify", "--anchors", kept]);
  assertEquals([rest.valid, rest.faults], [true, []], "what is gone is proved by its anchor");
});

test("jobs: one at a time; the one that runs is taken up, or cancelled", async () => {
  const idle = async () => {
    const [row] = await sql<{ id: string }>(
      `insert into kms.jobs (kind, data_class, dry_run, total, pass_epoch, created_by)
       select 'reencrypt', 'pii', false, kms.job_total('pii'), epoch, 'tests' from kms.key_epoch
       returning id`,
    );
    return row!.id;
  };
  const first = await idle();
  for (const overlapping of [[], ["--class", "pii", "--dry-run"]]) {
    const { errors } = await refused(["reencrypt", ...overlapping], 5, "job_running");
    assertStringIncludes(errors[0].detail, first);
  }
  const taken = await operate(["reencrypt", "--class", "pii"]);
  assertEquals([taken.code, taken.json().id], [0, first], taken.stderr);
  assertStringIncludes(taken.stderr, `taking up job ${first}`);
  const second = await idle();
  assertEquals((await done(["jobs", "cancel", second])).status, "cancelled");
  assertEquals((await done(["jobs", "show", second])).status, "cancelled");
  const late = await operate(["jobs", "cancel", first]);
  assertEquals([late.code, late.json().status], [1, "completed"]);
});

test("rotate --target kms-key: its id said twice, and no more than AWS allows", async () => {
  const { keyId } = await keyOf("general");
  const rotate = ["rotate", "--target", "kms-key", "--class", "general"];
  const ask = await refused(rotate, 2, "usage");
  assertStringIncludes(ask.title, "25 rotations on demand are left");
  assertStringIncludes(ask.title, `--confirm ${keyId}`);
  const other = (await keyOf("pii")).keyId;
  const wrong = await refused([...rotate, "--confirm", other], 5, "validation_failed");
  assertEquals(wrong.errors[0].code, "confirmation_mismatch");

  const { rotated } = await done([...rotate, "--confirm", keyId]);
  assertEquals(rotated.map((one: { key_id: string }) => one.key_id), [keyId]);
  const after = await keyOf("general");
  assertEquals(after.rotation.on_demand_left, 24);
  assert(Date.parse(after.lastRotated) > Date.now() - 600_000);

  const { aws } = await stackOfOperator();
  for (let left = 24; left > 0; left--) {
    await aws.asOperator("us-east-1", "RotateKeyOnDemand", { KeyId: keyId });
  }
  await refused([...rotate, "--confirm", keyId], 5, "rotation_limit_reached");
  assertStringIncludes((await refused(rotate, 2, "usage")).title, "0 rotations on demand");
});

test("config: a private file is tried, stored, listed, and taken back", async () => {
  const before = await done(["config", "get"]);
  assertEquals([before.revision, before.source, before.provider], [0, "environment", "aws"]);
  const file = privateFile(JSON.stringify(ENV));
  const open = privateFile(JSON.stringify(ENV), 0o644);
  for (const command of ["test", "set"]) {
    assertStringIncludes((await refused(["config", command, open], 2, "usage")).title, "chmod 600");
  }
  assertEquals((await done(["config", "history"])).revisions, []);

  const tested = await done(["config", "test", file]);
  assertEquals([tested.provider, tested.healthy, tested.locks_out], ["env", true, false]);
  const bad = privateFile(
    JSON.stringify({ provider: "env", credentials: { encryption_key: "x" } }),
  );
  const { errors } = await refused(["config", "set", bad], 5, "validation_failed");
  assertEquals(errors[0].pointer, "/credentials/encryption_key");

  const set = await done(["config", "set", file, "--reason", "ticket 7"]);
  assertEquals([set.revision, set.source, set.provider, set.readers], [1, "database", "env", [
    "aws",
  ]]);
  assertEquals((await done(["config", "get"])).credentials, { set: ["encryption_key"] });
  cards.push(await newCard(VISA));
  const { revisions } = await done(["config", "history"]);
  assertEquals(
    revisions.map((one: { revision: number; reason: string }) => [one.revision, one.reason]),
    [
      [1, "ticket 7"],
    ],
  );

  const forget = privateFile(JSON.stringify({ ...ENV, remove: ["aws"] }));
  const locked = await operate(["config", "test", forget]);
  assertEquals([locked.code, locked.json().locks_out], [1, true], locked.stdout);
  await refused(["config", "set", forget], 5, "configuration_locks_out");

  const back = await done(["config", "rollback", "0", "--reason", "ticket 8"]);
  assertEquals([back.revision, back.provider, back.readers], [2, "aws", ["env"]]);
  await refused(["config", "rollback", "9"], 5, "validation_failed");
  await allReadable();
});

test("migrate-provider: there, back, there again and finished, while everything stays readable", async () => {
  const migrate = ["migrate-provider", "--from", "aws", "--to", "env"];
  const status = () => done(["migrate-provider", "--status"]);
  assertEquals(await status(), null);
  const unknown = await refused(
    ["migrate-provider", "--from", "aws", "--to", "gcp"],
    5,
    "validation_failed",
  );
  assertEquals(unknown.errors[0].code, "provider_not_configured");

  const early = await operate(migrate);
  assertEquals(early.code, 0, early.stderr);
  assertStringIncludes(early.stderr, "still wrapped by aws: make env the provider");
  const first = early.json();
  assertEquals([first.step, first.remaining, first.direct_rows], ["switch", 0, 0]);
  assertEquals(await status(), first);
  await allReadable();
  await refused(["migrate-provider", "--from", "env", "--to", "aws"], 5, "migration_conflict");
  const back = await done([...migrate, "--back"]);
  assertEquals([back.step, back.remaining], ["back", 0]);
  assertEquals(await status(), null);

  await done([
    "config",
    "set",
    privateFile(JSON.stringify({ provider: "env" })),
    "--reason",
    "ticket 9",
  ]);
  await refused([...migrate, "--step", "finish"], 5, "migration_conflict");
  const again = await spawn(migrate);
  assertEquals(again.code, 0, again.stderr);
  assert(!again.stderr.includes("still wrapped"), again.stderr);
  assertMatch(again.stderr, /^prepare: (\d+) of \1 branch keys\nswitch: \1 of \1 branch keys$/m);
  assertEquals((await done([...migrate, "--step", "finish"])).remaining, 0);
  const holders = await sql<{ provider: string }>(
    "select distinct kms.provider_of(record ->> 'kms-arn') as provider from kms.branch_keys",
  );
  assertEquals(holders, [{ provider: "env" }]);
  await allReadable();
  assertEquals((await keyOf()).provider, "env");
});

test("import-key and import-rows: a key through stdin, and the rows that it opens", async () => {
  const hex = Array.from(LEGACY_KEY, (byte) => byte.toString(16).padStart(2, "0")).join("");
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

test("erase: everything of a user, and a proof that holds only as it is", async () => {
  const { user } = cards.shift()!;
  const erase = ["erase", user.userId, "--purpose", "gdpr:art-17"];
  await refused(erase, 2, "usage");
  const answer = await done([...erase, "--confirm", user.userId]);
  assertEquals([answer.erasure.user_id, answer.erasure.erased.payment_methods], [user.userId, 1]);
  assertEquals(await rowsOf(user.userId), NO_ROWS);

  // As the command printed it, as the route answers it, and the proof alone.
  for (
    const kept of [
      JSON.stringify(answer),
      JSON.stringify({ success: true, data: answer }),
      JSON.stringify(answer.proof),
      answer.proof,
    ]
  ) {
    const { valid, erasure } = await done(["verify-erasure", privateFile(kept)]);
    assertEquals([valid, erasure.user_id], [true, user.userId]);
  }
  await refused(["verify-erasure", privateFile("{}")], 2, "usage");
  const forged = { ...answer, proof: altered(answer.proof) };
  const verdict = await operate(["verify-erasure", privateFile(JSON.stringify(forged))]);
  assertEquals([verdict.code, verdict.json()], [1, { valid: false, erasure: null }]);
  await allReadable();
});

/** With one character of its middle changed. */
function altered(proof: string): string {
  const at = Math.floor(proof.length / 2);
  return proof.slice(0, at) + (proof[at] === "A" ? "B" : "A") + proof.slice(at + 1);
}

test("a wrong key, an address where nobody is, and arguments that are none", async () => {
  const { apiUrl } = await stackOfOperator();
  const at = (url: string) => ["jobs", "list", "--api-url", url];
  const env = { KMS_SECRET_KEY: "no-key-of-this-project" };
  await refused(at(apiUrl), 3, "unauthorized", { env });
  await refused(at(apiUrl), 3, "no_secret_key");
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  await refused(at(`http://127.0.0.1:${port}`), 4, "unreachable", { env });
  await refused(["jobs", "show", crypto.randomUUID()], 5, "not_found");
  await refused(["jobs", "list", "--cursor", "elsewhere"], 5, "validation_failed");
  const wrong = await spawn(["rotate", "--class", "everything"]);
  assertEquals([wrong.code, wrong.json().error.code], [2, "usage"]);
});

test("doctor: after all of this it still says what is true", async () => {
  const report = await operate(["doctor"]);
  const { checks, healthy } = report.json();
  const not = (status: string) =>
    checks.filter((line: { status: string }) => line.status === status)
      .map(({ check, message }: { check: string; message: string }) => `${check}: ${message}`);
  assertEquals([report.code, healthy, not("fail")], [0, true, []], report.stdout);
  const [cron, stored, ...more] = not("warn");
  assertMatch(cron ?? "", /^database\.cron: /);
  assertMatch(stored ?? "", /^functions\.configuration: revision \d+ of the database .*\(env\)/);
  assertEquals(more, []);

  const { aws } = await stackOfOperator();
  const alias = { KeyId: "alias/parker-flight-general-development" };
  const { KeyMetadata } = await aws.asOperator("us-east-1", "DescribeKey", alias);
  const { KeyId } = KeyMetadata as { KeyId: string };
  await aws.asOperator("us-east-1", "DisableKey", { KeyId });
  const ill = await operate(["doctor"]);
  assertEquals(ill.code, 1);
  const failed = ill.json().checks.filter(({ status }: { status: string }) => status === "fail");
  assertEquals(failed.map(({ check }: { check: string }) => check), ["aws.state.general"]);
  await aws.asOperator("us-east-1", "EnableKey", { KeyId });
});

test("no command has printed a key, a credential or a card", async () => {
  const { secretKey, jwtSecret, aws: { identities } } = await stackOfOperator();
  neverSaid([
    ...[secretKey, jwtSecret, ENCRYPTION_KEY, "no-key-of-this-project"],
    ...[identities.caller.secretAccessKey, identities.role.externalId],
    ...[VISA, MASTERCARD, AMEX, "533401372", "Ada Lovelace"],
    Array.from(LEGACY_KEY, (byte) => byte.toString(16).padStart(2, "0")).join(""),
  ]);
});
