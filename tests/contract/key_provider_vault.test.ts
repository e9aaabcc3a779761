import { assert, assertEquals, assertMatch } from "@std/assert";
import type { VaultConfig } from "../../functions-shared/config-vault.ts";
import { VaultKeyProvider } from "../../functions-shared/keys/providers/vault/provider.ts";
import type { RestFault } from "../../local/rest/faults.ts";
import { type LocalVault, type LocalVaultOptions, startLocalVault } from "../../local/vault/mod.ts";
import { codeOf, suiteError } from "../unit/support/thrown.ts";
import { type Fault, keyProviderContract, LIMITS, type Rig } from "./key-provider.ts";
import { TestClock } from "./support.ts";

const KEYS = { payment: "app-payment", pii: "app-pii", general: "app-general" };

const EFFECTS: Readonly<Record<Exclude<Fault, "wrong checksum">, RestFault>> = {
  "refused connection": { kind: "refuse" },
  "no answer": { kind: "blackhole" },
  "throttling": {
    kind: "status",
    status: 429,
    body: { errors: ['request path "transit/encrypt/x": rate limit quota exceeded'] },
  },
  "malformed answer": { kind: "malformed" },
};

function vaultConfig(vault: LocalVault, changes: Partial<VaultConfig> = {}): VaultConfig {
  return {
    address: vault.endpoint,
    namespace: vault.namespace,
    mount: vault.mount,
    keys: KEYS,
    auth: {
      kind: "approle",
      mount: "approle",
      roleId: vault.roleId,
      secretId: vault.secretId,
    },
    ...changes,
  };
}

async function startKeys(options: LocalVaultOptions = {}): Promise<LocalVault> {
  const vault = await startLocalVault(options);
  for (const key of Object.values(KEYS)) vault.createKey(key);
  return vault;
}

keyProviderContract("vault", async (): Promise<Rig> => {
  const vault = await startKeys({ namespace: "team/eu", mount: "keys/transit" });
  const provider = () => new VaultKeyProvider(vaultConfig(vault), LIMITS);
  const foreign = [
    "vault:keys/transit/keys/app-pii",
    "vault:team/us/keys/transit/keys/app-pii",
    "vault:team/eu/other/keys/app-pii",
    "vault:team/eu/keys/transit/keys/../../sys/seal",
    "vault:team/eu/keys/transit/keys/app-pii?x=1",
    "vault:team/eu/keys/transit/keys/",
    "",
  ];
  return {
    provider,
    foreign: foreign.map((name) => [name, `${name}/versions/1`] as const),
    calls: () => vault.calls().filter(({ operation }) => operation !== "LookupToken").length,
    faults: Object.keys(EFFECTS) as Fault[],
    withFault: async (fault, work) => {
      const effect = fault === "wrong checksum" ? undefined : EFFECTS[fault];
      if (effect === undefined) throw new Error("Vault has no checksums");
      vault.faults.set([{ operation: "Encrypt", effect }, { operation: "Decrypt", effect }]);
      try {
        await work(provider());
      } finally {
        vault.faults.clear();
      }
    },
    disable: (dataClass) => Promise.resolve(vault.deleteKey(KEYS[dataClass])),
    rotate: (dataClass) => Promise.resolve(void vault.rotate(KEYS[dataClass])),
    withLostRotation: async (work) => {
      vault.faults.set([{ operation: "RotateKey", effect: { kind: "drop_after" } }]);
      try {
        await work(provider());
      } finally {
        vault.faults.clear();
      }
    },
    rotations: () => vault.versions(KEYS.pii) - 1,
    deny: () => vault.setPolicy("suite", {}),
    expireCredentials: () => vault.revokeTokens(),
    close: () => vault.close(),
  };
});

const CONTEXT = { owner: "somebody" };

function test(name: string, run: (vault: LocalVault, clock: TestClock) => Promise<void>): void {
  Deno.test({
    name: `vault: ${name}`,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const clock = new TestClock();
      const vault = await startKeys({ now: clock.now });
      try {
        await run(vault, clock);
      } finally {
        await vault.close();
      }
    },
  });
}

const count = (vault: LocalVault, operation: string) =>
  vault.calls().filter((call) => call.operation === operation).length;

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test(
  "AppRole: one login for concurrent callers, renewed, and again at the end of renewals",
  async (vault, clock) => {
    vault.setRole({ ttl: 600, maxTtl: 1200 });
    const provider = new VaultKeyProvider(vaultConfig(vault), { ...LIMITS, now: clock.now });
    await Promise.all(Array.from({ length: 10 }, () => provider.generateDataKey("pii", CONTEXT)));
    assertEquals([count(vault, "Login"), count(vault, "RenewToken")], [1, 0]);
    clock.advance(420_000);
    await provider.generateDataKey("pii", CONTEXT);
    await until(() => count(vault, "RenewToken") === 1);
    assertEquals(count(vault, "Login"), 1);
    // 840 s after the login a renewal brings 360 s of 600: still worthwhile; at 1080 s it does not.
    clock.advance(420_000);
    await provider.generateDataKey("pii", CONTEXT);
    await until(() => count(vault, "RenewToken") === 2);
    clock.advance(250_000);
    await provider.generateDataKey("pii", CONTEXT);
    await until(() => count(vault, "Login") === 2);
    clock.advance(200_000);
    await provider.generateDataKey("pii", CONTEXT);
    assertEquals(count(vault, "Login"), 2);
  },
);

