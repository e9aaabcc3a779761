/** Where the suite is and which key opens it: from options, the environment, a file, or the embedded stack. */
import { resolve } from "node:path";
import { readStackFile } from "../local/stack-file.ts";
import type { Target } from "./client.ts";
import { CliError, EXIT, usage } from "./errors.ts";
import { privateText } from "./files.ts";
import type { Io } from "./io.ts";

/** Options that every command takes. There is none for the key itself: others can read a command's arguments. */
export interface CommonOptions {
  readonly apiUrl?: string;
  readonly secretKeyFile?: string;
  readonly dataDir: string;
  readonly json?: boolean;
}

export interface FoundTarget extends Target {
  /** The environment of its functions, when it is the embedded stack. */
  readonly functionEnv: Readonly<Record<string, string>> | undefined;
}

export const DEFAULT_DATA_DIR = resolve(import.meta.dirname ?? ".", "..", ".local");

/**
 * An address needs its own key: the embedded stack's key is only ever sent to the embedded stack.
 *
 * @throws {CliError} when something is missing, or the address is not safe to send a key to
 */
export async function findTarget(options: CommonOptions, io: Io): Promise<FoundTarget> {
  const { env } = io;
  const address = [options.apiUrl, env.KMS_API_URL, env.SUPABASE_URL].find(Boolean);
  const secretKey = options.secretKeyFile !== undefined
    ? await keyFrom(options.secretKeyFile, io)
    : env.KMS_SECRET_KEY?.trim() ||
      keyNamed(env.SUPABASE_SECRET_KEYS, "SUPABASE_SECRET_KEYS") ||
      env.SUPABASE_SERVICE_ROLE_KEY?.trim() || undefined;
  if (address === undefined && secretKey === undefined) return await embedded(options.dataDir);
  if (address === undefined) {
    throw usage("there is a secret key but no address: give --api-url or KMS_API_URL");
  }
  if (secretKey === undefined) {
    throw new CliError(
      EXIT.unauthorized,
      "no_secret_key",
      "there is an address but no secret key: give KMS_SECRET_KEY or --secret-key-file",
    );
  }
  const publishableKey = env.KMS_PUBLISHABLE_KEY?.trim() ||
    keyNamed(env.SUPABASE_PUBLISHABLE_KEYS, "SUPABASE_PUBLISHABLE_KEYS") ||
    env.SUPABASE_ANON_KEY?.trim() || undefined;
  return {
    apiUrl: checkedUrl(address),
    secretKey: checkedKey(secretKey),
    publishableKey,
    functionEnv: undefined,
  };
}

async function keyFrom(path: string, io: Io): Promise<string> {
  return (path === "-" ? await io.stdin() : await privateText(path)).trim();
}

/** The key `default`, or the first, of the platform's JSON object of keys. */
function keyNamed(json: string | undefined, name: string): string | undefined {
  if (!json?.trim()) return undefined;
  let keys: unknown;
  try {
    keys = JSON.parse(json);
  } catch {
    // The parser's message quotes the text.
  }
  const all = typeof keys === "object" && keys !== null ? keys as Record<string, unknown> : {};
  const key = all.default ?? Object.values(all)[0];
  if (typeof key === "string" && key !== "") return key;
  throw usage(`${name} must be a JSON object of named keys`);
}

async function embedded(dataDir: string): Promise<FoundTarget> {
  const file = await readStackFile(dataDir);
  if (!file?.running) {
    throw usage(
      "where is the suite? Give --api-url and KMS_SECRET_KEY, or begin with `deno task start`",
    );
  }
  return {
    apiUrl: file.api_url,
    secretKey: file.secret_key,
    publishableKey: file.publishable_key,
    functionEnv: file.function_env,
  };
}

/** Whether a secret may be sent there: https, or a loopback address. */
export function isSafeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === "https:" || protocol === "http:" && LOOPBACK.test(hostname);
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

function checkedUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw usage("the address must be a URL such as https://YOUR-PROJECT-REF.supabase.co");
  }
  if (!isSafeUrl(text)) {
    throw usage("the address must be https, except on a loopback address: a key goes there");
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw usage("the address must be a plain URL, without user, query or fragment");
  }
  return url.href.replace(/\/+$/, "");
}

/** As a header carries it. */
function checkedKey(key: string): string {
  if (/^[\x21-\x7e]{16,4096}$/.test(key)) return key;
  throw usage("the secret key must be 16 to 4096 characters without spaces");
}
