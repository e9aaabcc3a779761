/** Who may call at all: everything that proves no user and no server is 401. */
import { assertEquals } from "@std/assert";
import { SignJWT } from "jose";
import { mintJwt, sharedStack } from "../support/stack.ts";
import {
  type Answer,
  assertNowhere,
  assertProblem,
  card,
  ENCRYPT,
  MANAGE,
  newUser,
  NO_ROWS,
  read,
  rowsOf,
  store,
  test,
  VISA,
} from "./suite.ts";

type Headers = Readonly<Record<string, string>>;

async function send(
  [name, method, path]: readonly [string, string, string],
  headers: Headers,
): Promise<Answer> {
  const { apiUrl } = await sharedStack();
  const json = method === "POST" || method === "PATCH";
  return await read(
    await fetch(`${apiUrl}/functions/v1/${name}${path}`, {
      method,
      headers: {
        "idempotency-key": crypto.randomUUID(),
        ...json ? { "content-type": "application/json" } : {},
        ...headers,
      },
      ...json ? { body: JSON.stringify(card(VISA)) } : {},
    }),
  );
}

function unsigned(header: unknown, claims: unknown, signature = ""): string {
  const part = (value: unknown) =>
    btoa(JSON.stringify(value)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return `${part(header)}.${part(claims)}.${signature}`;
}

const bearer = (token: string): Headers => ({ authorization: `Bearer ${token}` });

async function badCredentials(userId: string, token: string): Promise<Record<string, Headers>> {
  const stack = await sharedStack();
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: userId, role: "authenticated", aud: "authenticated", aal: "aal2" };
  const valid = { ...claims, iat: now, exp: now + 3600 };
  const [header = "", payload = "", signature = ""] = token.split(".");
  const otherSecret = new TextEncoder().encode("x".repeat(40));
  const signedBy = (secret: Uint8Array, kid?: string) =>
    new SignJWT(valid).setProtectedHeader({ alg: "HS256", typ: "JWT", ...kid ? { kid } : {} })
      .sign(secret);
  const { kid } = JSON.parse(atob(header)) as { kid?: string };
  const service = await mintJwt(stack, { role: "service_role", iss: "supabase" });
  const anon = await mintJwt(stack, { role: "anon", iss: "supabase" });
  const half = Math.floor(stack.secretKey.length / 2);
  return {
    "nothing": {},
    "an empty bearer": { authorization: "Bearer " },
    "no token": bearer("not-a-token"),
    "basic": { authorization: `Basic ${btoa("a:b")}` },
    "the publishable key": { apikey: stack.publishableKey },
    "the publishable key as a bearer": bearer(stack.publishableKey),
    "the anon JWT": { ...bearer(anon), apikey: anon },
    "the service role JWT": { ...bearer(service), apikey: service },
    "the service role JWT with a user in it": bearer(
      await mintJwt(stack, { ...claims, role: "service_role" }),
    ),
    "an expired token": bearer(
      await mintJwt(stack, { ...claims, iat: now - 7200, exp: now - 3600 }),
    ),
    "a token of the future": bearer(await mintJwt(stack, { ...claims, nbf: now + 3600 })),
    "a token by another secret": bearer(await signedBy(otherSecret)),
    "a token by another secret with our key id": bearer(await signedBy(otherSecret, kid)),
    "alg none": bearer(unsigned({ alg: "none", typ: "JWT" }, valid)),
    "alg none with our key id": bearer(unsigned({ alg: "none", typ: "JWT", kid }, valid)),
    "alg None with a signature": bearer(unsigned({ alg: "None", kid }, valid, signature)),
    "another payload under a good signature": bearer(
      `${header}.${unsigned({}, valid).split(".")[1]}.${signature}`,
    ),
    "a good token without its signature": bearer(`${header}.${payload}.`),
    "a token without a subject": bearer(await mintJwt(stack, { role: "authenticated" })),
    "a token whose subject is no id": bearer(
      await mintJwt(stack, { ...claims, sub: "' or '1'='1" }),
    ),
    "a token without a role": bearer(await mintJwt(stack, { sub: userId })),
    "a wrong secret key": { apikey: `sb_secret_${"x".repeat(32)}` },
    "half a secret key": { apikey: stack.secretKey.slice(0, half) },
    "a secret key and more": { apikey: `${stack.secretKey}x` },
    "an empty key": { apikey: "" },
    "a key for another header": { "x-api-key": stack.secretKey },
  };
}

