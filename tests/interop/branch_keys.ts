/** The official hierarchical keyring over the records of our branch key store, and ours beside it. */
// A custom storage has to answer this class, which the package's index does not export.
import {
  EncryptedHierarchicalKey,
  type IBranchKeyStorage,
} from "@aws-crypto/branch-keystore-node/types";
import { BranchKeyStoreNode, KmsHierarchicalKeyRingNode } from "@aws-crypto/client-node";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import {
  type BranchKeyRecord,
  BranchKeyStore,
  KEY_STORE_NAME,
} from "../../functions-shared/keys/branch-key-store.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import {
  decodeMessage,
  decryptMessage,
  type EncryptionContext,
  encryptMessage,
  parseMessage,
} from "../../functions-shared/message/mod.ts";
import type { DataClass } from "../../functions-shared/data-class.ts";
import type { Clients } from "./kms.ts";
import type { MemoryRecords } from "../unit/support/memory-records.ts";

/** Reads the records as the table holds them: JSON with the specification's attribute names. */
class RecordStorage implements IBranchKeyStorage {
  constructor(readonly records: MemoryRecords) {}

  getEncryptedActiveBranchKey(branchKeyId: string): Promise<EncryptedHierarchicalKey> {
    return Promise.resolve(encryptedKey(this.records.of(branchKeyId, "branch:ACTIVE")));
  }

  getEncryptedBranchKeyVersion(branchKeyId: string, version: string) {
    const record = this.records.of(branchKeyId, `branch:version:${version}`);
    return Promise.resolve(encryptedKey(record));
  }

  getKeyStorageInfo() {
    return { name: "branch_keys", logicalName: KEY_STORE_NAME };
  }
}

function encryptedKey(record: BranchKeyRecord): EncryptedHierarchicalKey {
  const { enc = "", ...attributes } = JSON.parse(JSON.stringify(record)) as Record<string, string>;
  // The official store takes the context as it is: every attribute, and the logical name of the store.
  const context = { ...attributes, tablename: KEY_STORE_NAME };
  return new EncryptedHierarchicalKey(
    context as ConstructorParameters<typeof EncryptedHierarchicalKey>[0],
    decodeMessage(enc),
  );
}

/** `keyArn`: of the wrapping key as records name it, or its replica's in another region. */
export function officialKeyring(
  clients: Clients,
  records: MemoryRecords,
  branchKeyId: string,
  keyArn: string,
): KmsHierarchicalKeyRingNode {
  const region = keyArn.split(":")[3] ?? "";
  const keyStore = new BranchKeyStoreNode({
    logicalKeyStoreName: KEY_STORE_NAME,
    storage: new RecordStorage(records),
    keyManagement: { kmsClient: clients.of(region) as never },
    kmsConfiguration: { identifier: keyArn },
  });
  return new KmsHierarchicalKeyRingNode({
    branchKeyId,
    keyStore,
    cacheLimitTtl: 60,
    // The specification's order; the default sorts keys by locale.
    utf8Sorting: true,
  });
}

/** A worker of ours. */
export function worker(
  records: MemoryRecords,
  provider: KeyProvider,
  scope: "class" | "owner" = "class",
) {
  const store = new BranchKeyStore({
    appName: "parker-flight",
    environment: "test",
    records,
    provider,
    readers: [provider],
  });
  const cache = new BranchKeyCache({ ttlMs: 60_000, maxEncryptions: 1000, maxEntries: 10 });
  const keyring = new HierarchicalKeyring({
    store,
    cache,
    scopes: { payment: scope, pii: scope, general: scope },
  });
  return {
    store,
    cache,
    async encrypt(
      dataClass: DataClass,
      plaintext: Uint8Array,
      encryptionContext: EncryptionContext,
    ) {
      const key = await keyring.generateDataKey(dataClass, encryptionContext);
      return encryptMessage({
        plaintext,
        dataKey: key.plaintext,
        encryptedDataKeys: [key.encrypted],
        encryptionContext,
      });
    },
    async decrypt(message: Uint8Array) {
      const parsed = parseMessage(message);
      const [key] = parsed.header.encryptedDataKeys;
      if (key === undefined) throw new Error("no data key");
      const dataKey = await keyring.decryptDataKey(key, parsed.header.encryptionContext);
      return decryptMessage(parsed, dataKey);
    },
  };
}
