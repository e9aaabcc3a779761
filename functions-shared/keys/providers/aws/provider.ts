/**
 * Keys in AWS KMS: data keys under the alias of each class, branch key records under its key ARN, in
 * whichever region answers.
 */
import type { AwsConfig } from "../../../config.ts";
import { DATA_CLASSES, type DataClass } from "../../../data-class.ts";
import { SuiteError } from "../../../errors.ts";
import type { EncryptedDataKey, EncryptionContext } from "../../../message/mod.ts";
import type {
  DeadRegion,
  KeyDescription,
  KeyMetadata,
  KeyProvider,
  RegionReport,
  UnwrappedKey,
} from "../../key-provider.ts";
import type { GeneratedDataKey, OpenedDataKey } from "../../keyring.ts";
import { SingleFlight } from "../../single-flight.ts";
import { formatKeyArn, type KeyArn, keyArnIn, parseKeyArn } from "./arn.ts";
import type { AwsCredentials } from "./credentials.ts";
import { renewsCredentials } from "./errors.ts";
import type { Kms } from "./kms.ts";
import { RegionalKms, type RegionalKmsOptions } from "./regional-kms.ts";
import { rotateOnDemand, rotationOf, UNKNOWN_ROTATION } from "./rotation.ts";
import { TrustedAccount } from "./trusted-account.ts";

/** Provider id of data keys wrapped by KMS (AWS Encryption SDK specification, aws-kms-keyring.md). */
const PROVIDER_ID = "aws-kms";

/** What KMS's Decrypt takes; it answers a longer one with another error than a wrong one. */
const MAX_CIPHERTEXT_BYTES = 6144;

/** An alias may be pointed at another key; workers follow within this time. */
const ALIAS_TTL_MS = 5 * 60_000;

/** Takes long the first time; may begin before it is certain that anything will be asked. */
export async function loadAwsSdk({ role }: Pick<AwsConfig, "role">): Promise<void> {
  await Promise.all([import("@aws-sdk/client-kms"), role && import("@aws-sdk/client-sts")]);
}

export type AwsProviderOptions = RegionalKmsOptions;

export class AwsKeyProvider implements KeyProvider {
  readonly name = "aws";
  readonly #config: AwsConfig;
  readonly #regional: RegionalKms;
  readonly #kms: Kms;
  readonly #aliasTargets: ReadonlyMap<DataClass, SingleFlight<string>>;
  readonly #timeoutMs: number;
  readonly #account: TrustedAccount;

