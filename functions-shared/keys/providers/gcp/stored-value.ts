/**
 * One secret of Google Secret Manager: for the import of a key that an older setup keeps there.
 * Source: cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access,
 * cloud.google.com/secret-manager/docs/data-integrity.
 */
import type { GcpConfig } from "../../../config-gcp.ts";
import { decodeMessage } from "../../../message/mod.ts";
import { Attempts, type AttemptsOptions } from "../rest/attempts.ts";
import { keyNotFound, unavailable } from "../rest/failure.ts";
import { callJson, member, textMember } from "../rest/json-call.ts";
import { crc32c } from "./crc32c.ts";
import { gcpFailure } from "./errors.ts";
import { gcpTokens, SCOPES } from "./tokens.ts";

const SECRET_NAME = /^[a-zA-Z0-9_-]{1,255}$/;

export interface Secret {
  /** What the key is called in errors. */
  readonly keyId: string;
  /** The secret's name in the configured project. */
  readonly name: string;
  readonly version?: number | undefined;
}

/** The account needs roles/secretmanager.secretAccessor on the secret. */
export function secretManager(
  config: Pick<GcpConfig, "project" | "secretManagerEndpoint" | "credentials">,
  options: AttemptsOptions,
): (secret: Secret, signal?: AbortSignal) => Promise<string> {
  const attempts = new Attempts(options);
  const tokens = gcpTokens(config.credentials, attempts, options.now ?? Date.now, SCOPES.secrets);
  const secrets = `${config.secretManagerEndpoint}/v1/projects/${config.project}/secrets`;
  return ({ keyId, name, version }, signal) =>
    attempts.call({
      operation: "AccessSecretVersion",
      signal,
      prepare: () => tokens.get(),
      attempt: async (limit) => {
        if (!SECRET_NAME.test(name)) throw keyNotFound(keyId);
        const token = await tokens.get();
        const answer = await callJson(`${secrets}/${name}/versions/${version ?? "latest"}:access`, {
          method: "GET",
          headers: { authorization: `Bearer ${token.value}` },
          signal: limit,
        });
        if (answer.status === 200) return checkedText(member(answer.body, "payload"));
        if (answer.status === 401) tokens.invalidate(token);
        throw gcpFailure("GetCryptoKey", keyId, answer);
      },
    });
}

/** @throws {ServiceFailure} transient */
function checkedText(payload: unknown): string {
  const data = textMember(payload, "data");
  let bytes: Uint8Array;
  try {
    bytes = decodeMessage(data);
  } catch {
    throw unavailable("the answer's data is not base64");
  }
  try {
    if (String(member(payload, "dataCrc32c")) !== String(crc32c(bytes))) {
      throw unavailable("the answer's data does not match its checksum");
    }
    return new TextDecoder().decode(bytes);
  } finally {
    bytes.fill(0);
  }
}
