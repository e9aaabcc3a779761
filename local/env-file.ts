import { parseEnv } from "node:util";
import { StackError } from "./errors.ts";
import type { Env } from "./platform-env.ts";
import { readTextFileIfAny } from "./private-file.ts";

/**
 * Reads the functions' own secrets from a file of `NAME=value` lines. Names that begin with
 * `SUPABASE_` belong to the platform: as `supabase secrets set` does, they are skipped, and
 * reported to `warn`.
 *
 * @param required whether a missing file is a fault
 * @throws {StackError} when the file is required and missing
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
  return env;
}
