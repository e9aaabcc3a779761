/** Vault's HTTP API, as far as the suite needs it: which path asks for what, and who may. */
import type { RestReply, RestRequest } from "../rest/server.ts";
import { PERMISSION_DENIED, VaultError } from "./errors.ts";
import type { KeyValueEngine } from "./key-value.ts";
import type { TokenRecord, Tokens } from "./tokens.ts";
import type { TransitEngine } from "./transit.ts";
import type { TokenOptions } from "./types.ts";

export interface VaultState {
  readonly namespace: string | undefined;
  readonly mount: string;
  readonly kvMount: string;
  readonly tokens: Tokens;
  readonly transit: TransitEngine;
  readonly keyValue: KeyValueEngine;
  readonly roleId: string;
  readonly secretId: string;
  readonly role: TokenOptions;
  readonly sealed: boolean;
}

export function operationOf(
  { method, path }: RestRequest,
  { mount, kvMount }: Pick<VaultState, "mount" | "kvMount">,
): string {
  if (path === "/v1/auth/approle/login") return "Login";
  if (path === "/v1/auth/token/renew-self") return "RenewToken";
  if (path === "/v1/auth/token/lookup-self") return "LookupToken";
  if (path.startsWith(`/v1/${kvMount}/data/`)) {
    return method === "GET" ? "ReadSecret" : "WriteSecret";
  }
  if (new RegExp(`^/v1/${mount}/keys/[^/]+/rotate$`).test(path)) return "RotateKey";
  const [, verb] = new RegExp(`^/v1/${mount}/(encrypt|decrypt|keys)/[^/]+$`).exec(path) ?? [];
  return { encrypt: "Encrypt", decrypt: "Decrypt", keys: "ReadKey" }[verb ?? ""] ?? "Unknown";
}

export function answerVault(request: RestRequest, state: VaultState): RestReply {
  try {
    return perform(request, state);
  } catch (error) {
    if (error instanceof VaultError) return error.reply;
    throw error;
  }
}

function perform(request: RestRequest, state: VaultState): RestReply {
  if (state.sealed) throw new VaultError(503, "Vault is sealed");
  if (!request.path.startsWith("/v1/")) return { status: 404, body: "404 page not found" };
  const path = request.path.slice("/v1/".length);
  const isWrite = request.method === "POST" || request.method === "PUT";
  if (!isWrite && request.method !== "GET") throw new VaultError(405);
  const input = isWrite ? readInput(request.body) : {};
  const namespace = request.headers["x-vault-namespace"]?.replace(/^\/+|\/+$/g, "") || undefined;
  const here = namespace === state.namespace;
  if (path === "auth/approle/login") {
    if (!here) throw new VaultError(403, PERMISSION_DENIED);
    if (!isWrite) throw unsupported();
    return { status: 200, body: envelope({ auth: login(input, state) }) };
  }
  const token = state.tokens.find(request.headers["x-vault-token"]);
  // A token is one of its own namespace.
  if (!here) throw new VaultError(403, PERMISSION_DENIED);
  const operation = operationOf(request, state);
  const allow = (capability: Parameters<Tokens["require"]>[2]) =>
    state.tokens.require(token, path, capability);
  const named = operation === "RotateKey" ? path.slice(0, path.lastIndexOf("/")) : path;
  const key = named.slice(named.lastIndexOf("/") + 1);
  switch (operation) {
    case "LookupToken":
      if (isWrite) throw unsupported();
      allow("read");
      return { status: 200, body: envelope({ data: lookup(token, state) }) };
    case "RenewToken":
      if (!isWrite) throw unsupported();
      allow("update");
      state.tokens.renew(token);
      return { status: 200, body: envelope({ auth: auth(token, state) }) };
    case "ReadKey":
      if (isWrite) throw unsupported();
      allow("read");
      return { status: 200, body: envelope({ data: state.transit.read(key) }) };
    case "RotateKey":
      if (!isWrite) throw unsupported();
      allow("update");
      if (!state.transit.has(key)) throw new VaultError(400, "key not found");
      state.transit.rotate(key);
      return { status: 200, body: envelope({ data: state.transit.read(key) }) };
    case "Encrypt":
      if (!isWrite) throw unsupported();
      // Under a name that does not exist this is a creation, and makes the key.
      allow(state.transit.has(key) ? "update" : "create");
      state.transit.create(key);
      return { status: 200, body: envelope({ data: state.transit.encrypt(key, input) }) };
    case "Decrypt":
      if (!isWrite) throw unsupported();
      allow("update");
      return { status: 200, body: envelope({ data: state.transit.decrypt(key, input) }) };
    case "ReadSecret": {
      allow("read");
      const version = new URLSearchParams(request.query).get("version");
      const { status, data } = state.keyValue.read(secretPath(path, state), version);
      return { status, body: envelope({ data }) };
    }
    case "WriteSecret": {
      if (!isWrite) throw unsupported();
      const at = secretPath(path, state);
      allow(state.keyValue.has(at) ? "update" : "create");
      return { status: 200, body: envelope({ data: state.keyValue.write(at, input) }) };
    }
    default:
      allow(isWrite ? "update" : "read");
      throw new VaultError(404, `no handler for route "${path}". route entry not found.`);
  }
}

function secretPath(path: string, { kvMount }: VaultState): string {
  const at = decodeURIComponent(path.slice(`${kvMount}/data/`.length));
  if (at === "" || at.endsWith("/")) throw unsupported();
  return at;
}

function unsupported(): VaultError {
  return new VaultError(405, "1 error occurred:\n\t* unsupported operation\n\n");
}

function readInput(body: string): Record<string, unknown> {
  if (body === "") return {};
  try {
    const json = JSON.parse(body);
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json;
  } catch {
    // The one refusal below.
  }
  throw new VaultError(400, "error parsing JSON");
}

function login(input: Readonly<Record<string, unknown>>, state: VaultState) {
  if (typeof input.role_id !== "string" || input.role_id === "") {
    throw new VaultError(400, "missing role_id");
  }
  if (input.role_id !== state.roleId || input.secret_id !== state.secretId) {
    throw new VaultError(400, "invalid role or secret ID");
  }
  return auth(state.tokens.issue(state.role), state);
}

function auth(token: TokenRecord, state: VaultState) {
  return {
    client_token: token.id,
    accessor: "local-accessor",
    policies: token.policies,
    token_policies: token.policies,
    metadata: {},
    lease_duration: state.tokens.secondsLeft(token),
    renewable: token.renewable,
    entity_id: "",
    token_type: "service",
    orphan: true,
    num_uses: 0,
  };
}

function lookup(token: TokenRecord, state: VaultState) {
  return {
    accessor: "local-accessor",
    creation_time: Math.floor(token.createdAt / 1000),
    creation_ttl: token.ttl,
    display_name: "token",
    expire_time: token.expiresAt === Infinity ? null : new Date(token.expiresAt).toISOString(),
    explicit_max_ttl: 0,
    id: token.id,
    num_uses: 0,
    orphan: true,
    path: "auth/token/create",
    policies: token.policies,
    renewable: token.renewable,
    ttl: state.tokens.secondsLeft(token),
    type: "service",
  };
}

function envelope(content: { readonly data?: unknown; readonly auth?: unknown }) {
  return {
    request_id: crypto.randomUUID(),
    lease_id: "",
    renewable: false,
    lease_duration: 0,
    data: null,
    wrap_info: null,
    warnings: null,
    auth: null,
    ...content,
  };
}
