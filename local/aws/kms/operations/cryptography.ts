/** Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom. */

import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { AwsError } from "../../errors.ts";
import { keyArn } from "../../regions.ts";
import { blob, boolean, integer, list, oneOf, required, string, structure } from "../../shapes.ts";
import { requireIdentityAllows, requireKeyAccess } from "../access.ts";
import { type EncryptionContext, openBlob, parseBlob, sealBlob } from "../ciphertext.ts";
import { type ResolvedKey, resolveKey } from "../key-ids.ts";
import { requireEnabled } from "../key-state.ts";
import * as members from "../members.ts";
import type { BackingKey } from "../model.ts";
import { type KmsCall, type KmsOperation, operation } from "../operation.ts";

const algorithm = oneOf([
  "SYMMETRIC_DEFAULT",
  "RSAES_OAEP_SHA_1",
  "RSAES_OAEP_SHA_256",
  "SM2PKE",
]);
const dryRunModifiers = list(oneOf(["IGNORE_CIPHERTEXT"]));
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

function requireSymmetric(name: string | undefined): void {
  if (name !== undefined && name !== "SYMMETRIC_DEFAULT") {
    throw new AwsError(
      "InvalidKeyUsageException",
      `Algorithm ${name} is incompatible with key spec SYMMETRIC_DEFAULT.`,
    );
  }
}

function refuseUnsupported(input: { readonly Recipient?: unknown }): void {
  if (input.Recipient !== undefined) {
    throw new AwsError(
      "UnsupportedOperationException",
      "Recipient (Nitro enclaves) is not supported by the local AWS.",
    );
  }
}

/** DryRun asks for every check and no result. */
function endDryRun(input: { readonly DryRun?: boolean }): void {
  if (input.DryRun === true) {
    throw new AwsError(
      "DryRunOperationException",
      "The request would have succeeded, but the DryRun option is set.",
    );
  }
}

function currentMaterial(call: KmsCall, { key }: ResolvedKey): BackingKey {
  const material = call.store.family(key.keyId).backingKeys.at(-1);
  if (material === undefined) throw new Error(`key ${key.keyId} has no material`);
  return material;
}

const encrypt: KmsOperation = operation(
  structure({
    KeyId: required(members.keyId),
    Plaintext: required(blob({ min: 1, max: 4096 })),
    EncryptionContext: members.encryptionContext,
    GrantTokens: members.grantTokens,
    EncryptionAlgorithm: algorithm,
    DryRun: boolean(),
  }),
  (input, call) => {
    const resolved = resolveKey(call, input.KeyId);
    const encryptionContext = input.EncryptionContext ?? {};
    requireKeyAccess(call, resolved, { encryptionContext });
    requireEnabled(resolved);
    requireSymmetric(input.EncryptionAlgorithm);
    endDryRun(input);
    const { key, arn } = resolved;
    const material = currentMaterial(call, resolved);
    return {
      CiphertextBlob: base64(sealBlob(input.Plaintext, key.keyId, material, encryptionContext)),
      KeyId: arn,
      EncryptionAlgorithm: "SYMMETRIC_DEFAULT",
    };
  },
);

interface Opened {
  readonly plaintext: Uint8Array;
  readonly source: ResolvedKey;
  readonly material: BackingKey;
}

/** The source's half of Decrypt and ReEncrypt. `action` is what the caller must be allowed. */
function open(call: KmsCall, input: {
  readonly ciphertext: Uint8Array | undefined;
  readonly keyId: string | undefined;
  readonly context: EncryptionContext;
  readonly action: string;
}): Opened {
  if (input.ciphertext === undefined) {
    throw new AwsError(
      "ValidationException",
      "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: " +
        "Member must not be null",
    );
  }
  const details = { action: input.action, encryptionContext: input.context };
  const named = input.keyId === undefined ? null : resolveKey(call, input.keyId);
  if (named !== null) {
    requireKeyAccess(call, named, details);
    requireEnabled(named);
  }
  const blob = parseBlob(input.ciphertext);
  if (blob === null) throw new AwsError("InvalidCiphertextException");
  if (named !== null && named.key.keyId !== blob.keyId) {
    throw new AwsError(
      "IncorrectKeyException",
      "The key ID in the request does not identify a CMK that can perform this operation.",
    );
  }
  const source = named ?? keyOfCiphertext(call, blob.keyId);
  if (named === null) {
    requireKeyAccess(call, source, details);
    requireEnabled(source);
  }
  const material = call.store.family(source.key.keyId).backingKeys
    .find((candidate) => candidate.id === blob.backingKeyId);
  const plaintext = material === undefined ? null : openBlob(blob, material, input.context);
  if (material === undefined || plaintext === null) {
    throw new AwsError("InvalidCiphertextException");
  }
  return { plaintext, source, material };
}

/** The key that the ciphertext names, in this region. */
function keyOfCiphertext(call: KmsCall, keyId: string): ResolvedKey {
  const key = call.store.key(call.region, keyId);
  if (key === undefined) {
    throw new AwsError(
      "AccessDeniedException",
      "The ciphertext refers to a customer master key that does not exist, does not exist in this " +
        "region, or you are not allowed to access.",
    );
  }
  return { key, arn: keyArn(call.region, call.identities.accountId, keyId), requestAlias: null };
}

