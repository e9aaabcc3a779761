import { SuiteError } from "../errors.ts";

/**
 * The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-07), with or without the quotes
 * of a structured-field string.
 *
 * @throws {SuiteError} idempotency_key_required, invalid_request (not 1 to 255 visible characters).
 */
export function idempotencyKey(request: Request): string {
  const header = request.headers.get("idempotency-key")?.trim() ?? "";
  const key = /^"(.*)"$/.exec(header)?.[1] ?? header;
  if (key === "") throw new SuiteError("idempotency_key_required");
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new SuiteError("invalid_request", {
      violations: [{
        parameter: "Idempotency-Key",
        code: "invalid_idempotency_key",
        detail: "must be 1 to 255 visible ASCII characters",
      }],
    });
  }
  return key;
}
