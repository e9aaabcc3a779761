import { join } from "node:path";
import type { Database } from "./database.ts";
import { messageOf, StackError } from "./errors.ts";

interface Migration {
  readonly version: string;
  readonly name: string;
  readonly file: string;
  readonly text: string;
}

/** The Supabase CLI's own history table, so that both can tell what was applied. */
const HISTORY = `
  create schema if not exists supabase_migrations;
  create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
  alter table supabase_migrations.schema_migrations add column if not exists statements text[];
  alter table supabase_migrations.schema_migrations add column if not exists name text;
`;

/**
 * Applies the files of `supabase/migrations` that the database does not have yet, oldest first,
 * each in a transaction with its entry in the history.
 *
 * @returns the names of the files applied
 * @throws {StackError} when a file that was applied has changed or is gone, or when one fails
 */
export async function migrate(database: Database, root: string): Promise<string[]> {
  const folder = join(root, "supabase", "migrations");
  const migrations = await readMigrations(folder);
  await database.script(HISTORY);
  const rows = await database.query<{ version: string; statements: string[] | null }>(
    "select version, statements from supabase_migrations.schema_migrations order by version",
  );
  const applied = new Map(rows.map((row) => [row.version, row.statements]));
  assertUnchanged(migrations, applied);
  const done: string[] = [];
  for (const migration of migrations) {
    if (applied.has(migration.version)) continue;
    try {
      await database.script(`${migration.text}\n;\n${record(migration)}`);
    } catch (error) {
      throw new StackError(`migration ${migration.file} failed: ${messageOf(error)}`, {
        cause: error,
      });
    }
    done.push(migration.file);
  }
  return done;
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const migrations: Migration[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) {
      const match = entry.isFile ? /^(\d+)_(.+)\.sql$/.exec(entry.name) : null;
      if (!match?.[1] || !match[2]) continue;
      const text = await Deno.readTextFile(join(folder, entry.name));
      migrations.push({ version: match[1], name: match[2], file: entry.name, text });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return migrations.sort((a, b) => a.version < b.version ? -1 : a.version > b.version ? 1 : 0);
}

function assertUnchanged(
  migrations: readonly Migration[],
  applied: ReadonlyMap<string, string[] | null>,
): void {
  const remedy =
    "add a new migration instead, or start afresh with --reset (this removes all rows)";
  const known = new Map(migrations.map((migration) => [migration.version, migration]));
  for (const [version, statements] of applied) {
    const migration = known.get(version);
    if (!migration) {
      throw new StackError(
        `the database has migration ${version}, which is not in supabase/migrations: ` +
          `put the file back, or start afresh with --reset (this removes all rows)`,
      );
    }
    if (statements && gist(statements.join(";")) !== gist(migration.text)) {
      throw new StackError(
        `supabase/migrations/${migration.file} has changed since it was applied: ${remedy}`,
      );
    }
  }
}

/** Without blanks and semicolons, where the CLI's list of statements differs from the file. */
function gist(sql: string): string {
  return sql.replace(/[\s;]+/g, "");
}

function record({ version, name, text }: Migration): string {
  return `insert into supabase_migrations.schema_migrations (version, name, statements) values (` +
    `${literal(version)}, ${literal(name)}, array[${literal(text)}]);`;
}

/** A SQL string literal that means the same whatever standard_conforming_strings says. */
function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\\") ? ` E${quoted.replaceAll("\\", "\\\\")}` : quoted;
}
