/** The least of a KMS keyring: what a message needs of KMS, on the official client. */
import { DecryptCommand, EncryptCommand, GenerateDataKeyCommand, KMS } from "@aws-sdk/client-kms";
import type { EncryptedDataKey, EncryptionContext } from "../../functions-shared/message/mod.ts";
import type { LocalAws } from "../../local/aws/mod.ts";

/** One client a region, as a `KmsKeyringNode` asks for them. */
export class Clients {
  readonly #clients = new Map<string, KMS>();

  constructor(readonly aws: LocalAws) {}

  readonly of = (region: string): KMS => {
    let client = this.#clients.get(region);
    if (client === undefined) {
      const { endpoint, identities } = this.aws;
      client = new KMS({ region, endpoint, credentials: identities.operator, maxAttempts: 1 });
      this.#clients.set(region, client);
    }
    return client;
  };

  close(): void {
    for (const client of this.#clients.values()) client.destroy();
  }
}

const PROVIDER_ID = "aws-kms";
const regionOf = (arn: string) => arn.split(":")[3]!;

function encryptedDataKey(arn: string | undefined, blob: Uint8Array | undefined): EncryptedDataKey {
  if (arn === undefined || blob === undefined) throw new Error("KMS answered without key or blob");
  const providerInfo = new TextEncoder().encode(arn);
  return { providerId: PROVIDER_ID, providerInfo, ciphertext: new Uint8Array(blob) };
}

export async function generateDataKey(
  clients: Clients,
  keyArn: string,
  encryptionContext: EncryptionContext,
): Promise<{ dataKey: Uint8Array; encryptedDataKey: EncryptedDataKey }> {
  const answer = await clients.of(regionOf(keyArn)).send(
    new GenerateDataKeyCommand({
      KeyId: keyArn,
      NumberOfBytes: 32,
      EncryptionContext: { ...encryptionContext },
    }),
  );
  return {
    dataKey: new Uint8Array(answer.Plaintext!),
    encryptedDataKey: encryptedDataKey(answer.KeyId, answer.CiphertextBlob),
  };
}

export async function wrapDataKey(
  clients: Clients,
  keyArn: string,
  encryptionContext: EncryptionContext,
  dataKey: Uint8Array,
): Promise<EncryptedDataKey> {
  const answer = await clients.of(regionOf(keyArn)).send(
    new EncryptCommand({
      KeyId: keyArn,
      Plaintext: dataKey,
      EncryptionContext: { ...encryptionContext },
    }),
  );
  return encryptedDataKey(answer.KeyId, answer.CiphertextBlob);
}

export async function unwrapDataKey(
  clients: Clients,
  key: EncryptedDataKey,
  encryptionContext: EncryptionContext,
): Promise<Uint8Array> {
  if (key.providerId !== PROVIDER_ID) throw new Error(`wrapped by ${key.providerId}, not KMS`);
  const keyArn = new TextDecoder().decode(key.providerInfo);
  const answer = await clients.of(regionOf(keyArn)).send(
    new DecryptCommand({
      KeyId: keyArn,
      CiphertextBlob: key.ciphertext,
      EncryptionContext: { ...encryptionContext },
    }),
  );
  return new Uint8Array(answer.Plaintext!);
}
