import { join, resolve } from "node:path";

/** The repository's folder. */
export const ROOT = resolve(import.meta.dirname ?? ".", "../..");

/** Path of a program in this folder. */
export function programPath(program: string): string {
  return join(import.meta.dirname ?? ".", program);
}
