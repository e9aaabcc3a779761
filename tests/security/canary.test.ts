/**
 * A card number may appear in no log line, error, metric, URL, audit or idempotency row. Canary numbers
 * go through every path of every function, good and bad, in right and wrong places, with the key service
 * and the database whole and broken; then every sink is searched for them, raw and encoded.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import type { Stack } from "../../local/stack.ts";
import { EVERY_CALL, signUp, startTestStack, WITH_STACK } from "../support/stack.ts";
import { needlesFor } from "./canary/needles.ts";
import {
  ConsoleTap,
  databaseSinks,
  fileSinks,
  findings,
  logSinks,
  type Sink,
} from "./canary/sinks.ts";
import { TcpTap } from "./canary/tcp-tap.ts";
import {
  HEALTH,
  inAdministration,
  inAudit,
  inBodies,
  inChanges,
  inHeaders,
  inUrls,
  MANAGE,
  payment,
  Traffic,
} from "./canary/traffic.ts";

/** Published test numbers: one that is stored and revealed, one that is only ever misplaced, */
const STORED = "4000056655665556";
const MISPLACED = "5200828282828210";
const NEEDLES = [STORED, MISPLACED].flatMap(needlesFor);
/** and one that the key service and the database say in their errors, so that theirs may hold it. */
const QUOTED = "2223003122003222";

Deno.test({
  name: "a card number appears in no sink, whatever happens to it",
  ...WITH_STACK,
  async fn(t) {
    const output = new ConsoleTap();
    const tap = new TcpTap();
    const stack = await startTestStack({
      functionEnv: {
        ...EVERY_CALL,
        AWS_ENDPOINT_URL: `http://127.0.0.1:${tap.port}`,
        LOG_LEVEL: "debug",
        KMS_RUN_STARTUP_TEST: "true",
        KMS_HEALTH_CACHE_MS: "0",
      },
      onFunctionLine: () => {},
    });
    tap.target = stack.aws.port;
    const traffic = new Traffic(stack, await signUp(stack));
    const sinks: Sink[] = [];

    try {
      await t.step("where it belongs: stored, changed, revealed", () => belongs(traffic));
      await t.step("in URLs", () => inUrls(traffic, MISPLACED));
      await t.step("in questions about the audit", () => inAudit(traffic, MISPLACED));
      await t.step("in headers", () => inHeaders(traffic, MISPLACED));
      await t.step("in bodies", () => inBodies(traffic, MISPLACED));
      await t.step("in administration", () => inAdministration(traffic, MISPLACED));
      await t.step("while the key service is down", () => keyServiceDown(traffic));
      await t.step("while the database fails", () => databaseFails(traffic));
      await t.step("in a message that was tampered with", () => tampered(traffic));
      await t.step("in the configuration", () => misconfigured(traffic));

      const database = await databaseSinks(stack);
      sinks.push(...database, ...logSinks(stack), traffic.sink(), tap.sink());
    } finally {
      await stack.close();
      await tap.close();
      output.release();
    }
    sinks.push(output.sink(), ...fileSinks(stack.dataDir));

    await t.step("the sinks hold what they should", () => sinksAreReal(sinks, traffic));
    await t.step("the search finds each form in a copy of each sink", () => findsPlanted(sinks));
    await t.step("no sink holds a canary", () => assertEquals(findings(sinks, NEEDLES), []));
    await t.step("what other services say in their errors is neither answered nor logged", () => {
      const ours = sinks.filter(({ name }) => name === "answers" || name.startsWith("log of "));
      assertEquals(ours.length, stack.functions.length + 1);
      assertEquals(findings(ours, needlesFor(QUOTED)), []);
    });
  },
});

