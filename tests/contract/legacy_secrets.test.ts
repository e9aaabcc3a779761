/** Secret Manager and Vault's key/value engine: what the import of a key reads, and how they refuse. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { type GcpConfig, withCredentialsFile } from "../../functions-shared/config-gcp.ts";
import type { VaultConfig } from "../../functions-shared/config-vault.ts";
import { loadConfig } from "../../functions-shared/config.ts";
import { secretManager } from "../../functions-shared/keys/providers/gcp/stored-value.ts";
import { gcpTokens } from "../../functions-shared/keys/providers/gcp/tokens.ts";
import { Attempts } from "../../functions-shared/keys/providers/rest/attempts.ts";
import { keyValueStore } from "../../functions-shared/keys/providers/vault/key-value.ts";
import { legacyKeySources } from "../../functions-shared/assembly/legacy-key-sources.ts";
import { type LocalGcp, startLocalGcp } from "../../local/gcp/mod.ts";
import { type LocalVault, startLocalVault } from "../../local/vault/mod.ts";
import { PLATFORM } from "../unit/support/environment.ts";
import { codeOf, suiteError } from "../unit/support/thrown.ts";
import { LIMITS } from "./key-provider.ts";
import { TestClock } from "./support.ts";

const HEX = "00112233445566778899aabbccddeeff".repeat(2);
const NEWER = "ffeeddccbbaa99887766554433221100".repeat(2);
const NOT_FOUND = "Encryption key not found: default";
const SECRET = "boosterbeacon-encryption-key-default";
const PATH = "boosterbeacon/encryption-keys/default";

const bytes = (text: string) => new TextEncoder().encode(text);

/** Timeouts of requests outlive their tests. */
const WITH_SERVICE = { sanitizeOps: false, sanitizeResources: false } as const;

function test<Service extends { close(): Promise<void> }>(
  name: string,
  start: () => Promise<Service>,
  run: (service: Service) => Promise<void>,
): void {
  Deno.test({
    name,
    ...WITH_SERVICE,
    fn: async () => {
      const service = await start();
      try {
        await run(service);
      } finally {
        await service.close();
      }
    },
  });
}

async function refused(work: () => unknown): Promise<[string, string]> {
  const error = await suiteError(work);
  return [error.code, (error.cause as Error).message];
}

// ── Secret Manager ──────────────────────────────────────────────────────────────────────────────

function gcpSource(gcp: LocalGcp, credentials?: GcpConfig["credentials"], now?: () => number) {
  const account = JSON.parse(gcp.credentialsJson);
  return secretManager({
    project: gcp.project,
    secretManagerEndpoint: gcp.endpoint,
    credentials: credentials ?? {
      kind: "service_account",
      clientEmail: account.client_email,
      privateKey: account.private_key,
      privateKeyId: account.private_key_id,
      tokenUri: account.token_uri,
    },
  }, { ...LIMITS, ...now === undefined ? {} : { now } });
}

const SECRET_AT = { keyId: "default", name: SECRET };

test("Secret Manager: the newest version, or the one that is named", startLocalGcp, async (gcp) => {
  gcp.putSecret(SECRET, bytes(HEX));
  gcp.putSecret(SECRET, bytes(NEWER));
  const read = gcpSource(gcp);
  assertEquals(await read(SECRET_AT), NEWER);
  assertEquals(await read({ ...SECRET_AT, version: 1 }), HEX);
  assertEquals(
    gcp.calls().map(({ operation, status }) => [operation, status]),
    [["Token", 200], ["AccessSecretVersion", 200], ["AccessSecretVersion", 200]],
  );
});

