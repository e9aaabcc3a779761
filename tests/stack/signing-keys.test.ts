import { assert, assertEquals, assertMatch } from "@std/assert";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { demoToken } from "../../local/demo-token.ts";
import type { Identity } from "../../local/identity.ts";
import { LiteTokens } from "../../local/lite-tokens.ts";
import { ProjectKeys } from "../../local/project-keys.ts";
import { isValidJwt, newSigningKey, withStatus } from "../../local/signing-keys.ts";
import type { Stack } from "../../local/stack.ts";
import { legacyKey, mintJwt, signJwt, userClaims } from "../../local/tokens.ts";
import { call, sharedStack, signUp, WITH_STACK } from "../support/stack.ts";
import { management } from "./management.ts";

const PATH = "config/auth/signing-keys";

/** The status with which each door answers a user who has this token. */
async function doors(stack: Stack, token: string): Promise<Record<string, number>> {
  const headers = { apikey: stack.publishableKey, authorization: `Bearer ${token}` };
  const status = async (answer: Promise<Response>) => {
    const response = await answer;
    await response.body?.cancel();
    return response.status;
  };
  return {
    functions: await status(call(stack, "manage-payment-methods-kms", "", { token })),
    data: await status(fetch(`${stack.apiUrl}/rest/v1/payment_methods?limit=1`, { headers })),
    auth: await status(fetch(`${stack.apiUrl}/auth/v1/user`, { headers })),
  };
}
const OPEN = { functions: 200, data: 200, auth: 200 };
const SHUT = { functions: 401, data: 401, auth: 403 };

