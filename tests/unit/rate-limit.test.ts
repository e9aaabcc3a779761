import { assert, assertEquals, assertMatch } from "@std/assert";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { type Config, loadConfig } from "../../functions-shared/config.ts";
import { ConfigError, type Environment } from "../../functions-shared/environment.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { addressHash, clientAddress } from "../../functions-shared/http/address.ts";
import { createApp, json, type Route } from "../../functions-shared/http/app.ts";
import { canonicalAddress, networkOf } from "../../functions-shared/http/network.ts";
import type { LimitedKey, RateLimitStore } from "../../functions-shared/http/rate-limit-store.ts";
import {
  failurePolicies,
  policiesOf,
  rateLimitHeaders,
} from "../../functions-shared/http/rate-limit.ts";
import { rememberRefusals } from "../../functions-shared/http/refusals.ts";
import { readText } from "../support/repository.ts";
import { AWS } from "./support/environment.ts";

const USER = "0b9bd1a5-1111-4111-8111-111111111111";
const SERVER = { apikey: "sb_secret_of-the-tests" };
const KEYS = { default: "sb_secret_of-the-tests" };

const signing = await generateKeyPair("ES256", { extractable: true });
const ENVIRONMENT: Environment = {
  ...AWS,
  SUPABASE_JWKS: JSON.stringify({
    keys: [{ ...await exportJWK(signing.publicKey), kid: "es", alg: "ES256" }],
  }),
};
const token = await new SignJWT({ sub: USER, role: "authenticated" })
  .setProtectedHeader({ alg: "ES256", kid: "es" }).setExpirationTime("1h").sign(signing.privateKey);

const from = (headers: Record<string, string>) => new Request("http://localhost/", { headers });

// --- Configuration --------------------------------------------------------------------------------