test("Secret Manager: refusals in the guide's words", startLocalGcp, async (gcp) => {
  const read = gcpSource(gcp);
  assertEquals(await refused(() => read(SECRET_AT)), ["kms_key_unusable", NOT_FOUND]);
  gcp.putSecret(SECRET, bytes(HEX));
  assertEquals(await refused(() => read({ ...SECRET_AT, version: 2 })), [
    "kms_key_unusable",
    NOT_FOUND,
  ]);
  gcp.setSecretState(SECRET, 1, "DISABLED");
  assertEquals(await refused(() => read(SECRET_AT)), [
    "kms_key_unusable",
    "Encryption key not usable: default",
  ]);
  gcp.setSecretState(SECRET, 1, "ENABLED");
  gcp.setPermissions(["cloudkms.cryptoKeys.get"]);
  const denied = ["kms_access_denied", "Access denied to encryption key"];
  assertEquals(await refused(() => read(SECRET_AT)), denied);
  const before = gcp.calls().length;
  for (const name of ["../x", "a/b", "a:b", "a?b", ""]) {
    assertEquals((await refused(() => read({ ...SECRET_AT, name })))[1], NOT_FOUND, name);
  }
  assertEquals(gcp.calls().length, before, "such a name reaches no service");
});

test("Secret Manager: a token for Cloud KMS alone is not enough", startLocalGcp, async (gcp) => {
  gcp.putSecret(SECRET, bytes(HEX));
  const given = gcpSource(gcp, { kind: "access_token", token: gcp.accessToken() });
  assertEquals(await given(SECRET_AT), HEX);
  const account = JSON.parse(gcp.credentialsJson);
  const tokens = gcpTokens(
    {
      kind: "service_account",
      clientEmail: account.client_email,
      privateKey: account.private_key,
      privateKeyId: account.private_key_id,
      tokenUri: account.token_uri,
    },
    new Attempts(LIMITS),
    Date.now,
  );
  const narrow = gcpSource(gcp, { kind: "access_token", token: (await tokens.get()).value });
  assertEquals(await codeOf(() => narrow(SECRET_AT)), "kms_access_denied");
  const none = gcpSource(gcp, { kind: "access_token", token: "ya29.of-nobody-at-all" });
  assertEquals(await codeOf(() => none(SECRET_AT)), "kms_access_denied");
});

Deno.test("Secret Manager: an expired token is replaced", WITH_SERVICE, async () => {
  const clock = new TestClock();
  const gcp = await startLocalGcp({ now: clock.now });
  try {
    gcp.putSecret(SECRET, bytes(HEX));
    const read = gcpSource(gcp, undefined, clock.now);
    await read(SECRET_AT);
    gcp.expireTokens();
    assertEquals(await read(SECRET_AT), HEX);
  } finally {
    await gcp.close();
  }
});

test(
  "Secret Manager: a wrong checksum, no checksum and no JSON are no answer",
  startLocalGcp,
  async (gcp) => {
    gcp.putSecret(SECRET, bytes(HEX));
    const read = gcpSource(gcp);
    const change = (payload: Record<string, unknown>) => ({
      kind: "change" as const,
      change: (body: Record<string, unknown>) => ({ ...body, payload }),
    });
    const data = btoa(NEWER);
    for (
      const effect of [
        change({ data, dataCrc32c: "1" }),
        change({ data }),
        change({ dataCrc32c: "0" }),
        change({ data: "not base64!", dataCrc32c: "0" }),
        { kind: "malformed" as const },
        { kind: "refuse" as const },
      ]
    ) {
      gcp.faults.set([{ operation: "AccessSecretVersion", effect, times: 1 }]);
      assertEquals(await read(SECRET_AT), HEX, `${effect.kind}: another attempt fares better`);
      gcp.faults.set([{ operation: "AccessSecretVersion", effect }]);
      assertEquals(await codeOf(() => read(SECRET_AT)), "kms_unavailable");
    }
  },
);

