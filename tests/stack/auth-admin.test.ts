import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { decodeJwt } from "jose";
import { banMs } from "../../local/auth-admin.ts";
import type { Stack } from "../../local/stack.ts";
import { legacyKey } from "../../local/tokens.ts";
import { call, mintJwt, sharedStack, WITH_STACK } from "../support/stack.ts";

const AUTH = { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false };

function client(stack: Stack, key = stack.publishableKey): SupabaseClient {
  return createClient(stack.apiUrl, key, { auth: AUTH });
}

async function signedUp(stack: Stack) {
  const credentials = {
    email: `user-${crypto.randomUUID()}@example.com`,
    password: crypto.randomUUID(),
  };
  const { data, error } = await client(stack).auth.signUp(credentials);
  assert(data.user && data.session, String(error));
  return { ...credentials, id: data.user.id, session: data.session };
}

/** What became of it: `ok`, or the status and code of the error. */
function outcome({ error }: { error: { status?: number; code?: string } | null }): unknown {
  return error === null ? "ok" : [error.status, error.code];
}

/** A code that waits to be exchanged for a session, as the callback of a sign-in elsewhere leaves it. */
async function pendingCode(stack: Stack, userId: string) {
  const code = { auth_code: crypto.randomUUID(), code_verifier: crypto.randomUUID() };
  await stack.sql(
    `insert into auth.flow_state (id, user_id, auth_code, authentication_method, provider_type,
       code_challenge_method, code_challenge, created_at, updated_at)
     values ($1, $2, $3, 'oauth', 'google', 's256', $4, now(), now())`,
    [
      crypto.randomUUID(),
      userId,
      code.auth_code,
      createHash("sha256").update(code.code_verifier).digest("base64url"),
    ],
  );
  return code;
}

