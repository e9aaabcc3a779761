/** Key policies: the default one, and the checks that AWS makes before it takes a new one. */

import { AwsError } from "../errors.ts";
import { parsePolicy, type PolicyDocument, PolicySyntaxError } from "../iam/policy.ts";
import { couldPutPolicy } from "./access.ts";
import type { KeyFamily, KmsKey } from "./model.ts";
import type { KmsCall } from "./operation.ts";

/** Gives the account, and so its IAM policies, control of the key. */
export function defaultKeyPolicy(accountId: string): string {
  return JSON.stringify(
    {
      Version: "2012-10-17",
      Id: "key-default-1",
      Statement: [{
        Sid: "Enable IAM User Permissions",
        Effect: "Allow",
        Principal: { AWS: `arn:aws:iam::${accountId}:root` },
        Action: "kms:*",
        Resource: "*",
      }],
    },
    null,
    2,
  );
}

const MAX_POLICY_BYTES = 32_768;

/** Throws MalformedPolicyDocumentException or LimitExceededException. */
export function checkKeyPolicy(
  call: KmsCall,
  subject: { readonly key: KmsKey; readonly family: KeyFamily },
  arn: string,
  text: string,
  bypassLockoutCheck: boolean,
): void {
  const malformed = (message: string) => new AwsError("MalformedPolicyDocumentException", message);
  if (new TextEncoder().encode(text).length > MAX_POLICY_BYTES) {
    throw new AwsError("LimitExceededException", "The key policy exceeds 32768 bytes.");
  }
  let policy: PolicyDocument;
  try {
    policy = parsePolicy(text, "key");
  } catch (error) {
    if (error instanceof PolicySyntaxError) throw malformed(error.message);
    throw error;
  }
  for (const statement of policy.statements) {
    for (const name of [...statement.principals ?? [], ...statement.notPrincipals ?? []]) {
      if (!call.identities.isPrincipal(name)) {
        throw malformed("Policy contains a statement with one or more invalid principals.");
      }
    }
  }
  if (!bypassLockoutCheck && !couldPutPolicy(call, subject, arn, policy)) {
    throw malformed(
      "The new key policy will not allow you to update the key policy in the future.",
    );
  }
}
