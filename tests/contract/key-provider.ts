/**
 * What every key provider must do, whatever stands behind it. Each provider's test file gives a rig: the
 * provider on its local service, and the hands to turn that service's knobs. What a rig lacks the provider
 * has not got: keys from the environment cannot be disabled, and AWS's SDK checks no checksums.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { DATA_CLASSES, type DataClass } from "../../functions-shared/data-class.ts";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { APP, bytes, IDENTITY, textOf } from "../unit/support/identity.ts";
import { ACTOR, MemoryRecords } from "../unit/support/memory-records.ts";
import { codeOf } from "../unit/support/thrown.ts";

/** Of every provider in these tests. */
export const LIMITS = { timeoutMs: 3000, attemptTimeoutMs: 300, maxAttempts: 3 } as const;

export type Fault =
  | "refused connection"
  | "no answer"
  | "throttling"
  | "malformed answer"
  | "wrong checksum";

export interface Rig {
  /** A new provider, as another worker has it. */
  provider(): KeyProvider;
  /** Names as this provider writes them, of keys that are not ours: key id, provider info. */
  readonly foreign: readonly (readonly [keyId: string, providerInfo: string])[];
  /** Calls that reached the key service. */
  calls(): number;
  readonly faults: readonly Fault[];
  /** Runs `work` with a provider whose service has the fault. */
  withFault(fault: Fault, work: (provider: KeyProvider) => Promise<void>): Promise<void>;
  /** Makes the class's key unusable. */
  readonly disable?: (dataClass: DataClass) => Promise<void>;
  /** A new version of the class's key. */
  readonly rotate?: (dataClass: DataClass) => Promise<void>;
  /** Runs `work` while the service rotates keys and its answers to that are lost. */
  withLostRotation(work: (provider: KeyProvider) => Promise<void>): Promise<void>;
  /** New versions of the class pii's key so far. */
  rotations(): Promise<number> | number;
  /** Takes all permissions away. */
  readonly deny?: () => void;
  /** The session of every provider is over. */
  readonly expireCredentials?: () => void;
  close(): Promise<void>;
}

const CONTEXT = { "data-class": "pii", owner: "0b9bd1a5-1111-4111-8111-111111111111" };
const OTHER = { ...CONTEXT, owner: "0b9bd1a5-9999-4999-8999-999999999999" };

/** Clients of the AWS SDK and timeouts of requests outlive their tests. */
const WITH_SERVICE = { sanitizeOps: false, sanitizeResources: false } as const;

