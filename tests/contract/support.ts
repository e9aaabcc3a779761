/** What the contract tests share: a local AWS for each test, official clients, exact refusals. */

import { assertEquals } from "@std/assert";
import { CloudWatchClient } from "@aws-sdk/client-cloudwatch";
import { IAMClient } from "@aws-sdk/client-iam";
import { KMSClient, type KMSServiceException } from "@aws-sdk/client-kms";
import { STSClient } from "@aws-sdk/client-sts";
import { type LocalAws, type LocalAwsOptions, startLocalAws } from "../../local/aws/mod.ts";
import { compactTime, computeSignature } from "../../local/aws/sigv4.ts";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** One local AWS with clients of the official SDK, all closed at the end of the test. */
export class Setting {
  readonly aws: LocalAws;
  readonly #clients: { destroy(): void }[] = [];
  readonly #clock: TestClock | undefined;

  constructor(aws: LocalAws, clock?: TestClock) {
    this.aws = aws;
    this.#clock = clock;
  }

  /** As the operator unless told otherwise. One attempt: retries would hide what is tested. */
  kms(region = "us-east-1", credentials: Credentials = this.aws.identities.operator): KMSClient {
    const client = new KMSClient(this.#options(region, credentials));
    this.#clients.push(client);
    return client;
  }

  sts(region = "us-east-1", credentials: Credentials = this.aws.identities.caller): STSClient {
    const client = new STSClient(this.#options(region, credentials));
    this.#clients.push(client);
    return client;
  }

  /** IAM is global, and takes us-east-1's signatures. */
  iam(
    credentials: Credentials = this.aws.identities.operator,
    region = "us-east-1",
  ): IAMClient {
    const client = new IAMClient(this.#options(region, credentials));
    this.#clients.push(client);
    return client;
  }

  cloudwatch(
    region = "us-east-1",
    credentials: Credentials = this.aws.identities.operator,
  ): CloudWatchClient {
    const client = new CloudWatchClient(this.#options(region, credentials));
    this.#clients.push(client);
    return client;
  }

  #options(region: string, credentials: Credentials) {
    return {
      region,
      endpoint: this.aws.endpoint,
      // The SDK writes into what it is given.
      credentials: { ...credentials },
      maxAttempts: 1,
      // A client signs by the test's clock as it stands when the client is made.
      systemClockOffset: this.#clock === undefined ? 0 : this.#clock.now() - Date.now(),
    };
  }

  keyArn(keyId: string, region = "us-east-1"): string {
    return `arn:aws:kms:${region}:${this.aws.accountId}:key/${keyId}`;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await this.aws.close();
  }
}

/** A clock that moves only when a test moves it. */
export class TestClock {
  #now = Date.now();
  readonly now = () => this.#now;
  advance(ms: number): void {
    this.#now += ms;
  }
}

export async function withAws(
  body: (setting: Setting) => Promise<void>,
  { clock, ...options }: Omit<LocalAwsOptions, "now"> & { readonly clock?: TestClock } = {},
): Promise<void> {
  const now = clock === undefined ? {} : { now: clock.now };
  const setting = new Setting(await startLocalAws({ ...options, ...now }), clock);
  try {
    await body(setting);
  } finally {
    await setting.close();
  }
}

export interface Refusal {
  readonly name: string;
  readonly status: number;
  readonly message: string;
}

/** What the SDK makes of an error that AWS sends without a message. */
export const NO_MESSAGE = "UnknownError";

/** Asserts exception name, HTTP status and message, all exactly. */
export async function assertRefused(work: Promise<unknown>, refusal: Refusal): Promise<void> {
  let thrown: unknown;
  try {
    await work;
  } catch (error) {
    thrown = error;
  }
  if (thrown === undefined) throw new Error(`succeeded, expected ${refusal.name}`);
  const error = thrown as KMSServiceException;
  assertEquals(
    { name: error.name, status: error.$metadata?.httpStatusCode, message: error.message },
    refusal,
  );
}

/** Most of what AWS refuses is answered with 400. */
export function refused400(work: Promise<unknown>, name: string, message: string): Promise<void> {
  return assertRefused(work, { name, status: 400, message });
}

export function constraint(path: string, value: string, rule: string): string {
  return `1 validation error detected: ${value} at '${path}' failed to satisfy constraint: ${rule}`;
}

export interface RawRequest {
  readonly service?: "kms" | "sts" | "iam" | "monitoring" | "ssm" | "cloudtrail";
  readonly region?: string;
  readonly credentials?: Credentials;
  /** `YYYYMMDDTHHMMSSZ` in effect; default now. */
  readonly at?: number;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Default "/". */
  readonly path?: string;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  /** Body to send in place of the one that was signed. */
  readonly sentBody?: string;
  /** Changes to the Authorization header after signing. */
  readonly authorization?: (header: string) => string | null;
  readonly scopeService?: string;
  readonly scopeDate?: string;
  readonly terminator?: string;
}

export interface RawReply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly bytes: Uint8Array;
}

/** A signed request made by hand, for what no SDK would send. */
export async function rawRequest(aws: LocalAws, request: RawRequest): Promise<RawReply> {
  const service = request.service ?? "kms";
  const credentials: Credentials = request.credentials ?? aws.identities.operator;
  const timestamp = compactTime(request.at ?? Date.now());
  const body = request.body ?? "";
  const headers = new Map<string, string>([
    ["host", `127.0.0.1:${aws.port}`],
    ["x-amz-date", timestamp],
    [
      "content-type",
      service === "kms"
        ? "application/x-amz-json-1.1"
        : "application/x-www-form-urlencoded; charset=utf-8",
    ],
  ]);
  for (const [name, value] of Object.entries(request.headers ?? {})) headers.set(name, value);
  if (credentials.sessionToken !== undefined) {
    headers.set("x-amz-security-token", credentials.sessionToken);
  }
  const signedHeaders = [...headers.keys()].sort();
  const scope = {
    date: request.scopeDate ?? timestamp.slice(0, 8),
    region: request.region ?? "us-east-1",
    service: request.scopeService ?? service,
    terminator: request.terminator ?? "aws4_request",
  };
  const signature = computeSignature(
    {
      id: "",
      method: request.method ?? "POST",
      path: request.path ?? "/",
      query: "",
      headers,
      body: typeof body === "string" ? new TextEncoder().encode(body) : body,
    },
    { ...scope, signedHeaders, timestamp },
    credentials.secretAccessKey,
  );
  const authorization = "AWS4-HMAC-SHA256 Credential=" +
    [credentials.accessKeyId, scope.date, scope.region, scope.service, scope.terminator].join("/") +
    `, SignedHeaders=${signedHeaders.join(";")}, Signature=${signature}`;
  const sent = request.authorization === undefined
    ? authorization
    : request.authorization(authorization);
  if (sent !== null) headers.set("authorization", sent);
  headers.delete("host");
  const response = await fetch(`${aws.endpoint}${request.path ?? "/"}`, {
    method: request.method ?? "POST",
    headers: [...headers],
    ...(request.method === "GET" ? {} : { body: request.sentBody ?? body }),
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  const text = new TextDecoder().decode(bytes);
  return { status: response.status, headers: response.headers, text, bytes };
}

/** A KMS operation by hand. */
export function rawKms(
  aws: LocalAws,
  operation: string,
  body: string,
  request: RawRequest = {},
): Promise<RawReply> {
  const headers = { "x-amz-target": `TrentService.${operation}`, ...request.headers };
  return rawRequest(aws, { ...request, body, headers });
}

/** Code and message of an STS error document. */
export function xmlError(text: string): { type: string; code: string; message: string } {
  const read = (name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1] ?? "";
  return { type: read("Type"), code: read("Code"), message: read("Message") };
}
