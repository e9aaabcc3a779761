/** The suite under each key provider, from the request to the key service and back. */
import { assertEquals } from "@std/assert";
import { startLocalGcp } from "../../local/gcp/mod.ts";
import type { Stack } from "../../local/stack.ts";
import { startLocalVault } from "../../local/vault/mod.ts";
import { call, signUp, WITH_STACK, withStack } from "../support/stack.ts";
import { type Answer, card, ENCRYPT, HEALTH, MANAGE, MASTERCARD, read, VISA } from "./suite.ts";

type Env = Record<string, string>;

/** Gives the work an environment that chooses a provider. */
type Provider = (work: (env: Env) => Promise<void>) => Promise<void>;

const CLASSES = ["payment", "pii", "general"];

const PROVIDERS: Record<string, Provider> = {
  aws: (work) => work({ KMS_PROVIDER: "aws" }),
  env: (work) => work({ KMS_PROVIDER: "env", ENCRYPTION_KEY: "0011223344556677".repeat(4) }),
  gcp: async (work) => {
    const gcp = await startLocalGcp();
    for (const name of CLASSES) gcp.createKey(`parker-flight-${name}-development`);
    try {
      await work({
        KMS_PROVIDER: "gcp",
        GOOGLE_CLOUD_PROJECT: gcp.project,
        GOOGLE_KMS_LOCATION: gcp.location,
        GOOGLE_KMS_KEY_RING: gcp.keyRing,
        GOOGLE_KMS_ENDPOINT: gcp.endpoint,
        GOOGLE_CREDENTIALS_JSON: gcp.credentialsJson,
      });
    } finally {
      await gcp.close();
    }
  },
  vault: async (work) => {
    const vault = await startLocalVault({ namespace: "team" });
    for (const name of CLASSES) vault.createKey(`parker-flight-${name}-development`);
    try {
      await work({
        KMS_PROVIDER: "vault",
        VAULT_ADDR: vault.endpoint,
        VAULT_NAMESPACE: "team",
        VAULT_ROLE_ID: vault.roleId,
        VAULT_SECRET_ID: vault.secretId,
      });
    } finally {
      await vault.close();
    }
  },
};

async function stored(stack: Stack, token: string, body: unknown): Promise<Answer> {
  const headers = { "idempotency-key": crypto.randomUUID() };
  const answer = await read(await call(stack, ENCRYPT, "", { token, json: body, headers }));
  assertEquals(answer.status, 201, answer.text);
  return answer;
}

async function revealed(stack: Stack, path: string, userId: string): Promise<Answer> {
  const json = { purpose: "support", user_id: userId };
  const answer = await read(await call(stack, MANAGE, path, { secret: true, json }));
  assertEquals(answer.status, 200, answer.text);
  return answer;
}

for (const [name, provide] of Object.entries(PROVIDERS)) {
  Deno.test({
    name: `${name}: encrypt, list, reveal and health; and still readable under another provider`,
    ...WITH_STACK,
    fn: () =>
      provide((functionEnv) =>
        withStack({ functionEnv }, async (stack) => {
          const { userId, token } = await signUp(stack);
          const one = await stored(stack, token, card(VISA));
          const two = await stored(stack, token, { data_class: "pii", data: { name: "Ada" } });
          const list = await read(await call(stack, MANAGE, "", { token }));
          assertEquals(list.body.payment_methods?.map(({ last4 }) => last4), ["4242"]);

          const cardPath = `/${one.body.payment_method?.id}/reveal`;
          const recordPath = `/records/${two.body.record?.id}/reveal`;
          const readable = async () => {
            const method = (await revealed(stack, cardPath, userId)).body.payment_method;
            assertEquals((method?.card as { number: string }).number, VISA);
            const record = (await revealed(stack, recordPath, userId)).body.record;
            assertEquals(record?.data, { name: "Ada" });
          };
          await readable();

          const health = await call(stack, HEALTH, "", { secret: true });
          const report = await health.json();
          assertEquals([health.status, report.status], [200, "healthy"], JSON.stringify(report));
          assertEquals(report.provider, name);
          for (const dataClass of CLASSES) {
            const { key, canary } = report.classes[dataClass];
            assertEquals([key.state, canary.status], ["Enabled", "pass"]);
          }

          const other: Env = name === "aws"
            ? { KMS_PROVIDER: "env", ENCRYPTION_KEY: "8899aabbccddeeff".repeat(4) }
            : { KMS_PROVIDER: "aws" };
          const settings = { ...other, KMS_PAYMENT_KEYRING: "direct" };
          await Promise.all([ENCRYPT, MANAGE].map((fn) => stack.restartFunction(fn, settings)));
          await readable();
          await stored(stack, token, card(MASTERCARD));
          const providers = await stack.sql<{ key: string }>(
            `select distinct split_part(kms_key_arn, ':', 1) as key from kms.ciphertexts
               where data_class = 'payment'`,
          );
          assertEquals(providers.length, 2, JSON.stringify(providers));
        })
      ),
  });
}
