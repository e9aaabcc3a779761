import type { Database } from "./database.ts";
import { messageOf } from "./errors.ts";
import { gatewayError } from "./gateway-errors.ts";
import { sameText } from "./project-keys.ts";

/** Serves `/_local/`. */
export type OperatorHandler = (request: Request, pathname: string) => Promise<Response>;

/** Header that carries the operator token of `stack.json`. */
export const OPERATOR_HEADER = "x-stack-operator";

/**
 * What hosted Supabase shows in its dashboard and the local stack has no page for: `POST
 * /_local/sql` with `{"query", "params"?}` answers `{"rows"}`, read in a read-only transaction as
 * the superuser. It takes the operator token, which neither clients nor functions ever hold, and
 * refuses browsers (anything with an Origin).
 */
export function createOperator(database: Database, operatorToken: string): OperatorHandler {
  return async (request, pathname) => {
    const given = request.headers.get(OPERATOR_HEADER) ?? "";
    if (request.headers.has("origin") || !sameText(given, operatorToken)) {
      return gatewayError(401, "UNAUTHORIZED", `send the operator token in ${OPERATOR_HEADER}`);
    }
    if (pathname !== "/_local/sql") {
      return gatewayError(404, "NOT_FOUND", "no route matched with those values");
    }
    if (request.method !== "POST") {
      return gatewayError(405, "METHOD_NOT_ALLOWED", "POST only", { allow: "POST" });
    }
    try {
      const { query, params = [] } = await request.json() as { query: string; params?: unknown[] };
      return Response.json({ rows: await database.readOnlyQuery(String(query), params) });
    } catch (error) {
      return gatewayError(400, "QUERY_FAILED", messageOf(error));
    }
  };
}
