/**
 * The three operations of Cloud KMS that the suite uses, over REST v1. What is sent carries CRC32C
 * checksums, and an answer counts only when the service verified them and its own are right.
 * Source: cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys,
 * cloud.google.com/kms/docs/data-integrity-guidelines.
 */
import { decodeMessage, encodeMessage } from "../../../message/mod.ts";
import { unavailable } from "../rest/failure.ts";
import { callJson, member, textMember } from "../rest/json-call.ts";
import type { TokenSource } from "../rest/token-source.ts";
import { requireKey, type Wrapped } from "../rest/wrapping-provider.ts";
import { crc32c } from "./crc32c.ts";
import { gcpFailure } from "./errors.ts";

export interface CryptoKeyMetadata {
  /** Of the primary version, such as ENABLED. */
  readonly state: string;
  /** Number of the primary version; undefined when there is none. */
  readonly version: string | undefined;
}

export class CloudKms {
  readonly #endpoint: string;
  readonly #tokens: TokenSource;

  constructor(endpoint: string, tokens: TokenSource) {
    this.#endpoint = endpoint;
    this.#tokens = tokens;
  }

  /** Under the key's primary version. */
  async encrypt(
    keyId: string,
    plaintext: Uint8Array,
    authenticated: Uint8Array,
    signal: AbortSignal,
  ): Promise<Wrapped> {
    const answer = await this.#call("Encrypt", keyId, signal, {
      plaintext: encodeMessage(plaintext),
      plaintextCrc32c: String(crc32c(plaintext)),
      ...authenticatedData(authenticated),
    });
    if (
      member(answer, "verifiedPlaintextCrc32c") !== true ||
      member(answer, "verifiedAdditionalAuthenticatedDataCrc32c") !== true
    ) {
      throw unavailable("checksums were not verified");
    }
    const name = textMember(answer, "name");
    const version = /^\/cryptoKeyVersions\/([1-9]\d{0,9})$/.exec(name.slice(keyId.length))?.[1];
    if (!name.startsWith(keyId) || version === undefined) throw unavailable("another key answered");
    return { ciphertext: checkedBytes(answer, "ciphertext"), version };
  }

  /** 32 bytes. */
  async decrypt(
    keyId: string,
    ciphertext: Uint8Array,
    authenticated: Uint8Array,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const answer = await this.#call("Decrypt", keyId, signal, {
      ciphertext: encodeMessage(ciphertext),
      ciphertextCrc32c: String(crc32c(ciphertext)),
      ...authenticatedData(authenticated),
    });
    return requireKey(checkedBytes(answer, "plaintext"));
  }

  async get(keyId: string, signal: AbortSignal): Promise<CryptoKeyMetadata> {
    const answer = await this.#call("GetCryptoKey", keyId, signal);
    if (textMember(answer, "name") !== keyId) throw unavailable("another key answered");
    const primary = member(answer, "primary");
    // A symmetric key without a primary version can decrypt, and nothing else.
    if (primary === undefined) return { state: "NO_PRIMARY_VERSION", version: undefined };
    const version = /\/cryptoKeyVersions\/([1-9]\d{0,9})$/.exec(textMember(primary, "name"))?.[1];
    return { state: textMember(primary, "state"), version };
  }

  async #call(
    operation: "Encrypt" | "Decrypt" | "GetCryptoKey",
    keyId: string,
    signal: AbortSignal,
    body?: Readonly<Record<string, string>>,
  ): Promise<unknown> {
    const token = await this.#tokens.get();
    const verb = operation === "GetCryptoKey" ? "" : `:${operation.toLowerCase()}`;
    const answer = await callJson(`${this.#endpoint}/v1/${keyId}${verb}`, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        authorization: `Bearer ${token.value}`,
        ...body === undefined ? {} : { "content-type": "application/json" },
      },
      ...body === undefined ? {} : { body: JSON.stringify(body) },
      signal,
    });
    if (answer.status === 200) return answer.body;
    if (answer.status === 401) this.#tokens.invalidate(token);
    throw gcpFailure(operation, keyId, answer);
  }
}

function authenticatedData(authenticated: Uint8Array): Record<string, string> {
  return {
    additionalAuthenticatedData: encodeMessage(authenticated),
    additionalAuthenticatedDataCrc32c: String(crc32c(authenticated)),
  };
}

/** Bytes of the answer that are what their checksum says. @throws {ServiceFailure} transient */
function checkedBytes(answer: unknown, name: "ciphertext" | "plaintext"): Uint8Array {
  const text = textMember(answer, name);
  let bytes: Uint8Array;
  try {
    bytes = decodeMessage(text);
  } catch {
    throw unavailable(`the answer's ${name} is not base64`);
  }
  // int64 is text in JSON (ProtoJSON); parsers between may have made it a number.
  if (String(member(answer, `${name}Crc32c`)) === String(crc32c(bytes))) return bytes;
  bytes.fill(0);
  throw unavailable(`the answer's ${name} does not match its checksum`);
}
