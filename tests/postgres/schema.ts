/** The SQL that makes a database ready for the suite, as files of the repository. */

import { readText, ROOT } from "../support/repository.ts";

export interface Migration {
  /** File name, which sorts in the order of application. */
  readonly name: string;
  readonly sql: string;
}

export const MIGRATIONS = "supabase/migrations";

/** The migrations in their order. @throws Error when there are none */
export function migrations(): Migration[] {
  const names = [...Deno.readDirSync(`${ROOT}/${MIGRATIONS}`)]
    .map((entry) => entry.name)
    .filter((name) => name.endsWith(".sql"))
    .sort();
  if (names.length === 0) throw new Error(`no migration in ${MIGRATIONS}`);
  return names.map((name) => ({ name, sql: readText(`${MIGRATIONS}/${name}`) }));
}

/** Roles, claim readers and default privileges of hosted Supabase, then its `auth.users`. */
export function foundation(): string {
  return readText("local/bootstrap.sql") + readText("tests/postgres/auth-schema.sql");
}
