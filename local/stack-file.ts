import { join } from "node:path";
import { readTextFileIfAny, writePrivateFile } from "./private-file.ts";
import type { Env } from "./platform-env.ts";
import type { Stack } from "./stack.ts";
import type { SigningJwk } from "./tokens.ts";

/** `stack.json` in the data directory, mode 0600: how to reach the stack that uses it. */
export interface StackFile {
  readonly api_url: string;
  readonly publishable_key: string;
  readonly secret_key: string;
  /** The private JWK that signs access tokens now. */
  readonly signing_key: SigningJwk;
  /** For the Management API under `api_url`, of the project `project_ref`. */
  readonly access_token: string;
  readonly project_ref: string;
  /** For the gateway's `/_local/` endpoints. */
  readonly operator_token: string;
  readonly aws_endpoint: string;
  /** Key of the local AWS's administrator, for the `aws` command line. */
  readonly aws_operator: { readonly access_key_id: string; readonly secret_access_key: string };
  /** The local Vault, with its root token: for `curl` and the `vault` command line. */
  readonly vault: { readonly addr: string; readonly root_token: string };
  /** Cloud KMS and Secret Manager; the service account is in `providers/gcp.json`. */
  readonly gcp_endpoint: string;
  /** The environment of the functions, for `deno task kms -- doctor`. */
  readonly function_env: Env;
  /** When the database is a Postgres. */
  readonly db_url?: string;
  readonly demo: { readonly email: string; readonly password: string; readonly user_id: string };
  /** Process id of the stack while it runs; null after a clean end. */
  readonly running: number | null;
}

const NAME = "stack.json";

/** Writes `stack.json`. It stays when the stack ends, with `running` null: the keys stay valid. */
export async function writeStackFile(
  stack: Stack,
  { userId, running }: { userId: string; running: boolean },
): Promise<void> {
  const { operator } = stack.aws.identities;
  const file: StackFile = {
    api_url: stack.apiUrl,
    publishable_key: stack.publishableKey,
    secret_key: stack.secretKey,
    signing_key: stack.signingKey,
    access_token: stack.identity.accessToken,
    project_ref: stack.projectRef,
    operator_token: stack.identity.operatorToken,
    aws_endpoint: stack.aws.endpoint,
    aws_operator: {
      access_key_id: operator.accessKeyId,
      secret_access_key: operator.secretAccessKey,
    },
    vault: {
      addr: stack.keyServices.vault.endpoint,
      root_token: stack.keyServices.vault.rootToken,
    },
    gcp_endpoint: stack.keyServices.gcp.endpoint,
    function_env: stack.functionEnv,
    ...(stack.dbUrl ? { db_url: stack.dbUrl } : {}),
    demo: { ...stack.identity.demo, user_id: userId },
    running: running ? Deno.pid : null,
  };
  await writePrivateFile(join(stack.dataDir, NAME), JSON.stringify(file, null, 2) + "\n");
}

/** The file of `dataDir`, or null when there is none or it cannot be read. */
export async function readStackFile(dataDir: string): Promise<StackFile | null> {
  const text = await readTextFileIfAny(join(dataDir, NAME));
  try {
    return text === null ? null : JSON.parse(text) as StackFile;
  } catch {
    return null;
  }
}
