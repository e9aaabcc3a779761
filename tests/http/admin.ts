/** Callers of `kms-admin`, and its shape of answers. */
import { assertEquals } from "@std/assert";
import { userClaims } from "../../local/tokens.ts";
import { call, mintJwt, sharedStack } from "../support/stack.ts";
import { type Answer, type Caller, newUser, read, SERVER } from "./suite.ts";

export const ADMIN = "kms-admin";

/** A request of `kms-admin`; POST with a body unless `method` says otherwise. */
export async function admin(
  caller: Caller,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const stack = await sharedStack();
  const { token, secret } = caller;
  return await read(
    await call(stack, ADMIN, path, {
      ...token === undefined ? {} : { token },
      ...secret ? { secret } : {},
      ...body === undefined ? {} : { json: body },
      method,
      headers,
    }),
  );
}

/** The `data` of a success; anything else fails the test. */
export async function adminData<Data>(
  method: string,
  path: string,
  body?: unknown,
  caller: Caller = SERVER,
): Promise<Data> {
  const answer = await admin(caller, method, path, body);
  const { success, data } = answer.body as { success?: boolean; data?: Data };
  assertEquals([Math.floor(answer.status / 100), success], [2, true], answer.text);
  return data as Data;
}

/** A user whom the project made an administrator, with the given assurance level. */
export async function newAdmin(assurance = "aal1") {
  const stack = await sharedStack();
  const user = await newUser();
  const token = await mintJwt(stack, {
    ...userClaims({ apiUrl: stack.apiUrl, ...user }),
    app_metadata: { provider: "email", providers: ["email"], role: "admin" },
    aal: assurance,
  });
  return { ...user, token };
}
