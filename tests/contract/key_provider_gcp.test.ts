import { assertEquals, assertMatch } from "@std/assert";
import type { GcpConfig } from "../../functions-shared/config-gcp.ts";
import { GcpKeyProvider } from "../../functions-shared/keys/providers/gcp/provider.ts";
import { type LocalGcp, startLocalGcp } from "../../local/gcp/mod.ts";
import { ALL_PERMISSIONS } from "../../local/gcp/types.ts";
import type { RestFault } from "../../local/rest/faults.ts";
import { TestClock } from "./support.ts";
import { PEM } from "../unit/support/environment.ts";
import { codeOf, suiteError } from "../unit/support/thrown.ts";
import { type Fault, keyProviderContract, LIMITS, type Rig } from "./key-provider.ts";

const KEYS = { payment: "app-payment", pii: "app-pii", general: "app-general" };

const EFFECTS: Readonly<Record<Fault, RestFault>> = {
  "refused connection": { kind: "refuse" },
  "no answer": { kind: "blackhole" },
  "throttling": {
    kind: "status",
    status: 429,
    body: { error: { code: 429, status: "RESOURCE_EXHAUSTED", message: "Quota exceeded" } },
  },
  "malformed answer": { kind: "malformed" },
  "wrong checksum": {
    kind: "change",
    change: (body) => ({ ...body, ciphertextCrc32c: "1", plaintextCrc32c: "1" }),
  },
};

function gcpConfig(gcp: LocalGcp, changes: Partial<GcpConfig> = {}): GcpConfig {
  const account = JSON.parse(gcp.credentialsJson);
  return {
    project: gcp.project,
    location: gcp.location,
    keyRing: gcp.keyRing,
    keys: KEYS,
    endpoint: gcp.endpoint,
    secretManagerEndpoint: gcp.endpoint,
    credentials: {
      kind: "service_account",
      clientEmail: account.client_email,
      privateKey: account.private_key,
      privateKeyId: account.private_key_id,
      tokenUri: account.token_uri,
    },
    ...changes,
  };
}

async function startKeys(options: { now?: () => number } = {}): Promise<LocalGcp> {
  const gcp = await startLocalGcp(options);
  for (const key of Object.values(KEYS)) gcp.createKey(key);
  return gcp;
}

keyProviderContract("gcp", async (): Promise<Rig> => {
  const gcp = await startKeys();
  const provider = () => new GcpKeyProvider(gcpConfig(gcp), LIMITS);
  const ring = gcp.keyName("");
  const foreign = [
    ring.replace("local-project", "other-project") + "app-pii",
    ring.replace("local-ring", "other-ring") + "app-pii",
    `${ring}app-pii/cryptoKeyVersions/1`,
    `${ring}../../../x`,
    `${ring}app-pii?alt=media`,
    ring,
    "",
  ];
  return {
    provider,
    foreign: foreign.map((name) => [name, `${name}/cryptoKeyVersions/1`] as const),
    calls: () => gcp.calls().length,
    faults: Object.keys(EFFECTS) as Fault[],
    withFault: async (fault, work) => {
      const effect = EFFECTS[fault];
      gcp.faults.set([{ operation: "Encrypt", effect }, { operation: "Decrypt", effect }]);
      try {
        await work(provider());
      } finally {
        gcp.faults.clear();
      }
    },
    disable: (dataClass) => {
      for (const version of dataClass === "pii" ? [1, 2] : [1]) {
        gcp.setState(KEYS[dataClass], version, "DISABLED");
      }
      return Promise.resolve();
    },
    rotate: (dataClass) => Promise.resolve(void gcp.rotate(KEYS[dataClass])),
    withLostRotation: async (work) => {
      gcp.faults.set([{ operation: "CreateCryptoKeyVersion", effect: { kind: "drop_after" } }]);
      try {
        await work(provider());
      } finally {
        gcp.faults.clear();
      }
    },
    rotations: () => gcp.versions(KEYS.pii) - 1,
    deny: () => gcp.setPermissions([]),
    expireCredentials: () => gcp.expireTokens(),
    close: () => gcp.close(),
  };
});

const CONTEXT = { owner: "somebody" };

function test(name: string, run: (gcp: LocalGcp, clock: TestClock) => Promise<void>): void {
  Deno.test({
    name: `gcp: ${name}`,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const clock = new TestClock();
      const gcp = await startKeys({ now: clock.now });
      try {
        await run(gcp, clock);
      } finally {
        await gcp.close();
      }
    },
  });
}

const operations = (gcp: LocalGcp) => gcp.calls().map(({ operation }) => operation);

test(
  "one token for concurrent callers, renewed in the background before it expires",
  async (gcp, clock) => {
    const provider = new GcpKeyProvider(gcpConfig(gcp), { ...LIMITS, now: clock.now });
    await Promise.all(Array.from({ length: 10 }, () => provider.generateDataKey("pii", CONTEXT)));
    assertEquals(operations(gcp).filter((name) => name === "Token").length, 1);
    clock.advance(3599_000 - 4 * 60_000);
    await provider.generateDataKey("pii", CONTEXT);
    while (operations(gcp).filter((name) => name === "Token").length < 2) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    clock.advance(5 * 60_000);
    await provider.generateDataKey("pii", CONTEXT);
    assertEquals(operations(gcp).filter((name) => name === "Token").length, 2);
  },
);

