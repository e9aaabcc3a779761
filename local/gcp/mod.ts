/** A local Google Cloud: Cloud KMS, Secret Manager and the token endpoint, in memory, on 127.0.0.1. */
import { startRestServer } from "../rest/server.ts";
import { NO_SUCH_PAGE } from "./errors.ts";
import { CryptoKeyRecord } from "./keys.ts";
import { answerKms, parseCall } from "./kms.ts";
import { answerSecrets, parseSecretCall, SecretRecord } from "./secrets.ts";
import { ServiceAccount } from "./tokens.ts";
import { ALL_PERMISSIONS, type LocalGcp, type LocalGcpOptions, type Permission } from "./types.ts";

export type { LocalGcp, LocalGcpOptions, Permission, VersionState } from "./types.ts";

export async function startLocalGcp(options: LocalGcpOptions = {}): Promise<LocalGcp> {
  const { port = 0, now = Date.now } = options;
  const [project, location, keyRing] = ["local-project", "europe-west1", "local-ring"];
  const ring = `projects/${project}/locations/${location}/keyRings/${keyRing}/cryptoKeys/`;
  const account = await ServiceAccount.create(project, now);
  const keys = new Map<string, CryptoKeyRecord>();
  const secrets = new Map<string, SecretRecord>();
  let permissions: ReadonlySet<Permission> = new Set(ALL_PERMISSIONS);
  const named = (name: string): CryptoKeyRecord => {
    const key = keys.get(ring + name);
    if (key === undefined) throw new Error(`there is no key ${name}`);
    return key;
  };
  let endpoint = "";
  const server = await startRestServer(port, {
    operation: (request) =>
      request.path === "/token"
        ? "Token"
        : parseCall(request)?.operation ?? parseSecretCall(request)?.operation ?? "Unknown",
    answer: (request) => {
      if (request.path === "/token") {
        return request.method === "POST"
          ? account.exchange(request, `${endpoint}/token`)
          : NO_SUCH_PAGE;
      }
      const scopes = account.scopesOf(request.headers.authorization);
      return parseSecretCall(request) === undefined
        ? answerKms(request, { ring, keys, permissions, scopes, now })
        : answerSecrets(request, { project, secrets, permissions, scopes, now: now() });
    },
  });
  endpoint = server.endpoint;
  return {
    ...server,
    project,
    location,
    keyRing,
    credentialsJson: account.credentials(endpoint),
    keyName: (name) => ring + name,
    createKey(name, purpose = "ENCRYPT_DECRYPT") {
      keys.set(ring + name, new CryptoKeyRecord(ring + name, purpose, now()));
    },
    rotate: (name) => named(name).rotate(now()),
    versions: (name) => named(name).count,
    setState: (name, version, state) => named(name).setState(version, state),
    putSecret(name, data) {
      const resource = `projects/${project}/secrets/${name}`;
      const secret = secrets.get(resource) ?? new SecretRecord(resource, now());
      secrets.set(resource, secret);
      secret.add(data, now());
    },
    setSecretState(name, version, state) {
      secrets.get(`projects/${project}/secrets/${name}`)?.setState(version, state);
    },
    setRotation: (name, days) => named(name).setRotation(days, now()),
    setPermissions(granted) {
      permissions = new Set(granted);
    },
    accessToken: (lifeSeconds) => account.issue(lifeSeconds),
    expireTokens: () => account.expireAll(),
  };
}