test("no or bad credentials are 401 on every route, and change nothing", async () => {
  const user = await newUser();
  const { id } = await store(user, VISA);
  const before = await rowsOf(user.userId);
  const routes = [
    [ENCRYPT, "POST", ""],
    [MANAGE, "GET", ""],
    [MANAGE, "GET", `/${id}`],
    [MANAGE, "PATCH", `/${id}`],
    [MANAGE, "DELETE", `/${id}`],
    [MANAGE, "POST", `/${id}/default`],
    [MANAGE, "POST", `/${id}/reveal`],
    [MANAGE, "GET", "/records"],
    [MANAGE, "GET", `/records/${id}`],
    [MANAGE, "DELETE", `/records/${id}`],
    [MANAGE, "POST", `/records/${id}/reveal`],
  ] as const;
  const all = Object.entries(await badCredentials(user.userId, user.token));
  for (const [name, headers] of all) {
    for (const route of routes.slice(0, 3)) {
      const answer = await send(route, headers);
      assertEquals(answer.status, 401, `${name}: ${answer.text}`);
      assertProblem(answer, 401, "unauthorized", []);
      assertEquals(answer.headers.get("www-authenticate"), "Bearer");
      assertNowhere(answer, [VISA, user.token]);
    }
  }
  for (const route of routes) assertProblem(await send(route, {}), 401, "unauthorized", []);
  const query = [MANAGE, "GET", `?apikey=${(await sharedStack()).secretKey}`] as const;
  assertProblem(await send(query, {}), 401, "unauthorized");
  assertEquals(await rowsOf(user.userId), before);
});

test("a token of the stack's own making is good: the refusals above are for what differs", async () => {
  const user = await newUser();
  const stack = await sharedStack();
  const token = await mintJwt(stack, {
    sub: user.userId,
    role: "authenticated",
    aud: "authenticated",
  });
  assertEquals((await send([MANAGE, "GET", ""], bearer(token))).status, 200);
});

test("a user's token beside the secret key does not act for another user", async () => {
  const [user, other] = [await newUser(), await newUser()];
  const { secretKey } = await sharedStack();
  await store(other, VISA);
  const answer = await send([MANAGE, "GET", `?user_id=${other.userId}`], {
    apikey: secretKey,
    ...bearer(user.token),
  });
  assertEquals(answer.body.payment_methods, undefined, answer.text);
});

test("a bad token is not excused by a good secret key beside it", async () => {
  const user = await newUser();
  const { secretKey } = await sharedStack();
  const forged = unsigned({ alg: "none" }, { sub: user.userId, role: "authenticated" });
  const answer = await send([MANAGE, "GET", `?user_id=${user.userId}`], {
    apikey: secretKey,
    ...bearer(forged),
  });
  assertProblem(answer, 401, "unauthorized");
});

test("credentials come first: a bad body without them says nothing about the body", async () => {
  const { apiUrl } = await sharedStack();
  for (const body of ["{", JSON.stringify({ cvv: "123" }), "x".repeat(100_000)]) {
    const answer = await read(
      await fetch(`${apiUrl}/functions/v1/${ENCRYPT}`, { method: "POST", body }),
    );
    assertProblem(answer, 401, "unauthorized", []);
  }
  const user = await newUser();
  assertEquals(await rowsOf(user.userId), NO_ROWS);
});
