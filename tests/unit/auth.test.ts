import { assertEquals } from "@std/assert";
import {
  exportJWK,
  generateKeyPair,
  type JWTHeaderParameters,
  type JWTPayload,
  SignJWT,
} from "jose";
import type { SupabaseConfig } from "../../functions-shared/config.ts";
import { authenticate, ownerOf } from "../../functions-shared/http/auth.ts";
import { codeOf, suiteError, violationsOf } from "./support/thrown.ts";

const USER = "0b9bd1a5-1111-4111-8111-111111111111";
const OTHER = "0b9bd1a5-9999-4999-8999-999999999999";
const SECRET = new TextEncoder().encode("a secret of the tests, 32 bytes and more");
const FOREIGN = new TextEncoder().encode("another secret of the tests, 32 bytes and more");
const b64 = (bytes: Uint8Array) =>
  btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const es256 = await generateKeyPair("ES256", { extractable: true });
const publicKey = { ...await exportJWK(es256.publicKey), kid: "es", alg: "ES256" };

const CONFIG: SupabaseConfig = {
  url: "https://project.supabase.example",
  publishableKeys: { default: "sb_publishable_of-the-tests" },
  secretKeys: { default: "sb_secret_of-the-tests", billing: "sb_secret_of-billing" },
  jwks: { keys: [{ kty: "oct", alg: "HS256", kid: "hs", k: b64(SECRET) }, publicKey] },
};
const CLAIMS: JWTPayload = { sub: USER, role: "authenticated", aud: "authenticated" };
const HS256 = { alg: "HS256", kid: "hs" };

function now(): number {
  return Math.floor(Date.now() / 1000);
}

/** A token that is good unless the arguments make it bad. */
function token(
  claims: JWTPayload = {},
  header: JWTHeaderParameters = HS256,
  key: Parameters<SignJWT["sign"]>[0] = SECRET,
) {
  const payload = Object.fromEntries(
    Object.entries({ ...CLAIMS, exp: now() + 60, ...claims }).filter(([, value]) =>
      value !== undefined
    ),
  );
  return new SignJWT(payload).setProtectedHeader(header).sign(key);
}

function withHeaders(headers: Record<string, string>) {
  return authenticate(new Request("http://localhost/", { headers }), CONFIG);
}

function bearer(jwt: string) {
  return withHeaders({ authorization: `Bearer ${jwt}` });
}

Deno.test("a user's token names the user, under HS256 and ES256", async () => {
  assertEquals(await bearer(await token()), {
    kind: "user",
    userId: USER,
    assurance: "aal1",
    isAdmin: false,
  });
  const aal2 = await token(
    { aal: "aal2", sub: USER.toUpperCase() },
    { alg: "ES256", kid: "es" },
    es256.privateKey,
  );
  assertEquals(await bearer(aal2), {
    kind: "user",
    userId: USER,
    assurance: "aal2",
    isAdmin: false,
  });
});

Deno.test("a secret key names itself; a publishable key and a wrong one are nobody", async () => {
  assertEquals(await withHeaders({ apikey: "sb_secret_of-the-tests" }), {
    kind: "secret_key",
    keyName: "default",
  });
  assertEquals(await withHeaders({ apikey: "sb_secret_of-billing" }), {
    kind: "secret_key",
    keyName: "billing",
  });
  for (
    const apikey of [
      "sb_publishable_of-the-tests",
      "sb_secret_of-the-test",
      "sb_secret_of-the-testss",
      "default",
      "",
    ]
  ) {
    assertEquals(await codeOf(() => withHeaders({ apikey })), "unauthorized", apikey);
  }
  assertEquals(await codeOf(() => withHeaders({})), "unauthorized");
  assertEquals(
    await codeOf(() => withHeaders({ authorization: "Bearer sb_secret_of-the-tests" })),
    "unauthorized",
  );
});

