/** The suite's role, assumed as the suite does it. */

import { AssumeRoleCommand, type AssumeRoleCommandInput } from "@aws-sdk/client-sts";
import type { Credentials, Setting } from "./support.ts";

export type TemporaryCredentials = Credentials & { readonly sessionToken: string };

export async function assumeRole(
  setting: Setting,
  input: Partial<AssumeRoleCommandInput> = {},
): Promise<TemporaryCredentials> {
  const { role } = setting.aws.identities;
  const { Credentials } = await setting.sts().send(
    new AssumeRoleCommand({
      RoleArn: role.arn,
      ExternalId: role.externalId,
      RoleSessionName: "contract",
      ...input,
    }),
  );
  return {
    accessKeyId: Credentials?.AccessKeyId ?? "",
    secretAccessKey: Credentials?.SecretAccessKey ?? "",
    sessionToken: Credentials?.SessionToken ?? "",
  };
}
