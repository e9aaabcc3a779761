/**
 * AWS Encryption SDK messages, version 2, suite 0x0478: write, read, compare. Pure: no network,
 * clock, environment or package. Any AWS Encryption SDK reads what this writes.
 * Source: repository awslabs/aws-encryption-sdk-specification.
 */
export { decodeMessage, encodeMessage } from "./base64.ts";
export { decryptMessage, type ParsedMessage, parseMessage } from "./decrypt.ts";
export { encryptMessage, type EncryptMessageInput } from "./encrypt.ts";
export {
  type EncryptionContext,
  RESERVED_KEY_PREFIX,
  sameContext,
  serializeEncryptionContext,
} from "./encryption-context.ts";
export { MessageError, type MessageErrorCode } from "./errors.ts";
export type { EncryptedDataKey, MessageHeader } from "./header.ts";
export {
  BRANCH_KEY_BYTES,
  type BranchKeyMaterial,
  type BranchKeyReference,
  HIERARCHY_PROVIDER_ID,
  referencedBranchKey,
  unwrapDataKeyHierarchical,
  wrapDataKeyHierarchical,
} from "./hierarchical.ts";
export { DEFAULT_LIMITS, FRAME_LENGTH, type ParseLimits } from "./limits.ts";
export { type RawAesWrappingKey, unwrapDataKeyRawAes, wrapDataKeyRawAes } from "./raw-aes.ts";
export { DATA_KEY_BYTES } from "./suite.ts";
