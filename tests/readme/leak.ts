/** The caller's key of a running stack in a stranger's hands: what it and a session it opened still can. */

import {
  DecryptCommand,
  GenerateDataKeyCommand,
  KMSClient,
  type KMSServiceException,
} from "@aws-sdk/client-kms";
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import type { Env } from "../../local/platform-env.ts";

interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** `ok`, or the name of AWS's refusal. */
type Outcome = string;

const REGION = "us-east-1";
const KEY = "alias/parker-flight-payment-development";

export class LeakedKey {
  readonly id: string;
  readonly externalId: string;
  readonly #env: Env;
  readonly #credentials: Credentials;
  #session: Credentials | undefined;
  #ciphertext: Uint8Array | undefined;

  /** `env`: the functions' own. */
  constructor(env: Env) {
    this.#env = env;
    const { AWS_ACCESS_KEY_ID: accessKeyId = "", AWS_SECRET_ACCESS_KEY: secretAccessKey = "" } =
      env;
    this.#credentials = { accessKeyId, secretAccessKey };
    this.id = accessKeyId;
    this.externalId = env.AWS_EXTERNAL_ID ?? "";
  }

  /** Opens a session, and seals something with it that it can open. */
  async openSession(): Promise<void> {
    this.#session = await this.#assumeRole();
    const { CiphertextBlob } = await this.#kms((client) =>
      client.send(new GenerateDataKeyCommand({ KeyId: KEY, KeySpec: "AES_256" }))
    );
    this.#ciphertext = CiphertextBlob;
  }

  /** Whether the key itself is still somebody's. */
  identifies(): Promise<Outcome> {
    return outcome(this.#sts((client) => client.send(new GetCallerIdentityCommand({}))));
  }

  assumesRole(): Promise<Outcome> {
    return outcome(this.#assumeRole());
  }

  /** Whether the session that was opened before still decrypts. */
  sessionDecrypts(): Promise<Outcome> {
    const CiphertextBlob = this.#ciphertext;
    return outcome(this.#kms((client) => client.send(new DecryptCommand({ CiphertextBlob }))));
  }

  async #assumeRole(): Promise<Credentials> {
    const { AWS_ROLE_ARN: RoleArn, AWS_EXTERNAL_ID: ExternalId } = this.#env;
    const { Credentials: session } = await this.#sts((client) =>
      client.send(new AssumeRoleCommand({ RoleArn, ExternalId, RoleSessionName: "stranger" }))
    );
    return {
      accessKeyId: session?.AccessKeyId ?? "",
      secretAccessKey: session?.SecretAccessKey ?? "",
      sessionToken: session?.SessionToken ?? "",
    };
  }

  async #sts<T>(work: (client: STSClient) => Promise<T>): Promise<T> {
    const client = new STSClient(this.#options(this.#credentials));
    try {
      return await work(client);
    } finally {
      client.destroy();
    }
  }

  async #kms<T>(work: (client: KMSClient) => Promise<T>): Promise<T> {
    const client = new KMSClient(this.#options(this.#session));
    try {
      return await work(client);
    } finally {
      client.destroy();
    }
  }

  #options(credentials: Credentials | undefined) {
    return {
      region: REGION,
      endpoint: this.#env.AWS_ENDPOINT_URL ?? "",
      credentials: { accessKeyId: "", secretAccessKey: "", ...credentials },
      maxAttempts: 1,
    };
  }
}

async function outcome(work: Promise<unknown>): Promise<Outcome> {
  try {
    await work;
    return "ok";
  } catch (error) {
    return (error as KMSServiceException).name;
  }
}