Deno.test("a bad token beside a good secret key is still a bad token", async () => {
  const jwt = await token({}, HS256, FOREIGN);
  const headers = { apikey: "sb_secret_of-the-tests", authorization: `Bearer ${jwt}` };
  assertEquals(await codeOf(() => withHeaders(headers)), "unauthorized");
});

Deno.test("a user's token beside a secret key acts as the user, with no more rights", async () => {
  const headers = { apikey: "sb_secret_of-the-tests", authorization: `Bearer ${await token()}` };
  assertEquals((await withHeaders(headers)).kind, "user");
});

const unsigned = (header: object) =>
  [header, { ...CLAIMS, exp: now() + 60 }].map((part) =>
    b64(new TextEncoder().encode(JSON.stringify(part)))
  ).join(".");

const REFUSED: Record<string, () => Promise<string> | string> = {
  "signed with another secret": () => token({}, HS256, FOREIGN),
  "expired": () => token({ exp: now() - 60 }),
  "without an expiry": () => token({ exp: undefined }),
  "not yet valid": () => token({ nbf: now() + 60 }),
  "of an unknown key id": () => token({}, { alg: "HS256", kid: "other" }),
  "without a key id": () => token({}, { alg: "HS256" }),
  "with the key id of another algorithm": () => token({}, { alg: "HS256", kid: "es" }),
  "signed by HMAC with the public key": () =>
    token({}, { alg: "HS256", kid: "es" }, new TextEncoder().encode(JSON.stringify(publicKey))),
  "of algorithm none": () => `${unsigned({ alg: "none", kid: "hs" })}.`,
  "of algorithm none, with a signature": () => `${unsigned({ alg: "none", kid: "hs" })}.AAAA`,
  "with its signature cut off": async () => (await token()).replace(/[^.]*$/, ""),
  "of a critical header nobody knows": () =>
    `${unsigned({ alg: "HS256", kid: "hs", crit: ["x"], x: 1 })}.AAAA`,
  "of the anonymous role": () => token({ role: "anon" }),
  "of the service role": () => token({ role: "service_role" }),
  "without a role": () => token({ role: undefined }),
  "with a list of roles": () => token({ role: ["authenticated"] }),
  "without a subject": () => token({ sub: undefined }),
  "with a subject that is no id": () => token({ sub: "admin" }),
  "with a subject that is more than an id": () => token({ sub: `${USER}' or 1=1 --` }),
  "that is no token": () => "a.b.c",
  "that is empty": () => "",
};

for (const [what, make] of Object.entries(REFUSED)) {
  Deno.test(`a token ${what} is refused like any other`, async () => {
    const error = await suiteError(async () => bearer(await make()));
    assertEquals([error.code, error.status, error.headers], [
      "unauthorized",
      401,
      { "www-authenticate": "Bearer" },
    ]);
  });
}

Deno.test("a user works on their own data and may name nobody, not even themselves", async () => {
  const user = { kind: "user", userId: USER, assurance: "aal1", isAdmin: false } as const;
  assertEquals(ownerOf(user, { userId: undefined, at: "query" }), USER);
  for (const userId of [OTHER, USER, null, ""]) {
    assertEquals(await violationsOf(() => ownerOf(user, { userId, at: "body" })), [
      "/user_id unknown_field",
    ]);
    assertEquals(await violationsOf(() => ownerOf(user, { userId, at: "query" })), [
      "user_id unknown_field",
    ]);
  }
});

Deno.test("a server must name the user, by id", async () => {
  const server = { kind: "secret_key", keyName: "default" } as const;
  assertEquals(ownerOf(server, { userId: OTHER.toUpperCase(), at: "body" }), OTHER);
  assertEquals(await violationsOf(() => ownerOf(server, { userId: undefined, at: "query" })), [
    "user_id missing_field",
  ]);
  for (const userId of ["", "admin", null, 1, [OTHER], { id: OTHER }, `${OTHER}\n`]) {
    assertEquals(await violationsOf(() => ownerOf(server, { userId, at: "body" })), [
      "/user_id invalid_user_id",
    ]);
  }
});
