/** Places where a card number could end up, and the search through them. */
import { Buffer } from "node:buffer";
import { join } from "node:path";
import type { Stack } from "../../../local/stack.ts";
import type { Needle } from "./needles.ts";

export interface Sink {
  /** Where: the name of a log, a table or a file. */
  readonly name: string;
  readonly content: string | Uint8Array;
}

/** `sink: form` of every needle that is in a sink. */
export function findings(sinks: readonly Sink[], needles: readonly Needle[]): string[] {
  const searched = needles.map(({ form, bytes }) => ({ form, text: latin1(bytes) }));
  return sinks.flatMap(({ name, content }) => {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const text = withoutPadding(latin1(bytes));
    return searched.filter((needle) => text.includes(needle.text))
      .map(({ form }) => `${name}: ${form}`);
  });
}

/** One character a byte: strings are searched many times faster than bytes. */
function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Database files are zeros for the most part, and no form has more than a few in a row. */
function withoutPadding(text: string): string {
  return text.replaceAll("\0".repeat(64), "\0");
}

/** What the functions wrote, and whom the local AWS was called by. */
export function logSinks(stack: Stack): Sink[] {
  const logs = stack.functions.map((name) => ({
    name: `log of ${name}`,
    content: stack.functionLog(name),
  }));
  return [...logs, { name: "AWS call records", content: JSON.stringify(stack.aws.calls()) }];
}

/** Every row of every table and view of every schema, as text. */
export async function databaseSinks(stack: Stack): Promise<Sink[]> {
  const relations = await stack.sql<{ schema: string; name: string }>(`
    select n.nspname as schema, c.relname as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm', 'v') and n.nspname !~ '^pg_(toast|temp)'
    order by 1, 2`);
  const sinks: Sink[] = [];
  for (const { schema, name } of relations) {
    // Oversight of one's own search: pg_stat_activity shows the statement that reads it, no value.
    const rows = await stack.sql<{ row: string }>(
      `select t::text as row from ${quoted(schema)}.${quoted(name)} t`,
    );
    sinks.push({ name: `table ${schema}.${name}`, content: rows.map(({ row }) => row).join("\n") });
  }
  return sinks;
}

function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}

/** Every file below a directory, as bytes. */
export function fileSinks(directory: string, below = ""): Sink[] {
  const sinks: Sink[] = [];
  for (const { name, isDirectory, isFile } of Deno.readDirSync(join(directory, below))) {
    const path = join(below, name);
    if (isDirectory) sinks.push(...fileSinks(directory, path));
    if (isFile) {
      sinks.push({ name: `file ${path}`, content: Deno.readFileSync(join(directory, path)) });
    }
  }
  return sinks;
}

const METHODS = ["debug", "log", "info", "warn", "error"] as const;

/** Records what this process, and with it the gateway and the Data API, prints. */
export class ConsoleTap {
  readonly #lines: string[] = [];
  readonly #originals = METHODS.map((method) => [method, console[method]] as const);

  constructor() {
    for (const [method, original] of this.#originals) {
      console[method] = (...values: unknown[]) => {
        this.#lines.push(values.map((value) => Deno.inspect(value, { depth: 10 })).join(" "));
        original(...values);
      };
    }
  }

  sink(): Sink {
    return { name: "output of the stack", content: this.#lines.join("\n") };
  }

  release(): void {
    for (const [method, original] of this.#originals) console[method] = original;
  }
}
