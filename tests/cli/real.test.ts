/** The command line against the real functions, as an operator would use it in the life of one project. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { daysAgo, history, tamper } from "../http/audit-trail.ts";
import { AMEX, encrypt, MASTERCARD, NO_ROWS, rowsOf, sql, test, VISA } from "../http/suite.ts";
import { kms, privateFile } from "./cli.ts";
import { done, neverSaid, operate, refused, spawn, stackOfOperator } from "./operator.ts";
import { allReadable, cards, HOLDER, keyOf, newCard } from "./project.ts";

const [LONG_AGO, LATELY] = [daysAgo(500), daysAgo(400)];

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
  // A third one when this runs at midnight.
  assertEquals(anchors.slice(0, 2).map(({ day }: { day: string }) => day), [LONG_AGO, LATELY]);
  const kept = privateFile(JSON.stringify({ anchors }));
  const whole = await done(["audit", "verify", "--anchors", kept]);
  assertEquals([whole.valid, whole.faults], [true, []]);
  assert(whole.days >= 3 && whole.entries > 6);

  const { dataDir } = await stackOfOperator();
  const exported = async (from: string, to = from) => {
    const out = join(dataDir, `audit-${from}.ndjson`);
    const args = ["audit", "export", "--from", from, "--to", to, "--out", out];
    const { file, entries } = await done(args);
    const text = await Deno.readTextFile(out);
    const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals([file, lines.length], [out, entries]);
    assertEquals((await Deno.stat(out)).mode! & 0o777, 0o600);
    await refused(args, 2, "usage");
    return lines;
  };
  assertEquals((await exported(LATELY)).map(({ seq }) => seq), [1, 2, 3]);
  const actions = new Set((await exported(daysAgo(1), daysAgo(0))).map(({ action }) => action));
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

Deno.test("no command has printed a key, a credential or a card", async () => {
  const { secretKey, jwtSecret, aws: { identities } } = await stackOfOperator();
  neverSaid([
    ...[secretKey, jwtSecret, "no-key-of-this-project"],
    ...[identities.caller.secretAccessKey, identities.role.externalId],
    ...[VISA, MASTERCARD, AMEX, "533401372", HOLDER],
  ]);
});
