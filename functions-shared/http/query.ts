/** Query parameters: known ones only, each at most once. */
import { validationFailed, type Violation } from "../errors.ts";

/** @throws {SuiteError} validation_failed. */
export function readQuery<const Name extends string>(
  url: URL,
  names: readonly Name[],
): Readonly<Partial<Record<Name, string>>> {
  const values: Partial<Record<Name, string>> = {};
  const violations: Violation[] = [];
  for (const [name, value] of url.searchParams) {
    const known = names.find((candidate) => candidate === name);
    if (known === undefined) {
      const detail = names.length === 0 ? "None is known here." : `Known are: ${names.join(", ")}.`;
      violations.push({ code: "unknown_parameter", detail });
    } else if (values[known] !== undefined) {
      violations.push({ parameter: known, code: "repeated_parameter", detail: "must appear once" });
    } else values[known] = value;
  }
  if (violations.length > 0) throw validationFailed(violations.slice(0, 20));
  return values;
}

const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 100;

/** `limit`: 1 to 100, 20 unless given. */
export function readLimit(value: string | undefined): number {
  if (value === undefined) return DEFAULT_LIMIT;
  const limit = /^\d{1,4}$/.test(value) ? Number(value) : 0;
  if (limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw validationFailed([{
    parameter: "limit",
    code: "out_of_range",
    detail: `must be a whole number from 1 to ${MAX_LIMIT}`,
  }]);
}

/**
 * A cursor is the database's position in base64url; clients treat it as opaque. `scope` (ASCII) names the
 * list and what it is filtered by: a cursor continues no other list.
 */
export function encodeCursor(position: string | undefined, scope = ""): string | null {
  if (position === undefined) return null;
  return btoa(scope + position).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

const POSITION =
  /^[12]\d{3}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z\|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether `YYYY-MM-DDTHH:MM:SS` names a moment: a 31st of February would fail in the database. */
function isDate(text: string): boolean {
  const date = new Date(`${text}Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);
}

/** @throws {SuiteError} validation_failed when the cursor is not one of ours. */
export function decodeCursor(cursor: string | undefined, scope = ""): string | undefined {
  if (cursor === undefined) return undefined;
  try {
    const text = atob(cursor.replace(/-/g, "+").replace(/_/g, "/"));
    const position = text.slice(scope.length);
    if (text.startsWith(scope) && POSITION.test(position) && isDate(position.slice(0, 19))) {
      return position;
    }
  } catch {
    // Not base64: the same answer as for base64 of something else.
  }
  throw validationFailed([{
    parameter: "cursor",
    code: "invalid_cursor",
    detail: "must be the next_cursor of an earlier answer",
  }]);
}
