/** Changes under workers that have not followed yet: what these wrap meanwhile is read ever after. */
import { assert, assertEquals } from "@std/assert";
import { lockedOut, wrapSamples } from "../../functions-shared/admin/candidate.ts";
import { Configuration } from "../../functions-shared/admin/configuration.ts";
import { putSchema } from "../../functions-shared/admin/settings-fields.ts";
import { sealSettings, settle } from "../../functions-shared/admin/stored-settings.ts";
import { candidateKeys } from "../../functions-shared/assembly/key-providers.ts";
import { type Config, loadConfig } from "../../functions-shared/config.ts";
import { SettingsSeal } from "../../functions-shared/keys/settings-seal.ts";
import { parseInput } from "../../functions-shared/validation.ts";
import { type LocalVault, startLocalVault } from "../../local/vault/mod.ts";
import { ENV } from "./support/environment.ts";
import { ACTOR } from "./support/memory-records.ts";
import { MemorySettings } from "./support/memory-settings.ts";
import { suiteError } from "./support/thrown.ts";

const SIGNAL = new AbortController().signal;
const OWN = loadConfig(ENV);
/** The cache time, and the deadline of a request. */
const FOLLOW_MS = 60_000 + 15_000 + 3 * 10_000;
/** In use, and lost already: it is not held against anybody. */
const LOST = { branch_keys: [], messages: ["AgR4"] };

/** A configuration over the provider env, and two Vaults whose keys have different names. */
function setUp([one, other]: readonly [LocalVault, LocalVault]) {
  let now = Date.UTC(2026, 10, 25);
  const store = new MemorySettings(() => now);
  store.keys = LOST;
  const { secretKeys } = OWN.supabase;
  const seal = new SettingsSeal({ ...OWN, secretKeys: Object.values(secretKeys) });
  const configuration = new Configuration({
    environment: ENV,
    config: OWN,
    seal,
    store,
    audit: { append: () => Promise.resolve() },
    keysOf: candidateKeys,
    renew: () => Promise.resolve(),
    now: () => now,
  });
  const vault = ({ endpoint, mount, roleId, secretId }: LocalVault) => ({
    provider: "vault",
    addr: endpoint,
    mount,
    credentials: { role_id: roleId, secret_id: secretId },
  });
  const put = (body: Record<string, unknown>) =>
    configuration.put(ACTOR, parseInput(putSchema, body), { signal: SIGNAL });
  return {
    store,
    seal,
    configuration,
    vault: vault(one),
    otherVault: vault(other),
    put,
    rollback: (revision: number) => configuration.rollback(ACTOR, { revision }, { signal: SIGNAL }),
    refusal: async (work: () => Promise<unknown>) => {
      const { code, violations, retryAfterSeconds } = await suiteError(work);
      const [violation] = violations;
      return [code, violations.length, violation?.code, violation?.pointer, retryAfterSeconds];
    },
    wait: (ms: number) => void (now += ms),
    /** As a worker that has followed. */
    inForce: (): Config => {
      const sealed = store.rows.at(-1) ?? { revision: 0, message: null };
      const { config, fault } = settle(ENV, OWN, seal, sealed);
      assertEquals(fault, undefined);
      return config;
    },
  };
}

/** Whether those on `after` read what those on `before` wrap. */
async function reads(after: Config, before: Config): Promise<boolean> {
  const writer = candidateKeys(before);
  const samples = await wrapSamples(writer, SIGNAL);
  assertEquals([samples.branch_keys.length, samples.messages.length], [3, 3]);
  return (await lockedOut(samples, candidateKeys(after), writer, SIGNAL)).length === 0;
}

type Rig = ReturnType<typeof setUp> & { readonly vaults: readonly [LocalVault, LocalVault] };

function test(name: string, run: (rig: Rig) => Promise<void>): void {
  Deno.test({
    name,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const vaults = [
        await startLocalVault({ mount: "one" }),
        await startLocalVault({ mount: "other" }),
      ] as const;
      try {
        for (const vault of vaults) {
          for (const name of ["payment", "pii", "general"]) {
            vault.createKey(`parker-flight-${name}-development`);
          }
        }
        await run({ ...setUp(vaults), vaults });
      } finally {
        await Promise.all(vaults.map((vault) => vault.close()));
      }
    },
  });
}

test("a rollback keeps who wraps new keys now as a reader, also to where it was removed", async (rig) => {
  await rig.put({ provider: "env", remove: ["vault"] });
  await rig.put(rig.vault);
  const before = rig.inForce();
  rig.wait(FOLLOW_MS);
  const { provider, readers } = await rig.rollback(1);
  assertEquals([provider, readers], ["env", ["vault"]]);
  assert(await reads(rig.inForce(), before));
});

