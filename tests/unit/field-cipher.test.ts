import { assert, assertEquals } from "@std/assert";
import { FieldCipher, type FieldIdentity } from "../../functions-shared/keys/field-cipher.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import {
  decodeMessage,
  encodeMessage,
  type EncryptedDataKey,
  encryptMessage,
  parseMessage,
} from "../../functions-shared/message/mod.ts";
import { awsProvider, callsTo, WITH_AWS, withAws } from "./support/aws.ts";
import { APP, bytes, IDENTITY, textOf } from "./support/identity.ts";
import { codeOf, suiteError } from "./support/thrown.ts";

const env = new EnvKeyProvider(bytes("x".repeat(32)));
const other = new EnvKeyProvider(bytes("y".repeat(32)));
const PLAINTEXT = bytes('"5200828282828210"');

function cipherOf(
  provider: KeyProvider = env,
  readers: readonly KeyProvider[] = [provider],
  changes: { readonly appName?: string; readonly environment?: string } = {},
): FieldCipher {
  const writers = { payment: provider, pii: provider, general: provider };
  return new FieldCipher({ ...APP, ...changes, writers, readers });
}

function contextOf(identity: FieldIdentity): Record<string, string> {
  const { dataClass, owner, table, record, field } = identity;
  return {
    app: APP.appName,
    environment: APP.environment,
    "data-class": dataClass,
    owner,
    table,
    record,
    field,
  };
}

/** All of an error that differs between errors, for a caller: code, status, text. */
async function failureOf(work: () => Promise<unknown>): Promise<string> {
  const { code, status, message, violations, retryAfterSeconds } = await suiteError(work);
  return JSON.stringify({ code, status, message, violations, retryAfterSeconds });
}

Deno.test("a field comes back under its own identity", async () => {
  const cipher = cipherOf();
  const { field, message, keyId } = await cipher.encrypt(IDENTITY, PLAINTEXT);
  assertEquals(field, "number");
  assert(message.startsWith("AgR4"));
  assert(keyId.startsWith("env:payment-"));
  assertEquals(await cipher.decrypt(IDENTITY, message), PLAINTEXT);
});

Deno.test("the message carries exactly the row's identity as its context", async () => {
  const { message } = await cipherOf().encrypt(IDENTITY, PLAINTEXT);
  const { encryptionContext } = parseMessage(decodeMessage(message)).header;
  assertEquals({ ...encryptionContext }, contextOf(IDENTITY));
});

Deno.test("a message moved to any other place fails, and every failure looks the same", async () => {
  const cipher = cipherOf();
  const { message } = await cipher.encrypt(IDENTITY, PLAINTEXT);
  const swaps: Partial<FieldIdentity>[] = [
    { owner: "0b9bd1a5-9999-4999-8999-999999999999" },
    { record: "0b9bd1a5-9999-4999-8999-999999999999" },
    { table: "encrypted_records" },
    { table: "health_canaries" },
    { field: "cardholder_name" },
    { dataClass: "pii" },
    { owner: IDENTITY.record, record: IDENTITY.owner },
    { owner: IDENTITY.owner.toUpperCase() },
  ];
  const failures = new Set<string>();
  for (const swap of swaps) {
    failures.add(await failureOf(() => cipher.decrypt({ ...IDENTITY, ...swap }, message)));
  }
  failures.add(
    await failureOf(() => cipherOf(env, [env], { appName: "x" }).decrypt(IDENTITY, message)),
  );
  failures.add(
    await failureOf(() => cipherOf(env, [env], { environment: "x" }).decrypt(IDENTITY, message)),
  );
  // Beside them: the wrong key, and every way to break the bytes.
  failures.add(await failureOf(() => cipherOf(other).decrypt(IDENTITY, message)));
  failures.add(await failureOf(() => cipherOf(env, []).decrypt(IDENTITY, message)));
  const raw = decodeMessage(message);
  for (const at of [0, 1, 2, 40, 60, 200, raw.length - 60, raw.length - 1]) {
    const changed = encodeMessage(raw.map((byte, index) => index === at ? byte ^ 1 : byte));
    failures.add(await failureOf(() => cipher.decrypt(IDENTITY, changed)));
  }
  for (
    const text of [
      "",
      "AgR4",
      " " + message,
      message + "\n",
      message.slice(0, -4),
      `${message}AAAA`,
      "x",
    ]
  ) {
    failures.add(await failureOf(() => cipher.decrypt(IDENTITY, text)));
  }
  assertEquals([...failures], [JSON.stringify({
    code: "decryption_failed",
    status: 500,
    message: "The stored message could not be decrypted",
    violations: [],
  })]);
});

Deno.test("a message whose context has one pair more or less fails, though its key opens", async () => {
  const context = contextOf(IDENTITY);
  const { owner: _, ...without } = context;
  for (
    const encryptionContext of [{ ...context, more: "x" }, { ...context, "": "" }, without, {}]
  ) {
    const { plaintext: dataKey, encrypted } = await env.generateDataKey(
      "payment",
      encryptionContext,
    );
    const message = encodeMessage(
      encryptMessage({
        plaintext: PLAINTEXT,
        dataKey,
        encryptedDataKeys: [encrypted],
        encryptionContext,
      }),
    );
    assertEquals(await codeOf(() => cipherOf().decrypt(IDENTITY, message)), "decryption_failed");
  }
});

