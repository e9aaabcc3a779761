/** An error as Supabase Auth writes it: `{"code", "error_code", "msg"}` (supabase/auth, apierrors). */
export function authError(status: number, code: string, msg: string): Response {
  return Response.json({ code: status, error_code: code, msg }, {
    status,
    headers: { "access-control-allow-origin": "*", "x-sb-error-code": code },
  });
}