/** What the auth server says to a request for a session: its user, or why not. */
async function sessionFor(stack: Stack, path: string, body: Record<string, string>) {
  const response = await fetch(`${stack.apiUrl}/auth/v1${path}`, {
    method: "POST",
    headers: { apikey: stack.publishableKey, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  return [response.status, answer.error_code ?? answer.user?.id];
}

async function ask(stack: Stack, path: string, headers: Record<string, string>, body?: unknown) {
  const response = await fetch(`${stack.apiUrl}/auth/v1${path}`, {
    headers: { "content-type": "application/json", ...headers },
    ...body === undefined ? {} : { method: "PUT", body: JSON.stringify(body) },
  });
  const answer = await response.json();
  return { status: response.status, code: answer.error_code, msg: answer.msg, answer };
}

Deno.test({
  name: "auth admin: an administrator is made, and ended",
  ...WITH_STACK,
  fn: async (t) => {
    const stack = await sharedStack();
    const { auth: { admin } } = client(stack, stack.secretKey);
    const user = await signedUp(stack);
    const other = await signedUp(stack);
    const secret = { apikey: stack.secretKey };

    await t.step("users are listed and read with a secret key", async () => {
      const { data: { users } } = await admin.listUsers({ page: 1, perPage: 1000 });
      assert(users.some(({ id }) => id === user.id) && users.some(({ id }) => id === other.id));
      const { data } = await admin.getUserById(user.id);
      assertEquals(data.user?.email, user.email);
      assertEquals(data.user?.app_metadata, { provider: "email", providers: ["email"] });
      assert(!JSON.stringify([users, data]).includes("$2"), "no password's hash");
      const page = await ask(stack, "/admin/users?page=2&per_page=1", secret);
      assertEquals(page.answer.users.length, 1);
      for (const bad of ["page=0", "per_page=1001", "page=x"]) {
        assertEquals((await ask(stack, `/admin/users?${bad}`, secret)).code, "validation_failed");
      }
    });

    await t.step("for everybody else the door is shut", async () => {
      const { publishableKey: apikey } = stack;
      const bearer = (token: string) => ({ apikey, authorization: `Bearer ${token}` });
      const now = Math.floor(Date.now() / 1000);
      const role = "service_role";
      const expired = await mintJwt(stack, { role, iat: now - 7200, exp: now - 3600 });
      const future = await mintJwt(stack, { role, nbf: now + 3600 });
      const anon = await legacyKey(stack.jwtSecret, "anon", stack.identity.createdAt);
      const refusals: [Record<string, string>, number, string | undefined][] = [
        [{}, 401, undefined],
        [{ apikey: "sb_secret_of-another-project" }, 401, undefined],
        [{ authorization: `Bearer ${stack.secretKey}` }, 401, undefined],
        [{ apikey }, 401, "no_authorization"],
        [bearer(stack.secretKey), 401, "no_authorization"],
        [bearer(user.session.access_token), 403, "not_admin"],
        [{ ...bearer(user.session.access_token), ...secret }, 403, "not_admin"],
        [bearer(anon), 403, "not_admin"],
        [bearer("x.y.z"), 403, "bad_jwt"],
        [bearer(expired), 403, "bad_jwt"],
        [bearer(future), 403, "bad_jwt"],
        [{ ...secret, "user-agent": "Mozilla/5.0 (X11)" }, 401, "no_authorization"],
      ];
      for (const [headers, status, code] of refusals) {
        for (const path of ["/admin/users", `/admin/users/${user.id}`]) {
          const answer = await ask(stack, path, headers);
          assertEquals([answer.status, answer.code], [status, code], JSON.stringify(headers));
        }
        const change = { app_metadata: { role: "admin" } };
        const answer = await ask(stack, `/admin/users/${user.id}`, headers, change);
        assertEquals(answer.status, status);
      }
      const service = await legacyKey(stack.jwtSecret, "service_role", stack.identity.createdAt);
      assertEquals((await ask(stack, "/admin/users", bearer(service))).status, 200);
    });

    await t.step("a change that is none is refused", async () => {
      const refusal = async (id: string, body: unknown) => {
        const { status, code } = await ask(stack, `/admin/users/${id}`, secret, body);
        return [status, code];
      };
      assertEquals(await refusal("7", {}), [404, "validation_failed"]);
      assertEquals(await refusal(crypto.randomUUID(), {}), [404, "user_not_found"]);
      for (
        const body of [
          [],
          { ban_duration: "forever" },
          { ban_duration: 24 },
          { app_metadata: ["admin"] },
          { password: 12345678 },
          { email: "other@example.com" },
          { ban_duration: "24h", role: "service_role" },
        ]
      ) {
        assertEquals(
          await refusal(user.id, body),
          [400, "validation_failed"],
          JSON.stringify(body),
        );
      }
      assertEquals(await refusal(user.id, { password: "short" }), [422, "weak_password"]);
      const { data } = await admin.getUserById(user.id);
      assertEquals(data.user?.banned_until, undefined, "nothing of it was done");
    });

    let token = "";
    await t.step("app_metadata.role makes an administrator of the next token", async () => {
      const { data } = await admin.updateUserById(user.id, {
        app_metadata: { role: "admin", team: null, desk: { floor: null } },
      });
      assertEquals(data.user?.app_metadata, {
        provider: "email",
        providers: ["email"],
        role: "admin",
        desk: { floor: null },
      });
      const { data: { session } } = await client(stack).auth.signInWithPassword(user);
      token = session?.access_token ?? "";
      assertEquals((decodeJwt(token).app_metadata as { role: string }).role, "admin");
      const before = { token: user.session.access_token };
      assertEquals((await call(stack, "kms-admin", "/health", before)).status, 403);
      assertEquals((await call(stack, "kms-admin", "/health", { token })).status, 200);
    });

    await t.step("banned: no sign-in, no refresh, nothing with the token from before", async () => {
      const spared = await client(stack).auth.signInWithPassword(other);
      const [code, othersCode] = [
        await pendingCode(stack, user.id),
        await pendingCode(stack, other.id),
      ];
      assertEquals(outcome(await admin.updateUserById(user.id, { ban_duration: "1h30m" })), "ok");
      const banned = client(stack);
      assertEquals(outcome(await banned.auth.signInWithPassword(user)), [400, "user_banned"]);
      const upper = { ...user, email: user.email.toUpperCase() };
      assertEquals(outcome(await banned.auth.signInWithPassword(upper)), [400, "user_banned"]);
      const { refresh_token } = user.session;
      const refreshed = await banned.auth.refreshSession({ refresh_token });
      assertEquals(outcome(refreshed), [400, "user_banned"]);
      assertEquals(refreshed.error?.message, "Invalid Refresh Token: User Banned");
      assertEquals(outcome(await banned.auth.getUser(token)), [403, "user_banned"]);
      const mailed = await banned.auth.verifyOtp({ ...user, token: "123456", type: "email" });
      assertEquals(outcome(mailed), [403, "user_banned"]);
      assertEquals(await sessionFor(stack, "/token?grant_type=pkce", code), [400, "user_banned"]);
      assertEquals(await sessionFor(stack, "/token?grant_type=pkce", othersCode), [200, other.id]);
      for (
        const [type, column] of [
          ["recovery", "recovery_token"],
          ["email_change", "email_change_token_current"],
          ["reauthentication", "reauthentication_token"],
        ] as const
      ) {
        const token_hash = crypto.randomUUID();
        await stack.sql(`update auth.users set ${column} = $1 where id = $2`, [
          token_hash,
          user.id,
        ]);
        assertEquals(
          await sessionFor(stack, "/verify", { type, token_hash }),
          [403, "user_banned"],
          type,
        );
      }
      const encoded = await fetch(`${stack.apiUrl}/auth/v1/%74oken?grant_type=password`, {
        method: "POST",
        headers: { apikey: stack.publishableKey },
        body: JSON.stringify(user),
      });
      assertEquals(encoded.status, 404);
      await encoded.body?.cancel();
      assertEquals(outcome(spared), "ok");
      assertEquals(outcome(await client(stack).auth.signInWithPassword(other)), "ok");
    });

    await t.step("who has no key of the project is told nothing of bans", async () => {
      const answer = await ask(stack, "/user", {
        apikey: "x",
        authorization: `Bearer ${user.session.access_token}`,
      });
      assertEquals([answer.status, answer.code], [401, undefined]);
    });

    await t.step("the end of an account: banned, without role, password or session", async () => {
      const { data } = await admin.updateUserById(user.id, {
        ban_duration: "876600h",
        app_metadata: { role: null },
        password: crypto.randomUUID(),
      });
      assertEquals(data.user?.app_metadata.role, undefined);
      assertMatch(String(data.user?.banned_until), /^21\d\d-/);
      const sessions = await stack.sql("select 1 from auth.sessions where user_id = $1", [user.id]);
      assertEquals(sessions, []);
      await admin.updateUserById(user.id, { ban_duration: "none" });
      const free = client(stack);
      const { refresh_token } = user.session;
      assertEquals(outcome(await free.auth.signInWithPassword(user)), [400, "invalid_credentials"]);
      assertEquals((await free.auth.refreshSession({ refresh_token })).error?.status, 400);
      const { publishableKey: apikey } = stack;
      const held = await ask(stack, "/user", { apikey, authorization: `Bearer ${token}` });
      assertEquals([held.status, held.code], [403, "session_not_found"]);
    });
  },
});

Deno.test("auth admin: durations of bans are Go's", () => {
  const hour = 3_600_000;
  assertEquals(
    ["none", "0", "24h", "1h30m", "1.5h", "+90m", "-1h", ".5s", "300ms", "876600h"].map(banMs),
    [0, 0, 24 * hour, 1.5 * hour, 1.5 * hour, 1.5 * hour, -hour, 500, 300, 876_600 * hour],
  );
  for (const none of ["", "h", "24", "1d", "1 h", "1h ", "infinity", "9999999h", null, 24]) {
    assertEquals(banMs(none), null, String(none));
  }
});