test("who wrapped new keys a moment ago is not removed, by nobody and by no rollback, until all followed", async (rig) => {
  await rig.put({ provider: "env", remove: ["vault"] });
  await rig.put(rig.vault);
  const before = rig.inForce();
  rig.wait(FOLLOW_MS);
  await rig.put({ provider: "env" });
  rig.wait(FOLLOW_MS - 5_000);
  const remove = () => rig.put({ provider: "env", remove: ["vault"] });
  const early = ["configuration_locks_out", 1, "key_still_written", "/provider", 5];
  assertEquals(await rig.refusal(remove), early);
  assertEquals((await rig.configuration.get()).revision, 3);
  // Down or not.
  rig.vaults[0].setSealed(true);
  assertEquals(await rig.refusal(remove), early);
  rig.vaults[0].setSealed(false);
  assertEquals((await rig.rollback(1)).readers, ["vault"]);
  assert(await reads(rig.inForce(), before));
  assertEquals(await rig.refusal(remove), early);
  rig.wait(5_000);
  assertEquals((await remove()).readers, []);
});

test("other settings of the same provider must open what is wrapped under the present ones", async (rig) => {
  await rig.put(rig.vault);
  rig.wait(FOLLOW_MS);
  const change = () => rig.put(rig.otherVault);
  const never = ["configuration_locks_out", 1, "key_still_written", "/provider", undefined];
  assertEquals(await rig.refusal(change), never);
  const tested = await rig.configuration.test(
    ACTOR,
    parseInput(putSchema, rig.otherVault),
    SIGNAL,
  );
  assertEquals([tested.healthy, tested.locks_out], [true, true]);
  // The way out: another provider first, and while a worker may be on the old settings it is too early.
  await rig.put({ provider: "env" });
  assertEquals(await rig.refusal(change), [...never.slice(0, 4), FOLLOW_MS / 1000]);
  rig.wait(FOLLOW_MS);
  await change();
  // A rollback to the first ones leads there no faster.
  rig.wait(FOLLOW_MS);
  assertEquals(await rig.refusal(() => rig.rollback(1)), never);
});

test("before anything was wrapped by anybody, settings are free", async (rig) => {
  rig.store.keys = { branch_keys: [], messages: [] };
  await rig.put(rig.vault);
  await rig.put(rig.otherVault);
  assertEquals(
    (await rig.put({ provider: "env", credentials: { encryption_key: "ab".repeat(32) } }))
      .revision,
    3,
  );
});

test("new credentials and a second key of the same Vault change nothing for what was wrapped", async (rig) => {
  await rig.put(rig.vault);
  const before = rig.inForce();
  const [vault] = rig.vaults;
  vault.createKey("another-pii");
  const { addr, mount } = rig.vault;
  const token = vault.token({});
  await rig.put({
    provider: "vault",
    addr,
    mount,
    keys: { pii: "another-pii" },
    credentials: { token },
  });
  assert(await reads(rig.inForce(), before));
});

test("a key service that is down does not hold its own leaving up", async (rig) => {
  await rig.put(rig.vault);
  rig.vaults[0].setSealed(true);
  const { provider, readers } = await rig.put({ provider: "env" });
  assertEquals([provider, readers], ["env", ["vault"]]);
});

test("workers on settings that cannot be opened write under the environment alone", async (rig) => {
  await rig.put(rig.vault);
  rig.wait(FOLLOW_MS);
  const row = rig.store.rows[0];
  assert(row !== undefined);
  rig.store.rows[0] = { ...row, message: null };
  const key = { provider: "env", credentials: { encryption_key: "ab".repeat(32) } };
  assertEquals(await rig.refusal(() => rig.put(key)), [
    ...["configuration_locks_out", 1, "key_still_written", "/provider", undefined],
  ]);
});

test("stored settings that are valid no more lose nothing of other providers when they are mended", async (rig) => {
  const { endpoint, mount, roleId, secretId } = rig.vaults[0];
  const message = sealSettings(rig.seal, 1, {
    KMS_PROVIDER: "vault",
    VAULT_ADDR: endpoint,
    VAULT_TRANSIT_MOUNT: mount,
    VAULT_ROLE_ID: roleId,
    VAULT_SECRET_ID: secretId,
    // The environment had a project once.
    GOOGLE_ACCESS_TOKEN: "a-token-of-nobody",
  });
  await rig.store.put(ACTOR, { provider: "vault", message }, 0);
  const { source, provider, readers, credentials } = await rig.configuration.get();
  assertEquals([source, provider, readers, credentials.set], [
    ...["environment", "env", [], ["encryption_key"]],
  ]);
  // Nothing is sent to an address that the credentials were not stored with.
  const { addr } = rig.otherVault;
  const elsewhere = await suiteError(() => rig.put({ provider: "vault", addr, remove: ["gcp"] }));
  assertEquals(elsewhere.violations.map(({ pointer }) => pointer), ["/credentials"]);
  // What is wrong is said, and not forgotten in silence.
  const refused = await suiteError(() => rig.put({ provider: "env" }));
  assertEquals(refused.violations.map(({ pointer, detail }) => [pointer, detail]), [
    ["", "GOOGLE_CLOUD_PROJECT is required when there are Google credentials"],
  ]);
  assertEquals((await rig.put({ provider: "env", remove: ["gcp"] })).readers, ["vault"]);
});