Deno.test("the defaults are those that .env.example shows", () => {
  const shown = readText(".env.example").matchAll(/^# (KMS_RATE_LIMIT_[A-Z_]+)=(.+)$/gm);
  const given = Object.fromEntries([...shown].map(([, name = "", value = ""]) => [name, value]));
  assertEquals(Object.keys(given).length, 13);
  assertEquals(loadConfig({ ...AWS, ...given }).rateLimits, loadConfig(AWS).rateLimits);
});

Deno.test("a limit is requests/seconds, or off", () => {
  const of = (value: string) =>
    loadConfig({ ...AWS, KMS_RATE_LIMIT_REVEAL: value }).rateLimits.user.reveal;
  assertEquals(of("5/1"), { count: 5, seconds: 1 });
  assertEquals(of("1000000/86400"), { count: 1_000_000, seconds: 86_400 });
  assertEquals(of("off"), undefined);
  for (const wrong of ["0/60", "60", "60/0", "-1/60", "1000001/60", "60/86401", "60/60/60", "on"]) {
    let fault: unknown;
    try {
      of(wrong);
    } catch (error) {
      fault = error;
    }
    assert(fault instanceof ConfigError, wrong);
    assertMatch(fault.faults.join(), /^KMS_RATE_LIMIT_REVEAL must be off, or requests\/seconds/);
  }
});

// --- Addresses ------------------------------------------------------------------------------------

Deno.test("canonicalAddress() spells each address one way, and takes nothing else", () => {
  for (
    const [text, canonical] of [
      ["192.0.2.7", "192.0.2.7"],
      [" 192.0.2.7 ", "192.0.2.7"],
      ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
      ["::1", "::1"],
      ["::ffff:192.0.2.7", "192.0.2.7"],
      ["::FFFF:c000:207", "192.0.2.7"],
      ["192.0.2.256", undefined],
      ["192.0.2.07", undefined],
      ["192.0.2.7:80", undefined],
      ["[::1]", undefined],
      ["fe80::1%eth0", undefined],
      ["1:2:3", undefined],
      ["unknown", undefined],
      ["", undefined],
      ["::1]@evil.example/[::1", undefined],
    ] as const
  ) assertEquals(canonicalAddress(text), canonical, text);
});

Deno.test("networkOf() is the address, or the /64 of IPv6", () => {
  for (
    const [text, network] of [
      ["192.0.2.7", "192.0.2.7"],
      ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
      ["2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"],
      ["2001:db8::9", "2001:db8:0:0::/64"],
      ["2001:db8:0:1::", "2001:db8:0:1::/64"],
      ["::1", "0:0:0:0::/64"],
      ["::ffff:192.0.2.7", "192.0.2.7"],
      ["nonsense", ""],
    ] as const
  ) assertEquals(networkOf(text), network, text);
});

Deno.test("the client is whom the platform names, not what the client adds", () => {
  assertEquals(clientAddress(from({ "x-forwarded-for": "192.0.2.1" })), "192.0.2.1");
  assertEquals(clientAddress(from({ "x-forwarded-for": "192.0.2.1, 10.0.0.1" })), "192.0.2.1");
  assertEquals(
    clientAddress(
      from({ "x-forwarded-for": "203.0.113.9, 192.0.2.1", "cf-connecting-ip": "192.0.2.1" }),
    ),
    "192.0.2.1",
  );
  assertEquals(clientAddress(from({ "x-forwarded-for": "unknown" })), "");
  assertEquals(clientAddress(from({})), "");
});

Deno.test("an address is hashed under the secret key, and never shown", () => {
  const request = from({ "x-forwarded-for": "192.0.2.1" });
  const hash = addressHash(request, KEYS) ?? "";
  assertMatch(hash, /^[A-Za-z0-9+/]{43}=$/);
  assertEquals(addressHash(from({ "cf-connecting-ip": "192.0.2.1" }), KEYS), hash);
  assert(addressHash(from({ "x-forwarded-for": "192.0.2.2" }), KEYS) !== hash);
  assert(addressHash(request, { default: "another" }) !== hash);
});

// --- Policies and headers -------------------------------------------------------------------------

const config = (env: Environment = {}): Config => loadConfig({ ...ENVIRONMENT, ...env });
const named = (policies: readonly { name: string; key: string; limit: number }[]) =>
  policies.map(({ name, key, limit }) => [name, key.replace(/[A-Za-z0-9+/]{43}=/, "HASH"), limit]);

Deno.test("a user has a limit of their own and shares their address's; a server has its key's", () => {
  const request = from({ "x-forwarded-for": "192.0.2.1" });
  const user = { kind: "user", userId: USER } as const;
  assertEquals(named(policiesOf("reveal", user, request, config())), [
    ["reveal", `reveal:user:${USER}`, 20],
    ["reveal_address", "reveal_address:HASH", 100],
  ]);
  const server = { kind: "secret_key", keyName: "billing" } as const;
  assertEquals(named(policiesOf("reveal", server, request, config())), [
    ["reveal", "reveal:server:billing", 1200],
  ]);
  assertEquals(named(failurePolicies(request, config())), [
    ["auth_failure", "auth_failure:HASH", 30],
  ]);
  const off = config({ KMS_RATE_LIMIT_READ: "off", KMS_RATE_LIMIT_ADDRESS_READ: "off" });
  assertEquals(policiesOf("read", user, request, off), []);
});

Deno.test("addresses of one IPv6 /64 share a counter, others do not", () => {
  const key = (address: string) =>
    failurePolicies(from({ "x-forwarded-for": address }), config())[0]?.key;
  assertEquals(key("2001:db8::1"), key("2001:db8::ffff:1"));
  assert(key("2001:db8::1") !== key("2001:db8:0:1::1"));
  assert(key("192.0.2.1") !== key("192.0.2.2"));
});

Deno.test("the headers are those of draft-ietf-httpapi-ratelimit-headers-10", () => {
  const policies = [
    { name: "reveal", key: "a", limit: 20, seconds: 60 },
    { name: "reveal_address", key: "b", limit: 100, seconds: 3600 },
  ];
  assertEquals(rateLimitHeaders(policies, { allowed: true, index: 1, remaining: 7, reset: 42 }), {
    "ratelimit-policy": '"reveal";q=20;w=60, "reveal_address";q=100;w=3600',
    "ratelimit": '"reveal_address";r=7;t=42',
  });
});

// --- Refusals remembered --------------------------------------------------------------------------

Deno.test("who is over a limit is asked about once a second, and no longer than the window", async () => {
  let now = 0;
  let asked = 0;
  let allowed = false;
  const store = rememberRefusals({
    take: () => {
      asked++;
      return Promise.resolve(
        allowed
          ? { allowed, index: 0, remaining: 4, reset: 60 }
          : { allowed, index: 1, remaining: 0, reset: 3 },
      );
    },
  }, () => now);
  const key = (name: string): LimitedKey => ({ key: name, limit: 5, seconds: 60 });
  const take = () => store.take([key("user"), key("address")]);
  assertEquals(await take(), { allowed: false, index: 1, remaining: 0, reset: 3 });
  now = 999;
  assertEquals(await take(), { allowed: false, index: 1, remaining: 0, reset: 3 });
  assertEquals(await store.take([key("address")]), {
    allowed: false,
    index: 0,
    remaining: 0,
    reset: 3,
  });
  assertEquals(asked, 1);
  await store.take([key("user")]); // the other limit was not used up
  await store.take([{ ...key("address"), limit: 6 }]); // and this one is new
  assertEquals(asked, 3);
  allowed = true;
  now = 2000;
  assertEquals((await take()).allowed, true);
  assertEquals((await take()).allowed, true);
  assertEquals(asked, 5);
});

// --- In an app ------------------------------------------------------------------------------------

/** Answers as told; a test looks at what it was asked. */
class Store implements RateLimitStore {
  readonly asked: string[][] = [];
  left: number;
  fail: Error | undefined;

  constructor(left = 1) {
    this.left = left;
  }

  take(keys: readonly LimitedKey[]) {
    this.asked.push(keys.map(({ key }) => key.replace(/[A-Za-z0-9+/]{43}=/, "HASH")));
    if (this.fail !== undefined) return Promise.reject(this.fail);
    this.left--;
    return Promise.resolve({
      allowed: this.left >= 0,
      index: 0,
      remaining: Math.max(0, this.left),
      reset: 60,
    });
  }
}

interface App {
  readonly store: Store;
  /** Routes whose handler was begun. */
  readonly handled: string[];
  send(path: string, init?: RequestInit): Promise<{ response: Response; code: unknown }>;
}

/** A function with one route a class, each of which answers 200, and one whose read fails. */
function app(env: Environment = {}): App {
  const store = new Store();
  const handled: string[] = [];
  const handler = (name: string) => () => {
    handled.push(name);
    return name === "missing"
      ? Promise.reject(new SuiteError("not_found"))
      : Promise.resolve(json({}));
  };
  const routes: Route<object>[] = [
    {
      method: "GET",
      path: "/read",
      handle: { caller: handler("read"), limit: "read", early: true },
    },
    {
      method: "GET",
      path: "/missing",
      handle: { caller: handler("missing"), limit: "read", early: true },
    },
    { method: "POST", path: "/write", handle: { caller: handler("write"), limit: "write" } },
    { method: "POST", path: "/reveal", handle: { caller: handler("reveal"), limit: "reveal" } },
    { method: "GET", path: "/admin", handle: { caller: handler("admin"), limit: "admin" } },
    { method: "GET", path: "/public", handle: { public: handler("public") } },
  ];
  const tested = createApp({
    name: "tested",
    config: () => config({ KMS_ENABLE_LOGGING: "false", ...env }),
    serving: () => Promise.resolve({ config: config(), services: {} }),
    rateLimits: () => store,
    routes,
  });
  const send = async (path: string, init: RequestInit = {}) => {
    const response = await tested.fetch(new Request(`http://localhost/tested${path}`, init));
    const text = await response.text();
    return { response, code: text === "" ? undefined : JSON.parse(text).code };
  };
  return { store, handled, send };
}

const asUser = (method = "GET") => ({
  method,
  headers: { authorization: `Bearer ${token}`, "x-forwarded-for": "192.0.2.1" },
});
const asServer = (method = "GET") => ({ method, headers: SERVER });

Deno.test("a route asks for its class and caller, and says what is left, also of a failure", async () => {
  const { store, send } = app();
  store.left = 10;
  const { response } = await send("/read", asUser());
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("ratelimit"), '"read";r=9;t=60');
  assertEquals(
    response.headers.get("ratelimit-policy"),
    '"read";q=120;w=60, "read_address";q=1200;w=60',
  );
  const missing = await send("/missing", asServer());
  assertEquals([missing.response.status, missing.code], [404, "not_found"]);
  assertEquals(missing.response.headers.get("ratelimit"), '"read";r=8;t=60');
  await send("/write", asServer("POST"));
  await send("/admin", asUser());
  assertEquals(store.asked, [
    [`read:user:${USER}`, "read_address:HASH"],
    ["read:server:default"],
    ["write:server:default"],
    [`admin:user:${USER}`, "admin_address:HASH"],
  ]);
});

