/**
 * One parameter of Systems Manager's Parameter Store, decrypted: for the import of a key that an older setup
 * keeps there. A single call of the JSON protocol, signed by a small library: it does not pay for an SDK.
 * Source: docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html.
 */
import type { AwsConfig } from "../../../config.ts";
import { Attempts, type AttemptsOptions } from "../rest/attempts.ts";
import {
  accessDenied,
  keyNotFound,
  keyUnusable,
  type ServiceFailure,
  unavailable,
} from "../rest/failure.ts";
import { type JsonAnswer, member, readJsonAnswer, textMember } from "../rest/json-call.ts";
import type { AwsCredentials } from "./credentials.ts";
import { fromAwsError } from "./errors.ts";

export interface Parameter {
  /** What the key is called in errors. */
  readonly keyId: string;
  /** The parameter's name or path. */
  readonly name: string;
  readonly version?: number | undefined;
}

/** Reads in the configured region, with the same role as KMS: it needs `ssm:GetParameter`. */
export function parameterStore(
  config: Pick<AwsConfig, "endpoint" | "region">,
  credentials: () => Promise<AwsCredentials>,
  options: AttemptsOptions,
): (parameter: Parameter, signal?: AbortSignal) => Promise<string> {
  const { region } = config;
  const url = `${config.endpoint ?? `https://ssm.${region}.amazonaws.com`}/`;
  const attempts = new Attempts(options);
  return ({ keyId, name, version }, signal) =>
    attempts.call({
      operation: "GetParameter",
      signal,
      prepare: credentials,
      attempt: async (limit) => {
        const { AwsClient } = await import("aws4fetch");
        const { accessKeyId, secretAccessKey, sessionToken } = await credentials();
        const client = new AwsClient({
          accessKeyId,
          secretAccessKey,
          ...sessionToken === undefined ? {} : { sessionToken },
          service: "ssm",
          region,
          retries: 0,
        });
        const answer = await readJsonAnswer(
          await client.fetch(url, {
            method: "POST",
            headers: {
              "content-type": "application/x-amz-json-1.1",
              "x-amz-target": "AmazonSSM.GetParameter",
            },
            body: JSON.stringify({
              Name: version === undefined ? name : `${name}:${version}`,
              WithDecryption: true,
            }),
            redirect: "manual",
            signal: limit,
          }),
        );
        if (answer.status !== 200) throw failureOf(keyId, answer);
        return textMember(member(answer.body, "Parameter"), "Value");
      },
    });
}

function failureOf(keyId: string, { status, body }: JsonAnswer): ServiceFailure {
  const type = member(body, "__type");
  const name = typeof type === "string" ? type.slice(type.lastIndexOf("#") + 1) : "";
  switch (name) {
    case "ParameterNotFound":
    case "ParameterVersionNotFound":
    case "ValidationException":
      return keyNotFound(keyId);
    // The KMS key of the parameter is disabled, or on its way out.
    case "InvalidKeyId":
      return keyUnusable(keyId);
  }
  const error = Object.assign(new Error(), { name });
  return fromAwsError(error).code === "kms_access_denied"
    ? accessDenied()
    : unavailable(`status ${status}`);
}
