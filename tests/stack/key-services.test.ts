/** The stack's own Vault and Google Cloud: ready to be the provider, and the same ones after a restart. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { openDataDir } from "../../local/data-dir.ts";
import { StackError } from "../../local/errors.ts";
import { type KeyServices, startKeyServices } from "../../local/key-services.ts";
import { type Stack, startStack } from "../../local/stack.ts";
import { card, ENCRYPT, MANAGE, read, VISA } from "../http/suite.ts";
import { call, signUp, testOptions, WITH_STACK } from "../support/stack.ts";

const NAMES = { application: "parker-flight", environment: "development" };

async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "key-services-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Starts them on the folder; what they said comes second. */
async function withServices<T>(
  folder: string,
  test: (services: KeyServices, said: readonly string[]) => Promise<T>,
): Promise<T> {
  const dataDir = await openDataDir(folder);
  const said: string[] = [];
  try {
    const onProgress = (line: string) => said.push(line);
    const services = await startKeyServices(dataDir, { ...NAMES, onProgress });
    try {
      return await test(services, said);
    } finally {
      await services.close();
    }
  } finally {
    dataDir.close();
  }
}

Deno.test("key services: one whose port is taken moves, and says so", async () => {
  await inFolder(async (folder) => {
    const [gcpPort, vaultPort] = await withServices(folder, ({ gcp, vault }, said) => {
      assertEquals(said, []);
      return Promise.resolve([gcp.port, vault.port] as const);
    });
    const other = Deno.listen({ hostname: "127.0.0.1", port: vaultPort });
    try {
      await withServices(folder, async ({ gcp, vault }, said) => {
        assertEquals(gcp.port, gcpPort);
        assertNotEquals(vault.port, vaultPort);
        assertEquals(said.length, 1);
        assertMatch(said[0] ?? "", /^the port of the local Vault is taken/);
        const file = JSON.parse(await Deno.readTextFile(`${folder}/providers/vault.json`));
        assertEquals(file.addr, vault.endpoint);
      });
    } finally {
      other.close();
    }
  });
});

Deno.test("key services: files with keys and credentials are their owner's alone", async () => {
  await inFolder(async (folder) => {
    await withServices(folder, async () => {
      for (const name of ["vault.json", "gcp.json", "providers/vault.json", "providers/gcp.json"]) {
        assertEquals(((await Deno.stat(`${folder}/${name}`)).mode ?? 0) & 0o777, 0o600, name);
      }
    });
  });
});

Deno.test("key services: a damaged file stops the start, and is left as it is", async () => {
  await inFolder(async (folder) => {
    await withServices(folder, () => Promise.resolve());
    await Deno.writeTextFile(`${folder}/vault.json`, '{"version":2}');
    const fault = await withServices(folder, () => Promise.resolve()).catch((error) => error);
    assert(fault instanceof StackError, String(fault));
    assertEquals(
      fault.message,
      `${folder}/vault.json is damaged: restore it, or start afresh with --reset`,
    );
    assertEquals(await Deno.readTextFile(`${folder}/vault.json`), '{"version":2}');
  });
});

async function configure(stack: Stack, file: string): Promise<void> {
  const json = JSON.parse(await Deno.readTextFile(`${stack.dataDir}/providers/${file}.json`));
  const answer = await read(
    await call(stack, "kms-admin", "/config", { secret: true, json, method: "PUT" }),
  );
  assertEquals(answer.status, 200, answer.text);
}

async function storeCard(stack: Stack, user_id: string): Promise<string> {
  const json = { ...card(VISA), user_id };
  const headers = { "idempotency-key": crypto.randomUUID() };
  const answer = await read(await call(stack, ENCRYPT, "", { secret: true, json, headers }));
  assertEquals(answer.status, 201, answer.text);
  return answer.body.payment_method?.id ?? "";
}

Deno.test({
  name: "key services: what each wrapped is read after a restart, with settings that were stored",
  ...WITH_STACK,
  fn: async () => {
    await inFolder(async (folder) => {
      const dataDir = `${folder}/data`;
      const options = {
        ...await testOptions(dataDir),
        functionEnv: {
          KMS_CONFIG_CACHE_MS: "0",
          KMS_PAYMENT_KEYRING: "direct",
        },
      };
      const cards: [user: string, card: string][] = [];
      const first = await startStack(options);
      try {
        for (const provider of ["vault", "gcp"]) {
          await configure(first, provider);
          const { userId } = await signUp(first);
          cards.push([userId, await storeCard(first, userId)]);
        }
        const keys = await first.sql<{ key: string }>(
          `select distinct kms.provider_of(kms_key_arn) as key from kms.ciphertexts
             where data_class = 'payment' order by 1`,
        );
        assertEquals(keys.map(({ key }) => key), ["gcp", "vault"]);
      } finally {
        await first.close();
      }
      const second = await startStack(options);
      try {
        for (const [user_id, id] of cards) {
          const json = { user_id, purpose: "support" };
          const answer = await read(
            await call(second, MANAGE, `/${id}/reveal`, { secret: true, json }),
          );
          assertEquals(answer.status, 200, answer.text);
          const { number } = answer.body.payment_method?.card as { number: string };
          assertEquals(number, VISA);
        }
      } finally {
        await second.close();
      }
    });
  },
});