Deno.test("over the limit is 429 with all it needs to know, and nothing is begun but what may be", async () => {
  const { store, handled, send } = app();
  store.left = 0;
  for (
    const [path, method] of [
      ["/write", "POST"],
      ["/reveal", "POST"],
      ["/admin", "GET"],
      ["/read", "GET"],
      // The limit is heard, not what the read came to.
      ["/missing", "GET"],
    ] as const
  ) {
    const { response, code } = await send(path, asServer(method));
    assertEquals([response.status, code], [429, "rate_limited"], path);
    assertEquals(response.headers.get("content-type"), "application/problem+json");
    assertEquals(response.headers.get("retry-after"), "60");
    assertMatch(response.headers.get("ratelimit") ?? "", /^"[a-z]+";r=0;t=60$/);
    assertMatch(response.headers.get("ratelimit-policy") ?? "", /^"[a-z]+";q=\d+;w=60$/);
  }
  assertEquals(handled, ["read", "missing"]);
});

Deno.test("an early handler learns of the refusal, and has ended when it is answered", async () => {
  const ended: string[] = [];
  const tested = createApp<object>({
    name: "tested",
    config: () => config({ KMS_ENABLE_LOGGING: "false" }),
    serving: () => Promise.resolve({ config: config(), services: {} }),
    rateLimits: () => new Store(0),
    routes: [{
      method: "GET",
      path: "/",
      handle: {
        limit: "reveal",
        early: true,
        caller: async ({ admitted }) => {
          try {
            await admitted;
            ended.push("revealed");
          } catch (error) {
            await new Promise((resolve) => setTimeout(resolve));
            ended.push(error instanceof SuiteError ? error.code : "other");
          }
          return json({ card: "plaintext" });
        },
      },
    }],
  });
  const response = await tested.fetch(new Request("http://localhost/tested", asServer()));
  assertEquals([response.status, ended], [429, ["rate_limited"]]);
  assert(!(await response.text()).includes("plaintext"));
});

