/** `/config`: which key service wraps new keys, tried before it is stored, and the way back. */
import {
  type Candidate,
  putSchema,
  rollbackSchema,
  testSchema,
} from "../../admin/settings-fields.ts";
import type { Configuration } from "../../admin/configuration.ts";
import { validationFailed } from "../../errors.ts";
import type { Route } from "../../http/app.ts";
import { readJson } from "../../http/body.ts";
import { encodeCursor, readLimit, readQuery } from "../../http/query.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { parseInput } from "../../validation.ts";
import { adminRoute, success } from "./route.ts";

export interface ConfigServices {
  readonly audit: AuditLog;
  readonly configuration: Configuration;
}

export function configRoutes<Services extends ConfigServices>(): readonly Route<Services>[] {
  return [
    adminRoute("GET", "/config", async ({ url, services }) => {
      readQuery(url, []);
      return tagged(await services.configuration.get());
    }),
    adminRoute("POST", "/config/test", async ({ url, request, services, actor, signal }) => {
      readQuery(url, []);
      const candidate = parseInput(testSchema, await readJson(request));
      return success(await services.configuration.test(actor, candidate, signal));
    }),
    adminRoute("PUT", "/config", async ({ url, request, services, actor, signal }) => {
      readQuery(url, []);
      const parsed = parseInput(putSchema, await readJson(request));
      const { reason, revision, ...candidate } = parsed;
      const expected = expectedRevision(request, revision);
      const change = { expected, reason, signal };
      return tagged(
        await services.configuration.put(actor, candidate as Candidate, change),
        "Configuration updated successfully",
      );
    }),
    adminRoute("GET", "/config/history", async ({ url, services }) => {
      const { limit, cursor } = readQuery(url, ["limit", "cursor"]);
      const page = await services.configuration.history(readLimit(limit), readPosition(cursor));
      return success({
        revisions: page.revisions,
        next_cursor: encodeCursor(page.next === undefined ? undefined : String(page.next)),
      });
    }),
    adminRoute("POST", "/config/rollback", async ({ url, request, services, actor, signal }) => {
      readQuery(url, []);
      const { reason, ...to } = parseInput(rollbackSchema, await readJson(request));
      const change = { expected: expectedRevision(request, undefined), reason, signal };
      return tagged(
        await services.configuration.rollback(actor, to, change),
        "Configuration rolled back successfully",
      );
    }),
  ];
}

/** The revision is the answer's entity tag, for `If-Match`. */
function tagged(data: { readonly revision: number }, message?: string): Response {
  const response = success(data, message === undefined ? {} : { message });
  response.headers.set("etag", `"${data.revision}"`);
  return response;
}

/** From `If-Match`, or from the body; both must say the same. */
function expectedRevision(request: Request, inBody: number | undefined): number | undefined {
  const header = request.headers.get("if-match");
  if (header === null || header.trim() === "*") return inBody;
  const [, tag] = /^"(\d{1,9})"$/.exec(header.trim()) ?? [];
  const expected = tag === undefined ? undefined : Number(tag);
  if (expected === undefined || (inBody !== undefined && inBody !== expected)) {
    throw validationFailed([{
      pointer: "/revision",
      code: expected === undefined ? "invalid_if_match" : "contradiction",
      detail: "If-Match must be the etag of an earlier answer, and revision, if given, the same",
    }]);
  }
  return expected;
}

/** The revision before which a page begins. */
function readPosition(cursor: string | undefined): number | undefined {
  if (cursor === undefined) return undefined;
  try {
    const position = atob(cursor.replace(/-/g, "+").replace(/_/g, "/"));
    if (/^[1-9]\d{0,8}$/.test(position)) return Number(position);
  } catch {
    // Not base64: the same answer as for base64 of something else.
  }
  throw validationFailed([{
    parameter: "cursor",
    code: "invalid_cursor",
    detail: "must be the next_cursor of an earlier answer",
  }]);
}
