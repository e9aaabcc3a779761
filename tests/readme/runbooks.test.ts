/**
 * Follows docs/runbooks.md as an operator does, word for word: what is run is read from it. Whether the
 * aim of each was reached is then found out by other means than its own commands.
 */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { SuiteError } from "../../functions-shared/errors.ts";
import { SettingsSeal } from "../../functions-shared/keys/settings-seal.ts";
import { requireAws } from "../support/aws-command.ts";
import { copyRepository } from "../support/repository.ts";
import { LeakedKey } from "./leak.ts";
import { readRunbooks } from "./runbooks.ts";
import { StackUnderTest } from "./stack.ts";
import { runScript } from "./session.ts";

const CLASSES = ["payment", "pii", "general"];
/** The runbooks wait for what should come about: then it never did. */
const STUCK_MS = 300_000;
const ADMIN_HEALTH = "/functions/v1/kms-admin/health";
/** Every block of runbook 4 may be repeated. */
const TWICE = 2;
const MASTERCARD = "5555555555554444";
/** Stored settings reach every worker within seconds instead of a minute, and each request asks KMS. */
const SECRETS = "KMS_CONFIG_CACHE_MS=2000\nKMS_DATA_KEY_TTL_MS=0\n";

/** Does `work`, and `other` about ten times a second until it is done. @returns what both came to */
async function meanwhile<T, U>(
  work: () => Promise<T>,
  other: () => Promise<U>,
): Promise<[T, U[]]> {
  let done = false;
  const working = work().finally(() => done = true);
  // It is waited for below; until then nobody is there to hear of its failure.
  working.catch(() => {});
  const others: U[] = [];
  while (!done) {
    others.push(await other());
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return [await working, others];
}

Deno.test("the runbooks, followed word for word", async (t) => {
  await requireAws();
  const folder = await Deno.makeTempDir({ prefix: "runbooks-" });
  await copyRepository(folder);
  await Deno.writeTextFile(`${folder}/.env.local`, SECRETS);
  const runbooks = readRunbooks();
  assertEquals([...runbooks.keys()].join(""), "0123456");
  const preamble = runbooks.get("0")?.[0]?.code ?? "";
  const times: string[] = [];
  await using stack = new StackUnderTest(folder);
  await stack.start();
  try {
    /**
     * Follows the next blocks of a runbook, which all have this label, each so many times before the next.
     * @returns what they printed
     */
    const follow = async (number: string, label = "steps", times = 1): Promise<string> => {
      const left = runbooks.get(number) ?? [];
      const end = left.findIndex((block) => block.label !== label);
      const blocks = left.splice(0, end === -1 ? left.length : end);
      assert(blocks.length > 0, `runbook ${number}: ${label} does not come next`);
      // What is done while the stack is stopped cannot ask it for its address.
      const script = [
        ...label === "stopped" ? [] : [preamble],
        ...blocks.flatMap(({ code }) => Array(times).fill(code)),
      ];
      const { code, stdout, stderr } = await runScript(
        script.join("\n"),
        folder,
        AbortSignal.timeout(STUCK_MS),
      );
      assertEquals(code, 0, `runbook ${number}, ${label}:\n${stdout}\n${stderr}`);
      return stdout;
    };
    const runbook = async (
      number: string,
      name: string,
      body: (t: Deno.TestContext) => Promise<void>,
    ) => {
      await t.step(`${number}. ${name}`, async (t) => {
        const startedAt = Date.now();
        await body(t);
        times.push(`${number}. ${name}: ${((Date.now() - startedAt) / 1000).toFixed(0)} s`);
      });
      assertEquals(runbooks.get(number), [], "every block was followed");
    };
    const demo = stack.file.demo.user_id;
    const other = await stack.newUser();
    const revealed = async (user: string, id: string) =>
      (await stack.reveal(user, id, "charge:order-1001")).payment_method?.card?.number;

    const leakedCallerKey = async (card: string) => {
      const leaked = new LeakedKey(stack.file.function_env);
      await leaked.openSession();
      assertEquals(
        [await leaked.identifies(), await leaked.assumesRole(), await leaked.sessionDecrypts()],
        ["ok", "ok", "ok"],
      );
      await stack.resetCalls();
      const [said, answers] = await meanwhile(
        () => follow("4", "caller", TWICE),
        () => revealed(demo, card),
      );
      assert(answers.length > 10, "there were users meanwhile");
      assertEquals(new Set(answers), new Set([MASTERCARD]), "and none of them noticed");
      const refused = (await stack.calls()).filter(({ errorName }) => errorName !== undefined);
      assert(refused.length > 0, "the functions' sessions ended as well");
      assertEquals(
        new Set(refused.map((call) => `${call.service} ${call.errorName}`)),
        new Set(["kms AccessDeniedException"]),
      );
      assertEquals(
        [await leaked.identifies(), await leaked.assumesRole(), await leaked.sessionDecrypts()],
        ["InvalidClientTokenId", "InvalidClientTokenId", "AccessDeniedException"],
      );
      assertMatch(said, /\tsts\.amazonaws\.com\tAssumeRole\tparker-flight-caller$/m);
      assertEquals(await revealed(demo, card), MASTERCARD);

      // Restarted with the dead key in the environment, the stored settings alone keep it going.
      const secrets = await Deno.readTextFile(`${folder}/.env.local`);
      await stack.whileStopped(() => Deno.writeTextFile(`${folder}/.env.local`, SECRETS));
      assertEquals(stack.file.function_env.AWS_ACCESS_KEY_ID, leaked.id);
      assertEquals((await stack.health()).status, "healthy");
      assertEquals(await revealed(demo, card), MASTERCARD);

      await stack.whileStopped(() => Deno.writeTextFile(`${folder}/.env.local`, secrets));
      const { function_env: env, aws_operator: operator } = stack.file;
      assertEquals(await new LeakedKey(env).assumesRole(), "ok", "the new key with the new id");
      const withOldId = new LeakedKey({ ...env, AWS_EXTERNAL_ID: leaked.externalId });
      assertEquals(await withOldId.assumesRole(), "AccessDenied");
      assert(!JSON.stringify(env).includes(operator.access_key_id), "no administrator's key");
      assertEquals(await revealed(demo, card), MASTERCARD);
      await follow("4", "later");
    };

    await runbook("1", "Rotate a key", async () => {
      const card = await stack.storeCard(demo, MASTERCARD);
      const [old] = await stack.versions("payment");
      await stack.resetCalls();
      await follow("1");
      const [now, ...others] = await stack.versions("payment");
      assertEquals(others, [], "the old version was retired");
      assert(now !== old);
      assertEquals(await stack.versionsOfRows("payment"), [now], "every row is at the new one");
      assertEquals(await revealed(demo, card), MASTERCARD);
      const rotations = (await stack.calls()).filter(({ operation }) =>
        operation === "RotateKeyOnDemand"
      );
      assertEquals(
        rotations.map(({ region, status }) => [region, status]),
        [["us-east-1", 200]],
        "KMS's own key rotated, at its primary",
      );
    });

    await runbook("2", "Lose a region", async () => {
      await stack.resetCalls();
      await follow("2");
      const during = await stack.calls();
      const answered = during.filter(({ status }) => status === 200);
      assert(answered.some(({ region }) => region === "us-west-2"), "another region served");
      assert(during.some(({ fault }) => fault === "blackhole"), "the region was away");
      assert(!answered.some(({ region }) => region === "us-east-1"));
      assertEquals((await stack.health()).metadata.region, "us-west-2");
      const [row] = await stack.sql<{ id: string }>(
        "select id from public.encrypted_records where data_class = 'general' and user_id = $1",
        [demo],
      );
      const { record } = await stack.reveal(demo, `records/${row?.id}`, "runbook");
      assertEquals(record?.data, { region: "lost" });

      await stack.resetCalls();
      await follow("2", "back");
      const after = await stack.health();
      assertEquals([after.status, after.metadata.region], ["healthy", "us-east-1"]);
      assert(
        (await stack.calls()).some((call) => call.region === "us-east-1" && call.status === 200),
      );
    });

    await runbook("3", "Change provider", async () => {
      const card = await stack.storeCard(other, MASTERCARD);
      await follow("3");
      assertEquals(await stack.holders("record"), ["vault"]);
      assertEquals(await stack.holders("copy"), ["aws"], "both serve");
      assertEquals(await revealed(other, card), MASTERCARD);
      await follow("3", "back");
      assertEquals(await stack.holders("record"), ["aws"]);
      assertEquals(await stack.holders("copy"), []);
      assertEquals(await revealed(other, card), MASTERCARD);
      await follow("3", "finish");
      assertEquals(await stack.holders("record"), ["vault"]);
      assertEquals(await stack.holders("copy"), [], "the old wrappings are gone");
      assertEquals(await revealed(other, card), MASTERCARD);
      await follow("3", "return");
      assertEquals(await stack.holders("record"), ["aws"]);
      assertEquals(await stack.holders("copy"), []);
      assertEquals(await revealed(other, card), MASTERCARD);
    });

    await runbook("4", "Respond to a leaked credential", async (t) => {
      const card = await stack.storeCard(demo, MASTERCARD);
      const before = await Promise.all(CLASSES.map((name) => stack.versions(name)));
      await follow("4");
      await leakedCallerKey(card);

      await t.step("B. A Supabase secret key", async () => {
        const leaked = stack.file.secret_key;
        const said = await follow("4", "key", TWICE);
        assertEquals(said.match(/ 401$/gm)?.length, 2 * TWICE, said);
        await stack.readFile();
        assert(stack.file.secret_key !== leaked);
        assert(!said.includes(leaked) && !said.includes(stack.file.secret_key), "nothing shown");
        assertEquals(await stack.status("/functions/v1/kms-admin/config", leaked), 401);
        assertEquals(await stack.status("/rest/v1/", leaked), 401);
        assertEquals(await stack.status("/rest/v1/", stack.file.secret_key), 200);
        const { data } = await stack.get("kms-admin/config");
        const unopened = data?.warnings?.filter((text) => /open/.test(text));
        assertEquals([data?.source, unopened], ["database", []]);
        const [last] = await stack.sql<
          { revision: number; message: string; reason: string; actor_id: string }
        >(
          "select revision, message, reason, actor_id from kms.settings order by revision desc limit 1",
        );
        assert(last);
        const { APP_NAME: appName = "", APP_ENVIRONMENT: environment = "", ...env } =
          stack.file.function_env;
        const [name = "", ...others] = Object.keys(JSON.parse(env.SUPABASE_SECRET_KEYS ?? ""));
        assertMatch(name, /^servers_\d{8}$/);
        assertEquals(others, [], "one key was made");
        assertEquals([last.reason, last.actor_id], ["a secret key leaked", name]);
        const opened = (secret: string) =>
          new SettingsSeal({ appName, environment, encryptionKey: undefined, secretKeys: [secret] })
            .open(last.revision, last.message);
        assert(opened(stack.file.secret_key).length > 0);
        assertThrows(() => opened(leaked), SuiteError);
      });

      await t.step("C. An administrator's account", async () => {
        const publishable = stack.file.publishable_key;
        const user = await stack.signIn("signup", {
          email: `${crypto.randomUUID()}@example.com`,
          password: crypto.randomUUID(),
        });
        await follow("4", "thief");
        const read = async (name: string) =>
          JSON.parse(await Deno.readTextFile(`${folder}/incident/${name}.json`));
        const [password, stolen] = [await read("password"), await read("refresh_token")];
        assertEquals(await stack.status(ADMIN_HEALTH, "", stolen.access_token), 200);
        assertEquals(await stack.status(ADMIN_HEALTH, "", user.access_token), 403);
        const administrator: string = stolen.user.id;
        const done = await stack.sql<{ action: string }>(
          "select action from kms.audit_log where actor_id = $1 and actor_type = 'admin'",
          [administrator],
        );
        assertEquals(done.map(({ action }) => action), ["branch_key.rotate"]);

        const said = await follow("4", "account", TWICE);
        assertMatch(said, new RegExp(`^${administrator} ${password.email} `, "m"));
        assertMatch(said, /branch_key\.rotate/);
        assertEquals(said.match(/^refused$/gm)?.length, 3 * TWICE, said);
        const { error_code: signIn } = await stack.signIn("token?grant_type=password", password);
        const { error_code: refresh } = await stack.signIn("token?grant_type=refresh_token", {
          refresh_token: stolen.refresh_token,
        });
        assertEquals([signIn, refresh], ["user_banned", "refresh_token_not_found"]);
        assertEquals(await stack.status(ADMIN_HEALTH, "", stolen.access_token), 401);
        const methods = "/rest/v1/payment_methods";
        assertEquals(await stack.status(methods, publishable, stolen.access_token), 401);

        // Everybody else: the token is no longer good, and a new one is a request away.
        const list = "/functions/v1/manage-payment-methods-kms";
        assertEquals(await stack.status(list, "", user.access_token), 401);
        const again = await stack.signIn("token?grant_type=refresh_token", {
          refresh_token: user.refresh_token,
        });
        assertEquals(await stack.status(list, "", again.access_token), 200);
        assertEquals(await stack.status(methods, publishable, again.access_token), 200);
        await follow("4", "end");
      });

      await follow("4");
      for (const [at, name] of CLASSES.entries()) {
        const now = await stack.versions(name);
        assertEquals(now.length, 1, `one version of ${name}`);
        assert(!before[at]?.includes(now[0] ?? ""));
        const ofRows = await stack.versionsOfRows(name);
        assertEquals(ofRows.filter((version) => version !== now[0]), [], "no row at another");
      }
      assertEquals(await revealed(demo, card), MASTERCARD);
    });

    await runbook("5", "Restore from backup", async () => {
      const [erased, kept] = [
        await stack.storeCard(demo, MASTERCARD),
        await stack.storeCard(other, MASTERCARD),
      ];
      await stack.whileStopped(() => follow("5", "stopped"));
      await follow("5", "kept");
      const lost = await stack.storeCard(other, "4242424242424242");
      assertEquals(await stack.cards(), [kept, lost].sort());
      await stack.whileStopped(() => follow("5", "stopped"));
      assertEquals(await stack.cards(), [erased, kept].sort(), "as it was at the backup");
      const said = await follow("5");
      assertMatch(said, /entries since the backup are gone/);
      const audit = JSON.parse(await Deno.readTextFile(`${folder}/kept/lost-entries.json`));
      assertEquals([audit.valid, audit.faults.length > 0], [false, true], "the anchor convicts");
      assertEquals(await stack.cards(), [kept], "who was erased is erased again");
      assertEquals((await stack.reveal(demo, erased, "charge")).code, "not_found");
      assertEquals(await revealed(other, kept), MASTERCARD);
    });

    await runbook("6", "Answer an auditor", async () => {
      const card = await stack.storeCard(demo, MASTERCARD);
      await stack.reveal(demo, card, "dispute:case-7");
      const secretKeys = JSON.parse(stack.file.function_env.SUPABASE_SECRET_KEYS ?? "");
      const [secretKeyName] = Object.keys(secretKeys);
      const said = await follow("6");
      const { entries } = JSON.parse(await Deno.readTextFile(`${folder}/who-saw-it.json`));
      assertEquals(
        entries.map((
          { record_id, actor_id, purpose }: Record<string, string>,
        ) => [record_id, actor_id, purpose]),
        [[card, secretKeyName, "dispute:case-7"]],
      );
      const exported = (await Deno.readTextFile(`${folder}/audit.jsonl`)).trim().split("\n");
      assertMatch(said, new RegExp(`^${exported.length} entries hold, `, "m"));
      assertMatch(said, /^1$/m);
      // One that was changed is found without the suite.
      const changed = exported.map((line) => line.replace("dispute:case-7", "dispute:case-8"));
      await Deno.writeTextFile(`${folder}/changed.jsonl`, changed.join("\n"));
      const offline = await runScript("node verify-export.mjs < changed.jsonl", folder);
      assertEquals(offline.code, 1);
      assertMatch(offline.stderr, /changed/);
      assertEquals((await stack.reveal(demo, card, "charge")).code, "not_found");
    });
  } finally {
    console.log(times.join("\n"));
    await stack.end();
    await Deno.remove(folder, { recursive: true });
  }
});
