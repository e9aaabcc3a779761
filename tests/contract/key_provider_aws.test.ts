import { assert, assertEquals } from "@std/assert";
import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import type { FaultEffect } from "../../local/aws/types.ts";
import { awsProvider, WITH_AWS, withAws } from "../unit/support/aws.ts";
import { codeOf } from "../unit/support/thrown.ts";
import { type Fault, keyProviderContract, LIMITS, type Rig } from "./key-provider.ts";

const EFFECTS: Partial<Record<Fault, FaultEffect>> = {
  "refused connection": { kind: "refuse" },
  "no answer": { kind: "blackhole" },
  "throttling": { kind: "error", name: "ThrottlingException" },
};

keyProviderContract("aws", async (): Promise<Rig> => {
  const aws = await startLocalAws();
  const keys = await seedKeys(aws, { application: "parker-flight", environment: "development" });
  const provider = (changes = {}) => awsProvider(aws, { fallbackRegions: [], ...changes }, LIMITS);
  const foreign = [
    "arn:aws:kms:us-east-1:999999999999:key/mrk-00000000000000000000000000000000",
    "arn:aws:kms:ap-south-1:000000000000:key/00000000-0000-4000-8000-000000000000",
    "alias/somebody",
    "",
  ];
  const asOperator = async (operation: string, dataClass: keyof typeof keys) => {
    await aws.asOperator("us-east-1", operation, { KeyId: keys[dataClass].arns["us-east-1"] });
  };
  return {
    provider,
    foreign: foreign.map((name) => [name, name] as const),
    calls: () => aws.calls().filter(({ service }) => service === "kms").length,
    faults: ["refused connection", "no answer", "throttling", "malformed answer"],
    withFault: async (fault, work) => {
      if (fault === "malformed answer") return await withNonsense(work, provider);
      const effect = EFFECTS[fault];
      if (effect === undefined) throw new Error(`the local AWS has no ${fault}`);
      // A provider of its own: what it learns of the region is nobody else's.
      const faulty = provider({ accountId: aws.accountId });
      aws.faults.set([{ service: "kms", effect }]);
      try {
        await work(faulty);
      } finally {
        aws.faults.clear();
      }
    },
    disable: (dataClass) => asOperator("DisableKey", dataClass),
    rotate: (dataClass) => asOperator("RotateKeyOnDemand", dataClass),
    withLostRotation: async (work) => {
      aws.faults.set([{
        service: "kms",
        operation: "RotateKeyOnDemand",
        effect: { kind: "drop_after" },
      }]);
      try {
        await work(provider());
      } finally {
        aws.faults.clear();
      }
    },
    rotations: async () => {
      const KeyId = keys.pii.arns["us-east-1"];
      const listed = await aws.asOperator("us-east-1", "ListKeyRotations", { KeyId });
      return (listed.Rotations as unknown[]).length;
    },
    deny: () =>
      aws.faults.set([{
        service: "kms",
        effect: { kind: "error", name: "AccessDeniedException" },
      }]),
    expireCredentials: () =>
      aws.faults.set([
        { service: "kms", effect: { kind: "error", name: "ExpiredTokenException" }, times: 1 },
      ]),
    close: () => aws.close(),
  };

  /** KMS and STS behind a proxy that answers everything with a page of its own. */
  async function withNonsense(
    work: (faulty: KeyProvider) => Promise<void>,
    make: (changes: Record<string, unknown>) => KeyProvider,
  ): Promise<void> {
    const server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen() {} },
      () => new Response("<!doctype html><title>Proxy</title>"),
    );
    try {
      const endpoint = `http://127.0.0.1:${server.addr.port}`;
      const direct = { ...aws.identities.operator, role: undefined, accountId: aws.accountId };
      await work(make({ endpoint, ...direct }));
    } finally {
      await server.shutdown();
    }
  }
});

Deno.test({
  name:
    "aws: rotation goes to the primary's region, counted before it is asked for, 25 times at most",
  ...WITH_AWS,
  fn: () =>
    withAws(async ({ aws, keys }) => {
      const provider = awsProvider(aws, { region: "eu-west-1", fallbackRegions: [] }, LIMITS);
      const { keyId, rotation } = await provider.metadata("pii");
      assertEquals(keyId, keys.pii.replace("us-east-1", "eu-west-1"));
      assertEquals([rotation.automatic, rotation.onDemandLeft, rotation.last], [true, 25, null]);
      assert(Date.parse(rotation.next ?? "") > Date.now());
      const rotations = () =>
        aws.calls().filter(({ operation }) => operation === "RotateKeyOnDemand");

      const conflict = { kind: "error", name: "ConflictException" } as const;
      aws.faults.set([{ operation: "RotateKeyOnDemand", effect: conflict }]);
      assertEquals(await codeOf(() => provider.rotateNow(keyId)), "rotation_conflict");
      aws.faults.clear();
      aws.resetCalls();
      for (let left = 25; left > 0; left--) {
        assertEquals((await provider.metadata("pii")).rotation.onDemandLeft, left);
        await provider.rotateNow(keyId);
      }
      assertEquals(rotations().length, 25);
      assertEquals(new Set(rotations().map(({ region }) => region)), new Set(["us-east-1"]));
      assertEquals(await codeOf(() => provider.rotateNow(keyId)), "rotation_limit_reached");
      assertEquals(rotations().length, 25, "what is beyond the limit is not asked for");
    }),
});

Deno.test({
  name: "aws: without the permissions of administration, metadata says what it can",
  ...WITH_AWS,
  fn: () =>
    withAws(async ({ aws, keys }) => {
      const denied = { kind: "error", name: "AccessDeniedException" } as const;
      aws.faults.set([{ operation: "GetKeyRotationStatus", effect: denied }]);
      const { keyId, state, rotation } = await awsProvider(aws, {}, LIMITS).metadata("pii");
      assertEquals([keyId, state], [keys.pii, "Enabled"]);
      const unknown = { automatic: null, next: null, last: null, onDemandLeft: null };
      assertEquals(rotation, unknown);
    }),
});
