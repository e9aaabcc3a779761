/** The policies with which users and the suite's role are made. */

import type { GivenRole } from "./role.ts";

export const ADMINISTRATOR = {
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }],
};

export function callerPolicy(roleArn: string) {
  return {
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Action: "sts:AssumeRole", Resource: roleArn }],
  };
}

export function suiteRole(accountId: string, callerArn: string, externalId: string): GivenRole {
  return {
    trustPolicy: trustPolicy(callerArn, externalId),
    policies: { KmsAccess: rolePolicy(accountId) },
    maxSessionDurationSeconds: 3600,
  };
}

/** Names the exact principal and asks for the external id, as the deployment guide does. */
function trustPolicy(callerArn: string, externalId: string) {
  return {
    Version: "2012-10-17",
    Statement: [{
      Effect: "Allow",
      Principal: { AWS: callerArn },
      Action: "sts:AssumeRole",
      Condition: { StringEquals: { "sts:ExternalId": externalId } },
    }],
  };
}

/** What the functions need and no more; an alias ARN as resource would grant nothing. */
function rolePolicy(accountId: string) {
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Action: [
          "kms:GenerateDataKey*",
          "kms:Decrypt",
          "kms:Encrypt",
          "kms:ReEncrypt*",
          "kms:DescribeKey",
          "kms:GetKeyRotationStatus",
          "kms:ListKeyRotations",
          "kms:RotateKeyOnDemand",
        ],
        Resource: `arn:aws:kms:*:${accountId}:key/*`,
      },
      { Effect: "Allow", Action: "kms:ListAliases", Resource: "*" },
      { Effect: "Allow", Action: "cloudwatch:PutMetricData", Resource: "*" },
      // For the import of an older setup's key, and only while it lasts.
      {
        Effect: "Allow",
        Action: "ssm:GetParameter",
        Resource: `arn:aws:ssm:*:${accountId}:parameter/boosterbeacon/encryption-keys/*`,
      },
    ],
  };
}
