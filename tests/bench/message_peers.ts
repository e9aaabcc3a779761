/** The peers that a user could pick instead, set to the same suite and context. */
// A custom storage has to answer this class, which the package's index does not export.
import {
  EncryptedHierarchicalKey,
  type IBranchKeyStorage,
} from "@aws-crypto/branch-keystore-node/types";
import {
  AlgorithmSuiteIdentifier,
  BranchKeyStoreNode,
  buildClient,
  CommitmentPolicy,
  getLocalCryptographicMaterialsCache,
  KmsHierarchicalKeyRingNode,
  NodeCachingMaterialsManager,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from "@aws-crypto/client-node";
import { decryptStringSync, encryptStringSync, generateKey, parseKeySync } from "@47ng/cloak";
import { KMSClient } from "@aws-sdk/client-kms";
import { Buffer } from "node:buffer";
import { randomBytes } from "../../functions-shared/message/primitives.ts";
import { type Contender, CONTEXT, KEY_NAME, KEY_NAMESPACE } from "./message_contenders.ts";

const KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/mrk-00000000000000000000000000000000";
const STORE = "branch_keys";

const client = buildClient({
  commitmentPolicy: CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT,
  maxEncryptedDataKeys: 16,
});
const suiteId = AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY;
type Materials = Parameters<typeof client.encrypt>[0];

export async function officialSdk(
  plaintext: Uint8Array,
  wrappingKey: Uint8Array,
): Promise<Contender[]> {
  const raw = new RawAesKeyringNode({
    keyName: KEY_NAME,
    keyNamespace: KEY_NAMESPACE,
    unencryptedMasterKey: wrappingKey.slice(),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  });
  const caching = new NodeCachingMaterialsManager({
    backingMaterials: raw,
    cache: getLocalCryptographicMaterialsCache(100),
    maxAge: 3_600_000,
    maxMessagesEncrypted: 2 ** 31,
  });
  return await Promise.all([
    contender("official SDK: caching materials manager", caching, plaintext),
    contender("official SDK: raw AES keyring", raw, plaintext),
    contender("official SDK: hierarchical keyring, warm", hierarchical(), plaintext),
  ]);
}

async function contender(
  name: string,
  materials: Materials,
  plaintext: Uint8Array,
): Promise<Contender> {
  const options = { encryptionContext: { ...CONTEXT }, suiteId };
  const encrypt = () => client.encrypt(materials, plaintext, options);
  const { result } = await encrypt();
  return { name, encrypt, decrypt: () => client.decrypt(materials, result) };
}

/** Over storage in memory and a KMS that answers at once: it is asked twice in an hour. */
function hierarchical(): KmsHierarchicalKeyRingNode {
  const branchKey = randomBytes(32);
  const version = crypto.randomUUID();
  const base = {
    "branch-key-id": "payment",
    tablename: STORE,
    "create-time": new Date().toISOString(),
    "hierarchy-version": "1",
    "kms-arn": KEY_ARN,
  };
  const storage: IBranchKeyStorage = {
    getEncryptedActiveBranchKey: () =>
      Promise.resolve(
        new EncryptedHierarchicalKey(
          { ...base, type: "branch:ACTIVE", version: `branch:version:${version}` },
          randomBytes(60),
        ),
      ),
    getEncryptedBranchKeyVersion: () =>
      Promise.resolve(
        new EncryptedHierarchicalKey(
          { ...base, type: `branch:version:${version}` },
          randomBytes(60),
        ),
      ),
    getKeyStorageInfo: () => ({ name: STORE, logicalName: STORE }),
  };
  const kmsClient = Object.assign(
    new KMSClient({
      region: "us-east-1",
      credentials: { accessKeyId: "unused", secretAccessKey: "unused" },
    }),
    { send: () => Promise.resolve({ Plaintext: branchKey.slice(), KeyId: KEY_ARN }) },
  );
  const keyStore = new BranchKeyStoreNode({
    logicalKeyStoreName: STORE,
    storage,
    keyManagement: { kmsClient: kmsClient as never },
    kmsConfiguration: { identifier: KEY_ARN },
  });
  return new KmsHierarchicalKeyRingNode({
    branchKeyId: "payment",
    keyStore,
    cacheLimitTtl: 3600,
    utf8Sorting: true,
  });
}

/** AES-256-GCM of a text under one key: no key per message, no context, no commitment. */
export function cloak(plaintext: Uint8Array): Contender {
  const key = parseKeySync(generateKey());
  // It takes text only.
  const text = Buffer.from(plaintext).toString("latin1");
  const sealed = encryptStringSync(text, key);
  return {
    name: "@47ng/cloak",
    encrypt: () => encryptStringSync(text, key),
    decrypt: () => decryptStringSync(sealed, key),
  };
}
