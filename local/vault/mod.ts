/** A local Vault: Transit and key/value engines, tokens and AppRole, on 127.0.0.1. */
import { startRestServer } from "../rest/server.ts";
import { StateFile } from "../rest/state-file.ts";
import { KeyValueEngine, type KeyValueState } from "./key-value.ts";
import { answerVault, operationOf } from "./routes.ts";
import { newTokenId, Tokens } from "./tokens.ts";
import { TransitEngine, type TransitState } from "./transit.ts";
import type { LocalVault, LocalVaultOptions, TokenOptions } from "./types.ts";

export type { LocalVault, LocalVaultOptions, Policy, TokenOptions } from "./types.ts";

interface VaultFile {
  readonly version: 1;
  readonly port: number;
  readonly roleId: string;
  readonly secretId: string;
  readonly rootToken: string;
  readonly transit: TransitState;
  readonly keyValue: KeyValueState;
}

/** @throws {StackError} when the state file is damaged. */
export async function startLocalVault(options: LocalVaultOptions = {}): Promise<LocalVault> {
  const { namespace, mount = "transit", now = Date.now } = options;
  const file = new StateFile<VaultFile>(options.stateFile);
  const kept = await file.read();
  const tokens = new Tokens(now);
  const transit = new TransitEngine(now, kept?.transit);
  const kvMount = "secret";
  const keyValue = new KeyValueEngine(now, kept?.keyValue);
  // The least that the suite needs, as docs/key-providers.md has it.
  tokens.setPolicy("suite", {
    [`${mount}/encrypt/*`]: ["update"],
    [`${mount}/decrypt/*`]: ["update"],
    [`${mount}/keys/*`]: ["read"],
  });
  const mayRotate = (name: string) =>
    tokens.extendPolicy("suite", { [`${mount}/keys/${name}/rotate`]: ["update"] });
  transit.names.forEach(mayRotate);
  const {
    roleId = crypto.randomUUID(),
    secretId = crypto.randomUUID(),
    rootToken = newTokenId(),
  } = kept ?? {};
  tokens.issue({ id: rootToken, ttl: 0, policies: ["root"] });
  let role: TokenOptions = {};
  let sealed = false;
  let port = 0;
  const keep = () =>
    file.keep({
      ...{ version: 1, port, roleId, secretId, rootToken },
      ...{ transit: transit.state, keyValue: keyValue.state },
    });
  const server = await startRestServer(options.port ?? kept?.port ?? 0, {
    operation: (request) => operationOf(request, { mount, kvMount }),
    answer: (request) =>
      answerVault(request, {
        ...{ namespace, mount, kvMount, tokens, transit, keyValue },
        ...{ roleId, secretId, role, sealed },
      }),
    keep,
  });
  port = server.port;
  await keep();
  return {
    ...server,
    namespace,
    mount,
    kvMount,
    roleId,
    secretId,
    rootToken,
    setRole(changed) {
      role = changed;
    },
    token: (tokenOptions) => tokens.issue(tokenOptions).id,
    revokeTokens: () => tokens.revokeAll(),
    setPolicy: (name, policy) => tokens.setPolicy(name, policy),
    createKey(name, type) {
      transit.create(name, type);
      mayRotate(name);
    },
    keyExists: (name) => transit.has(name),
    rotate: (name) => transit.rotate(name),
    versions: (name) => transit.versions(name),
    setAutoRotate: (name, seconds) => transit.setAutoRotate(name, seconds),
    setMinDecryptionVersion: (name, version) => transit.setMinDecryptionVersion(name, version),
    deleteKey: (name) => transit.delete(name),
    putSecret(path, data) {
      keyValue.write(path, { data });
    },
    deleteSecret: (path) => keyValue.delete(path),
    setSealed(next) {
      sealed = next;
    },
    async close() {
      await server.close();
      await keep();
    },
  };
}
