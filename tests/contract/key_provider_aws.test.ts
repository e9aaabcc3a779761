import type { KeyProvider } from "../../functions-shared/keys/key-provider.ts";
import { seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import type { FaultEffect } from "../../local/aws/types.ts";
import { awsProvider } from "../unit/support/aws.ts";
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
