/** Errors as RFC 9457 problem documents. */
import { ERRORS, SuiteError } from "../errors.ts";
import type { ProblemDocument } from "../storage/store.ts";

/** `type` is stable and names the code; its text is in the README's table of error codes. */
export function problemDocument(error: SuiteError, requestId?: string): ProblemDocument {
  return {
    type: `urn:supabase-kms:problem:${error.code}`,
    title: ERRORS[error.code].title,
    status: error.status,
    code: error.code,
    ...error.violations.length === 0 ? {} : { errors: error.violations },
    ...requestId === undefined ? {} : { request_id: requestId },
  };
}

export function problemResponse(error: SuiteError, requestId: string): Response {
  return new Response(JSON.stringify(problemDocument(error, requestId)), {
    status: error.status,
    headers: {
      "content-type": "application/problem+json",
      ...error.retryAfterSeconds === undefined
        ? {}
        : { "retry-after": String(error.retryAfterSeconds) },
      ...error.headers,
    },
  });
}

/** Anything thrown, as the error a caller may see. */
export function toSuiteError(error: unknown): SuiteError {
  return error instanceof SuiteError ? error : new SuiteError("internal_error", { cause: error });
}
