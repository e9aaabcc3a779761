/** Stored settings and another provider, by commands alone, while every card stays readable. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { MASTERCARD, sql, test, VISA } from "../http/suite.ts";
import { privateFile } from "./cli.ts";
import { done, neverSaid, operate, refused, spawn, stackOfOperator } from "./operator.ts";
import { allReadable, cards, HOLDER, keyOf, newCard } from "./project.ts";

/** Of the provider `env`, from the start of this run to its end. */
const ENCRYPTION_KEY = crypto.randomUUID().replaceAll("-", "").repeat(2);
const ENV = { provider: "env", credentials: { encryption_key: ENCRYPTION_KEY } };

test("a project in use under aws", async () => {
  await stackOfOperator();
  for (const number of [VISA, MASTERCARD]) cards.push(await newCard(number));
  assertEquals((await done(["health"])).status, "healthy");
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

  const { provider, keyId } = await keyOf();
  assertEquals(provider, "env");
  const newMaterial = ["rotate", "--target", "kms-key", "--class", "payment", "--confirm", keyId];
  await refused(newMaterial, 5, "rotation_not_supported");
  await done(["rotate"]);
  assertEquals((await done(["reencrypt"])).failed, 0);
  const now = await sql<{ provider: string }>(
    "select distinct kms.provider_of(kms_key_arn) as provider from kms.ciphertexts",
  );
  assertEquals(now, [{ provider: "env" }]);
  await allReadable();
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
  assertMatch(
    stored ?? "",
    /^functions\.configuration: revision \d+ of the database .*\(env; aws read\)/,
  );
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

Deno.test("no command has printed a key, a credential or a card", async () => {
  const { secretKey, jwtSecret, aws: { identities } } = await stackOfOperator();
  neverSaid([
    ...[secretKey, jwtSecret, ENCRYPTION_KEY, VISA, MASTERCARD, HOLDER],
    ...[identities.caller.secretAccessKey, identities.role.externalId],
  ]);
});