test(
  "an access token from outside serves until it expires, and is never exchanged",
  async (gcp, clock) => {
    const credentials = { kind: "access_token", token: gcp.accessToken(60) } as const;
    const provider = new GcpKeyProvider(gcpConfig(gcp, { credentials }), {
      ...LIMITS,
      now: clock.now,
    });
    await provider.generateDataKey("pii", CONTEXT);
    clock.advance(61_000);
    assertEquals(await codeOf(() => provider.generateDataKey("pii", CONTEXT)), "kms_access_denied");
    assertEquals(operations(gcp), ["Encrypt", "Encrypt", "Encrypt"]);
  },
);

test("another account's key, and one that is none, are refused by code", async (gcp) => {
  const other = await startLocalGcp();
  const { private_key: privateKey } = JSON.parse(other.credentialsJson);
  await other.close();
  for (
    const key of [privateKey, PEM]
  ) {
    const { credentials } = gcpConfig(gcp);
    if (credentials.kind !== "service_account") throw new Error("not a service account");
    const config = gcpConfig(gcp, { credentials: { ...credentials, privateKey: key } });
    const provider = new GcpKeyProvider(config, LIMITS);
    assertEquals(await codeOf(() => provider.describe("pii")), "kms_access_denied");
  }
});

test("what an operator is told: the deployment guide's words", async (gcp) => {
  const keys = { ...KEYS, general: "nowhere" };
  const provider = new GcpKeyProvider(gcpConfig(gcp, { keys }), LIMITS);
  const told = async (work: () => Promise<unknown>) =>
    ((await suiteError(work)).cause as Error).message;
  assertEquals(
    await told(() => provider.generateDataKey("general", CONTEXT)),
    "Encryption key not found: nowhere",
  );
  gcp.setPermissions([]);
  assertEquals(await told(() => provider.describe("pii")), "Access denied to encryption key");
  await gcp.close();
  assertMatch(await told(() => provider.describe("pii")), /^KMS service unavailable: /);
});

test("metadata: state and number of the version that wraps", async (gcp) => {
  const provider = new GcpKeyProvider(gcpConfig(gcp), LIMITS);
  const described = {
    keyId: gcp.keyName("app-pii"),
    state: "Enabled",
    multiRegion: false,
    region: "europe-west1",
  };
  assertEquals(await provider.describe("pii"), { ...described, version: "1" });
  gcp.rotate("app-pii");
  gcp.setState("app-pii", 2, "DESTROY_SCHEDULED");
  const later = { ...described, state: "PendingDeletion", version: "2" };
  assertEquals(await provider.describe("pii"), later);
});

test("rotation by the service: whether, when next, and when last", async (gcp, clock) => {
  const provider = new GcpKeyProvider(gcpConfig(gcp), LIMITS);
  const none = { automatic: false, next: null, last: null, onDemandLeft: null };
  assertEquals((await provider.metadata("pii")).rotation, none);
  gcp.setRotation("app-pii", 90);
  const next = new Date(clock.now() + 90 * 86_400_000).toISOString();
  gcp.rotate("app-pii");
  const last = new Date(clock.now()).toISOString();
  const { rotation } = await provider.metadata("pii");
  assertEquals(rotation, { automatic: true, next, last, onDemandLeft: null });
});

test("a version that takes its time to be made becomes the primary when it is", async (gcp) => {
  const provider = new GcpKeyProvider(gcpConfig(gcp), LIMITS);
  const pending = {
    kind: "status",
    status: 400,
    body: { error: { code: 400, status: "FAILED_PRECONDITION", message: "PENDING_GENERATION" } },
  } as const;
  gcp.faults.set([{ operation: "UpdateCryptoKeyPrimaryVersion", effect: pending, times: 1 }]);
  assertEquals(await provider.rotateNow(gcp.keyName("app-pii")), "2");
  assertEquals((await provider.describe("pii")).version, "2");
  gcp.setPermissions(ALL_PERMISSIONS.filter((name) => name !== "cloudkms.cryptoKeys.update"));
  const code = await codeOf(() => provider.rotateNow(gcp.keyName("app-pii")));
  assertEquals(code, "kms_access_denied");
  assertEquals((await provider.describe("pii")).version, "2", "a version alone changes nothing");
});

test("a checksum that the service did not verify counts as no answer", async (gcp) => {
  const provider = new GcpKeyProvider(gcpConfig(gcp), LIMITS);
  for (const name of ["verifiedPlaintextCrc32c", "verifiedAdditionalAuthenticatedDataCrc32c"]) {
    const change = (body: Record<string, unknown>) => ({ ...body, [name]: false });
    gcp.faults.set([{ operation: "Encrypt", effect: { kind: "change", change } }]);
    assertEquals(await codeOf(() => provider.generateDataKey("pii", CONTEXT)), "kms_unavailable");
    gcp.faults.set([{ operation: "Encrypt", effect: { kind: "change", change }, times: 2 }]);
    assertEquals((await provider.generateDataKey("pii", CONTEXT)).plaintext.length, 32);
  }
});
