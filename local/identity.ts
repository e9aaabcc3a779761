import { randomBytes } from "node:crypto";
import type { DataDir } from "./data-dir.ts";
import { StackError } from "./errors.ts";
import { readTextFileIfAny, writePrivateFile } from "./private-file.ts";
import type { SigningKey } from "./signing-keys.ts";
import { sharedSecretJwk } from "./tokens.ts";

/** One of the project's secret keys. */
export interface SecretKey {
  readonly id: string;
  /** Unique; the audit names it as the actor. */
  readonly name: string;
  /** `sb_secret_...`, sent by servers in the header `apikey`; acts as `service_role`. */
  readonly key: string;
  readonly description: string | null;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** What makes this stack itself: its keys and its demo user. Made once, kept with its data. */
export interface Identity {
  /** `sb_publishable_...`, sent by clients in the header `apikey`. */
  readonly publishableKey: string;
  /** At least one; oldest first. */
  readonly secretKeys: readonly SecretKey[];
  /** Exactly one is in use. */
  readonly signingKeys: readonly SigningKey[];
  /** The secret behind the legacy API keys and the first signing key. 64 characters. */
  readonly jwtSecret: string;
  /** Whether functions still get SUPABASE_ANON_KEY and SUPABASE_SERVICE_ROLE_KEY. */
  readonly legacyKeysEnabled: boolean;
  /** `sbp_...`: opens the Management API, as a personal access token does. Never given to a function. */
  readonly accessToken: string;
  /** Opens the gateway's `/_local/` endpoints. Never given to a function. */
  readonly operatorToken: string;
  readonly demo: { readonly email: string; readonly password: string };
  /** Seconds since 1970; the legacy API keys are issued then. */
  readonly createdAt: number;
}

const FILE = "identity.json";

/**
 * The identity kept in the data directory (mode 0600), made on the first start.
 *
 * @throws {StackError} when the file is there and cannot be read as an identity
 */
export async function loadIdentity(dir: DataDir): Promise<Identity> {
  const path = dir.file(FILE);
  const text = await readTextFileIfAny(path);
  if (text !== null) return parse(text, path);
  const identity = newIdentity();
  await saveIdentity(dir, identity);
  return identity;
}

/** Replaces the identity kept in the data directory. */
export async function saveIdentity(dir: DataDir, identity: Identity): Promise<void> {
  await writePrivateFile(dir.file(FILE), JSON.stringify(identity, null, 2) + "\n");
}

function newIdentity(): Identity {
  const jwtSecret = token(48);
  const now = new Date();
  const at = { createdAt: now.toISOString(), updatedAt: now.toISOString() };
  const jwk = sharedSecretJwk(jwtSecret);
  return {
    publishableKey: `sb_publishable_${token(16)}_${token(6)}`,
    secretKeys: [newSecretKey("default", null)],
    signingKeys: [{ id: crypto.randomUUID(), status: "in_use", jwk, legacy: true, ...at }],
    jwtSecret,
    legacyKeysEnabled: true,
    accessToken: `sbp_${randomBytes(20).toString("hex")}`,
    operatorToken: token(32),
    // The suffix keeps two data directories apart on one Postgres.
    demo: { email: `demo-${randomBytes(3).toString("hex")}@example.com`, password: token(18) },
    createdAt: Math.floor(now.getTime() / 1000),
  };
}

export function newSecretKey(name: string, description: string | null): SecretKey {
  return {
    id: crypto.randomUUID(),
    name,
    key: `sb_secret_${token(16)}_${token(6)}`,
    description,
    createdAt: new Date().toISOString(),
  };
}

/** The key that the stack's own commands use: `default`, or else the oldest. */
export function mainSecretKey({ secretKeys }: Pick<Identity, "secretKeys">): string {
  const key = secretKeys.find(({ name }) => name === "default") ?? secretKeys[0];
  if (!key) throw new Error("there is no secret key");
  return key.key;
}

function token(bytes: number): string {
  return randomBytes(bytes).toString("base64url");
}

function parse(text: string, path: string): Identity {
  let value: Partial<Identity> | null;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (value && isIdentity(value)) return value;
  throw new StackError(`${path} is damaged: restore it, or start afresh with --reset`);
}

function isIdentity(value: Partial<Identity>): value is Identity {
  const { publishableKey, secretKeys, signingKeys, jwtSecret, accessToken, operatorToken } = value;
  return Boolean(publishableKey && accessToken && operatorToken && value.createdAt) &&
    typeof value.legacyKeysEnabled === "boolean" &&
    (jwtSecret ?? "").length >= 32 && Boolean(value.demo?.email && value.demo.password) &&
    Array.isArray(secretKeys) && secretKeys.length > 0 &&
    secretKeys.every(({ id, name, key }) => id && name && key) &&
    Array.isArray(signingKeys) && signingKeys.every(({ id, jwk }) => id && jwk?.kid) &&
    signingKeys.filter(({ status }) => status === "in_use").length === 1;
}