test(
  "the local Secret Manager takes what gcloud sends, and refuses as Google does",
  startLocalGcp,
  async (gcp) => {
    const call = async (method: string, path: string, body?: unknown) => {
      const response = await fetch(`${gcp.endpoint}/v1/${path}`, {
        method,
        headers: {
          authorization: `Bearer ${gcp.accessToken()}`,
          "content-type": "application/json",
        },
        ...body === undefined ? {} : { body: JSON.stringify(body) },
      });
      const json = await response.json();
      return [response.status, json.error?.status ?? json.name];
    };
    const secrets = `projects/${gcp.project}/secrets`;
    const automatic = { replication: { automatic: {} } };
    assertEquals(await call("POST", `${secrets}?secretId=one`, {}), [400, "INVALID_ARGUMENT"]);
    assertEquals(await call("POST", `${secrets}?secretId=a.b`, automatic), [
      400,
      "INVALID_ARGUMENT",
    ]);
    assertEquals(await call("POST", `${secrets}?secretId=one`, automatic), [200, `${secrets}/one`]);
    assertEquals(await call("POST", `${secrets}?secretId=one`, automatic), [409, "ALREADY_EXISTS"]);
    assertEquals(await call("GET", `${secrets}/one/versions/latest:access`), [404, "NOT_FOUND"]);
    const payload = { data: btoa(HEX), dataCrc32c: "1" };
    assertEquals(await call("POST", `${secrets}/one:addVersion`, { payload }), [
      400,
      "INVALID_ARGUMENT",
    ]);
    assertEquals(
      await call("POST", `${secrets}/one:addVersion`, { payload: { data: btoa(HEX) } }),
      [
        200,
        `${secrets}/one/versions/1`,
      ],
    );
    assertEquals(await gcpSource(gcp)({ keyId: "x", name: "one" }), HEX);
    assertEquals(await call("GET", "projects/another-project/secrets/one/versions/1:access"), [
      403,
      "PERMISSION_DENIED",
    ]);
  },
);

test("a command line reads the key with the service account's file", startLocalGcp, async (gcp) => {
  gcp.putSecret(SECRET, bytes(HEX));
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    await Deno.writeTextFile(file, gcp.credentialsJson);
    const env = {
      ...PLATFORM,
      APP_ENVIRONMENT: "development",
      KMS_PROVIDER: "gcp",
      GOOGLE_CLOUD_PROJECT: gcp.project,
      GOOGLE_SECRET_MANAGER_ENDPOINT: gcp.endpoint,
      GOOGLE_APPLICATION_CREDENTIALS: file,
    };
    const config = loadConfig(withCredentialsFile(env, Deno.readTextFileSync));
    const { gcp: read, aws, vault } = legacyKeySources(config);
    assertEquals(await read?.({ keyId: config.legacy.keyId }), HEX);
    assertEquals([aws, vault], [undefined, undefined]);
  } finally {
    await Deno.remove(file);
  }
});

// ── Vault, key/value ────────────────────────────────────────────────────────────────────────────

const READ_ONLY = { "secret/data/boosterbeacon/encryption-keys/*": ["read"] } as const;
const KV_AT = { keyId: "default", name: `secret/${PATH}`, field: "key" };

function vaultSource(vault: LocalVault, auth?: VaultConfig["auth"]) {
  return keyValueStore({
    address: vault.endpoint,
    namespace: vault.namespace,
    auth: auth ?? {
      kind: "approle",
      mount: "approle",
      roleId: vault.roleId,
      secretId: vault.secretId,
    },
  }, LIMITS);
}

const startVault = async () => {
  const vault = await startLocalVault({ namespace: "team" });
  vault.setPolicy("suite", READ_ONLY);
  return vault;
};

test(
  "Vault: the newest version, or the one that is named, by role or token",
  startVault,
  async (vault) => {
    vault.putSecret(PATH, { key: HEX, created_at: "2025-01-01T00:00:00Z" });
    vault.putSecret(PATH, { key: NEWER });
    const read = vaultSource(vault);
    assertEquals(await read(KV_AT), NEWER);
    assertEquals(await read({ ...KV_AT, version: 1 }), HEX);
    const given = vaultSource(vault, { kind: "token", token: vault.token() });
    assertEquals(await given(KV_AT), NEWER);
  },
);

