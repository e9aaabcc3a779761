import { randomBytes } from "node:crypto";
import type { DataDir } from "./data-dir.ts";
import { StackError } from "./errors.ts";
import { readTextFileIfAny, writePrivateFile } from "./private-file.ts";

/** What makes this stack itself: its keys and its demo user. Made once, kept with its data. */
export interface Identity {
  /** `sb_publishable_...`, sent by clients in the header `apikey`. */
  readonly publishableKey: string;
  /** `sb_secret_...`, sent by servers in the header `apikey`; acts as `service_role`. */
  readonly secretKey: string;
  /** Signs every access token (HS256). 64 characters. */
  readonly jwtSecret: string;
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
  const identity: Identity = {
    publishableKey: `sb_publishable_${token(16)}_${token(6)}`,
    secretKey: `sb_secret_${token(16)}_${token(6)}`,
    jwtSecret: token(48),
    operatorToken: token(32),
    // The suffix keeps two data directories apart on one Postgres.
    demo: { email: `demo-${randomBytes(3).toString("hex")}@example.com`, password: token(18) },
    createdAt: Math.floor(Date.now() / 1000),
  };
  await writePrivateFile(path, JSON.stringify(identity, null, 2) + "\n");
  return identity;
}

function token(bytes: number): string {
  return randomBytes(bytes).toString("base64url");
}

function parse(text: string, path: string): Identity {
  const broken = () =>
    new StackError(`${path} is damaged: restore it, or start afresh with --reset`);
  let value: Partial<Identity>;
  try {
    value = JSON.parse(text);
  } catch {
    throw broken();
  }
  const { publishableKey, secretKey, jwtSecret, operatorToken, demo, createdAt } = value;
  if (
    !publishableKey || !secretKey || !jwtSecret || jwtSecret.length < 32 || !operatorToken ||
    !demo?.email || !demo.password || !createdAt
  ) throw broken();
  return { publishableKey, secretKey, jwtSecret, operatorToken, demo, createdAt };
}
