/**
 * The few KMS operations the suite uses, over the official SDK.
 *
 * Owns nothing but one call in one region: credentials, and the check that KMS answered what was asked.
 * Throws AWS's own errors; `Failover` says what they mean. Plaintext keys are plain `Uint8Array`s, because
 * Deno 2.1.4's `node:crypto` wants them so.
 */
import type { KMSClient } from "@aws-sdk/client-kms";
import type { AwsConfig } from "../../../config.ts";
import type { EncryptionContext } from "../../../message/mod.ts";
import { parseKeyArn } from "./arn.ts";
import { awsClientOptions, type AwsClock } from "./client-options.ts";
import type { AwsCredentials, CredentialSource } from "./credentials.ts";
import { isExpiredCredentials, mayBeEndedSession, RefusedSession } from "./errors.ts";

type Sdk = typeof import("@aws-sdk/client-kms");

export interface KmsKeyMetadata {
  readonly arn: string;
  readonly state: string;
  readonly multiRegion: boolean;
  /** Where rotations are asked for: a multi-region key has one primary, any other key only its region. */
  readonly primaryRegion: string;
  readonly description: string;
  /** ISO 8601; null when KMS does not say. */
  readonly createdAt: string | null;
  /** As KMS names it; SYMMETRIC_DEFAULT is AES-256 in GCM. */
  readonly spec: string;
}

export class Kms {
  readonly #config: Pick<AwsConfig, "endpoint">;
  readonly #credentials: CredentialSource;
  readonly #clock: AwsClock;
  /** One client a region, remade when the credentials change: the SDK memoizes those it is given. */
  readonly #clients = new Map<string, { credentials: AwsCredentials; client: KMSClient }>();

  constructor(
    config: Pick<AwsConfig, "endpoint">,
    credentials: CredentialSource,
    clock: AwsClock = { offsetMs: 0 },
  ) {
    this.#config = config;
    this.#credentials = credentials;
    this.#clock = clock;
  }

