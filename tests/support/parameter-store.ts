import { assertEquals } from "@std/assert";
import { AwsClient } from "aws4fetch";
import type { LocalAws } from "../../local/aws/mod.ts";

/** As the key management guide's `aws ssm put-parameter` does it. */
export async function putParameter(
  aws: LocalAws,
  name: string,
  value: string,
  overwrite = false,
): Promise<void> {
  const client = new AwsClient({ ...aws.identities.operator, service: "ssm", region: "us-east-1" });
  const response = await client.fetch(`${aws.endpoint}/`, {
    method: "POST",
    headers: {
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": "AmazonSSM.PutParameter",
    },
    body: JSON.stringify({
      Name: name,
      Value: value,
      Type: "SecureString",
      KeyId: "alias/parker-flight-payment-development",
      Overwrite: overwrite,
    }),
  });
  assertEquals(response.status, 200, await response.text());
}
