/**
 * The operations of Cloud KMS that the suite uses, over REST v1. What is encrypted or decrypted carries
 * CRC32C checksums, and an answer counts only when the service verified them and its own are right.
 * Source: cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys,
 * cloud.google.com/kms/docs/data-integrity-guidelines.
 */
import { decodeMessage, encodeMessage } from "../../../message/mod.ts";
import { unavailable } from "../rest/failure.ts";
import { callJson, member, textMember, timeMember } from "../rest/json-call.ts";
import type { TokenSource } from "../rest/token-source.ts";
import { requireKey, type Wrapped } from "../rest/wrapping-provider.ts";
import { crc32c } from "./crc32c.ts";
import { gcpFailure, type GcpOperation } from "./errors.ts";

export interface CryptoKeyMetadata {
  /** Of the primary version, such as ENABLED. */
  readonly state: string;
  /** Number of the primary version; undefined when there is none. */
  readonly version: string | undefined;
  /** Times are ISO 8601, and null when the service does not say. */
  readonly versionCreatedAt: string | null;
  readonly createdAt: string | null;
  /** Whether versions are made by themselves, and when the next one is. */
  readonly rotates: boolean;
  readonly nextRotation: string | null;
  /** As the service names it, such as GOOGLE_SYMMETRIC_ENCRYPTION. */
  readonly algorithm: string;
}

/** What follows a key's name for each operation. */
const PATHS: Readonly<Record<GcpOperation, string>> = {
  Encrypt: ":encrypt",
  Decrypt: ":decrypt",
  GetCryptoKey: "",
  CreateCryptoKeyVersion: "/cryptoKeyVersions",
  UpdateCryptoKeyPrimaryVersion: ":updatePrimaryVersion",
};

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
    return { ciphertext: checkedBytes(answer, "ciphertext"), version: versionOf(keyId, name) };
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
    const algorithm = member(member(answer, "versionTemplate"), "algorithm");
    return {
      // A symmetric key without a primary version can decrypt, and nothing else.
      ...primary === undefined ? { state: "NO_PRIMARY_VERSION", version: undefined } : {
        state: textMember(primary, "state"),
        version: versionOf(keyId, textMember(primary, "name")),
      },
      versionCreatedAt: timeMember(primary, "createTime"),
      createdAt: timeMember(answer, "createTime"),
      rotates: member(answer, "rotationPeriod") !== undefined,
      nextRotation: timeMember(answer, "nextRotationTime"),
      algorithm: typeof algorithm === "string" ? algorithm : "unknown",
    };
  }

  /** Answers the number of a new version, which encrypts nothing yet. */
  async createVersion(keyId: string, signal: AbortSignal): Promise<string> {
    const answer = await this.#call("CreateCryptoKeyVersion", keyId, signal, {});
    return versionOf(keyId, textMember(answer, "name"));
  }

  /** Encrypt uses this version from now on. */
  async setPrimary(keyId: string, version: string, signal: AbortSignal): Promise<void> {
    const answer = await this.#call("UpdateCryptoKeyPrimaryVersion", keyId, signal, {
      cryptoKeyVersionId: version,
    });
    const primary = textMember(member(answer, "primary"), "name");
    if (versionOf(keyId, primary) !== version) throw unavailable("another version is the primary");
  }

  async #call(
    operation: GcpOperation,
    keyId: string,
    signal: AbortSignal,
    body?: Readonly<Record<string, string>>,
  ): Promise<unknown> {
    const token = await this.#tokens.get();
    const answer = await callJson(`${this.#endpoint}/v1/${keyId}${PATHS[operation]}`, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        authorization: `Bearer ${token.value}`,
        ...body === undefined ? {} : { "content-type": "application/json" },
      },
      ...body === undefined ? {} : { body: JSON.stringify(body) },
      onceOnly: operation === "CreateCryptoKeyVersion",
      signal,
    });
    if (answer.status === 200) return answer.body;
    if (answer.status === 401) this.#tokens.invalidate(token);
    throw gcpFailure(operation, keyId, answer);
  }
}

/** Number of one of this key's versions, by its name. @throws {ServiceFailure} transient */
function versionOf(keyId: string, name: string): string {
  const version = /^\/cryptoKeyVersions\/([1-9]\d{0,9})$/.exec(name.slice(keyId.length))?.[1];
  if (!name.startsWith(keyId) || version === undefined) throw unavailable("another key answered");
  return version;
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
