/** Answers as people read them. */

/** One `name  value` a line. Nested objects are named by their path. */
export function facts(value: object): string {
  const pairs = flatten(value, "");
  const width = Math.max(0, ...pairs.map(([name]) => name.length));
  return pairs.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join("\n");
}

function flatten(value: object, prefix: string): [string, string][] {
  return Object.entries(value).flatMap(([name, inner]): [string, string][] =>
    isPlain(inner) && Object.keys(inner).length > 0
      ? flatten(inner, `${prefix}${name}.`)
      : [[prefix + name, shown(inner)]]
  );
}

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Rows under their headings; a cell that is no text is JSON. */
export function table(rows: readonly unknown[], columns: readonly string[]): string {
  const cells = [
    [...columns],
    ...rows.map((row) =>
      columns.map((column) => shown((row as Record<string, unknown> | null)?.[column]))
    ),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]!.length)));
  return cells
    .map((row) => row.map((cell, index) => cell.padEnd(widths[index]!)).join("  ").trimEnd())
    .join("\n");
}

/** Columns of rows whose shape is the server's: every name that one of them has. */
export function columnsOf(rows: readonly unknown[]): string[] {
  return [...new Set(rows.flatMap((row) => isPlain(row) ? Object.keys(row) : []))];
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "-";
  return printable(typeof value === "string" ? value : JSON.stringify(value));
}

/** What comes from a server cannot move the cursor, colour the screen or begin a line. */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what it is for
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");
}

/** The hint that follows a page. */
export function nextPage(cursor: string | null | undefined): string {
  return cursor ? `\nmore: --cursor ${cursor}` : "";
}
