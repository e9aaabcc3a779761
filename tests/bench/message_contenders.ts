/** Who writes and reads messages in the benchmark. Runs on Deno and, bundled, on Node. */
import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import {
  decryptMessage,
  type EncryptionContext,
  encryptMessage,
  parseMessage,
  unwrapDataKeyRawAes,
  wrapDataKeyRawAes,
} from "../../functions-shared/message/mod.ts";
import { randomBytes } from "../../functions-shared/message/primitives.ts";
import { MemoryRecords } from "../unit/support/memory-records.ts";
import type { Operation } from "./measure.ts";

export interface Contender {
  readonly name: string;
  readonly encrypt: Operation;
  readonly decrypt: Operation;
}

export const CONTEXT: EncryptionContext = Object.freeze({
  app: "parker-flight",
  environment: "development",
  "data-class": "payment",
  owner: "6f9619ff-8b86-4011-b42d-00c04fc964ff",
  table: "payment_methods",
  record: "0e37df36-f698-11e6-8dd4-cb9ced3df976",
  field: "number",
});
export const KEY_NAMESPACE = "bench";
export const KEY_NAME = "wrapping-key";
const SCOPES = { payment: "class", pii: "class", general: "class" } as const;

/** Ours, as a worker of the functions has it; the key provider is asked once, before the clock runs. */
function hierarchicalKeyring(): HierarchicalKeyring {
  const provider = new EnvKeyProvider(randomBytes(32));
  const store = new BranchKeyStore({
    appName: "parker-flight",
    environment: "development",
    records: new MemoryRecords(),
    provider,
    readers: [provider],
  });
  const cache = new BranchKeyCache({ ttlMs: 3_600_000, maxEncryptions: 2 ** 31, maxEntries: 10 });
  return new HierarchicalKeyring({ store, cache, scopes: SCOPES });
}

export async function ours(
  plaintext: Uint8Array,
  wrappingKey: Uint8Array,
): Promise<Contender[]> {
  const raw = {
    wrappingKey,
    keyNamespace: KEY_NAMESPACE,
    keyName: KEY_NAME,
    encryptionContext: CONTEXT,
  };
  const seal = (dataKey: Uint8Array) =>
    encryptMessage({
      plaintext,
      dataKey,
      encryptedDataKeys: [wrapDataKeyRawAes({ ...raw, dataKey })],
      encryptionContext: CONTEXT,
    });
  const dataKey = randomBytes(32);
  const encryptedDataKeys = [wrapDataKeyRawAes({ ...raw, dataKey })];
  const rawMessage = seal(dataKey);

  const keyring = hierarchicalKeyring();
  const encryptHierarchical = async () => {
    const key = await keyring.generateDataKey("payment", CONTEXT);
    return encryptMessage({
      plaintext,
      dataKey: key.plaintext,
      encryptedDataKeys: [key.encrypted],
      encryptionContext: CONTEXT,
    });
  };
  const hierarchicalMessage = await encryptHierarchical();

  const cipher = new FieldCipher({
    appName: "parker-flight",
    environment: "development",
    writers: { payment: keyring, pii: keyring, general: keyring },
    readers: [keyring],
  });
  const identity = {
    dataClass: "payment",
    owner: CONTEXT.owner!,
    table: "payment_methods",
    record: CONTEXT.record!,
    field: "number",
  } as const;
  const stored = (await cipher.encrypt(identity, plaintext)).message;

  return [{
    name: "ours: data key at hand",
    encrypt: () =>
      encryptMessage({ plaintext, dataKey, encryptedDataKeys, encryptionContext: CONTEXT }),
    decrypt: () => decryptMessage(parseMessage(rawMessage), dataKey),
  }, {
    name: "ours: raw AES keyring",
    encrypt: () => seal(randomBytes(32)),
    decrypt: () => {
      const parsed = parseMessage(rawMessage);
      const encryptedDataKey = parsed.header.encryptedDataKeys[0]!;
      return decryptMessage(parsed, unwrapDataKeyRawAes({ ...raw, encryptedDataKey }));
    },
  }, {
    name: "ours: hierarchical, warm",
    encrypt: encryptHierarchical,
    decrypt: async () => {
      const parsed = parseMessage(hierarchicalMessage);
      const key = await keyring.decryptDataKey(parsed.header.encryptedDataKeys[0]!, CONTEXT);
      return decryptMessage(parsed, key);
    },
  }, {
    name: "ours: a field as stored (hierarchical, base64)",
    encrypt: () => cipher.encrypt(identity, plaintext),
    decrypt: () => cipher.decrypt(identity, stored),
  }];
}

/** What node:crypto alone takes: the least that any message of this kind can cost. */
export function limits(plaintext: Uint8Array): Contender[] {
  const key = randomBytes(32);
  const iv = randomBytes(12);
  const headerBytes = randomBytes(400);
  const headerInfo = randomBytes(11);
  const commitInfo = randomBytes(9);
  const frameBytes = randomBytes(78);
  const salt = randomBytes(32);
  const sealed = sealBare(key, iv, frameBytes, plaintext);
  return [{
    name: "limit: one KDF'd message (2 HKDF, header tag, body)",
    encrypt: () => {
      const id = randomBytes(32);
      const commitment = hkdfSync("sha512", key, id, commitInfo, 32);
      const derived = new Uint8Array(hkdfSync("sha512", key, id, headerInfo, 32));
      const header = sealBare(derived, iv, headerBytes, new Uint8Array(0));
      return [commitment, header, sealBare(derived, iv, frameBytes, plaintext)];
    },
    decrypt: () => {
      const commitment = hkdfSync("sha512", key, salt, commitInfo, 32);
      hkdfSync("sha512", key, salt, headerInfo, 32);
      const header = sealBare(key, iv, headerBytes, new Uint8Array(0));
      return [commitment, header, openBare(key, iv, frameBytes, sealed)];
    },
  }, {
    name: "limit: AES-256-GCM alone",
    encrypt: () => sealBare(key, randomBytes(12), frameBytes, plaintext),
    decrypt: () => openBare(key, iv, frameBytes, sealed),
  }];
}

interface Sealed {
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

function sealBare(key: Uint8Array, iv: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Sealed {
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  cipher.setAAD(aad);
  const ciphertext = plaintext.length > 0 ? cipher.update(plaintext) : plaintext;
  cipher.final();
  return { ciphertext, tag: cipher.getAuthTag() };
}

function openBare(key: Uint8Array, iv: Uint8Array, aad: Uint8Array, sealed: Sealed): Uint8Array {
  const decipher = createDecipheriv("aes-256-gcm", key, iv);
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.tag);
  const plaintext = decipher.update(sealed.ciphertext);
  decipher.final();
  return plaintext;
}
