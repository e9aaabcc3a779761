/**
 * A stack for tests: fresh, in a temporary directory, on free ports. Where it runs is chosen by the
 * environment: `STACK_DB_URL` (a throw-away Postgres instead of PGlite: every stack makes a database
 * of its own in it), `STACK_FUNCTIONS_DIR` (a tree with `supabase/functions`), `STACK_DENO` and
 * `STACK_DENO_ARGS` (JSON array; the Deno of the functions).
 *
 * `deno test` gives every file its own process-wide state, so each file that asks has its own stack.
 */
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import type { JWTPayload } from "jose";
import postgres from "postgres";
import { type Stack, type StackOptions, startStack } from "../../local/stack.ts";
import * as tokens from "../../local/tokens.ts";

/** For `Deno.test`: a stack outlives the test that started it. */
export const WITH_STACK = { sanitizeOps: false, sanitizeResources: false } as const;

/** Rate limits that count, and that no test meets by accident: one user asks more than any person would. */
export const AMPLE_LIMITS = Object.fromEntries([
  ...["", "SERVER_", "ADDRESS_"].flatMap((whose) =>
    ["READ", "WRITE", "REVEAL", "ADMIN"].map((name) => `${whose}${name}`)
  ),
  "AUTH_FAILURE",
].map((name) => [`KMS_RATE_LIMIT_${name}`, "1000000/60"]));

let shared: Promise<Stack> | undefined;

/** The stack of this test file, started by the first who asks, as they ask, and gone with the file. */
export function sharedStack(options: StackOptions = {}): Promise<Stack> {
  shared ??= startTestStack(options);
  return shared;
}

/** Options as the environment says, on free ports, in `dataDir`. */
export async function testOptions(dataDir: string): Promise<StackOptions> {
  const { STACK_DB_URL, STACK_FUNCTIONS_DIR, STACK_DENO, STACK_DENO_ARGS } = Deno.env.toObject();
  return {
    port: 0,
    awsPort: 0,
    dataDir,
    // What a developer keeps in .env.local is not for tests.
    envFile: null,
    functionEnv: AMPLE_LIMITS,
    ...(STACK_DB_URL ? { dbUrl: await freshDatabase(STACK_DB_URL) } : {}),
    ...(STACK_FUNCTIONS_DIR ? { functionsDir: STACK_FUNCTIONS_DIR } : {}),
    ...(STACK_DENO ? { denoExecutable: STACK_DENO } : {}),
    ...(STACK_DENO_ARGS ? { denoArgs: JSON.parse(STACK_DENO_ARGS) as string[] } : {}),
  };
}

/** Ciphertext of another stack could not be read: its keys are in that stack's directory. */
async function freshDatabase(url: string): Promise<string> {
  const name = `stack_${crypto.randomUUID().replaceAll("-", "")}`;
  const server = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await server.unsafe(`create database ${name}`);
  } finally {
    await server.end();
  }
  return Object.assign(new URL(url), { pathname: `/${name}` }).href;
}

/** Starts a stack of its own; its directory is removed when the test file ends. */
export async function startTestStack(options: StackOptions = {}): Promise<Stack> {
  const dataDir = Deno.makeTempDirSync({ prefix: "stack-" });
  // Handlers of `unload` cannot wait; the processes of the functions end with this one.
  addEventListener("unload", () => Deno.removeSync(dataDir, { recursive: true }));
  return await startStack(merged(await testOptions(dataDir), options));
}

/** Starts a stack of its own for `test` and closes it. */
export async function withStack(
  options: StackOptions,
  test: (stack: Stack) => Promise<void>,
): Promise<void> {
  const dataDir = await Deno.makeTempDir({ prefix: "stack-" });
  try {
    const stack = await startStack(merged(await testOptions(dataDir), options));
    try {
      await test(stack);
    } finally {
      await stack.close();
    }
  } finally {
    await Deno.remove(dataDir, { recursive: true });
  }
}

function merged(base: StackOptions, options: StackOptions): StackOptions {
  return { ...base, ...options, functionEnv: { ...base.functionEnv, ...options.functionEnv } };
}

/**
 * Functions that ask KMS in one region, once, for every message: what KMS does shows at once. How
 * outages look with caches, retries and other regions is the subject of tests/outage.
 */
export const EVERY_CALL = {
  KMS_PAYMENT_KEYRING: "direct",
  KMS_PII_KEYRING: "direct",
  KMS_GENERAL_KEYRING: "direct",
  KMS_DATA_KEY_TTL_MS: "0",
  KMS_FALLBACK_REGIONS: "",
  KMS_RETRY_ATTEMPTS: "1",
  KMS_CIRCUIT_BREAKER_THRESHOLD: "100",
};

export interface TestUser {
  readonly userId: string;
  readonly email: string;
  /** Access token, valid for an hour. */
  readonly token: string;
  /** The Data API as this user. */
  readonly client: SupabaseClient;
}

/** Signs a new user up over HTTP. */
export async function signUp(stack: Stack): Promise<TestUser> {
  const email = `user-${crypto.randomUUID()}@example.com`;
  const response = await fetch(`${stack.apiUrl}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: stack.publishableKey, "content-type": "application/json" },
    body: JSON.stringify({ email, password: crypto.randomUUID() }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`sign-up failed: ${JSON.stringify(answer)}`);
  const { access_token: token, user } = answer as { access_token: string; user: { id: string } };
  return { userId: user.id, email, token, client: dataApi(stack, stack.publishableKey, token) };
}

/** The Data API with this key, and as this user when a token is given. */
export function dataApi(stack: Stack, key: string, token?: string): SupabaseClient {
  return createClient(stack.apiUrl, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    ...(token ? { global: { headers: { authorization: `Bearer ${token}` } } } : {}),
  });
}

/** A JWT signed by the stack with exactly these claims, plus `iat` and `exp` (an hour) if missing. */
export function mintJwt(stack: Stack, claims: JWTPayload): Promise<string> {
  return tokens.mintJwt(stack.jwtSecret, claims);
}

export interface CallInit extends Omit<RequestInit, "headers"> {
  /** A user's access token; sent with the publishable key, as supabase-js does. */
  readonly token?: string;
  /** Send the secret key. */
  readonly secret?: boolean;
  /** Body as JSON; the method becomes POST unless given. */
  readonly json?: unknown;
  readonly headers?: Record<string, string>;
}

/** Calls a function: `path` is what follows its name, such as `/records?limit=1`. */
export function call(
  stack: Stack,
  name: string,
  path = "",
  { token, secret, json, headers = {}, ...init }: CallInit = {},
): Promise<Response> {
  const credentials: Record<string, string> = secret
    ? { apikey: stack.secretKey }
    : token
    ? { apikey: stack.publishableKey, authorization: `Bearer ${token}` }
    : {};
  const body = json === undefined ? {} : {
    method: "POST",
    body: JSON.stringify(json),
    headers: { "content-type": "application/json" },
  };
  return fetch(`${stack.apiUrl}/functions/v1/${name}${path}`, {
    ...body,
    ...init,
    headers: { ...body.headers, ...credentials, ...headers },
  });
}