  constructor(config: AwsConfig, options: AwsProviderOptions) {
    const now = options.now ?? Date.now;
    this.#config = config;
    this.#regional = new RegionalKms(config, options);
    this.#kms = this.#regional.kms;
    this.#account = new TrustedAccount(config, (dataClass) => this.wrappingKeyId(dataClass));
    this.#timeoutMs = options.timeoutMs;
    this.#aliasTargets = new Map(DATA_CLASSES.map((dataClass) => [
      dataClass,
      new SingleFlight(async () => {
        const key = await this.#describe(dataClass);
        return { value: key.arn, expiresAt: now() + ALIAS_TTL_MS };
      }, now),
    ]));
  }

  /** Loads the SDK and gets credentials, so that the first call finds both at hand. */
  async prepare(): Promise<void> {
    await Promise.all([loadAwsSdk(this.#config), this.#kms.prepare()]);
  }

  /** What other workers found out about regions. */
  learn(dead: readonly DeadRegion[]): void {
    this.#regional.learn(dead);
  }

  /** Of the present session; for other AWS services that the role may use. */
  credentials(): Promise<AwsCredentials> {
    return this.#regional.credentials();
  }

  regions(): Readonly<Record<string, RegionReport>> {
    return this.#regional.report();
  }

  async generateDataKey(
    dataClass: DataClass,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<GeneratedDataKey> {
    // By alias rather than by resolved ARN: a re-pointed alias takes effect at once, and key policies
    // that restrict `kms:RequestAlias` keep working.
    const alias = this.#config.aliases[dataClass];
    const { plaintext, ciphertext, keyArn, region } = await this.#regional.call(
      "GenerateDataKey",
      alias,
      async (region, keyId, signal) => ({
        ...await this.#kms.generateDataKey(region, keyId, context, signal),
        region,
      }),
      signal,
    );
    try {
      // `#decrypt` would refuse another one: nothing is written here that cannot be read here.
      if (parseKeyArn(keyArn)?.account !== await this.#account.get()) {
        throw new SuiteError("kms_key_unusable");
      }
    } catch (error) {
      plaintext.fill(0);
      throw error;
    }
    const providerInfo = new TextEncoder().encode(keyArn);
    return {
      plaintext,
      keyId: keyArn,
      region,
      encrypted: { providerId: PROVIDER_ID, providerInfo, ciphertext },
    };
  }

  recognises(encrypted: EncryptedDataKey): boolean {
    return encrypted.providerId === PROVIDER_ID;
  }

  async decryptDataKey(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    return (await this.openDataKey(encrypted, context, signal)).plaintext;
  }

  async openDataKey(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<OpenedDataKey> {
    const keyId = new TextDecoder().decode(encrypted.providerInfo);
    const { ciphertext } = encrypted;
    return { ...await this.#decrypt(parseKeyArn(keyId), ciphertext, context, signal), keyId };
  }

  async wrappingKeyId(dataClass: DataClass, standing = ""): Promise<string> {
    const current = await this.#aliasTargets.get(dataClass)?.get() ?? "";
    const [target, stood] = [parseKeyArn(current), parseKeyArn(standing)];
    return target !== undefined && stood !== undefined && keyArnIn(target.region, stood) === current
      ? standing
      : current;
  }

  holds(keyId: string): boolean {
    return parseKeyArn(keyId) !== undefined;
  }

  async generateWrappedKey(keyId: string, context: EncryptionContext): Promise<Uint8Array> {
    const { ciphertext } = await this.#regional.call(
      "GenerateDataKeyWithoutPlaintext",
      keyId,
      (region, id, signal) =>
        this.#kms.generateDataKeyWithoutPlaintext(region, id, context, signal),
    );
    return ciphertext;
  }

  async rewrapKey(
    keyId: string,
    wrapped: Uint8Array,
    from: EncryptionContext,
    to: EncryptionContext,
  ): Promise<Uint8Array> {
    await this.#requireOurs(parseKeyArn(keyId), wrapped);
    return await this.#regional.call(
      "ReEncrypt",
      keyId,
      (region, id, signal) => this.#kms.reEncrypt(region, id, wrapped, from, to, signal),
    );
  }

  async wrapKey(
    keyId: string,
    plaintext: Uint8Array,
    context: EncryptionContext,
  ): Promise<Uint8Array> {
    const arn = parseKeyArn(keyId);
    if (arn === undefined || !await this.#isOurs(arn)) throw new SuiteError("decryption_failed");
    return await this.#regional.call(
      "Encrypt",
      keyId,
      (region, id, signal) => this.#kms.encrypt(region, id, plaintext, context, signal),
    );
  }

  async unwrapKey(
    keyId: string,
    wrapped: Uint8Array,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<UnwrappedKey> {
    return await this.#decrypt(parseKeyArn(keyId), wrapped, context, signal);
  }

  async describe(dataClass: DataClass): Promise<KeyDescription> {
    const { arn, state, multiRegion } = await this.#describe(dataClass);
    return { keyId: arn, state, multiRegion, region: parseKeyArn(arn)?.region };
  }

  async metadata(dataClass: DataClass): Promise<KeyMetadata> {
    const { arn, state, multiRegion, description, createdAt, spec } = await this.#describe(
      dataClass,
    );
    return {
      ...{ keyId: arn, state, multiRegion, region: parseKeyArn(arn)?.region },
      description: description || null,
      createdAt,
      spec: spec === "SYMMETRIC_DEFAULT" ? "AES-256" : spec,
      rotation: await this.#regional.call(
        "GetKeyRotationStatus",
        arn,
        (region, keyId, signal) => rotationOf(this.#kms, region, keyId, signal),
      ).catch((error) => {
        // The role need not have the permissions that only administration uses.
        if (error instanceof SuiteError && error.code === "kms_access_denied") {
          return UNKNOWN_ROTATION;
        }
        throw error;
      }),
    };
  }

  /** Each one that KMS does counts against 25 for life: one attempt, in the primary's region alone. */
  async rotateNow(keyId: string): Promise<string | null> {
    const arn = parseKeyArn(keyId);
    if (arn === undefined || !await this.#isOurs(arn)) throw new SuiteError("kms_key_unusable");
    const { primaryRegion } = await this.#regional.call(
      "DescribeKey",
      keyId,
      (region, id, signal) => this.#kms.describeKey(region, id, signal),
    );
    const primary = keyArnIn(primaryRegion, arn);
    if (primary === undefined) throw new SuiteError("kms_key_unusable");
    await this.#kms.prepare();
    const signal = AbortSignal.timeout(this.#timeoutMs);
    const rotate = () => rotateOnDemand(this.#kms, primaryRegion, primary, signal);
    // Expired or revoked credentials are a refusal: nothing was done.
    await rotate().catch(async (error) => {
      if (!await renewsCredentials(error.cause, signal)) throw error;
      return rotate();
    });
    // KMS rotates in the background, and its versions have no numbers.
    return null;
  }

  #describe(dataClass: DataClass) {
    return this.#regional.call(
      "DescribeKey",
      this.#config.aliases[dataClass],
      (region, keyId, signal) => this.#kms.describeKey(region, keyId, signal),
    );
  }

  async #decrypt(
    arn: KeyArn | undefined,
    ciphertext: Uint8Array,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<UnwrappedKey> {
    const ours = await this.#requireOurs(arn, ciphertext);
    return await this.#regional.call(
      "Decrypt",
      formatKeyArn(ours),
      async (region, keyId, signal) => ({
        plaintext: await this.#kms.decrypt(region, keyId, ciphertext, context, signal),
        region,
      }),
      signal,
    );
  }

  async #requireOurs(arn: KeyArn | undefined, ciphertext: Uint8Array): Promise<KeyArn> {
    if (
      arn === undefined || ciphertext.length === 0 || ciphertext.length > MAX_CIPHERTEXT_BYTES ||
      !await this.#isOurs(arn)
    ) {
      throw new SuiteError("decryption_failed");
    }
    return arn;
  }

  /**
   * The ARN comes from a stored message, which an attacker may have written: only keys of our own
   * account and regions are asked, as in the specification's discovery filter.
   */
  async #isOurs(arn: KeyArn): Promise<boolean> {
    return arn.account === await this.#account.get() &&
      this.#regional.names.some((region) => keyArnIn(region, arn) !== undefined);
  }
}
