/** The Management API of a stack under test. */
import type { Stack } from "../../local/stack.ts";

export interface ManagementAnswer {
  readonly status: number;
  // deno-lint-ignore no-explicit-any -- whatever the route answers
  readonly body: any;
}

/** `path`: what follows `/v1/projects/<ref>/`. */
export async function management(
  stack: Stack,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<ManagementAnswer> {
  const response = await fetch(`${stack.apiUrl}/v1/projects/${stack.projectRef}/${path}`, {
    method,
    headers: { authorization: `Bearer ${stack.identity.accessToken}`, ...headers },
    ...body === undefined ? {} : { body: JSON.stringify(body) },
  });
  return { status: response.status, body: await response.json() };
}
