/** The real Supabase CLI against a database given by URL. */

import { join } from "node:path";
import { lastLine, output } from "../deploy/command.ts";
import { ROOT } from "../support/repository.ts";
import { MIGRATIONS } from "./schema.ts";

const CLI = "supabase@3.1.0";

/** A finding of `db advisors`. */
export interface Advice {
  readonly name: string;
  readonly level: "INFO" | "WARN" | "ERROR";
  readonly detail: string;
  readonly metadata?: { readonly schema?: string; readonly name?: string };
}

export interface SupabaseCli {
  /** Applies the migrations; what it printed. @throws Error when one fails */
  push(url: string): Promise<string>;
  /** Findings of plpgsql_check in these schemas, warnings included. */
  lint(url: string, schemas: readonly string[]): Promise<unknown[]>;
  /** Findings of the security and performance advisors, information included. */
  advisors(url: string): Promise<Advice[]>;
  close(): Promise<void>;
}

/** The CLI writes beside the project it is run in: it gets a copy of what it reads. */
export async function supabaseCli(): Promise<SupabaseCli> {
  const executable = lastLine(await output("npx", ["-y", "-p", CLI, "-c", "command -v supabase"]));
  const workdir = await Deno.makeTempDir({ prefix: "supabase-cli-" });
  await Deno.mkdir(join(workdir, MIGRATIONS), { recursive: true });
  const migrations = [...Deno.readDirSync(join(ROOT, MIGRATIONS))].map((entry) => entry.name);
  for (
    const path of [
      "supabase/config.toml",
      ...migrations.map((name) => join(MIGRATIONS, name)),
    ]
  ) {
    await Deno.copyFile(join(ROOT, path), join(workdir, path));
  }

  const run = async (url: string, ...args: string[]): Promise<string> => {
    const { success, stdout, stderr } = await new Deno.Command(executable, {
      args: ["db", ...args, `--remote=${url}`, "--workdir", workdir],
      cwd: workdir,
      clearEnv: true,
      env: {
        PATH: Deno.env.get("PATH") ?? "",
        HOME: workdir,
        NO_COLOR: "1",
        DO_NOT_TRACK: "1",
        PGSSLMODE: "disable",
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = new TextDecoder();
    const printed = text.decode(stdout);
    if (!success) throw new Error(`supabase db ${args[0]}: ${printed}${text.decode(stderr)}`);
    return printed;
  };
  const results = async <T>(url: string, ...args: string[]): Promise<T[]> => {
    const printed = await run(url, ...args, "--output-format", "json", "--fail-on", "none");
    return (JSON.parse(printed) as { results: T[] }).results;
  };

  return {
    push: (url) => run(url, "push", "--yes"),
    lint: (url, schemas) =>
      results(url, "lint", "--level", "warning", "--schema", schemas.join(",")),
    advisors: (url) => results<Advice>(url, "advisors", "--type", "all", "--level", "info"),
    close: () => Deno.remove(workdir, { recursive: true }),
  };
}