  /** `keyId`: alias, alias ARN or key ARN. 32 bytes of plaintext. */
  async generateDataKey(
    region: string,
    keyId: string,
    context: EncryptionContext,
    signal: AbortSignal,
  ): Promise<{ plaintext: Uint8Array; ciphertext: Uint8Array; keyArn: string }> {
    const answer = await this.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(
          new sdk.GenerateDataKeyCommand({
            KeyId: keyId,
            NumberOfBytes: 32,
            EncryptionContext: { ...context },
          }),
          options,
        ),
    );
    const keyArn = verifiedKeyArn(answer.KeyId, keyId, region);
    return {
      plaintext: verified32Bytes(answer.Plaintext),
      ciphertext: verifiedBlob(answer.CiphertextBlob),
      keyArn,
    };
  }

  /** As `generateDataKey`, but the plaintext never leaves KMS. */
  async generateDataKeyWithoutPlaintext(
    region: string,
    keyId: string,
    context: EncryptionContext,
    signal: AbortSignal,
  ): Promise<{ ciphertext: Uint8Array; keyArn: string }> {
    const answer = await this.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(
          new sdk.GenerateDataKeyWithoutPlaintextCommand({
            KeyId: keyId,
            NumberOfBytes: 32,
            EncryptionContext: { ...context },
          }),
          options,
        ),
    );
    return {
      ciphertext: verifiedBlob(answer.CiphertextBlob),
      keyArn: verifiedKeyArn(answer.KeyId, keyId, region),
    };
  }

  /** `keyArn` is named to KMS and must be the key that answers. 32 bytes of plaintext. */
  async decrypt(
    region: string,
    keyArn: string,
    ciphertext: Uint8Array,
    context: EncryptionContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const answer = await this.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(
          new sdk.DecryptCommand({
            KeyId: keyArn,
            CiphertextBlob: ciphertext,
            EncryptionContext: { ...context },
          }),
          options,
        ),
    );
    verifiedKeyArn(answer.KeyId, keyArn, region);
    return verified32Bytes(answer.Plaintext);
  }

  /** 32 bytes that were not made by KMS. */
  async encrypt(
    region: string,
    keyArn: string,
    plaintext: Uint8Array,
    context: EncryptionContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const answer = await this.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(
          new sdk.EncryptCommand({
            KeyId: keyArn,
            Plaintext: plaintext,
            EncryptionContext: { ...context },
          }),
          options,
        ),
    );
    verifiedKeyArn(answer.KeyId, keyArn, region);
    return verifiedBlob(answer.CiphertextBlob);
  }

  /** The same plaintext under another context of the same key, without leaving KMS. */
  async reEncrypt(
    region: string,
    keyArn: string,
    ciphertext: Uint8Array,
    from: EncryptionContext,
    to: EncryptionContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const answer = await this.send(
      region,
      signal,
      (client, sdk, options) =>
        client.send(
          new sdk.ReEncryptCommand({
            SourceKeyId: keyArn,
            SourceEncryptionContext: { ...from },
            CiphertextBlob: ciphertext,
            DestinationKeyId: keyArn,
            DestinationEncryptionContext: { ...to },
          }),
          options,
        ),
    );
    verifiedKeyArn(answer.KeyId, keyArn, region);
    return verifiedBlob(answer.CiphertextBlob);
  }

  async describeKey(region: string, keyId: string, signal: AbortSignal): Promise<KmsKeyMetadata> {
    const { KeyMetadata: key } = await this.send(
      region,
      signal,
      (client, sdk, options) => client.send(new sdk.DescribeKeyCommand({ KeyId: keyId }), options),
    );
    return {
      arn: verifiedKeyArn(key?.Arn, keyId, region),
      state: key?.KeyState ?? "Unknown",
      multiRegion: key?.MultiRegion ?? false,
      primaryRegion: key?.MultiRegionConfiguration?.PrimaryKey?.Region ?? region,
      description: key?.Description ?? "",
      createdAt: key?.CreationDate?.toISOString() ?? null,
      spec: key?.KeySpec ?? "Unknown",
    };
  }

  /** Loads the SDK and gets credentials, so that calls have both at hand. */
  async prepare(): Promise<void> {
    await Promise.all([import("@aws-sdk/client-kms"), this.#credentials.get()]);
  }

  /** One call of the SDK in a region. */
  async send<Output>(
    region: string,
    abortSignal: AbortSignal,
    call: (client: KMSClient, sdk: Sdk, options: { abortSignal: AbortSignal }) => Promise<Output>,
  ): Promise<Output> {
    const sdk = await import("@aws-sdk/client-kms");
    const credentials = await this.#credentials.get();
    const client = this.#client(sdk, region, credentials);
    client.config.systemClockOffset = this.#clock.offsetMs;
    try {
      return await call(client, sdk, { abortSignal });
    } catch (error) {
      if (isExpiredCredentials(error)) this.#credentials.invalidate(credentials);
      if (!mayBeEndedSession(error)) throw error;
      // Exchanged by who asks again: that is not on the region's time.
      throw new RefusedSession(error, () => this.#credentials.replace(credentials));
    } finally {
      this.#clock.offsetMs = client.config.systemClockOffset;
    }
  }

  #client(sdk: Sdk, region: string, credentials: AwsCredentials): KMSClient {
    const known = this.#clients.get(region);
    if (known?.credentials === credentials) return known.client;
    const client = new sdk.KMSClient({
      ...awsClientOptions(this.#config, region, credentials, this.#clock),
      // The old client's connections: its calls under way end well, and new ones find them open.
      ...known === undefined ? {} : { requestHandler: known.client.config.requestHandler },
    });
    this.#clients.set(region, { credentials, client });
    return client;
  }
}

function verified32Bytes(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes?.length !== 32) throw badAnswer("a plaintext of 32 bytes");
  const plain = new Uint8Array(bytes);
  bytes.fill(0);
  return plain;
}

function verifiedBlob(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined || bytes.length === 0) throw badAnswer("a ciphertext");
  return new Uint8Array(bytes);
}

/** The answer must name a key of the region called, and the very key asked for when that was an ARN. */
function verifiedKeyArn(answered: string | undefined, asked: string, region: string): string {
  const arn = parseKeyArn(answered ?? "");
  if (arn === undefined || arn.region !== region) throw badAnswer("a key ARN of the region");
  if (parseKeyArn(asked) !== undefined && answered !== asked) throw badAnswer("the key asked for");
  return answered ?? "";
}

/** As good as no answer: another region may give a better one. */
function badAnswer(expected: string): Error {
  return new Error(`KMS did not answer ${expected}`);
}
