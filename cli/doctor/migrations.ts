/** What supabase/migrations makes: the doctor looks for it, and nobody keeps a list. */
import { join } from "node:path";

const FOLDER = join(import.meta.dirname ?? ".", "..", "..", "supabase", "migrations");
const MADE = /^create (?:or replace )?(?:table|function) ((?:kms|public)\.[a-z_0-9]+)/gim;
const DROPPED = /^drop (?:table|function) (?:if exists )?((?:kms|public)\.[a-z_0-9]+)/gim;

/** Version of the newest one. */
export function newestMigration(folder = FOLDER): string {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter(isMigration);
  return names.sort().at(-1)?.split("_")[0] ?? "none";
}

function isMigration(name: string): boolean {
  return /^\d+_.+\.sql$/.test(name);
}

export interface ExpectedObjects {
  /** Versions of the migrations, oldest first. */
  readonly versions: readonly string[];
  /** Tables and functions, `schema.name`. */
  readonly names: readonly string[];
}

export async function expectedObjects(folder = FOLDER): Promise<ExpectedObjects> {
  const files: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (isMigration(name)) files.push(name);
  }
  files.sort();
  const names = new Set<string>();
  for (const file of files) {
    const sql = await Deno.readTextFile(join(folder, file));
    for (const [, name = ""] of sql.matchAll(DROPPED)) names.delete(name.toLowerCase());
    for (const [, name = ""] of sql.matchAll(MADE)) names.add(name.toLowerCase());
  }
  return { versions: files.map((file) => file.split("_")[0] ?? ""), names: [...names] };
}
