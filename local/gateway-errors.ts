/** Headers of every answer that the gateway itself gives. */
const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers": "authorization, x-client-info, apikey, content-type",
};

/**
 * An error as the hosted gateway writes it: `{"code", "message"}`, with the code also in
 * `sb-error-code` (see "Error codes" in Supabase's edge functions guide).
 */
export function gatewayError(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Response {
  return Response.json({ code, message }, {
    status,
    headers: { ...CORS, "sb-error-code": code, ...headers },
  });
}
