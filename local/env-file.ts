import { parseEnv } from "node:util";
import { withCredentialsFile } from "../functions-shared/config-gcp.ts";
import { StackError } from "./errors.ts";
import type { Env } from "./platform-env.ts";
import { readTextFileIfAny } from "./private-file.ts";

/**
 * Reads the functions' own secrets from a file of `NAME=value` lines. Names that begin with
 * `SUPABASE_` belong to the platform: as `supabase secrets set` does, they are skipped, and
 * reported to `warn`. The file that `GOOGLE_APPLICATION_CREDENTIALS` names is read for the functions,
 * which can read none.
 *
 * @param required whether a missing file is a fault
 * @throws {StackError} when a file is missing that is required, or named in it
 */
export async function readEnvFile(
  path: string,
  { required, warn }: { required: boolean; warn: (line: string) => void },
): Promise<Env> {
  const text = await readTextFileIfAny(path);
  if (text === null) {
    if (required) throw new StackError(`the env file ${path} does not exist`);
    return {};
  }
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(parseEnv(text))) {
    if (name.startsWith("SUPABASE_")) {
      warn(`${path}: ${name} is skipped, names that begin with SUPABASE_ are the platform's own`);
    } else if (value !== undefined) env[name] = value;
  }
  return withCredentialsFile(env, credentialsFile) as Env;
}

function credentialsFile(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (cause) {
    const message = `GOOGLE_APPLICATION_CREDENTIALS: the file ${path} cannot be read`;
    throw new StackError(message, { cause });
  }
}
