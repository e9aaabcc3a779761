import { assert, assertEquals } from "@std/assert";
import { sealSettings } from "../../functions-shared/admin/stored-settings.ts";
import { loadConfig } from "../../functions-shared/config.ts";
import type { Rpc } from "../../functions-shared/database/rpc.ts";
import type { Environment } from "../../functions-shared/environment.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { SettingsSeal } from "../../functions-shared/keys/settings-seal.ts";
import { createRuntime } from "../../functions-shared/runtime.ts";
import { ENV } from "./support/environment.ts";
import { MemoryRecords } from "./support/memory-records.ts";
import { codeOf } from "./support/thrown.ts";

const OTHER_KEY = "ffeeddccbbaa99887766554433221100".repeat(2);
const OWNER = "0b9bd1a5-1111-4111-8111-111111111111";

/** A worker on a clock and a database of the test's own. */
function worker(environment: Environment = ENV) {
  const state = {
    now: 0,
    revision: 0,
    message: null as string | null,
    down: false,
    calls: [] as string[],
    lines: [] as string[],
    reads: 0,
  };
  const records = new MemoryRecords();
  const news = { epoch: 1, dead_regions: [] };
  const rpc = (async (name: string, args: Record<string, string | number | null>) => {
    state.calls.push(name);
    await Promise.resolve();
    if (state.down) throw new SuiteError("database_unavailable");
    switch (name) {
      case "kms_settings_get": {
        const known = args.p_known_revision === state.revision;
        return { revision: state.revision, message: known ? null : state.message, ...news };
      }
      case "kms_branch_key_get": {
        const [record] = await records.get(String(args.p_branch_key_id), String(args.p_type));
        return { record: record ?? null, ...news };
      }
      case "kms_branch_key_create":
        return await records.create(JSON.parse(String(args.p_records)));
      default:
        throw new Error(`${name} is not expected`);
    }
  }) as Rpc;
  const runtime = createRuntime(() => {
    state.reads++;
    return environment;
  }, { connect: () => rpc, now: () => state.now });
  const own = loadConfig(environment);
  const seal = new SettingsSeal({ ...own, secretKeys: Object.values(own.supabase.secretKeys) });
  const store = (variables: Record<string, string>, revision = state.revision + 1) => {
    state.revision = revision;
    state.message = sealSettings(seal, revision, variables);
  };
  const logged = async <T>(work: () => Promise<T>): Promise<T> => {
    const print = console.log;
    console.log = (line: string) => state.lines.push(line);
    try {
      return await work();
    } finally {
      console.log = print;
    }
  };
  return { state, runtime, store, logged };
}

Deno.test("a runtime reads the environment once, and throws the same fault every time", () => {
  let reads = 0;
  const runtime = createRuntime(() => {
    reads++;
    return {};
  });
  const thrown = [0, 1].map(() => {
    try {
      return runtime.config();
    } catch (error) {
      return error;
    }
  });
  assertEquals(reads, 1);
  assert(thrown[0] instanceof Error && thrown[0] === thrown[1]);
  // The app calls it after every answer, that of a faulty configuration included.
  runtime.afterResponse();
});

Deno.test("with nothing stored the environment alone counts", async () => {
  const { state, runtime } = worker();
  const { config, services } = await runtime.serving();
  assertEquals(config, runtime.config());
  assertEquals(services.settingsValid, true);
  assertEquals([state.reads, state.calls], [1, ["kms_settings_get"]]);
});

Deno.test("a cold worker's first key call comes after its settings", async () => {
  const { store, runtime } = worker();
  store({ KMS_PROVIDER: "env", ENCRYPTION_KEY: OTHER_KEY, KMS_PII_KEYRING: "direct" });
  const { config } = await runtime.serving();
  assertEquals([config.provider, config.keyrings.pii], ["env", "direct"]);
  assertEquals(
    config.encryptionKey,
    loadConfig({ ...ENV, ENCRYPTION_KEY: OTHER_KEY }).encryptionKey,
  );
  assertEquals(runtime.config().keyrings.pii, "hierarchical");
});

