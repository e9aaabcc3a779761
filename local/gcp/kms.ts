/**
 * Cloud KMS over REST v1: encrypt, decrypt, get and new versions of the keys of one ring.
 * Source: cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.
 */
import { crc32c } from "../../functions-shared/keys/providers/gcp/crc32c.ts";
import { base64Text, type RestReply, type RestRequest } from "../rest/server.ts";
import { GcpError, NO_SUCH_PAGE, requireScope } from "./errors.ts";
import type { CryptoKeyRecord } from "./keys.ts";
import { checkedField, readMessage } from "./messages.ts";
import { KMS_SCOPE, PLATFORM_SCOPE } from "./tokens.ts";
import type { Permission } from "./types.ts";

const TARGET =
  /^\/v1\/(projects\/[^/:]+\/locations\/[^/:]+\/keyRings\/[^/:]+\/cryptoKeys\/[^/:]+)(:encrypt|:decrypt|:updatePrimaryVersion|\/cryptoKeyVersions)?$/;

const OPERATIONS = {
  ":encrypt": "Encrypt",
  ":decrypt": "Decrypt",
  ":updatePrimaryVersion": "UpdateCryptoKeyPrimaryVersion",
  "/cryptoKeyVersions": "CreateCryptoKeyVersion",
  "": "GetCryptoKey",
} as const;

type Operation = typeof OPERATIONS[keyof typeof OPERATIONS];

export interface KmsCall {
  readonly operation: Operation;
  readonly key: string;
}

/** What a request asks for; undefined when Cloud KMS has no such method. */
export function parseCall({ method, path }: RestRequest): KmsCall | undefined {
  const [, key = "", verb = ""] = TARGET.exec(path) ?? [];
  if (key === "" || method !== (verb === "" ? "GET" : "POST")) return undefined;
  return { key, operation: OPERATIONS[verb as keyof typeof OPERATIONS] };
}

const PERMISSIONS: Readonly<Record<Operation, Permission>> = {
  Encrypt: "cloudkms.cryptoKeyVersions.useToEncrypt",
  Decrypt: "cloudkms.cryptoKeyVersions.useToDecrypt",
  GetCryptoKey: "cloudkms.cryptoKeys.get",
  CreateCryptoKeyVersion: "cloudkms.cryptoKeyVersions.create",
  UpdateCryptoKeyPrimaryVersion: "cloudkms.cryptoKeys.update",
};

export interface KmsState {
  /** `projects/.../keyRings/NAME/cryptoKeys/`. */
  readonly ring: string;
  readonly keys: ReadonlyMap<string, CryptoKeyRecord>;
  readonly permissions: ReadonlySet<Permission>;
  /** Of the caller's token; undefined without one. */
  readonly scopes: readonly string[] | undefined;
  readonly now: () => number;
}

export function answerKms(request: RestRequest, state: KmsState): RestReply {
  const call = parseCall(request);
  if (call === undefined) return NO_SUCH_PAGE;
  try {
    return { status: 200, body: perform(call, request, state) };
  } catch (error) {
    if (error instanceof GcpError) return error.reply;
    throw error;
  }
}

function perform(
  { operation, key: name }: KmsCall,
  request: RestRequest,
  state: KmsState,
): Record<string, unknown> {
  requireScope(state.scopes, [KMS_SCOPE, PLATFORM_SCOPE]);
  const permission = PERMISSIONS[operation];
  if (!state.permissions.has(permission) || !name.startsWith(state.ring)) {
    throw new GcpError(
      "PERMISSION_DENIED",
      `Permission '${permission}' denied on resource '${name}' (or it may not exist).`,
    );
  }
  const key = state.keys.get(name);
  if (key === undefined) throw new GcpError("NOT_FOUND", `CryptoKey ${name} not found.`);
  if (operation === "GetCryptoKey") return key.resource();
  if (operation === "CreateCryptoKeyVersion") {
    readMessage(request.body, {});
    return key.versionResource(key.addVersion(state.now()));
  }
  if (key.purpose !== "ENCRYPT_DECRYPT") {
    throw new GcpError("FAILED_PRECONDITION", `${name} has purpose ${key.purpose}.`);
  }
  switch (operation) {
    case "Encrypt":
      return encrypt(key, request.body);
    case "Decrypt":
      return decrypt(key, request.body);
    default:
      return updatePrimaryVersion(key, request.body);
  }
}

function updatePrimaryVersion(key: CryptoKeyRecord, body: string): Record<string, unknown> {
  const { cryptoKeyVersionId: id } = readMessage(body, { cryptoKeyVersionId: "string" });
  if (typeof id !== "string" || !/^[1-9]\d{0,9}$/.test(id)) {
    throw new GcpError("INVALID_ARGUMENT", "crypto_key_version_id is required.");
  }
  if (Number(id) > key.count) {
    throw new GcpError(
      "NOT_FOUND",
      `CryptoKeyVersion ${key.name}/cryptoKeyVersions/${id} not found.`,
    );
  }
  requireEnabled(key, key.version(Number(id)));
  key.setPrimary(Number(id));
  return key.resource();
}

function encrypt(key: CryptoKeyRecord, body: string): Record<string, unknown> {
  const message = readMessage(body, {
    plaintext: "bytes",
    additionalAuthenticatedData: "bytes",
    plaintextCrc32c: "int64",
    additionalAuthenticatedDataCrc32c: "int64",
  });
  const plaintext = checkedField(message, "plaintext");
  const authenticated = checkedField(message, "additionalAuthenticatedData");
  const name = requireEnabled(key, key.primary);
  const ciphertext = key.encrypt(plaintext.bytes, authenticated.bytes);
  return {
    name,
    ciphertext: base64Text(ciphertext),
    ciphertextCrc32c: String(crc32c(ciphertext)),
    ...plaintext.verified ? { verifiedPlaintextCrc32c: true } : {},
    ...authenticated.verified ? { verifiedAdditionalAuthenticatedDataCrc32c: true } : {},
    protectionLevel: "SOFTWARE",
  };
}

function decrypt(key: CryptoKeyRecord, body: string): Record<string, unknown> {
  const message = readMessage(body, {
    ciphertext: "bytes",
    additionalAuthenticatedData: "bytes",
    ciphertextCrc32c: "int64",
    additionalAuthenticatedDataCrc32c: "int64",
  });
  const ciphertext = checkedField(message, "ciphertext").bytes;
  const authenticated = checkedField(message, "additionalAuthenticatedData").bytes;
  const version = key.versionOf(ciphertext);
  if (version === null) {
    throw new GcpError(
      "INVALID_ARGUMENT",
      "Decryption failed: verify that 'name' refers to the correct CryptoKey.",
    );
  }
  requireEnabled(key, version);
  const plaintext = key.decrypt(version, ciphertext, authenticated);
  if (plaintext === null) {
    throw new GcpError("INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.");
  }
  return {
    plaintext: base64Text(plaintext),
    plaintextCrc32c: String(crc32c(plaintext)),
    ...version === key.primary ? { usedPrimary: true } : {},
    protectionLevel: "SOFTWARE",
  };
}

/** Answers the version's name. */
function requireEnabled(key: CryptoKeyRecord, version: CryptoKeyRecord["primary"]): string {
  const name = key.versionName(version);
  if (version.state === "ENABLED") return name;
  throw new GcpError(
    "FAILED_PRECONDITION",
    `${name} is not enabled, current state is: ${version.state}.`,
  );
}
