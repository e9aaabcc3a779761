/**
 * The hierarchical keyring (provider id `aws-kms-hierarchy`), both ways with the official AWS Encryption
 * SDK for JavaScript over the same records, through the local KMS.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { parseMessage, sameContext } from "../../functions-shared/message/mod.ts";
import { type LocalAws, seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import { ACTOR, MemoryRecords } from "../unit/support/memory-records.ts";
import { awsProvider } from "../unit/support/aws.ts";
import { officialKeyring, worker } from "./branch_keys.ts";
import { Clients } from "./kms.ts";
import { officialDecrypt, officialEncrypt } from "./official.ts";
import { randomPlaintext, type Sample, samples } from "./samples.ts";

const ALIASES = {
  payment: "alias/parker-flight-payment-test",
  pii: "alias/parker-flight-pii-test",
  general: "alias/parker-flight-general-test",
};

/** Every sample, as a row of the class would carry it. */
const rows: readonly Sample[] = samples().map((sample) => ({
  ...sample,
  encryptionContext: { ...sample.encryptionContext, "data-class": "payment" },
}));
const [row] = rows.filter(({ name }) => name === "one byte plaintext");

async function singleRegionKey(aws: LocalAws): Promise<string> {
  const { KeyMetadata } = await aws.asOperator("us-east-1", "CreateKey", {});
  const { KeyId, Arn } = KeyMetadata as { KeyId: string; Arn: string };
  await aws.asOperator("us-east-1", "CreateAlias", {
    AliasName: "alias/parker-flight-single-test",
    TargetKeyId: KeyId,
  });
  return Arn;
}

