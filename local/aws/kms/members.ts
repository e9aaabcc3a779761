/** Input members that several operations share, with the limits of AWS's service model. */

import { blob, integer, list, map, required, string, structure } from "../shapes.ts";

export const keyId = string({ min: 1, max: 2048 });
export const aliasName = string({ min: 1, max: 256, pattern: "[a-zA-Z0-9:/_-]+" });
export const description = string({ min: 0, max: 8192 });
export const policyDocument = string({
  min: 1,
  max: 131_072,
  pattern: "[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+",
});
export const policyName = string({ min: 1, max: 128, pattern: "[\\w]+" });
export const tags = list(structure({
  TagKey: required(string({ min: 1, max: 128 })),
  TagValue: required(string({ min: 0, max: 256 })),
}));
export const tagKeys = list(string({ min: 1, max: 128 }));
export const encryptionContext = map();
export const grantTokens = list(string({ min: 1, max: 8192 }), { min: 0, max: 10 });
export const limit = integer({ min: 1, max: 1000 });
export const marker = string({ min: 1, max: 1024, pattern: "[\\u0020-\\u00FF]*" });
export const ciphertextBlob = blob({ min: 1, max: 6144 });
/** Nitro enclaves: known to the model so that it can be refused by name. */
export const recipient = structure({
  KeyEncryptionAlgorithm: string(),
  AttestationDocument: blob({ min: 1, max: 262_144 }),
});