/** The good paths, with the number in every spelling that is accepted. */
async function belongs(traffic: Traffic): Promise<void> {
  const { user } = traffic;
  const address = {
    billing_address: { line1: "1 Main St", country: "US" },
    cardholder_name: "Jane Doe",
  };
  const created = await traffic.encrypt({
    ...payment(STORED, { nickname: "Work" }),
    card: { ...payment(STORED).card, ...address },
  });
  assertEquals(created.status, 201);
  const { id } = created.body.payment_method as { id: string };
  for (const spelled of ["4000 0566 5566 5556", "4000-0566-5566-5556"]) {
    assertEquals((await traffic.encrypt(payment(spelled))).status, 200);
  }
  const twice = { headers: { "idempotency-key": STORED } };
  assertEquals((await traffic.encrypt(payment(STORED), twice)).status, 200);
  assertEquals((await traffic.encrypt(payment(STORED), twice)).status, 200);
  assertEquals((await traffic.encrypt(payment(MISPLACED), twice)).status, 422);
  const batch = { items: [payment(STORED), payment("1"), payment(STORED, { set_default: true })] };
  assertEquals((await traffic.encrypt(batch)).status, 200);
  assertEquals(
    (await traffic.encrypt({ ...payment(STORED), user_id: user.userId }, { secret: true })).status,
    200,
  );
  // In the encrypted parts a number is data like any other.
  const record = await traffic.encrypt({
    data_class: "pii",
    data: { note: STORED, [STORED]: STORED },
  });
  assertEquals(record.status, 201);
  const named = { cardholder_name: STORED, billing_address: { line1: STORED } };
  assertEquals(
    (await traffic.send(MANAGE, `/${id}`, { method: "PATCH", json: named })).status,
    200,
  );

  await traffic.send(MANAGE, "");
  await traffic.send(MANAGE, `/${id}`);
  await traffic.send(MANAGE, `/${id}/default`, { json: {} });
  await traffic.send(HEALTH, "");
  assertEquals((await traffic.send(HEALTH, "", { secret: true })).status, 200);
  assertEquals(
    (await traffic.send(MANAGE, `/${id}/reveal`, { json: { purpose: "x" } })).status,
    403,
  );

  const revealed = await traffic.reveal(`/${id}`);
  const { card } = revealed.body.payment_method as { card: { number: string } };
  assertEquals(card.number, STORED, "the canary must really have been stored");
  const { id: recordId } = record.body.record as { id: string };
  const { data } = (await traffic.reveal(`/records/${recordId}`)).body.record as { data: unknown };
  assertEquals(data, { note: STORED, [STORED]: STORED });

  await inChanges(traffic, `/${id}`, MISPLACED);
  await traffic.send(MANAGE, `/${recordId}`, { method: "DELETE" });
  assertEquals((await traffic.send(MANAGE, `/${id}`, { method: "DELETE" })).status, 204);
  assertEquals((await traffic.encrypt(payment(STORED))).status, 201);
}

async function keyServiceDown(traffic: Traffic): Promise<void> {
  const { faults } = traffic.stack.aws;
  const id = await storedId(traffic);
  for (
    const effect of [
      { kind: "refuse" },
      { kind: "drop_after" },
      { kind: "error", name: "ThrottlingException", message: `about ${QUOTED}` },
      { kind: "error", name: "AccessDeniedException", message: `about\n    at ${QUOTED}:1:1` },
      { kind: "error", name: QUOTED, status: 500 },
    ] as const
  ) {
    faults.set([{ effect }]);
    assertEquals((await traffic.encrypt(payment(STORED))).status, 503, effect.kind);
    assertEquals((await traffic.reveal(`/${id}`)).status, 503, effect.kind);
    await traffic.send(HEALTH, "", { secret: true });
  }
  faults.clear();
}

async function databaseFails(traffic: Traffic): Promise<void> {
  const { stack } = traffic;
  const id = await storedId(traffic);
  await stack.sql(`create function kms.canary() returns trigger language plpgsql as $$ begin
    raise exception 'about ${QUOTED}' using errcode = '23514', detail = '${QUOTED}', hint = '${QUOTED}';
    end $$`);
  await stack.sql(`create trigger canary before insert or update on public.payment_methods
    for each row execute function kms.canary()`);
  const other = payment("4111111111111111", { nickname: "Other" });
  assertEquals((await traffic.encrypt(other)).status, 500);
  const change = { method: "PATCH", json: { nickname: "Other" } };
  assertEquals((await traffic.send(MANAGE, `/${id}`, change)).status, 500);
  await stack.sql("drop function kms.canary() cascade");
  for (const name of ["kms_store", "kms_audit_append", "kms_idempotency_begin"]) {
    const [before] = await stack.sql<{ signature: string }>(
      `select oid::regprocedure::text as signature from pg_proc where proname = '${name}'`,
    );
    assert(before !== undefined);
    const signature = before.signature.replace(/^public\./, "public.");
    await stack.sql(`alter function ${signature} rename to ${name}_away`);
    const answers = [await traffic.encrypt(payment(STORED)), await traffic.reveal(`/${id}`)];
    const failed = name === "kms_audit_append" ? answers[1] : answers[0];
    assertGreater(failed?.status, 499, `${name} is away and nobody noticed`);
    assert(!JSON.stringify(answers[0]).includes(STORED));
    await stack.sql(`alter function ${signature.replace(name, `${name}_away`)} rename to ${name}`);
  }
  assertEquals((await traffic.reveal(`/${id}`)).status, 200);
}

