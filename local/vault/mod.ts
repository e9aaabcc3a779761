/** A local Vault: Transit engine, tokens and AppRole, in memory, on 127.0.0.1. */
import { startRestServer } from "../rest/server.ts";
import { answerVault, operationOf } from "./routes.ts";
import { Tokens } from "./tokens.ts";
import { TransitEngine } from "./transit.ts";
import type { LocalVault, LocalVaultOptions, TokenOptions } from "./types.ts";

export type { LocalVault, LocalVaultOptions, Policy, TokenOptions } from "./types.ts";

export async function startLocalVault(options: LocalVaultOptions = {}): Promise<LocalVault> {
  const { port = 0, namespace, mount = "transit", now = Date.now } = options;
  const tokens = new Tokens(now);
  const transit = new TransitEngine(now);
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
    operation: (request) => operationOf(request, mount),
    answer: (request) =>
      answerVault(request, { namespace, mount, tokens, transit, roleId, secretId, role, sealed }),
  });
  return {
    ...server,
    namespace,
    mount,
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
    setSealed(next) {
      sealed = next;
    },
  };
}