const decrypt: KmsOperation = operation(
  structure({
    CiphertextBlob: members.ciphertextBlob,
    EncryptionContext: members.encryptionContext,
    GrantTokens: members.grantTokens,
    KeyId: members.keyId,
    EncryptionAlgorithm: algorithm,
    Recipient: members.recipient,
    DryRun: boolean(),
    DryRunModifiers: dryRunModifiers,
  }),
  (input, call) => {
    refuseUnsupported(input);
    requireSymmetric(input.EncryptionAlgorithm);
    const opened = open(call, {
      ciphertext: input.CiphertextBlob,
      keyId: input.KeyId,
      context: input.EncryptionContext ?? {},
      action: "Decrypt",
    });
    endDryRun(input);
    return {
      KeyId: opened.source.arn,
      Plaintext: base64(opened.plaintext),
      EncryptionAlgorithm: "SYMMETRIC_DEFAULT",
      KeyMaterialId: opened.material.id,
    };
  },
);

const reEncrypt: KmsOperation = operation(
  structure({
    CiphertextBlob: members.ciphertextBlob,
    SourceEncryptionContext: members.encryptionContext,
    SourceKeyId: members.keyId,
    DestinationKeyId: required(members.keyId),
    DestinationEncryptionContext: members.encryptionContext,
    SourceEncryptionAlgorithm: algorithm,
    DestinationEncryptionAlgorithm: algorithm,
    GrantTokens: members.grantTokens,
    DryRun: boolean(),
    DryRunModifiers: dryRunModifiers,
  }),
  (input, call) => {
    requireSymmetric(input.SourceEncryptionAlgorithm);
    requireSymmetric(input.DestinationEncryptionAlgorithm);
    const opened = open(call, {
      ciphertext: input.CiphertextBlob,
      keyId: input.SourceKeyId,
      context: input.SourceEncryptionContext ?? {},
      action: "ReEncryptFrom",
    });
    const destination = resolveKey(call, input.DestinationKeyId);
    const encryptionContext = input.DestinationEncryptionContext ?? {};
    requireKeyAccess(call, destination, { action: "ReEncryptTo", encryptionContext });
    requireEnabled(destination);
    endDryRun(input);
    const material = currentMaterial(call, destination);
    const blob = sealBlob(opened.plaintext, destination.key.keyId, material, encryptionContext);
    return {
      CiphertextBlob: base64(blob),
      SourceKeyId: opened.source.arn,
      KeyId: destination.arn,
      SourceEncryptionAlgorithm: "SYMMETRIC_DEFAULT",
      DestinationEncryptionAlgorithm: "SYMMETRIC_DEFAULT",
      SourceKeyMaterialId: opened.material.id,
      DestinationKeyMaterialId: material.id,
    };
  },
);

const dataKeyMembers = {
  KeyId: required(members.keyId),
  EncryptionContext: members.encryptionContext,
  NumberOfBytes: integer({ min: 1, max: 1024 }),
  KeySpec: oneOf(["AES_256", "AES_128"]),
  GrantTokens: members.grantTokens,
  DryRun: boolean(),
};
const dataKeyInput = structure({ ...dataKeyMembers, Recipient: members.recipient });

function dataKey(withPlaintext: boolean): KmsOperation {
  return operation(withPlaintext ? dataKeyInput : structure(dataKeyMembers), (input, call) => {
    refuseUnsupported("Recipient" in input ? input : {});
    if ((input.KeySpec === undefined) === (input.NumberOfBytes === undefined)) {
      throw new AwsError(
        "ValidationException",
        "Please specify either number of bytes or key spec.",
      );
    }
    const resolved = resolveKey(call, input.KeyId);
    const encryptionContext = input.EncryptionContext ?? {};
    requireKeyAccess(call, resolved, { encryptionContext });
    requireEnabled(resolved);
    endDryRun(input);
    const bytes = input.NumberOfBytes ?? (input.KeySpec === "AES_128" ? 16 : 32);
    const plaintext = new Uint8Array(randomBytes(bytes));
    const material = currentMaterial(call, resolved);
    const sealed = sealBlob(plaintext, resolved.key.keyId, material, encryptionContext);
    return {
      CiphertextBlob: base64(sealed),
      Plaintext: withPlaintext ? base64(plaintext) : undefined,
      KeyId: resolved.arn,
      KeyMaterialId: material.id,
    };
  });
}

const generateRandom: KmsOperation = operation(
  structure({
    NumberOfBytes: integer({ min: 1, max: 1024 }),
    CustomKeyStoreId: string({ min: 1, max: 64 }),
    Recipient: members.recipient,
  }),
  (input, call) => {
    refuseUnsupported(input);
    requireIdentityAllows(call);
    if (input.NumberOfBytes === undefined) {
      throw new AwsError("ValidationException", "NumberOfBytes is required.");
    }
    if (input.CustomKeyStoreId !== undefined) {
      throw new AwsError("CustomKeyStoreNotFoundException");
    }
    return { Plaintext: base64(randomBytes(input.NumberOfBytes)) };
  },
);

export const cryptography: Readonly<Record<string, KmsOperation>> = {
  Encrypt: encrypt,
  Decrypt: decrypt,
  ReEncrypt: reEncrypt,
  GenerateDataKey: dataKey(true),
  GenerateDataKeyWithoutPlaintext: dataKey(false),
  GenerateRandom: generateRandom,
};
