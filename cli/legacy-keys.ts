/**
 * Where setups of the earlier guide kept their one key: AWS Parameter Store, Google Secret Manager, Vault's
 * KV engine, or a variable. The operator's own credentials read it; the functions need no right to.
 */
import { AwsClient } from "aws4fetch";
import { CliError, EXIT, usage } from "./errors.ts";
import { readEnvironment } from "./env-files.ts";
import type { Io } from "./io.ts";
import { isSafeUrl } from "./target.ts";

export const SOURCES = ["aws", "gcp", "vault", "env", "stdin"] as const;

export interface LegacyKeyOptions {
  readonly source: typeof SOURCES[number];
  readonly keyId: string;
  /** In place of the guide's name. */
  readonly name?: string;
  readonly envFile?: string;
  readonly io: Io;
}

type Env = Readonly<Record<string, string | undefined>>;
const TIMEOUT_MS = 20_000;

/** The key as it was kept, usually 64 hexadecimal digits. @throws {CliError} */
export async function readLegacyKey(options: LegacyKeyOptions): Promise<string> {
  const { io, source } = options;
  const env = await readEnvironment(options.envFile, io);
  const key = source === "stdin" ? await io.stdin() : await READERS[source](options, env);
  const trimmed = key.trim();
  if (!/^[\x20-\x7e]{16,1024}$/.test(trimmed)) {
    throw usage("what is kept there is no key: 16 to 1024 printable characters are expected");
  }
  return trimmed;
}

type Reader = (options: LegacyKeyOptions, env: Env) => Promise<string>;

const READERS: Record<"aws" | "gcp" | "vault" | "env", Reader> = {
  env: (_options, env) => Promise.resolve(required(env, "ENCRYPTION_KEY")),

  aws: async ({ keyId, name = `/boosterbeacon/encryption-keys/${keyId}` }, env) => {
    const region = required(env, "AWS_REGION");
    const client = new AwsClient({
      accessKeyId: required(env, "AWS_ACCESS_KEY_ID"),
      secretAccessKey: required(env, "AWS_SECRET_ACCESS_KEY"),
      ...env.AWS_SESSION_TOKEN ? { sessionToken: env.AWS_SESSION_TOKEN } : {},
      region,
      service: "ssm",
      retries: 0,
    });
    const endpoint = serviceUrl(env, "AWS_ENDPOINT_URL", `https://ssm.${region}.amazonaws.com`);
    const answer = await ask("Parameter Store", () =>
      client.fetch(endpoint, {
        method: "POST",
        headers: {
          "content-type": "application/x-amz-json-1.1",
          "x-amz-target": "AmazonSSM.GetParameter",
        },
        body: JSON.stringify({ Name: name, WithDecryption: true }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
        redirect: "error",
      }));
    return at(answer, "Parameter", "Value");
  },

  gcp: async ({ keyId, name = `boosterbeacon-encryption-key-${keyId}` }, env) => {
    const project = required(env, "GOOGLE_CLOUD_PROJECT");
    const token = required(env, "GOOGLE_ACCESS_TOKEN");
    const endpoint = serviceUrl(
      env,
      "GOOGLE_SECRETS_ENDPOINT",
      "https://secretmanager.googleapis.com",
    );
    const secret = [project, "secrets", name].map(encodeURIComponent).join("/");
    const answer = await ask(
      "Secret Manager",
      () =>
        fetch(`${endpoint}/v1/projects/${secret}/versions/latest:access`, {
          headers: { authorization: `Bearer ${token}` },
          signal: AbortSignal.timeout(TIMEOUT_MS),
          redirect: "error",
        }),
    );
    try {
      return atob(at(answer, "payload", "data"));
    } catch (error) {
      if (error instanceof CliError) throw error;
      throw unexpected("Secret Manager");
    }
  },

  vault: async ({ keyId, name = `boosterbeacon/encryption-keys/${keyId}` }, env) => {
    const address = serviceUrl(env, "VAULT_ADDR", required(env, "VAULT_ADDR"));
    const mount = env.VAULT_KV_MOUNT || "secret";
    const path = name.split("/").map(encodeURIComponent).join("/");
    const answer = await ask("Vault", () =>
      fetch(`${address}/v1/${mount}/data/${path}`, {
        headers: {
          "x-vault-token": required(env, "VAULT_TOKEN"),
          ...env.VAULT_NAMESPACE ? { "x-vault-namespace": env.VAULT_NAMESPACE } : {},
        },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        redirect: "error",
      }));
    return at(answer, "data", "data", "key");
  },
};

function required(env: Env, name: string): string {
  const value = env[name]?.trim();
  if (value) return value;
  throw usage(`${name} is required for this source`);
}

/** Credentials and a key travel there: nothing may listen in. */
function serviceUrl(env: Env, name: string, fallback: string): string {
  const url = (env[name]?.trim() || fallback).replace(/\/+$/, "");
  if (isSafeUrl(url)) return url;
  throw usage(`${name} must be https, except on a loopback address`);
}

async function ask(service: string, call: () => Promise<Response>): Promise<unknown> {
  let response: Response;
  try {
    response = await call();
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    const message = `${service} cannot be reached`;
    throw new CliError(EXIT.unavailable, "unreachable", message, { cause });
  }
  if (response.ok) return await response.json().catch(() => undefined);
  await response.body?.cancel();
  throw response.status === 401 || response.status === 403
    ? new CliError(EXIT.unauthorized, "source_denied", `${service} refuses these credentials`)
    : new CliError(EXIT.refused, "key_not_found", `${service} answered ${response.status}`);
}

function at(answer: unknown, ...path: string[]): string {
  let value: unknown = answer;
  for (const name of path) value = (value as Record<string, unknown> | null | undefined)?.[name];
  if (typeof value === "string") return value;
  throw unexpected("The source");
}

function unexpected(service: string): CliError {
  return new CliError(EXIT.unavailable, "unexpected_answer", `${service} answered no key`);
}