test(
  "a given token is looked up, renewed while it can be, and denied when it is over",
  async (vault, clock) => {
    const auth = { kind: "token", token: vault.token({ ttl: 600, maxTtl: 900 }) } as const;
    const options = { ...LIMITS, now: clock.now };
    const provider = new VaultKeyProvider(vaultConfig(vault, { auth }), options);
    await provider.generateDataKey("pii", CONTEXT);
    assertEquals([count(vault, "LookupToken"), count(vault, "RenewToken")], [1, 0]);
    clock.advance(410_000);
    await provider.generateDataKey("pii", CONTEXT);
    await until(() => count(vault, "RenewToken") === 1);
    clock.advance(300_000);
    await provider.generateDataKey("pii", CONTEXT);
    clock.advance(300_000);
    assertEquals(await codeOf(() => provider.generateDataKey("pii", CONTEXT)), "kms_access_denied");
    assertEquals(count(vault, "Login"), 0);
  },
);

test("a root token, and one that may not look itself up, are used as they are", async (vault) => {
  for (const options of [{ ttl: 0, policies: ["root"] }, { policies: ["suite"] }]) {
    const auth = { kind: "token", token: vault.token(options) } as const;
    const provider = new VaultKeyProvider(vaultConfig(vault, { auth }), LIMITS);
    assertEquals((await provider.generateDataKey("pii", CONTEXT)).plaintext.length, 32);
  }
});

test("a wrong secret id and another namespace are denied", async (vault) => {
  const { auth } = vaultConfig(vault);
  const wrong = { ...auth, secretId: "wrong" } as VaultConfig["auth"];
  for (const changes of [{ auth: wrong }, { namespace: "elsewhere" }]) {
    const provider = new VaultKeyProvider(vaultConfig(vault, changes), LIMITS);
    assertEquals(await codeOf(() => provider.generateDataKey("pii", CONTEXT)), "kms_access_denied");
  }
});

test("a mistyped key name makes no key, even for a token that may create one", async (vault) => {
  const keys = { ...KEYS, pii: "app-pji" };
  const auth = { kind: "token", token: vault.token({ policies: ["root"], ttl: 0 }) } as const;
  const provider = new VaultKeyProvider(vaultConfig(vault, { keys, auth }), LIMITS);
  const error = await suiteError(() => provider.generateDataKey("pii", CONTEXT));
  assertEquals(error.code, "kms_key_unusable");
  assertEquals((error.cause as Error).message, "Encryption key not found: app-pji");
  assert(!vault.keyExists("app-pji"));
});

test("a key that cannot bind the context is not used", async (vault) => {
  vault.createKey("signing", "ed25519");
  const keys = { ...KEYS, pii: "signing" };
  const provider = new VaultKeyProvider(vaultConfig(vault, { keys }), LIMITS);
  assertEquals(await codeOf(() => provider.generateDataKey("pii", CONTEXT)), "kms_key_unusable");
  assertEquals(count(vault, "Encrypt"), 0);
});

test("a version below the key's minimum is unusable, and usable again when that is set back", async (vault) => {
  const provider = new VaultKeyProvider(vaultConfig(vault), LIMITS);
  const { encrypted, plaintext } = await provider.generateDataKey("pii", CONTEXT);
  vault.rotate("app-pii");
  vault.setMinDecryptionVersion("app-pii", 2);
  const open = () => provider.decryptDataKey(encrypted, CONTEXT);
  assertEquals(await codeOf(open), "kms_key_unusable");
  vault.setMinDecryptionVersion("app-pii", 1);
  assertEquals(await open(), plaintext);
  assertEquals((await provider.describe("pii")).version, "2");
});

test("rotation by the engine: whether, when next, and when last", async (vault, clock) => {
  const provider = new VaultKeyProvider(vaultConfig(vault), LIMITS);
  const none = { automatic: false, next: null, last: null, onDemandLeft: null };
  assertEquals((await provider.metadata("pii")).rotation, none);
  vault.setAutoRotate("app-pii", 86_400);
  vault.rotate("app-pii");
  // The engine keeps whole seconds.
  const rotated = Math.floor(clock.now() / 1000) * 1000;
  const last = new Date(rotated).toISOString();
  const next = new Date(rotated + 86_400_000).toISOString();
  const { rotation } = await provider.metadata("pii");
  assertEquals(rotation, { automatic: true, next, last, onDemandLeft: null });
});

test("a policy that may not rotate is told so, and still encrypts", async (vault) => {
  const provider = new VaultKeyProvider(vaultConfig(vault), LIMITS);
  const { keyId } = await provider.describe("pii");
  const path = `${vault.mount}/keys/app-pii/rotate`;
  vault.setPolicy("no-rotation", { [path]: ["deny"] });
  vault.setRole({ policies: ["default", "suite", "no-rotation"] });
  const weak = new VaultKeyProvider(vaultConfig(vault), LIMITS);
  assertEquals(await codeOf(() => weak.rotateNow(keyId)), "kms_access_denied");
  assertEquals(vault.versions("app-pii"), 1);
  assertEquals((await weak.generateDataKey("pii", CONTEXT)).plaintext.length, 32);
});

test("a sealed Vault is unavailable, in the deployment guide's words", async (vault) => {
  const provider = new VaultKeyProvider(vaultConfig(vault), LIMITS);
  await provider.generateDataKey("pii", CONTEXT);
  vault.setSealed(true);
  const error = await suiteError(() => provider.generateDataKey("pii", CONTEXT));
  assertEquals(error.code, "kms_unavailable");
  assertMatch((error.cause as Error).message, /^KMS service unavailable: /);
});
