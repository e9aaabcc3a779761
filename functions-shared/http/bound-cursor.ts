/** Cursors that belong to the filter they were made for. */
import { createHash } from "node:crypto";
import { validationFailed } from "../errors.ts";

/** The position and whose it is, in base64url; clients treat it as opaque. Null for no position. */
export function boundCursor(position: string | number | undefined, filter: unknown): string | null {
  if (position === undefined) return null;
  return btoa(`${position}~${tag(filter)}`)
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/**
 * The position of a cursor that was made for this very filter; `form` says what a position looks like.
 * @throws {SuiteError} validation_failed: invalid_cursor, or cursor_mismatch for one of another filter.
 */
export function readBoundCursor(
  cursor: string | undefined,
  filter: unknown,
  form: (position: string) => boolean,
): string | undefined {
  if (cursor === undefined) return undefined;
  const [, position = "", owner] = /^(.{1,120})~([0-9a-f]{16})$/.exec(decoded(cursor)) ?? [];
  if (owner !== undefined && owner !== tag(filter)) {
    throw invalid("cursor_mismatch", "must be of an answer to the same filter");
  }
  if (owner === undefined || !form(position)) {
    throw invalid("invalid_cursor", "must be the next_cursor of an earlier answer");
  }
  return position;
}

function invalid(code: string, detail: string) {
  return validationFailed([{ parameter: "cursor", code, detail }]);
}

function decoded(cursor: string): string {
  try {
    return atob(cursor.replace(/-/g, "+").replace(/_/g, "/"));
  } catch {
    return "";
  }
}

/** Tells filters apart; no secret is needed, since who forges one only misleads themselves. */
function tag(filter: unknown): string {
  return createHash("sha256").update(JSON.stringify(filter)).digest("hex").slice(0, 16);
}