Deno.test("what cannot be counted is not let through", async () => {
  const { store, handled, send } = app();
  store.fail = new SuiteError("database_unavailable");
  for (
    const [path, method] of [["/read", "GET"], ["/write", "POST"], ["/reveal", "POST"]] as const
  ) {
    const { response, code } = await send(path, asServer(method));
    assertEquals([response.status, code], [503, "database_unavailable"], path);
    assertEquals(response.headers.get("ratelimit"), null);
  }
  assertEquals(handled, ["read"]);
});

Deno.test("failed authentications count against the address; over it only they are refused", async () => {
  const { store, handled, send } = app();
  store.left = 1;
  const bad = { headers: { apikey: "sb_secret_guessed", "x-forwarded-for": "192.0.2.1" } };
  const first = await send("/read", bad);
  assertEquals([first.response.status, first.code], [401, "unauthorized"]);
  assertEquals(first.response.headers.get("www-authenticate"), "Bearer");
  assertEquals(first.response.headers.get("ratelimit"), '"auth_failure";r=0;t=60');
  const second = await send("/read", bad);
  assertEquals([second.response.status, second.code], [429, "rate_limited"]);
  assertEquals(second.response.headers.get("retry-after"), "60");
  store.left = 1;
  assertEquals((await send("/read", asUser())).response.status, 200);
  store.fail = new SuiteError("database_unavailable");
  assertEquals((await send("/read", bad)).code, "unauthorized");
  assertEquals(store.asked, [
    ["auth_failure:HASH"],
    ["auth_failure:HASH"],
    [`read:user:${USER}`, "read_address:HASH"],
    ["auth_failure:HASH"],
  ]);
  assertEquals(handled, ["read"]);
});

Deno.test("preflights, public routes, unknown paths and methods count against nothing", async () => {
  const { store, send } = app();
  const origin = { origin: "https://shop.example" };
  const preflight = await send("/read", {
    method: "OPTIONS",
    headers: { ...origin, "access-control-request-method": "GET" },
  });
  assertEquals(preflight.response.status, 204);
  assertEquals((await send("/public")).response.headers.get("ratelimit"), null);
  assertEquals((await send("/nothing", asUser())).code, "not_found");
  assertEquals((await send("/read", asUser("DELETE"))).code, "method_not_allowed");
  assertEquals(store.asked, []);
  const { response } = await send("/read", { headers: { ...asUser().headers, ...origin } });
  const exposed = (response.headers.get("access-control-expose-headers") ?? "").split(",");
  for (const name of ["ratelimit", "ratelimit-policy", "retry-after"]) {
    assert(exposed.includes(name), name);
  }
});

Deno.test("where limits are off nothing is asked and nothing is said", async () => {
  const { store, handled, send } = app({ KMS_RATE_LIMIT_SERVER_WRITE: "off" });
  store.fail = new Error("asked");
  const { response } = await send("/write", asServer("POST"));
  assertEquals([response.status, response.headers.get("ratelimit")], [200, null]);
  assertEquals(response.headers.get("ratelimit-policy"), null);
  assertEquals([store.asked, handled], [[], ["write"]]);
});