Deno.test({
  name: "hierarchical keyring",
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    const aws = await startLocalAws();
    const clients = new Clients(aws);
    try {
      const keys = await seedKeys(aws, { application: "parker-flight", environment: "test" });
      const multi = keys.payment.arns["us-east-1"] ?? "";
      const replica = keys.payment.arns["eu-west-1"] ?? "";
      const single = await singleRegionKey(aws);
      const operator = { ...aws.identities.operator, role: undefined };

      for (
        const [kind, keyArn, aliases, regions] of [
          ["multi-region key", multi, ALIASES, ["us-west-2", "eu-west-1"]],
          ["single-region key", single, {
            ...ALIASES,
            payment: "alias/parker-flight-single-test",
          }, []],
        ] as const
      ) {
        const records = new MemoryRecords();
        const provider = awsProvider(aws, { ...operator, aliases, fallbackRegions: regions });
        const ours = worker(records, provider);
        const first = (await ours.store.active("payment", "payment")).version;
        const official = () => officialKeyring(clients, records, "payment", keyArn);

        await t.step(`${kind}: the official keyring reads what we write`, async (t) => {
          const keyring = official();
          for (const { name, plaintext, encryptionContext } of rows) {
            await t.step(name, async () => {
              const message = await ours.encrypt("payment", plaintext, encryptionContext);
              const opened = await officialDecrypt(keyring, message);
              assertEquals(opened.plaintext, plaintext);
              assert(sameContext(opened.messageHeader.encryptionContext, encryptionContext));
              const [key] = opened.messageHeader.encryptedDataKeys;
              assertEquals([key?.providerId, key?.providerInfo], ["aws-kms-hierarchy", "payment"]);
            });
          }
        });

        await t.step(`${kind}: we read what the official keyring writes`, async (t) => {
          const keyring = official();
          for (const { name, plaintext, encryptionContext } of rows) {
            await t.step(name, async () => {
              const message = await officialEncrypt(keyring, plaintext, encryptionContext);
              assert(
                sameContext(parseMessage(message).header.encryptionContext, encryptionContext),
              );
              assertEquals(await ours.decrypt(message), plaintext);
            });
          }
        });

        await t.step(`${kind}: both read both versions after a rotation`, async () => {
          const { plaintext, encryptionContext } = row!;
          const before = [
            await ours.encrypt("payment", plaintext, encryptionContext),
            await officialEncrypt(official(), plaintext, encryptionContext),
          ];
          const { rotated, version } = await ours.store.rotate(ACTOR, "payment", "payment");
          assert(rotated && version !== first);
          ours.cache.clear();
          const after = [
            await ours.encrypt("payment", plaintext, encryptionContext),
            await officialEncrypt(official(), plaintext, encryptionContext),
          ];
          const keyring = official();
          for (const message of [...before, ...after]) {
            assertEquals(await ours.decrypt(message), plaintext);
            assertEquals((await officialDecrypt(keyring, message)).plaintext, plaintext);
          }
          const versions = [...before, ...after].map((message) =>
            hexOf(parseMessage(message).header.encryptedDataKeys[0]?.ciphertext.slice(28, 44))
          );
          const [old, fresh] = [first, version].map((uuid) => uuid.replaceAll("-", ""));
          assertEquals(versions, [old, old, fresh, fresh]);
        });
      }

      await t.step("a branch key of one owner, both ways", async () => {
        const records = new MemoryRecords();
        const ours = worker(records, awsProvider(aws, { ...operator, aliases: ALIASES }), "owner");
        const { plaintext, encryptionContext } = row!;
        const message = await ours.encrypt("payment", plaintext, encryptionContext);
        const id = `payment:${encryptionContext.owner}`;
        const keyring = officialKeyring(clients, records, id, multi);
        assertEquals((await officialDecrypt(keyring, message)).plaintext, plaintext);
        const theirs = await officialEncrypt(keyring, plaintext, encryptionContext);
        assertEquals(await ours.decrypt(theirs), plaintext);
        const other = { ...encryptionContext, owner: "somebody else" };
        const foreign = await officialEncrypt(keyring, plaintext, other);
        await assertRejects(() => ours.decrypt(foreign), Error, "could not be decrypted");
      });

      await t.step(
        "a branch key made in another region, and in an outage of the primary",
        async () => {
          const records = new MemoryRecords();
          aws.faults.set([{ region: "us-east-1", effect: { kind: "refuse" } }]);
          const far = worker(records, awsProvider(aws, { ...operator, aliases: ALIASES }));
          const plaintext = randomPlaintext(33);
          const message = await far.encrypt("payment", plaintext, row!.encryptionContext);
          aws.faults.clear();
          const keyArn = records.of("payment", "branch:ACTIVE")["kms-arn"] ?? "";
          assertEquals(keyArn, keys.payment.arns["us-west-2"]);
          const keyring = officialKeyring(clients, records, "payment", keyArn);
          assertEquals((await officialDecrypt(keyring, message)).plaintext, plaintext);
          const near = worker(records, awsProvider(aws, { ...operator, aliases: ALIASES }));
          assertEquals(await near.decrypt(message), plaintext);
          assert(replica !== keyArn);
        },
      );

      await t.step("records that were changed open for neither", async () => {
        const records = new MemoryRecords();
        const ours = worker(records, awsProvider(aws, { ...operator, aliases: ALIASES }));
        const { plaintext, encryptionContext } = row!;
        const message = await ours.encrypt("payment", plaintext, encryptionContext);
        const [, version = ""] = [...records.stored.keys()].find((name) =>
          name.includes("branch:version")
        )?.split("payment ") ?? [];
        const record = records.of("payment", version);
        for (const name of ["create-time", "aws-crypto-ec:more"]) {
          records.put({ ...record, [name]: "changed" });
          await assertRejects(() =>
            ours.decrypt(message), Error);
          const keyring = officialKeyring(clients, records, "payment", multi);
          await assertRejects(() => officialDecrypt(keyring, message), Error);
        }
      });
    } finally {
      clients.close();
      await aws.close();
    }
  },
});

function hexOf(bytes: Uint8Array | undefined): string {
  return Array.from(bytes ?? [], (byte) => byte.toString(16).padStart(2, "0")).join("");
}
