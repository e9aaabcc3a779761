/** The official AWS Encryption SDK for JavaScript, set to the one suite and policy of this project. */
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from "@aws-crypto/client-node";
import type { EncryptionContext } from "../../functions-shared/message/mod.ts";

const client = buildClient({
  commitmentPolicy: CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT,
  maxEncryptedDataKeys: 16,
});

type Keyring = Parameters<typeof client.encrypt>[0];

export async function officialEncrypt(
  keyring: Keyring,
  plaintext: Uint8Array,
  encryptionContext: EncryptionContext,
  frameLength?: number,
): Promise<Uint8Array> {
  const { result } = await client.encrypt(keyring, plaintext, {
    suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
    encryptionContext: { ...encryptionContext },
    ...(frameLength === undefined ? {} : { frameLength }),
  });
  return new Uint8Array(result);
}

export async function officialDecrypt(keyring: Keyring, message: Uint8Array) {
  const { plaintext, messageHeader } = await client.decrypt(keyring, message);
  return { plaintext: new Uint8Array(plaintext), messageHeader };
}

export function officialRawAesKeyring(
  key: { wrappingKey: Uint8Array; keyNamespace: string; keyName: string },
): RawAesKeyringNode {
  const input = {
    keyNamespace: key.keyNamespace,
    keyName: key.keyName,
    unencryptedMasterKey: key.wrappingKey.slice(),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
    // The specification's order. Without it the keyring (not the header) sorts by locale, and no
    // other SDK can unwrap what it wrapped under keys that the two orders arrange differently.
    utf8Sorting: true,
  };
  return new RawAesKeyringNode(input);
}