async function session(stack: Stack, grant: string, body: object) {
  const response = await fetch(`${stack.apiUrl}/auth/v1/token?grant_type=${grant}`, {
    method: "POST",
    headers: { apikey: stack.publishableKey, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  assertEquals(response.status, 200, JSON.stringify(answer));
  return answer as { access_token: string; refresh_token: string };
}

async function changed(stack: Stack, id: string, status: string) {
  const answer = await management(stack, "PATCH", `${PATH}/${id}`, { status });
  return answer.status === 200 ? answer.body.status : answer.body.message;
}

Deno.test({
  name: "signing keys: rotated without anybody's notice, revoked at once",
  ...WITH_STACK,
  fn: async (t) => {
    const stack = await sharedStack();
    const { demo } = stack.identity;
    const user = await signUp(stack);
    const old = user.token;
    const credentials = { email: demo.email, password: demo.password };
    await fetch(`${stack.apiUrl}/auth/v1/signup`, {
      method: "POST",
      headers: { apikey: stack.publishableKey },
      body: JSON.stringify(credentials),
    }).then((response) => response.body?.cancel());
    const before = await session(stack, "password", credentials);
    const { body: { keys: [{ id: first }] } } = await management(stack, "GET", PATH);
    let second = "";

    await t.step("the JWT secret is told from other keys", async () => {
      const { status, body } = await management(stack, "GET", `${PATH}/legacy`);
      assertEquals([status, body.id, body.algorithm, body.public_jwk], [200, first, "HS256", null]);
    });

    await t.step("a new key stands by: it is trusted, and signs nothing yet", async () => {
      const { status, body } = await management(stack, "POST", PATH, { algorithm: "ES256" });
      second = body.id;
      assertEquals([status, body.status, body.algorithm], [201, "standby", "ES256"]);
      assertEquals([body.public_jwk.crv, body.public_jwk.d], ["P-256", undefined]);
      assertEquals((await management(stack, "POST", PATH, { algorithm: "HS256" })).status, 400);
      assertEquals((await management(stack, "POST", PATH, { algorithm: "RS256" })).status, 400);
      const published = await (await fetch(`${stack.apiUrl}/auth/v1/.well-known/jwks.json`)).json();
      assertEquals(published.keys.map(({ kid, d }: { kid: string; d?: string }) => [kid, d]), [
        [second, undefined],
      ]);
      const { access_token: token } = await session(stack, "password", credentials);
      assertEquals(decodeProtectedHeader(token).alg, "HS256");
      assertEquals(await doors(stack, token), OPEN);
    });

    await t.step("no key is left out on its way", async () => {
      assertMatch(await changed(stack, first, "revoked"), /legacy API keys first/);
      assertMatch(await changed(stack, first, "standby"), /cannot become standby/);
      assertMatch(await changed(stack, first, "previously_used"), /cannot become/);
      assertMatch(await changed(stack, second, "revoked"), /cannot become revoked/);
      assertMatch(await changed(stack, second, "deleted"), /^status: /);
      assertEquals(
        (await management(stack, "PATCH", `${PATH}/x`, { status: "in_use" })).status,
        404,
      );
    });

    await t.step("rotated: the new key signs, and tokens of before still count", async () => {
      assertEquals(await changed(stack, second, "in_use"), "in_use");
      const { access_token: token } = await session(stack, "password", credentials);
      assertEquals(decodeProtectedHeader(token), { alg: "ES256", typ: "JWT", kid: second });
      const { role, iss, session_id } = decodeJwt(token);
      assertEquals([role, iss], ["authenticated", `${stack.apiUrl}/auth/v1`]);
      assert(session_id !== decodeJwt(before.access_token).session_id);
      assertEquals(await doors(stack, token), OPEN);
      assertEquals(await doors(stack, old), OPEN);
      const file = {
        api_url: stack.apiUrl,
        signing_key: stack.signingKey,
        demo: { ...demo, user_id: decodeJwt(token).sub ?? "" },
      };
      assertEquals((await doors(stack, await demoToken(file))).functions, 200);
    });

    await t.step("revoked: tokens of before are refused, legacy keys among them", async () => {
      const { createdAt } = stack.identity;
      const service = await legacyKey(stack.jwtSecret, "service_role", createdAt);
      assertEquals((await management(stack, "PUT", "api-keys/legacy")).status, 400);
      const off = await management(stack, "PUT", "api-keys/legacy?enabled=false");
      assertEquals(off, { status: 200, body: { enabled: false } });
      assertEquals(stack.functionEnv.SUPABASE_SERVICE_ROLE_KEY, undefined);
      assertEquals(await changed(stack, first, "revoked"), "revoked");
      assertEquals((await management(stack, "PUT", "api-keys/legacy?enabled=true")).status, 400);
      assertEquals(await doors(stack, old), SHUT);
      assertEquals(await doors(stack, service), SHUT);
      assert(!stack.functionEnv.SUPABASE_JWKS?.includes(stack.jwtSecret));
    });

    await t.step(
      "who had signed in goes on with the refresh token, or signs in again",
      async () => {
        const { refresh_token } = before;
        const refreshed = await session(stack, "refresh_token", { refresh_token });
        assertEquals(await doors(stack, refreshed.access_token), OPEN);
        const again = await session(stack, "password", credentials);
        assertEquals(await doors(stack, again.access_token), OPEN);
      },
    );

    await t.step("a forged token opens nothing", async () => {
      const claims = userClaims({ apiUrl: stack.apiUrl, ...user });
      const { jwk: stranger } = await newSigningKey("ES256");
      const publicKey = JSON.stringify(
        (await management(stack, "GET", PATH)).body.keys[1].public_jwk,
      );
      const forged = {
        "the secret that is revoked": await mintJwt(stack.jwtSecret, claims),
        "a stranger's key": await signJwt(stranger, claims),
        "a stranger's key under our name": await signJwt({ ...stranger, kid: second }, claims),
        "the public key as a shared secret": await signJwt(
          { kty: "oct", alg: "HS256", kid: second, k: btoa(publicKey).replaceAll("=", "") },
          claims,
        ),
        "no signature": [{ alg: "none", kid: second }, { ...claims, exp: 9_999_999_999 }, ""]
          .map((part) => part && Buffer.from(JSON.stringify(part)).toString("base64url")).join("."),
      };
      for (const [what, token] of Object.entries(forged)) {
        const { functions, data, auth } = await doors(stack, token);
        // Of a token with an empty part the data API takes no notice: the caller is nobody.
        assertEquals(functions, 401, what);
        assert(data === 401 && (auth === 401 || auth === 403), `${what}: ${data} ${auth}`);
      }
    });

    await t.step("a way back: a revoked key stands by, and is rotated to", async () => {
      assertEquals(await changed(stack, first, "standby"), "standby");
      assertEquals(await doors(stack, old), OPEN);
      assertEquals(await changed(stack, first, "in_use"), "in_use");
      assertEquals(await changed(stack, second, "revoked"), "revoked");
      assertEquals(await doors(stack, old), OPEN);
    });
  },
});

Deno.test("signing keys: the session in a mailed link's redirect is the project's own", async () => {
  const key = { ...await newSigningKey("ES256"), status: "in_use" as const };
  const identity = { signingKeys: [key] } as unknown as Identity;
  const tokens = new LiteTokens(new ProjectKeys(identity, () => Promise.resolve()));
  const request = new Request("http://127.0.0.1/auth/v1/verify?token=x&type=magiclink");
  const userId = crypto.randomUUID();
  const location = `http://app/#access_token=${await tokens.forUser(userId)}&refresh_token=r`;
  const answer = new Response(null, { status: 303, headers: { location } });
  const sent = new URL((await tokens.outward(answer, request)).headers.get("location") ?? "");
  const session = new URLSearchParams(sent.hash.slice(1));
  const token = session.get("access_token") ?? "";
  assertEquals([sent.origin, session.get("refresh_token")], ["http://app", "r"]);
  assertEquals([decodeJwt(token).sub, await isValidJwt([key], token)], [userId, true]);
  const refused = new Response(null, {
    status: 303,
    headers: { location: "http://app/#error=access_denied" },
  });
  assertEquals(await tokens.outward(refused, request), refused);
});

Deno.test("signing keys: one on standby, one in use, whatever is asked", async () => {
  const [a, b, c] = await Promise.all([1, 2, 3].map(() => newSigningKey("HS256")));
  assert(a && b && c);
  const keys = [{ ...a, status: "in_use" as const }, { ...b, status: "revoked" as const }, c];
  assertEquals(withStatus(keys, b.id, "standby"), null);
  assertEquals(withStatus(keys, b.id, "in_use"), null);
  const rotated = withStatus(keys, c.id, "in_use");
  assertEquals(rotated?.map(({ status }) => status), ["previously_used", "revoked", "in_use"]);
});
