/**
 * Credentials for KMS: the caller's key exchanged for the session of a role, or the key itself when no
 * role is configured (development).
 */
import type { STSClient } from "@aws-sdk/client-sts";
import type { AwsConfig } from "../../../config.ts";
import { SuiteError } from "../../../errors.ts";
import { SingleFlight } from "../../single-flight.ts";
import { awsClientOptions, type AwsClock } from "./client-options.ts";
import { fromAwsError } from "./errors.ts";

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** Milliseconds since the epoch; undefined = never. */
  readonly expiresAt?: number;
}

/** Renewed this long before they expire, so that no request meets expired ones. */
export const RENEW_BEFORE_MS = 5 * 60_000;

/** A session that AWS refuses is exchanged no more often: the refusal may be meant for the role itself. */
export const REPLACE_REFUSED_AFTER_MS = 10_000;

/** One `sts:AssumeRole` call. */
export type AssumeRole = (signal: AbortSignal) => Promise<AwsCredentials>;

export class CredentialSource {
  readonly #sessions: SingleFlight<AwsCredentials>;
  readonly #isRole: boolean;
  readonly #now: () => number;
  #replacing: Promise<boolean> | undefined;
  #mayReplaceAt = -Infinity;

  constructor(
    config: Pick<AwsConfig, "accessKeyId" | "secretAccessKey" | "sessionToken" | "role">,
    options: {
      readonly assumeRole: AssumeRole;
      /** Deadline of one exchange, milliseconds. */
      readonly timeoutMs: number;
      readonly now?: () => number;
    },
  ) {
    this.#now = options.now ?? Date.now;
    this.#isRole = config.role !== undefined;
    this.#sessions = new SingleFlight(async () => {
      if (config.role === undefined) {
        const { accessKeyId, secretAccessKey, sessionToken } = config;
        return {
          value: { accessKeyId, secretAccessKey, ...sessionToken ? { sessionToken } : {} },
          expiresAt: Infinity,
        };
      }
      const session = await options.assumeRole(AbortSignal.timeout(options.timeoutMs));
      return { value: session, expiresAt: (session.expiresAt ?? Infinity) - RENEW_BEFORE_MS };
    }, this.#now);
  }

  /**
   * One exchange for all concurrent callers. While the old session is still good it serves on, so
   * that no request waits for a renewal, nor fails with one: five minutes are there to be used.
   *
   * @throws {SuiteError} kms_access_denied or kms_unavailable.
   */
  async get(): Promise<AwsCredentials> {
    const renewed = this.#sessions.get();
    const last = this.#sessions.peek();
    if (last !== undefined && (last.expiresAt ?? Infinity) > this.#now()) {
      renewed.catch(() => {});
      return last;
    }
    try {
      return await renewed;
    } catch (error) {
      throw fromAwsError(error);
    }
  }

  /**
   * After AWS called this session expired: the next `get` exchanges again. Late news of an older
   * session change nothing.
   */
  invalidate(session: AwsCredentials): void {
    if (this.#sessions.peek() === session) this.#sessions.clear();
  }

  /**
   * After AWS refused what this session asked for. Sessions are ended before their time by a policy that
   * denies everything to those opened before some moment ("Revoke active sessions" of the console): then a
   * new one helps. The old one stays when there is none to be had.
   *
   * @returns whether the next `get` answers another session
   */
  async replace(session: AwsCredentials): Promise<boolean> {
    if (!this.#isRole) return false;
    if (this.#sessions.peek() !== session) return true;
    if (this.#replacing === undefined) {
      if (this.#now() < this.#mayReplaceAt) return false;
      this.#mayReplaceAt = this.#now() + REPLACE_REFUSED_AFTER_MS;
      this.#replacing = this.#sessions.refresh()
        .then(() => true, () => false)
        .finally(() => this.#replacing = undefined);
    }
    return await this.#replacing;
  }
}

/** `sts:AssumeRole` in a region, through the official SDK, which is loaded on first use only. */
export function stsAssumeRole(
  config: AwsConfig,
  clock: AwsClock,
  now: () => number = Date.now,
): (region: string, signal: AbortSignal) => Promise<AwsCredentials> {
  const clients = new Map<string, STSClient>();
  return async (region, signal) => {
    const role = config.role;
    if (role === undefined) throw new SuiteError("internal_error");
    const { AssumeRoleCommand, STSClient } = await import("@aws-sdk/client-sts");
    const client = clients.get(region) ?? new STSClient({
      ...awsClientOptions(config, region, {
        accessKeyId: config.accessKeyId,
        secretAccessKey: config.secretAccessKey,
        ...config.sessionToken ? { sessionToken: config.sessionToken } : {},
      }, clock),
      sigv4aSigningRegionSet: [region],
    });
    clients.set(region, client);
    client.config.systemClockOffset = clock.offsetMs;
    const asked = now();
    try {
      const { Credentials: session } = await client.send(
        new AssumeRoleCommand({
          RoleArn: role.arn,
          RoleSessionName: role.sessionName,
          ExternalId: role.externalId,
          DurationSeconds: role.durationSeconds,
        }),
        { abortSignal: signal },
      );
      if (!session?.AccessKeyId || !session.SecretAccessKey || !session.SessionToken) {
        throw new Error("STS did not answer a session");
      }
      return {
        accessKeyId: session.AccessKeyId,
        secretAccessKey: session.SecretAccessKey,
        sessionToken: session.SessionToken,
        // By our clock: AWS's own time of expiry is long past for a machine whose clock is fast.
        expiresAt: asked + role.durationSeconds * 1000,
      };
    } finally {
      clock.offsetMs = client.config.systemClockOffset;
    }
  };
}
