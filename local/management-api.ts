import { createHash } from "node:crypto";
import { type Identity, newSecretKey, type SecretKey } from "./identity.ts";
import type { ProjectKeys } from "./project-keys.ts";
import { sameText } from "./project-keys.ts";
import {
  newSigningKey,
  type SigningKey,
  type SigningKeyStatus,
  verifyingJwk,
  withStatus,
} from "./signing-keys.ts";

/** Serves `/v1/projects/`. */
export type ManagementHandler = (request: Request, pathname: string) => Promise<Response>;

/** The reference of the embedded stack's project; hosted ones have 20 letters too. */
export const PROJECT_REF = "embeddedlocalproject";

const STATUSES: readonly SigningKeyStatus[] = ["standby", "in_use", "previously_used", "revoked"];
/** As hosted. */
const NAME = /^[a-z_][a-z0-9_]+$/;

/** Refuses a request; becomes the answer `{"message"}`. */
class Refusal extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** What a route is given. */
interface Call {
  readonly keys: ProjectKeys;
  readonly query: URLSearchParams;
  readonly body: () => Promise<Record<string, unknown>>;
  /** The last part of the path, where the route has one. */
  readonly id: string;
}

type Route = (call: Call) => Promise<{ readonly status?: number; readonly body: unknown }>;

const ROUTES: Readonly<Record<string, Route>> = {
  "GET api-keys": ({ keys, query }) => {
    const { publishableKey, secretKeys, createdAt } = keys.identity;
    const publishable = {
      id: "publishable",
      name: "default",
      key: publishableKey,
      description: null,
      createdAt: new Date(createdAt * 1000).toISOString(),
    };
    const shown = secretKeys.map((key) => showApiKey(key, "secret", query));
    return answer([showApiKey(publishable, "publishable", query), ...shown]);
  },
  "POST api-keys": async ({ keys, query, body }) => {
    const key = secretKeyFrom(await body());
    await keys.change((now) => {
      if (now.secretKeys.some(({ name }) => name === key.name)) {
        throw new Refusal(400, `An API key named ${key.name} exists already`);
      }
      return { ...now, secretKeys: [...now.secretKeys, key] };
    });
    return { status: 201, body: showApiKey(key, "secret", query) };
  },
  "DELETE api-keys/:id": async ({ keys, query, id }) => {
    let deleted: SecretKey | undefined;
    await keys.change((now) => {
      deleted = now.secretKeys.find((key) => key.id === id);
      if (!deleted) throw new Refusal(404, "API key not found");
      if (now.secretKeys.length === 1) {
        throw new Refusal(400, "the embedded stack keeps one secret key: create another first");
      }
      return { ...now, secretKeys: now.secretKeys.filter((key) => key.id !== id) };
    });
    return answer(deleted && showApiKey(deleted, "secret", query));
  },
  "GET api-keys/legacy": ({ keys }) => answer({ enabled: keys.identity.legacyKeysEnabled }),
  "PUT api-keys/legacy": async ({ keys, query }) => {
    const enabled = query.get("enabled");
    if (enabled !== "true" && enabled !== "false") throw new Refusal(400, "enabled: true or false");
    await keys.change((now) => {
      if (enabled === "true" && now.signingKeys.some((key) => key.legacy && isRevoked(key))) {
        throw new Refusal(400, "the legacy JWT secret is revoked");
      }
      return { ...now, legacyKeysEnabled: enabled === "true" };
    });
    return answer({ enabled: enabled === "true" });
  },
  "GET config/auth/signing-keys": ({ keys }) =>
    answer({ keys: keys.identity.signingKeys.map(showSigningKey) }),
  "POST config/auth/signing-keys": async ({ keys, body }) => {
    const { algorithm, status = "standby" } = await body();
    if (algorithm !== "ES256" && algorithm !== "HS256") {
      throw new Refusal(400, "algorithm: the embedded stack has ES256 and HS256");
    }
    if (status !== "standby") throw new Refusal(400, "status: a new key begins as standby");
    const key = await newSigningKey(algorithm);
    await keys.change((now) => {
      if (now.signingKeys.some((one) => one.status === "standby")) {
        throw new Refusal(400, "there is a standby key already");
      }
      return { ...now, signingKeys: [...now.signingKeys, key] };
    });
    return { status: 201, body: showSigningKey(key) };
  },
  /** The JWT secret as the signing key that it became. */
  "GET config/auth/signing-keys/legacy": ({ keys }) => {
    const key = keys.identity.signingKeys.find(({ legacy }) => legacy);
    if (!key) throw new Refusal(404, "Not Found");
    return answer(showSigningKey(key));
  },
  "PATCH config/auth/signing-keys/:id": async ({ keys, body, id }) => {
    const { status } = await body();
    const wanted = STATUSES.find((one) => one === status);
    if (!wanted) throw new Refusal(400, `status: expected one of ${STATUSES.join("|")}`);
    const { signingKeys } = await keys.change((now) => ({
      ...now,
      signingKeys: changedStatus(now, id, wanted),
    }));
    const changed = signingKeys.find((key) => key.id === id);
    return answer(changed && showSigningKey(changed));
  },
};