async function tampered(traffic: Traffic): Promise<void> {
  const { stack } = traffic;
  const id = await storedId(traffic);
  const [kept] = await stack.sql<{ message: string }>(
    "select message from kms.ciphertexts where record_id = $1 and field = 'number'",
    [id],
  );
  assert(kept !== undefined);
  const flipped = (at: number) => {
    const character = kept.message[at] === "A" ? "B" : "A";
    return kept.message.slice(0, at) + character + kept.message.slice(at + 1);
  };
  for (const at of [60, 200, kept.message.length - 40]) {
    await setMessage(stack, id, flipped(at));
    const answer = await traffic.reveal(`/${id}`);
    assertEquals([answer.status, answer.body.code], [500, "decryption_failed"]);
  }
  await setMessage(stack, id, kept.message);
  assertEquals((await traffic.reveal(`/${id}`)).status, 200);
}

async function setMessage(stack: Stack, id: string, message: string): Promise<void> {
  await stack.sql(
    "update kms.ciphertexts set message = $2 where record_id = $1 and field = 'number'",
    [id, message],
  );
}

/** A number in a variable is a fault, and faults name variables only. */
async function misconfigured(traffic: Traffic): Promise<void> {
  const { stack } = traffic;
  for (const name of stack.functions) {
    await stack.restartFunction(name, {
      AWS_REGION: MISPLACED,
      AWS_ENDPOINT_URL: `http://${MISPLACED}.example`,
      LOG_LEVEL: MISPLACED,
      KMS_FALLBACK_REGIONS: `["${MISPLACED}`,
    });
  }
  assertEquals((await traffic.encrypt(payment(STORED))).body.code, "configuration_invalid");
  assertEquals((await traffic.send(MANAGE, "")).body.code, "configuration_invalid");
  assertEquals((await traffic.send(HEALTH, "")).body.status, "unhealthy");
}

/** The payment method that holds the canary. */
async function storedId(traffic: Traffic): Promise<string> {
  const { body } = await traffic.encrypt(payment(STORED));
  return (body.payment_method as { id: string }).id;
}

/** An empty sink has no canary in it either: each must hold what the traffic left there. */
function sinksAreReal(sinks: readonly Sink[], traffic: Traffic): void {
  const { stack, user } = traffic;
  assertGreater(traffic.count, 300);
  const expected: Record<string, string> = {
    "answers": "sensitive_authentication_data",
    "AWS call records": "GenerateDataKey",
    "bytes sent to AWS": user.userId,
    "table kms.audit_log": "payment_method.reveal",
    "table kms.ciphertexts": "AgR4",
    "table kms.idempotency_keys": "payment_method",
    "table kms.card_fingerprints": user.userId,
    "table kms.branch_keys": "beacon:ACTIVE",
    "table public.payment_methods": "5556",
    "table pg_catalog.pg_proc": "kms_store",
    "file aws.json": stack.aws.identities.caller.accessKeyId,
  };
  for (const name of stack.functions) expected[`log of ${name}`] = '"event":"request"';
  for (const [name, text] of Object.entries(expected)) {
    const sink = sinks.find((candidate) => candidate.name === name);
    assert(sink !== undefined, `${name} is missing`);
    const needle = { form: "", bytes: new TextEncoder().encode(text) };
    assertEquals(findings([sink], [needle]).length, 1, `${name} does not hold ${text}`);
  }
  if (stack.dbUrl === undefined) {
    const files = sinks.filter(({ name }) => name.startsWith("file db/"));
    assertGreater(files.length, 100, "the database's own files");
    const ciphertext = { form: "", bytes: new TextEncoder().encode("AgR4") };
    assertGreater(findings(files, [ciphertext]).length, 0, "stored messages are in the files");
  }
}

/** Plants every needle in the midst of a copy of every kind of sink. */
function findsPlanted(sinks: readonly Sink[]): void {
  const kinds = new Map(sinks.map((sink) => [sink.name.split(" ")[0], sink]));
  assertGreater(kinds.size, 5);
  for (const { name, content } of kinds.values()) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const half = bytes.length >> 1;
    const all = NEEDLES.flatMap((needle) => [...needle.bytes, 0x7e]);
    const planted = new Uint8Array([
      ...bytes.subarray(half - Math.min(half, 4096), half),
      ...all,
      ...bytes.subarray(half, half + 4096),
    ]);
    assertEquals(findings([{ name, content: planted }], NEEDLES).length, NEEDLES.length, name);
  }
}
