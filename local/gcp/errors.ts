import type { RestReply } from "../rest/server.ts";

/** Canonical codes and their HTTP statuses (google.rpc.Code). */
const STATUSES = {
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
} as const;

export class GcpError extends Error {
  constructor(readonly status: keyof typeof STATUSES, message: string) {
    super(message);
  }

  get reply(): RestReply {
    const { status, message } = this;
    return {
      status: STATUSES[status],
      body: { error: { code: STATUSES[status], message, status } },
    };
  }
}

/** `held`: of the caller's token; undefined without one. @throws {GcpError} */
export function requireScope(
  held: readonly string[] | undefined,
  accepted: readonly string[],
): void {
  if (held === undefined) {
    throw new GcpError(
      "UNAUTHENTICATED",
      "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie " +
        "or other valid authentication credential.",
    );
  }
  if (!held.some((scope) => accepted.includes(scope))) {
    throw new GcpError("PERMISSION_DENIED", "Request had insufficient authentication scopes.");
  }
}

/** What Google's front end answers for a path or method that no API has. */
export const NO_SUCH_PAGE: RestReply = {
  status: 404,
  body: "<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title></html>",
};