/**
 * The part of Supabase's Management API (api.supabase.com) that keys need: API keys, and the keys that sign
 * access tokens. With the stack's access token as `Authorization: Bearer`; browsers (anything with an
 * Origin) are refused. Each change is in force, in the functions too, when it is answered.
 */
export function createManagementApi(keys: ProjectKeys): ManagementHandler {
  return async (request, pathname) => {
    const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    if (request.headers.has("origin") || !sameText(token, keys.identity.accessToken)) {
      return Response.json({ message: "Unauthorized" }, { status: 401 });
    }
    const prefix = `/v1/projects/${PROJECT_REF}/`;
    const path = pathname.startsWith(prefix) ? pathname.slice(prefix.length) : "";
    const [route, id = ""] = routeOf(request.method, path);
    if (!route) return Response.json({ message: "Not Found" }, { status: 404 });
    const query = new URL(request.url).searchParams;
    try {
      const { status = 200, body } = await route({
        keys,
        query,
        id,
        body: () => jsonBody(request),
      });
      return Response.json(body, { status, headers: { "cache-control": "no-store" } });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return Response.json({ message: error.message }, { status: error.status });
    }
  };
}

function routeOf(method: string, path: string): readonly [Route | undefined, string?] {
  const exact = Object.hasOwn(ROUTES, `${method} ${path}`)
    ? ROUTES[`${method} ${path}`]
    : undefined;
  if (exact) return [exact];
  const [, parent = "", id = ""] = /^(.+)\/([^/]+)$/.exec(path) ?? [];
  return [ROUTES[`${method} ${parent}/:id`], id];
}

function answer(body: unknown) {
  return Promise.resolve({ body });
}

async function jsonBody(request: Request): Promise<Record<string, unknown>> {
  const body = await request.json().catch(() => null);
  if (typeof body === "object" && body !== null && !Array.isArray(body)) return body;
  throw new Refusal(400, "the body must be a JSON object");
}

function secretKeyFrom(body: Record<string, unknown>): SecretKey {
  const { type, name, description = null, secret_jwt_template: template } = body;
  if (type !== "secret") {
    throw new Refusal(400, "type: the embedded stack has one publishable key; expected secret");
  }
  if (typeof name !== "string" || name.length < 4 || name.length > 64 || !NAME.test(name)) {
    throw new Refusal(
      400,
      "name: 4 to 64 lower-case letters, digits or underscores, no digit at the start",
    );
  }
  if (description !== null && typeof description !== "string") {
    throw new Refusal(400, "description: expected a string");
  }
  // A hosted project makes a key without it, which then has no role and opens nothing.
  if ((template as { role?: unknown } | null | undefined)?.role !== "service_role") {
    throw new Refusal(
      400,
      'secret_jwt_template: expected {"role": "service_role"}; the embedded stack has no other role',
    );
  }
  return newSecretKey(name, description);
}

/** Its value is shown only to who asks for it (`?reveal=true`). */
function showApiKey(key: SecretKey, type: "publishable" | "secret", query: URLSearchParams) {
  const prefix = key.key.slice(0, `sb_${type}_`.length + 5);
  const reveal = type === "publishable" || query.get("reveal") === "true";
  return {
    id: key.id,
    type,
    name: key.name,
    api_key: reveal ? key.key : `${prefix}${"·".repeat(16)}`,
    prefix,
    hash: createHash("sha256").update(key.key).digest("base64url"),
    description: key.description,
    secret_jwt_template: type === "secret" ? { role: "service_role" } : null,
    inserted_at: key.createdAt,
    updated_at: key.createdAt,
  };
}

function changedStatus(now: Identity, id: string, status: SigningKeyStatus) {
  const key = now.signingKeys.find((one) => one.id === id);
  if (!key) throw new Refusal(404, "Signing key not found");
  if (status === "revoked" && key.legacy && now.legacyKeysEnabled) {
    throw new Refusal(400, "disable the legacy API keys first: the legacy JWT secret signed them");
  }
  const changed = withStatus(now.signingKeys, id, status);
  if (!changed) throw new Refusal(400, `a key that is ${key.status} cannot become ${status}`);
  return changed;
}

function showSigningKey(key: SigningKey) {
  return {
    id: key.id,
    algorithm: key.jwk.alg,
    status: key.status,
    public_jwk: key.jwk.kty === "oct" ? null : verifyingJwk(key),
    created_at: key.createdAt,
    updated_at: key.updatedAt,
  };
}

function isRevoked({ status }: SigningKey): boolean {
  return status === "revoked";
}
