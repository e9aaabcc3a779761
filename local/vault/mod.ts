/** A local Vault: Transit and key/value engines, tokens and AppRole, in memory, on 127.0.0.1. */
import { startRestServer } from "../rest/server.ts";
import { KeyValueEngine } from "./key-value.ts";
import { answerVault, operationOf } from "./routes.ts";
import { Tokens } from "./tokens.ts";
import { TransitEngine } from "./transit.ts";
import type { LocalVault, LocalVaultOptions, TokenOptions } from "./types.ts";

export type { LocalVault, LocalVaultOptions, Policy, TokenOptions } from "./types.ts";

export async function startLocalVault(options: LocalVaultOptions = {}): Promise<LocalVault> {
  const { port = 0, namespace, mount = "transit", now = Date.now } = options;
  const tokens = new Tokens(now);
  const transit = new TransitEngine(now);
  const kvMount = "secret";
  const keyValue = new KeyValueEngine(now);
  // The least that the suite needs, as docs/key-providers.md has it.
  tokens.setPolicy("suite", {
    [`${mount}/encrypt/*`]: ["update"],
    [`${mount}/decrypt/*`]: ["update"],
    [`${mount}/keys/*`]: ["read"],
  });
  const roleId = crypto.randomUUID();
  const secretId = crypto.randomUUID();
  let role: TokenOptions = {};
  let sealed = false;
  const server = await startRestServer(port, {
    operation: (request) => operationOf(request, { mount, kvMount }),
    answer: (request) =>
      answerVault(request, {
        ...{ namespace, mount, kvMount, tokens, transit, keyValue },
        ...{ roleId, secretId, role, sealed },
      }),
  });
  return {
    ...server,
    namespace,
    mount,
    kvMount,
    roleId,
    secretId,
    setRole(changed) {
      role = changed;
    },
    token: (tokenOptions) => tokens.issue(tokenOptions).id,
    revokeTokens: () => tokens.revokeAll(),
    setPolicy: (name, policy) => tokens.setPolicy(name, policy),
    createKey(name, type) {
      transit.create(name, type);
      tokens.extendPolicy("suite", { [`${mount}/keys/${name}/rotate`]: ["update"] });
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
  };
}