test("Vault: refusals in the guide's words", startVault, async (vault) => {
  const read = vaultSource(vault);
  const notFound = ["kms_key_unusable", NOT_FOUND];
  assertEquals(await refused(() => read(KV_AT)), notFound);
  vault.putSecret(PATH, { other: HEX });
  assertEquals(await refused(() => read(KV_AT)), notFound, "another field");
  vault.putSecret(PATH, { key: 42 });
  assertEquals(await refused(() => read(KV_AT)), notFound, "no text");
  assertEquals(await refused(() => read({ ...KV_AT, version: 9 })), notFound);
  vault.putSecret(PATH, { key: HEX });
  vault.deleteSecret(PATH);
  assertEquals(await refused(() => read(KV_AT)), notFound, "a deleted version");
  assertEquals(
    (await refused(() => read({ ...KV_AT, name: "secret/elsewhere/default" })))[0],
    "kms_access_denied",
  );
  vault.setPolicy("suite", {});
  assertEquals(await refused(() => read(KV_AT)), [
    "kms_access_denied",
    "Access denied to encryption key",
  ]);
  const before = vault.calls().length;
  for (
    const name of [
      "secret",
      "secret/",
      "/secret/x",
      "secret/../sys/seal",
      "secret/a//b",
      "secret/a?b",
      "secret/.",
      "a.b/c",
    ]
  ) {
    assertEquals(await refused(() => read({ ...KV_AT, name })), notFound, name);
  }
  const reads = vault.calls().slice(before).filter(({ operation }) => operation !== "Login");
  assertEquals(reads, [], "such a name reaches no service");
});

test("Vault: a revoked token is replaced, an outage is one", startVault, async (vault) => {
  vault.putSecret(PATH, { key: HEX });
  const read = vaultSource(vault);
  await read(KV_AT);
  vault.revokeTokens();
  assertEquals(await read(KV_AT), HEX);
  vault.setSealed(true);
  assertEquals(await codeOf(() => read(KV_AT)), "kms_unavailable");
});

test(
  "the local Vault writes with the right policy only, and keeps versions",
  startVault,
  async (vault) => {
    const call = async (method: string, path: string, token: string, body?: unknown) => {
      const response = await fetch(`${vault.endpoint}/v1/${path}`, {
        method,
        headers: { "x-vault-token": token, "x-vault-namespace": "team" },
        ...body === undefined ? {} : { body: JSON.stringify(body) },
      });
      return { status: response.status, json: await response.json() };
    };
    const at = `secret/data/${PATH}`;
    const reader = vault.token();
    vault.setPolicy("creator", { [at]: ["create"] });
    vault.setPolicy("writer", { [at]: ["create", "update", "read"] });
    const creator = vault.token({ policies: ["creator"] });
    const writer = vault.token({ policies: ["writer"] });
    const data = { data: { key: HEX } };
    assertEquals((await call("POST", at, reader, data)).status, 403);
    assertEquals((await call("POST", at, creator, data)).json.data.version, 1);
    assertEquals((await call("POST", at, creator, data)).status, 403, "an update");
    assertEquals((await call("PUT", at, writer, data)).json.data.version, 2);
    assertEquals((await call("POST", at, writer, {})).json.errors, ["no data provided"]);
    const got = (await call("GET", at, reader)).json.data;
    assertEquals([got.data, got.metadata.version], [{ key: HEX }, 2]);
    vault.deleteSecret(PATH);
    const deleted = await call("GET", at, reader);
    assertEquals([deleted.status, deleted.json.data.data], [404, null]);
    assertNotEquals(deleted.json.data.metadata.deletion_time, "");
    const none = await call("GET", `${at}-none`, writer);
    assert(none.status === 403);
    const missing = await call("GET", `secret/data/boosterbeacon/encryption-keys/none`, reader);
    assertEquals([missing.status, missing.json], [404, { errors: [] }]);
  },
);
