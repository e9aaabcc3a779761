/**
 * What an error of Vault means. Its API has statuses and texts, no codes: statuses decide, and texts only
 * where one status stands for several things.
 * Source: developer.hashicorp.com/vault/api-docs (HTTP status codes); texts from Vault's Transit engine.
 */
import {
  accessDenied,
  keyNotFound,
  keyUnusable,
  type ServiceFailure,
  unavailable,
  wrongCiphertext,
} from "../rest/failure.ts";
import { type JsonAnswer, member } from "../rest/json-call.ts";

/** Decryption under a version below the key's `min_decryption_version`. */
const TOO_OLD = "ciphertext or signature version is disallowed by policy (too old)";
/** Of encryptions "encryption key not found". */
const NO_KEY = "key not found";
/** Newer Vaults answer it with 400, older ones with 500. */
const WRONG_TAG = "cipher: message authentication failed";

export type TransitOperation = "Encrypt" | "Decrypt" | "ReadKey" | "RotateKey";

/** `key`: name of the key that was called. 403 is for the caller, who knows the token. */
export function vaultFailure(
  operation: TransitOperation,
  key: string,
  { status, body }: JsonAnswer,
): ServiceFailure {
  const errors = member(body, "errors");
  const says = (text: string) =>
    Array.isArray(errors) && errors.some((one) => typeof one === "string" && one.includes(text));
  if (operation === "Decrypt" && (status === 400 || status === 500) && says(WRONG_TAG)) {
    return wrongCiphertext();
  }
  // Without Vault's own body it is something in between that answers.
  if (!Array.isArray(errors)) return unavailable(`status ${status}`);
  if (status === 403) return accessDenied();
  if (status === 404) return keyNotFound(key);
  if (status !== 400) return unavailable(`status ${status}`);
  if (says(NO_KEY)) return keyNotFound(key);
  return operation !== "Decrypt" || says(TOO_OLD) ? keyUnusable(key) : wrongCiphertext();
}

/** A refused login or renewal: 400 for a role or secret id that is none, 403 for a token that is none. */
export function loginFailure({ status, body }: JsonAnswer): ServiceFailure {
  const isVault = Array.isArray(member(body, "errors"));
  return isVault && (status === 400 || status === 403)
    ? accessDenied()
    : unavailable(`status ${status}`);
}