/** `service` false: keys of our own process, with nothing that could fail, refuse or be revoked. */
export function keyProviderContract(
  name: string,
  start: () => Promise<Rig>,
  { service }: { readonly service: boolean } = { service: true },
): void {
  const test = (criterion: string, run: (rig: Rig) => Promise<void>) =>
    Deno.test({
      name: `${name}: ${criterion}`,
      ...WITH_SERVICE,
      fn: async () => {
        const rig = await start();
        try {
          await run(rig);
        } finally {
          await rig.close();
        }
      },
    });

  test("a data key of each class comes back in another worker", async (rig) => {
    const writer = rig.provider();
    assertEquals(writer.name, name);
    for (const dataClass of DATA_CLASSES) {
      const made = await writer.generateDataKey(dataClass, CONTEXT);
      assertEquals(made.plaintext.length, 32);
      assertEquals(made.keyId, (await writer.describe(dataClass)).keyId);
      const reader = rig.provider();
      assert(reader.recognises(made.encrypted));
      assertEquals(await reader.decryptDataKey(made.encrypted, CONTEXT), made.plaintext);
      const next = await writer.generateDataKey(dataClass, CONTEXT);
      assertNotEquals(next.plaintext, made.plaintext);
    }
  });

  test("a wrapped key opens under its context, and rewrapped under the new one only", async (rig) => {
    const provider = rig.provider();
    const keyId = await provider.wrappingKeyId("pii");
    assert(provider.holds(keyId));
    assertEquals(await provider.wrappingKeyId("pii", keyId), keyId);
    const wrapped = await provider.generateWrappedKey(keyId, CONTEXT);
    const key = await provider.unwrapKey(keyId, wrapped, CONTEXT);
    assertEquals(key.plaintext.length, 32);
    const rewrapped = await provider.rewrapKey(keyId, wrapped, CONTEXT, OTHER);
    assertEquals(await rig.provider().unwrapKey(keyId, rewrapped, OTHER), key);
    const old = () => provider.unwrapKey(keyId, rewrapped, CONTEXT);
    assertEquals(await codeOf(old), "decryption_failed");
    const wrong = () => provider.rewrapKey(keyId, wrapped, OTHER, CONTEXT);
    assertEquals(await codeOf(wrong), "decryption_failed");
  });

  test("a key from elsewhere is wrapped as it is, and under its context alone", async (rig) => {
    const provider = rig.provider();
    const keyId = await provider.wrappingKeyId("pii");
    const key = crypto.getRandomValues(new Uint8Array(32));
    const given = key.slice();
    const wrapped = await provider.wrapKey(keyId, given, CONTEXT);
    assertEquals(given, key, "the caller's own is left alone");
    assertEquals((await rig.provider().unwrapKey(keyId, wrapped, CONTEXT)).plaintext, key);
    assertEquals(
      await codeOf(() => provider.unwrapKey(keyId, wrapped, OTHER)),
      "decryption_failed",
    );
    assertNotEquals(await provider.wrapKey(keyId, given, CONTEXT), wrapped);
  });

  test("another context opens nothing, in any of its parts", async (rig) => {
    const provider = rig.provider();
    const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
    const keyId = await provider.wrappingKeyId("pii");
    const wrapped = await provider.generateWrappedKey(keyId, CONTEXT);
    const { owner: _, ...fewer } = CONTEXT;
    for (const context of [OTHER, fewer, {}, { ...CONTEXT, more: "x" }]) {
      const direct = () => provider.decryptDataKey(encrypted, context);
      assertEquals(await codeOf(direct), "decryption_failed");
      const branch = () => provider.unwrapKey(keyId, wrapped, context);
      assertEquals(await codeOf(branch), "decryption_failed");
    }
  });

  test("a changed, cut or emptied ciphertext opens nothing", async (rig) => {
    const provider = rig.provider();
    const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
    const { ciphertext } = encrypted;
    const last = ciphertext.length - 8;
    const changes = [
      ciphertext.map((byte, at) => at === last ? byte ^ 1 : byte),
      ciphertext.map((byte, at) => at === 0 ? byte ^ 1 : byte),
      ciphertext.slice(0, -4),
      new Uint8Array(),
      new Uint8Array(70_000),
    ];
    for (const changed of changes) {
      const open = () => provider.decryptDataKey({ ...encrypted, ciphertext: changed }, CONTEXT);
      assertEquals(await codeOf(open), "decryption_failed", `${changed.length} bytes`);
    }
  });

  test("another class's key opens nothing", async (rig) => {
    const provider = rig.provider();
    const pii = await provider.wrappingKeyId("pii");
    const wrapped = await provider.generateWrappedKey(pii, CONTEXT);
    const general = await provider.wrappingKeyId("general");
    assertNotEquals(pii, general);
    // The raw AES blob names its own key: there the name of the record does not matter.
    if (name !== "env") {
      const open = () => provider.unwrapKey(general, wrapped, CONTEXT);
      assertEquals(await codeOf(open), "decryption_failed");
    }
  });

  test("a foreign key's name is refused without a call", async (rig) => {
    const provider = rig.provider();
    const { encrypted } = await provider.generateDataKey("pii", CONTEXT);
    const keyId = await provider.wrappingKeyId("pii");
    const wrapped = await provider.generateWrappedKey(keyId, CONTEXT);
    const before = rig.calls();
    for (const [foreign, info] of rig.foreign) {
      const providerInfo = bytes(info);
      const direct = () => provider.decryptDataKey({ ...encrypted, providerInfo }, CONTEXT);
      assertEquals(await codeOf(direct), "decryption_failed", info);
      const branch = () => provider.unwrapKey(foreign, wrapped, CONTEXT);
      assertEquals(await codeOf(branch), "decryption_failed", foreign);
      const rewrap = () => provider.rewrapKey(foreign, wrapped, CONTEXT, OTHER);
      assertEquals(await codeOf(rewrap), "decryption_failed", foreign);
      const wrap = () => provider.wrapKey(foreign, new Uint8Array(32), CONTEXT);
      assertEquals(await codeOf(wrap), "decryption_failed", foreign);
    }
    assertEquals(rig.calls(), before);
  });

  test("other providers' data keys and key names are not taken for its own", (rig) => {
    const provider = rig.provider();
    const ids = { aws: "aws-kms", env: "env", gcp: "gcp-kms", vault: "vault-transit" };
    const keys = {
      aws: "arn:aws:kms:us-east-1:123456789012:key/mrk-1",
      env: "env:pii-00112233",
      gcp: "projects/p/locations/l/keyRings/r/cryptoKeys/k",
      vault: "vault:transit/keys/k",
    };
    for (const other of ["aws", "env", "gcp", "vault"] as const) {
      const encrypted = {
        providerId: ids[other],
        providerInfo: bytes("x"),
        ciphertext: bytes("x"),
      };
      assertEquals(provider.recognises(encrypted), other === name);
      assertEquals(provider.holds(keys[other]), other === name);
    }
    return Promise.resolve();
  });

  test("branch keys and messages: two workers, a rotated branch key, one row only", async (rig) => {
    const records = new MemoryRecords();
    const worker = () => {
      const provider = rig.provider();
      const store = new BranchKeyStore({ ...APP, records, provider, readers: [provider] });
      const cache = new BranchKeyCache({ ttlMs: 60_000, maxEncryptions: 1000, maxEntries: 10 });
      const scopes = { payment: "class", pii: "owner", general: "class" } as const;
      const keyring = new HierarchicalKeyring({ store, cache, scopes });
      const writers = { payment: keyring, pii: keyring, general: provider };
      const readers = [keyring, provider];
      return { store, cipher: new FieldCipher({ ...APP, writers, readers }) };
    };
    const [first, second] = [worker(), worker()];
    const stored = [];
    for (const dataClass of DATA_CLASSES) {
      const identity = { ...IDENTITY, dataClass };
      const field = await first.cipher.encrypt(identity, bytes(`data of ${dataClass}`));
      stored.push({ identity, field });
    }
    const { rotated } = await second.store.rotate(ACTOR, "payment", "payment");
    assert(rotated);
    for (const { identity, field } of stored) {
      const plaintext = await second.cipher.decrypt(identity, field.message);
      assertEquals(textOf(plaintext), `data of ${identity.dataClass}`);
      const moved = { ...identity, record: "0b9bd1a5-2222-4222-8222-333333333333" };
      const open = () => second.cipher.decrypt(moved, field.message);
      assertEquals(await codeOf(open), "decryption_failed");
    }
    const after = await second.cipher.encrypt(IDENTITY, bytes("after"));
    assertNotEquals(after.branchKey?.version, stored[0]?.field.branchKey?.version);
    assertEquals(textOf(await worker().cipher.decrypt(IDENTITY, after.message)), "after");
  });

  if (!service) {
    test("is not rotated, and says so", async (rig) => {
      const provider = rig.provider();
      const { keyId, rotation } = await provider.metadata("pii");
      assertEquals([rotation.automatic, rotation.onDemandLeft], [false, 0]);
      assertEquals(await codeOf(() => provider.rotateNow(keyId)), "rotation_not_supported");
    });
    return;
  }

  test("rotateNow: what the old version wrapped still opens, and the new one wraps", async (rig) => {
    const provider = rig.provider();
    const before = await provider.metadata("pii");
    const described = await provider.describe("pii");
    assertEquals({ ...before, ...described }, before, "the description and more");
    assertEquals(before.spec, "AES-256");
    assert(Date.parse(before.createdAt ?? "") <= Date.now());
    assertEquals(before.rotation.last, null);
    const old = await provider.generateDataKey("pii", CONTEXT);
    const wrapped = await provider.generateWrappedKey(before.keyId, CONTEXT);
    const key = await provider.unwrapKey(before.keyId, wrapped, CONTEXT);

    const version = await provider.rotateNow(before.keyId);
    const reader = rig.provider();
    const after = await reader.metadata("pii");
    assertEquals(after.keyId, before.keyId);
    assert(Date.parse(after.rotation.last ?? "") >= Date.parse(before.createdAt ?? ""));
    if (version !== null) assertEquals([before.version, after.version, version], ["1", "2", "2"]);
    assertEquals(await reader.decryptDataKey(old.encrypted, CONTEXT), old.plaintext);
    assertEquals(await reader.unwrapKey(before.keyId, wrapped, CONTEXT), key);
    const made = await provider.generateDataKey("pii", CONTEXT);
    assertEquals(await reader.decryptDataKey(made.encrypted, CONTEXT), made.plaintext);
    const general = await reader.metadata("general");
    assertEquals(general.rotation.last, null, "and no other class's key is rotated");
  });

  test("rotateNow: asked for once, whatever comes back; a foreign key and no permission refused", async (rig) => {
    const provider = rig.provider();
    const { keyId } = await provider.metadata("pii");
    await rig.withLostRotation(async (unlucky) => {
      assertEquals(await codeOf(() => unlucky.rotateNow(keyId)), "kms_unavailable");
    });
    assertEquals(await rig.rotations(), 1);
    for (const [foreign] of rig.foreign) {
      const code = await codeOf(() => provider.rotateNow(foreign));
      assertEquals(code, "kms_key_unusable", foreign);
    }
    rig.deny?.();
    assertEquals(await codeOf(() => rig.provider().rotateNow(keyId)), "kms_access_denied");
    assertEquals(await rig.rotations(), 1);
  });

  test("faults: kms_unavailable within the deadline, and well again afterwards", async (rig) => {
    const healthy = rig.provider();
    const { encrypted, plaintext } = await healthy.generateDataKey("pii", CONTEXT);
    assert(rig.faults.length >= 4);
    for (const fault of rig.faults) {
      await rig.withFault(fault, async (provider) => {
        const started = Date.now();
        const wrap = () => provider.generateDataKey("pii", CONTEXT);
        assertEquals(await codeOf(wrap), "kms_unavailable", fault);
        const unwrap = () => provider.decryptDataKey(encrypted, CONTEXT);
        assertEquals(await codeOf(unwrap), "kms_unavailable", fault);
        assert(Date.now() - started < 2 * LIMITS.timeoutMs + 1000, fault);
      });
      assertEquals(await healthy.decryptDataKey(encrypted, CONTEXT), plaintext, fault);
    }
  });

  test("the client's end ends the work", async (rig) => {
    await rig.withFault("no answer", async (provider) => {
      const signal = AbortSignal.timeout(50);
      const wrap = () => provider.generateDataKey("pii", CONTEXT, signal);
      assertEquals(await codeOf(wrap), "kms_unavailable");
    });
  });

  test("a disabled key, a rotated one, lost permissions and an expired session", async (rig) => {
    const { disable, rotate, deny, expireCredentials } = rig;
    assert(disable && rotate && deny && expireCredentials);
    const provider = rig.provider();
    const old = await provider.generateDataKey("pii", CONTEXT);
    const keyId = await provider.wrappingKeyId("pii");
    const wrapped = await provider.generateWrappedKey(keyId, CONTEXT);

    await rotate("pii");
    assertEquals(await provider.decryptDataKey(old.encrypted, CONTEXT), old.plaintext);
    const rewrapped = await provider.rewrapKey(keyId, wrapped, CONTEXT, OTHER);
    assertEquals(
      await provider.unwrapKey(keyId, rewrapped, OTHER),
      await provider.unwrapKey(keyId, wrapped, CONTEXT),
    );

    expireCredentials();
    assertEquals(await provider.decryptDataKey(old.encrypted, CONTEXT), old.plaintext);

    await disable("general");
    const general = await rig.provider().wrappingKeyId("general").catch(() => "");
    const wrapUnusable = () => rig.provider().generateDataKey("general", CONTEXT);
    assertEquals(await codeOf(wrapUnusable), "kms_key_unusable", general);
    await disable("pii");
    const unwrapUnusable = () => rig.provider().decryptDataKey(old.encrypted, CONTEXT);
    assertEquals(await codeOf(unwrapUnusable), "kms_key_unusable");

    const payment = await provider.generateDataKey("payment", CONTEXT);
    deny();
    const before = rig.calls();
    const denied = () => provider.decryptDataKey(payment.encrypted, CONTEXT);
    assertEquals(await codeOf(denied), "kms_access_denied");
    assert(rig.calls() - before <= 2, "a refusal is not tried again");
    const deniedWrap = () => rig.provider().generateDataKey("payment", CONTEXT);
    assertEquals(await codeOf(deniedWrap), "kms_access_denied");
  });
}