Deno.test("stored settings reach a worker in use within the cache time, and nothing waits for them", async () => {
  const { state, store, runtime } = worker();
  const before = await runtime.serving();
  store({
    KMS_PROVIDER: "vault",
    VAULT_ADDR: "https://vault.example.com",
    VAULT_TOKEN: "hvs.of-nobody",
  });
  state.now = 29_999;
  assertEquals(await runtime.serving(), before);
  assertEquals(state.calls.length, 1);
  state.now = 30_000;
  assertEquals((await runtime.serving()).config.provider, "env");
  while ((await runtime.serving()).config.provider === "env") await Promise.resolve();
  assertEquals(state.calls, ["kms_settings_get", "kms_settings_get"]);
  // Who began under the old settings ends under them.
  const prepared = await before.services.records.prepare(OWNER, {
    dataClass: "pii",
    label: null,
    data: { a: 1 },
  });
  assertEquals(prepared.kind, "record");
});

Deno.test("a cold worker serves what needs no key before it knows its settings, and then under them", async () => {
  const { state, store, runtime } = worker();
  store({ KMS_PROVIDER: "env", KMS_PII_KEYRING: "direct" });
  state.down = true;
  assertEquals((await runtime.serving(true)).config, runtime.config());
  assertEquals(await codeOf(() => runtime.serving()), "database_unavailable");
  assertEquals(state.calls, ["kms_settings_get"]);
  state.down = false;
  assertEquals((await runtime.serving()).config.keyrings.pii, "direct");
  assertEquals((await runtime.serving(true)).config.keyrings.pii, "direct");
});

Deno.test("settings that cannot be opened, or are not valid here, leave the environment", async () => {
  const { state, store, runtime, logged } = worker();
  store({ KMS_PROVIDER: "aws", AWS_REGION: "canary-region" });
  const { config, services } = await logged(() => runtime.serving());
  assertEquals([config, services.settingsValid], [runtime.config(), false]);
  const line = JSON.parse(state.lines[0] ?? "{}");
  assertEquals([line.level, line.event], ["error", "settings_invalid"]);
  assert(line.faults.includes("AWS_REGION must be an AWS region such as us-east-1"), line.faults);

  store({ KMS_PROVIDER: "env" });
  state.revision++;
  state.now += 60_000;
  assertEquals((await logged(() => runtime.serving())).services.settingsValid, false);
  assertEquals(JSON.parse(state.lines[1] ?? "{}").code, "decryption_failed");

  state.message = null;
  state.revision++;
  state.now += 60_000;
  assertEquals((await logged(() => runtime.serving())).services.settingsValid, false);

  store({ KMS_PROVIDER: "env", KMS_PII_KEYRING: "direct" });
  state.now += 60_000;
  const mended = await logged(() => runtime.serving());
  assertEquals([mended.services.settingsValid, mended.config.keyrings.pii], [true, "direct"]);
  assertEquals(state.lines.length, 3);
  assert(!state.lines.join("").includes("canary"), state.lines.join("\n"));
});

Deno.test("a cold worker without a database fails; a warm one goes on", async () => {
  const { state, runtime } = worker();
  state.down = true;
  assertEquals(await codeOf(() => runtime.serving()), "database_unavailable");
  state.down = false;
  const { config } = await runtime.serving();
  state.down = true;
  state.now += 600_000;
  assertEquals((await runtime.serving()).config, config);
});

Deno.test("with ENCRYPTION_KEY in the environment no stored one unseals anything", async () => {
  const { state, store, runtime, logged } = worker();
  const sealedElsewhere = worker({ ...ENV, ENCRYPTION_KEY: OTHER_KEY });
  sealedElsewhere.store({ KMS_PROVIDER: "env", ENCRYPTION_KEY: OTHER_KEY });
  store({});
  state.message = sealedElsewhere.state.message;
  const { services } = await logged(() => runtime.serving());
  assertEquals(services.settingsValid, false);
});
