/** A local Google Cloud: Cloud KMS, Secret Manager and the token endpoint, on 127.0.0.1. */
import { startRestServer } from "../rest/server.ts";
import { StateFile } from "../rest/state-file.ts";
import { NO_SUCH_PAGE } from "./errors.ts";
import { CryptoKeyRecord, type CryptoKeyState } from "./keys.ts";
import { answerKms, parseCall } from "./kms.ts";
import { answerSecrets, parseSecretCall, SecretRecord, type SecretState } from "./secrets.ts";
import { type AccountKey, ServiceAccount } from "./tokens.ts";
import { ALL_PERMISSIONS, type LocalGcp, type LocalGcpOptions, type Permission } from "./types.ts";

export type { LocalGcp, LocalGcpOptions, Permission, VersionState } from "./types.ts";

interface GcpFile {
  readonly version: 1;
  readonly port: number;
  readonly accountKey: AccountKey;
  readonly keys: readonly CryptoKeyState[];
  readonly secrets: readonly SecretState[];
}

/** @throws {StackError} when the state file is damaged. */
export async function startLocalGcp(options: LocalGcpOptions = {}): Promise<LocalGcp> {
  const { now = Date.now } = options;
  const file = new StateFile<GcpFile>(options.stateFile);
  const kept = await file.read();
  const [project, location, keyRing] = ["local-project", "europe-west1", "local-ring"];
  const ring = `projects/${project}/locations/${location}/keyRings/${keyRing}/cryptoKeys/`;
  const account = await ServiceAccount.create(project, now, kept?.accountKey);
  const keys = new Map(kept?.keys.map((one) => [one.name, new CryptoKeyRecord(one)]));
  const secrets = new Map(kept?.secrets.map((one) => [one.name, new SecretRecord(one)]));
  let permissions: ReadonlySet<Permission> = new Set(ALL_PERMISSIONS);
  const named = (name: string): CryptoKeyRecord => {
    const key = keys.get(ring + name);
    if (key === undefined) throw new Error(`there is no key ${name}`);
    return key;
  };
  let [endpoint, port] = ["", 0];
  const keep = () =>
    file.keep({
      ...{ version: 1, port, accountKey: account.key },
      keys: [...keys.values()].map(({ state }) => state),
      secrets: [...secrets.values()].map(({ state }) => state),
    });
  const server = await startRestServer(options.port ?? kept?.port ?? 0, {
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
    keep,
  });
  ({ endpoint, port } = server);
  await keep();
  return {
    ...server,
    project,
    location,
    keyRing,
    credentialsJson: account.credentials(endpoint),
    keyName: (name) => ring + name,
    keyExists: (name) => keys.has(ring + name),
    createKey(name, purpose = "ENCRYPT_DECRYPT") {
      keys.set(ring + name, CryptoKeyRecord.create(ring + name, purpose, now()));
    },
    rotate: (name) => named(name).rotate(now()),
    versions: (name) => named(name).count,
    setState: (name, version, state) => named(name).setState(version, state),
    putSecret(name, data) {
      const resource = `projects/${project}/secrets/${name}`;
      const secret = secrets.get(resource) ?? SecretRecord.create(resource, now());
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
    async close() {
      await server.close();
      await keep();
    },
  };
}