Deno.test("the health canary's identity is no row's: neither decrypts as the other", async () => {
  const cipher = cipherOf();
  const canary: FieldIdentity = {
    dataClass: "payment",
    owner: "00000000-0000-0000-0000-000000000000",
    table: "health_canaries",
    record: "payment",
    field: "canary",
  };
  const row: FieldIdentity = { ...canary, table: "payment_methods" };
  const { message } = await cipher.encrypt(canary, PLAINTEXT);
  assertEquals(await codeOf(() => cipher.decrypt(row, message)), "decryption_failed");
  assertEquals(
    await codeOf(() => cipher.decrypt({ ...canary, field: "probe" }, message)),
    "decryption_failed",
  );
});

Deno.test("a data key is wiped after use, also when encryption fails", async () => {
  const made: Uint8Array[] = [];
  const spy: KeyProvider = Object.create(env, {
    generateDataKey: {
      value: async (...args: Parameters<EnvKeyProvider["generateDataKey"]>) => {
        const key = await env.generateDataKey(...args);
        made.push(key.plaintext);
        return key;
      },
    },
    decryptDataKey: {
      value: async (...args: Parameters<EnvKeyProvider["decryptDataKey"]>) => {
        const key = await env.decryptDataKey(...args);
        made.push(key);
        return key;
      },
    },
    recognises: { value: (encrypted: EncryptedDataKey) => env.recognises(encrypted) },
  });
  const cipher = cipherOf(spy);
  const { message } = await cipher.encrypt(IDENTITY, PLAINTEXT);
  await cipher.decrypt(IDENTITY, message);
  const raw = decodeMessage(message);
  raw[raw.length - 1]! ^= 1;
  await codeOf(() => cipher.decrypt(IDENTITY, encodeMessage(raw)));
  await codeOf(() => cipher.decrypt({ ...IDENTITY, owner: "x" }, message));
  assertEquals(made.length, 3, "a foreign context is refused before any key is unwrapped");
  for (const key of made) assertEquals(key, new Uint8Array(32));
});

/** A message under one data key that several providers wrapped. */
async function messageUnder(encryptedDataKeys: readonly EncryptedDataKey[], dataKey: Uint8Array) {
  const encryptionContext = contextOf(IDENTITY);
  return await Promise.resolve(encodeMessage(
    encryptMessage({ plaintext: PLAINTEXT, dataKey, encryptedDataKeys, encryptionContext }),
  ));
}

Deno.test({
  name: "new messages are written by the chosen provider, old ones read by whichever wrapped them",
  ...WITH_AWS,
  fn: () =>
    withAws(async ({ aws }) => {
      const kms = awsProvider(aws);
      const old = await cipherOf(env).encrypt(IDENTITY, PLAINTEXT);
      const cipher = cipherOf(kms, [kms, env]);
      assertEquals(textOf(await cipher.decrypt(IDENTITY, old.message)), textOf(PLAINTEXT));
      const { message } = await cipher.encrypt(IDENTITY, PLAINTEXT);
      assertEquals(
        textOf(await cipherOf(env, [env, kms]).decrypt(IDENTITY, message)),
        textOf(PLAINTEXT),
      );
      assertEquals(
        await codeOf(() => cipherOf(env).decrypt(IDENTITY, message)),
        "decryption_failed",
      );
    }),
});

Deno.test({
  name: "any data key that opens will do; an outage counts only when none did",
  ...WITH_AWS,
  fn: () =>
    withAws(async ({ aws }) => {
      const kms = awsProvider(aws);
      const { plaintext: dataKey, encrypted: byKms } = await kms.generateDataKey(
        "payment",
        contextOf(IDENTITY),
      );
      // The same data key under both: what the env provider wraps comes from its random source.
      const twin = new EnvKeyProvider(bytes("x".repeat(32)), () => dataKey.slice());
      const { encrypted: byEnv } = await twin.generateDataKey("payment", contextOf(IDENTITY));
      const cipher = cipherOf(kms, [kms, env]);
      const message = await messageUnder([byKms, byEnv], dataKey);
      aws.faults.set([{ service: "kms", effect: { kind: "refuse" } }]);
      assertEquals(textOf(await cipher.decrypt(IDENTITY, message)), textOf(PLAINTEXT));
      const onlyKms = await messageUnder([byKms], dataKey);
      assertEquals(await codeOf(() => cipher.decrypt(IDENTITY, onlyKms)), "kms_unavailable");
    }),
});

Deno.test({
  name: "a list of many data keys does not make as many key calls",
  ...WITH_AWS,
  fn: () =>
    withAws(async ({ aws }) => {
      const kms = awsProvider(aws);
      const cipher = cipherOf(kms);
      const { plaintext: dataKey, encrypted } = await kms.generateDataKey(
        "payment",
        contextOf(IDENTITY),
      );
      const wrong = { ...encrypted, ciphertext: encrypted.ciphertext.map((byte) => byte ^ 1) };
      const message = await messageUnder(Array.from({ length: 16 }, () => wrong), dataKey);
      aws.resetCalls();
      assertEquals(await codeOf(() => cipher.decrypt(IDENTITY, message)), "decryption_failed");
      const decrypts = callsTo(aws).filter((call) => call.startsWith("Decrypt"));
      assert(decrypts.length <= 4, `${decrypts.length} calls`);
    }),
});
