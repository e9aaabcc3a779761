/** KeyMetadata, as CreateKey, ReplicateKey and DescribeKey answer it. */

import { keyArn } from "../regions.ts";
import type { KmsKey } from "./model.ts";
import { type KmsCall, type KmsResult, seconds } from "./operation.ts";

export function keyMetadata(call: Pick<KmsCall, "store" | "identities">, key: KmsKey): KmsResult {
  const { accountId } = call.identities;
  const family = call.store.family(key.keyId);
  const location = (region: string) => ({
    Arn: keyArn(region, accountId, key.keyId),
    Region: region,
  });
  return {
    AWSAccountId: accountId,
    KeyId: key.keyId,
    Arn: keyArn(key.region, accountId, key.keyId),
    CreationDate: seconds(key.createdAt),
    Enabled: key.state === "Enabled",
    Description: key.description,
    KeyUsage: "ENCRYPT_DECRYPT",
    KeyState: key.state,
    DeletionDate: key.deletionAt === undefined ? undefined : seconds(key.deletionAt),
    Origin: "AWS_KMS",
    KeyManager: "CUSTOMER",
    CustomerMasterKeySpec: "SYMMETRIC_DEFAULT",
    KeySpec: "SYMMETRIC_DEFAULT",
    EncryptionAlgorithms: ["SYMMETRIC_DEFAULT"],
    MultiRegion: family.multiRegion,
    MultiRegionConfiguration: family.multiRegion
      ? {
        MultiRegionKeyType: key.region === family.primaryRegion ? "PRIMARY" : "REPLICA",
        PrimaryKey: location(family.primaryRegion),
        ReplicaKeys: call.store.related(key.keyId)
          .filter((related) => related.region !== family.primaryRegion)
          .map((related) => location(related.region)),
      }
      : undefined,
    // AWS says this of a key whose deletion waits for its replicas, in place of a date.
    PendingDeletionWindowInDays: key.state === "PendingReplicaDeletion"
      ? key.pendingWindowInDays
      : undefined,
    CurrentKeyMaterialId: family.backingKeys.at(-1)?.id,
  };
}
