/**
 * Secret Manager over REST v1: create, add a version, access one.
 * Source: cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.
 */
import { crc32c } from "../../functions-shared/keys/providers/gcp/crc32c.ts";
import { base64Bytes, base64Text, type RestReply, type RestRequest } from "../rest/server.ts";
import { GcpError, NO_SUCH_PAGE, requireScope } from "./errors.ts";
import { PLATFORM_SCOPE } from "./tokens.ts";
import type { Permission } from "./types.ts";

type State = "ENABLED" | "DISABLED" | "DESTROYED";

interface Version {
  readonly data: Uint8Array;
  readonly createdAt: number;
  state: State;
}

const MAX_BYTES = 64 * 1024;

/** As kept in a file: data in base64. */
export interface SecretState {
  readonly name: string;
  readonly createdAt: number;
  readonly versions: readonly (Omit<Version, "data"> & { readonly data: string })[];
}

export class SecretRecord {
  /** `projects/.../secrets/NAME`. */
  readonly name: string;
  readonly createdAt: number;
  readonly #versions: Version[];

  constructor({ name, createdAt, versions }: SecretState) {
    this.name = name;
    this.createdAt = createdAt;
    this.#versions = versions.map((one) => ({ ...one, data: base64Bytes(one.data)! }));
  }

  static create(name: string, now: number): SecretRecord {
    return new SecretRecord({ name, createdAt: now, versions: [] });
  }

  get state(): SecretState {
    const versions = this.#versions.map((one) => ({ ...one, data: base64Text(one.data) }));
    return { name: this.name, createdAt: this.createdAt, versions };
  }

  add(data: Uint8Array, now: number): number {
    return this.#versions.push({ data, createdAt: now, state: "ENABLED" });
  }

  setState(number: number, state: State): void {
    const version = this.#versions[number - 1];
    if (version === undefined) throw new Error(`there is no version ${number}`);
    version.state = state;
  }

  /** `latest`: the last one, whatever its state. */
  find(number: string): { readonly name: string; readonly version: Version } | undefined {
    const at = number === "latest" ? this.#versions.length : Number(number);
    const version = this.#versions[at - 1];
    return version && { name: `${this.name}/versions/${at}`, version };
  }
}

export interface SecretsState {
  readonly project: string;
  readonly secrets: Map<string, SecretRecord>;
  readonly permissions: ReadonlySet<Permission>;
  /** Of the caller's token; undefined without one. */
  readonly scopes: readonly string[] | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

const PATHS = [
  ["CreateSecret", "POST", /^\/v1\/(projects\/[^/:]+)\/secrets$/, "secretmanager.secrets.create"],
  [
    "AddSecretVersion",
    "POST",
    /^\/v1\/(projects\/[^/:]+\/secrets\/[^/:]+):addVersion$/,
    "secretmanager.versions.add",
  ],
  [
    "AccessSecretVersion",
    "GET",
    /^\/v1\/(projects\/[^/:]+\/secrets\/[^/:]+)\/versions\/(latest|[1-9]\d{0,9}):access$/,
    "secretmanager.versions.access",
  ],
] as const satisfies readonly (readonly [string, string, RegExp, Permission])[];

interface SecretCall {
  readonly operation: typeof PATHS[number][0];
  readonly permission: Permission;
  readonly resource: string;
  readonly version: string;
}

/** What a request asks for; undefined when Secret Manager has no such method. */
export function parseSecretCall({ method, path }: RestRequest): SecretCall | undefined {
  for (const [operation, verb, pattern, permission] of PATHS) {
    const [, resource, version = ""] = (method === verb && pattern.exec(path)) || [];
    if (resource !== undefined) return { operation, permission, resource, version };
  }
}

export function answerSecrets(request: RestRequest, state: SecretsState): RestReply {
  const call = parseSecretCall(request);
  if (call === undefined) return NO_SUCH_PAGE;
  try {
    return { status: 200, body: perform(call, request, state) };
  } catch (error) {
    if (error instanceof GcpError) return error.reply;
    throw error;
  }
}

function perform(
  call: SecretCall,
  request: RestRequest,
  state: SecretsState,
): Record<string, unknown> {
  requireScope(state.scopes, [PLATFORM_SCOPE]);
  const { operation, permission, resource } = call;
  if (
    !state.permissions.has(permission) ||
    resource.split("/").slice(0, 2).join("/") !== `projects/${state.project}`
  ) {
    throw new GcpError(
      "PERMISSION_DENIED",
      `Permission '${permission}' denied for resource '${resource}' (or it may not exist).`,
    );
  }
  if (operation === "CreateSecret") return create(resource, request, state);
  const secret = state.secrets.get(resource);
  if (secret === undefined) throw new GcpError("NOT_FOUND", `Secret [${resource}] not found.`);
  return operation === "AddSecretVersion"
    ? add(secret, request.body, state)
    : access(secret, call.version);
}

function create(
  parent: string,
  request: RestRequest,
  { secrets, now }: SecretsState,
): Record<string, unknown> {
  const id = new URLSearchParams(request.query).get("secretId") ?? "";
  if (!/^[a-zA-Z0-9_-]{1,255}$/.test(id)) {
    throw new GcpError(
      "INVALID_ARGUMENT",
      "The provided Secret ID does not match the expected format.",
    );
  }
  const replication = parse(request.body).replication as Record<string, unknown> | undefined;
  if (replication?.automatic === undefined) {
    throw new GcpError("INVALID_ARGUMENT", "The secret replication cannot be empty.");
  }
  const name = `${parent}/secrets/${id}`;
  if (secrets.has(name)) throw new GcpError("ALREADY_EXISTS", `Secret [${name}] already exists.`);
  secrets.set(name, SecretRecord.create(name, now));
  return { name, replication: { automatic: {} }, createTime: new Date(now).toISOString() };
}

function add(
  secret: SecretRecord,
  body: string,
  { now }: SecretsState,
): Record<string, unknown> {
  const payload = parse(body).payload as Record<string, unknown> | undefined;
  const data = typeof payload?.data === "string" ? base64Bytes(payload.data) : null;
  if (data === null || data.length > MAX_BYTES) {
    throw new GcpError("INVALID_ARGUMENT", "The secret payload is not valid.");
  }
  if (payload?.dataCrc32c !== undefined && String(payload.dataCrc32c) !== String(crc32c(data))) {
    throw new GcpError("INVALID_ARGUMENT", "The payload's checksum does not match its data.");
  }
  const number = secret.add(data, now);
  return {
    name: `${secret.name}/versions/${number}`,
    createTime: new Date(now).toISOString(),
    state: "ENABLED",
    clientSpecifiedPayloadChecksum: payload?.dataCrc32c !== undefined,
  };
}

function access(secret: SecretRecord, number: string): Record<string, unknown> {
  const found = secret.find(number);
  if (found === undefined) {
    throw new GcpError(
      "NOT_FOUND",
      `Secret Version [${secret.name}/versions/${number}] not found.`,
    );
  }
  const { name, version } = found;
  if (version.state !== "ENABLED") {
    throw new GcpError(
      "FAILED_PRECONDITION",
      `Secret Version [${name}] is in ${version.state} state.`,
    );
  }
  const { data } = version;
  return { name, payload: { data: base64Text(data), dataCrc32c: String(crc32c(data)) } };
}

function parse(body: string): Record<string, unknown> {
  try {
    const json = JSON.parse(body);
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json;
  } catch {
    // The one refusal below.
  }
  throw new GcpError("INVALID_ARGUMENT", "Invalid JSON payload received. Parse error.");
}
