import { demoToken } from "./demo-token.ts";
import { StackError } from "./errors.ts";
import { readStackFile } from "./stack-file.ts";

/**
 * `deno task env`: lines for a shell's `eval`, so that calls can name `$API_URL`, `$TOKEN` and so on.
 *
 * @throws {StackError} when no stack runs on `dataDir`
 */
export async function printEnv(dataDir: string): Promise<void> {
  const file = await readStackFile(dataDir);
  if (!file?.running) throw new StackError("no stack is running: begin with `deno task start`");
  const variables = {
    API_URL: file.api_url,
    PUBLISHABLE_KEY: file.publishable_key,
    SECRET_KEY: file.secret_key,
    MANAGEMENT_API: file.api_url,
    PROJECT_REF: file.project_ref,
    ACCESS_TOKEN: file.access_token,
    AWS_ENDPOINT: file.aws_endpoint,
    USER_ID: file.demo.user_id,
    TOKEN: await demoToken(file),
  };
  for (const [name, value] of Object.entries(variables)) console.log(`${name}='${value}'`);
}
