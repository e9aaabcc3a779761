/** Variables from a file of `NAME=value` lines, or this process's own. */
import { parseEnv } from "node:util";
import { privateText } from "./files.ts";
import type { Io } from "./io.ts";

export async function readEnvironment(
  path: string | undefined,
  io: Io,
): Promise<Readonly<Record<string, string | undefined>>> {
  return path === undefined ? io.env : parseEnv(await privateText(path));
}
