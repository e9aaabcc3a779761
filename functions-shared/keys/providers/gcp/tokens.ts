/**
 * Access tokens for Google's APIs: a service account's signed assertion exchanged at its token endpoint
 * (RFC 7523; developers.google.com/identity/protocols/oauth2/service-account), or one given from outside.
 */
import type { GcpConfig } from "../../../config-gcp.ts";
import { SuiteError } from "../../../errors.ts";
import type { Attempts } from "../rest/attempts.ts";
import { accessDenied, unavailable } from "../rest/failure.ts";
import { callJson, countMember, textMember } from "../rest/json-call.ts";
import { type Token, TokenSource } from "../rest/token-source.ts";
import { tokenFailure } from "./errors.ts";

/** The narrowest scope of each service: Secret Manager has none of its own. */
export const SCOPES = {
  kms: "https://www.googleapis.com/auth/cloudkms",
  secrets: "https://www.googleapis.com/auth/cloud-platform",
} as const;
type Scope = typeof SCOPES[keyof typeof SCOPES];

const GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/** Life of an assertion, seconds: the longest Google takes. */
const ASSERTION_SECONDS = 3600;

/** Renewed this long before it expires, so that no request meets an expired one. */
const RENEW_BEFORE_MS = 5 * 60_000;

type ServiceAccount = Extract<GcpConfig["credentials"], { readonly kind: "service_account" }>;

export function gcpTokens(
  credentials: GcpConfig["credentials"],
  attempts: Attempts,
  now: () => number,
  scope: Scope = SCOPES.kms,
): TokenSource {
  if (credentials.kind === "access_token") {
    const token = { value: credentials.token, expiresAt: Infinity, renewAt: Infinity };
    return new TokenSource(() => Promise.resolve(token), now);
  }
  let key: Promise<CryptoKey> | undefined;
  return new TokenSource(async () => {
    key ??= importKey(credentials.privateKey);
    const signingKey = await key;
    return await attempts.call({
      operation: "Token",
      attempt: async (signal) => {
        const assertion = await signAssertion(credentials, signingKey, scope, now());
        return await exchange(credentials.tokenUri, assertion, now(), signal);
      },
    });
  }, now);
}

async function exchange(
  tokenUri: string,
  assertion: string,
  asked: number,
  signal: AbortSignal,
): Promise<Token> {
  const answer = await callJson(tokenUri, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({ grant_type: GRANT_TYPE, assertion }).toString(),
    signal,
  });
  if (answer.status !== 200) throw tokenFailure(answer);
  const lifeMs = countMember(answer.body, "expires_in") * 1000;
  const value = textMember(answer.body, "access_token");
  if (!/^[\x21-\x7e]+$/.test(value)) throw unavailable("the answer is no token");
  return {
    value,
    expiresAt: asked + lifeMs,
    // A short-lived one is used for half its life.
    renewAt: asked + Math.max(lifeMs - RENEW_BEFORE_MS, lifeMs / 2),
  };
}

async function signAssertion(
  { clientEmail, privateKeyId, tokenUri }: ServiceAccount,
  key: CryptoKey,
  scope: Scope,
  now: number,
): Promise<string> {
  const issuedAt = Math.floor(now / 1000);
  const header = { alg: "RS256", typ: "JWT", ...privateKeyId ? { kid: privateKeyId } : {} };
  const claims = {
    iss: clientEmail,
    scope,
    aud: tokenUri,
    iat: issuedAt,
    exp: issuedAt + ASSERTION_SECONDS,
  };
  const signed = `${base64UrlOfJson(header)}.${base64UrlOfJson(claims)}`;
  const data = new TextEncoder().encode(signed);
  const signature = await crypto.subtle.sign("RSASSA-PKCS1-v1_5", key, data);
  return `${signed}.${base64Url(new Uint8Array(signature))}`;
}

/** `pem`: PKCS #8, as Google hands it out. @throws {SuiteError} kms_access_denied when it is none. */
async function importKey(pem: string): Promise<CryptoKey> {
  try {
    const body = pem.replace(/-----(BEGIN|END) PRIVATE KEY-----|\s/g, "");
    const der = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
    const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
    return await crypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]);
  } catch {
    // Without the parser's own error: nothing of the key may travel in one.
    throw new SuiteError("kms_access_denied", { cause: accessDenied() });
  }
}

function base64UrlOfJson(json: unknown): string {
  return base64Url(new TextEncoder().encode(JSON.stringify(json)));
}

function base64Url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
