/**
 * What an error of Cloud KMS means, judged by its canonical code (google.rpc.Code, AIP-193).
 * Source: cloud.google.com/kms/docs/reference/rest, cloud.google.com/apis/design/errors.
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

/** A request that was damaged on its way: Google asks for a limited number of further attempts. */
const DAMAGED = /crc32c|checksum/i;

export type GcpOperation =
  | "Encrypt"
  | "Decrypt"
  | "GetCryptoKey"
  | "CreateCryptoKeyVersion"
  | "UpdateCryptoKeyPrimaryVersion";

/** `keyId`: of the key that was called. */
export function gcpFailure(
  operation: GcpOperation,
  keyId: string,
  { status, body }: JsonAnswer,
): ServiceFailure {
  const error = member(body, "error");
  const code = member(error, "status") ?? codeOfStatus(status);
  const key = keyId.slice(keyId.lastIndexOf("/") + 1);
  switch (code) {
    case "UNAUTHENTICATED":
      return accessDenied("credentials");
    case "PERMISSION_DENIED":
      return accessDenied();
    case "NOT_FOUND":
      return keyNotFound(key);
    case "FAILED_PRECONDITION":
      // A version in a security module takes its time to be made.
      if (operation === "UpdateCryptoKeyPrimaryVersion") return unavailable("not enabled yet");
      return keyUnusable(key);
    case "INVALID_ARGUMENT":
      if (DAMAGED.test(String(member(error, "message")))) return unavailable("damaged request");
      return operation === "Decrypt" ? wrongCiphertext() : keyUnusable(key);
    default:
      // RESOURCE_EXHAUSTED, UNAVAILABLE, INTERNAL, DEADLINE_EXCEEDED, ABORTED, and what is no answer.
      return unavailable(`status ${status}`);
  }
}

/** For answers of something in between, without Google's own body; 404 and 400 could be anybody's. */
function codeOfStatus(status: number): string | undefined {
  if (status === 401) return "UNAUTHENTICATED";
  return status === 403 ? "PERMISSION_DENIED" : undefined;
}

/**
 * What the token endpoint's refusal means: OAuth 2.0 (RFC 6749 section 5.2) answers 400 or 401 for a key,
 * an account or a clock it does not accept.
 */
export function tokenFailure({ status, body }: JsonAnswer): ServiceFailure {
  const refused = typeof member(body, "error") === "string" && (status === 400 || status === 401);
  return refused || status === 403 ? accessDenied() : unavailable(`status ${status}`);
}
