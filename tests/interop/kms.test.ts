/**
 * The KMS keyring (provider id `aws-kms`), alone and beside others in one message, both ways with
 * the official AWS Encryption SDK for JavaScript, through the local KMS.
 */
import { KmsKeyringNode, MultiKeyringNode } from "@aws-crypto/client-node";
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  decryptMessage,
  encryptMessage,
  parseMessage,
  sameContext,
  unwrapDataKeyRawAes,
  wrapDataKeyRawAes,
} from "../../functions-shared/message/mod.ts";
import { randomBytes } from "../../functions-shared/message/primitives.ts";
import { seedKeys, startLocalAws } from "../../local/aws/mod.ts";
import { Clients, generateDataKey, unwrapDataKey, wrapDataKey } from "./kms.ts";
import { officialDecrypt, officialEncrypt, officialRawAesKeyring } from "./official.ts";
import { type Sample, samples } from "./samples.ts";

Deno.test("KMS keyring", async (t) => {
  const aws = await startLocalAws();
  const clients = new Clients(aws);
  try {
    const keys = await seedKeys(aws, { application: "parker-flight", environment: "test" });
    const first = keys.payment.arns["us-east-1"]!;
    const second = keys.general.arns["eu-west-1"]!;
    const raw = { wrappingKey: randomBytes(32), keyNamespace: "interop", keyName: "escrow" };

    const clientProvider = clients.of;
    const official = {
      first: new KmsKeyringNode({ clientProvider, generatorKeyId: first }),
      second: new KmsKeyringNode({ clientProvider, keyIds: [second] }),
      raw: officialRawAesKeyring(raw),
      all: new MultiKeyringNode({
        generator: new KmsKeyringNode({ clientProvider, generatorKeyId: first, keyIds: [second] }),
        children: [officialRawAesKeyring(raw)],
      }),
    };

    const encryptOurs = async ({ plaintext, encryptionContext }: Sample) => {
      const { dataKey, encryptedDataKey } = await generateDataKey(
        clients,
        first,
        encryptionContext,
      );
      return encryptMessage({
        plaintext,
        dataKey,
        encryptedDataKeys: [encryptedDataKey],
        encryptionContext,
      });
    };

    await t.step("the official SDK reads what we write", async (t) => {
      for (const sample of samples()) {
        await t.step(sample.name, async () => {
          const message = await encryptOurs(sample);
          const { plaintext, messageHeader } = await officialDecrypt(official.first, message);
          assertEquals(plaintext, sample.plaintext);
          assert(sameContext(messageHeader.encryptionContext, sample.encryptionContext));
          const [key] = messageHeader.encryptedDataKeys;
          assertEquals([key?.providerId, key?.providerInfo], ["aws-kms", first]);
        });
      }
    });

    await t.step("we read what the official SDK writes", async (t) => {
      for (const { name, plaintext, encryptionContext } of samples()) {
        await t.step(name, async () => {
          const message = await officialEncrypt(official.first, plaintext, encryptionContext);
          const parsed = parseMessage(message);
          assert(sameContext(parsed.header.encryptionContext, encryptionContext));
          const [key] = parsed.header.encryptedDataKeys;
          assertEquals(new TextDecoder().decode(key!.providerInfo), first);
          const dataKey = await unwrapDataKey(clients, key!, encryptionContext);
          assertEquals(decryptMessage(parsed, dataKey), plaintext);
        });
      }
    });

    const sample = samples().find(({ name }) => name === "non-ASCII keys and values")!;
    const { plaintext, encryptionContext } = sample;

    await t.step("two KMS keys of two regions and a raw AES key in one message", async (t) => {
      await t.step("ours: each key alone lets the official SDK read it", async () => {
        const { dataKey, encryptedDataKey } = await generateDataKey(
          clients,
          first,
          encryptionContext,
        );
        const message = encryptMessage({
          plaintext,
          dataKey,
          encryptedDataKeys: [
            encryptedDataKey,
            await wrapDataKey(clients, second, encryptionContext, dataKey),
            wrapDataKeyRawAes({ ...raw, encryptionContext, dataKey }),
          ],
          encryptionContext,
        });
        for (const keyring of Object.values(official)) {
          assertEquals((await officialDecrypt(keyring, message)).plaintext, plaintext);
        }
      });

      await t.step("theirs: each encrypted data key gives us the same plaintext", async () => {
        const message = await officialEncrypt(official.all, plaintext, encryptionContext);
        const parsed = parseMessage(message);
        const [one, two, three] = parsed.header.encryptedDataKeys;
        assertEquals(parsed.header.encryptedDataKeys.length, 3);
        const dataKeys = [
          await unwrapDataKey(clients, one!, encryptionContext),
          await unwrapDataKey(clients, two!, encryptionContext),
          unwrapDataKeyRawAes({ ...raw, encryptionContext, encryptedDataKey: three! }),
        ];
        for (const dataKey of dataKeys) assertEquals(decryptMessage(parsed, dataKey), plaintext);
      });
    });

    await t.step("a message under another key is refused by both", async () => {
      const message = await encryptOurs(sample);
      await assertRejects(() => officialDecrypt(official.second, message), Error);
      const [key] = parseMessage(message).header.encryptedDataKeys;
      const moved = { ...key!, providerInfo: new TextEncoder().encode(second) };
      const error = await assertRejects(
        () => unwrapDataKey(clients, moved, encryptionContext),
        Error,
      );
      assertEquals(error.name, "IncorrectKeyException");
    });

    await t.step("KMS refuses the data key under another context", async () => {
      const [key] = parseMessage(await encryptOurs(sample)).header.encryptedDataKeys;
      const error = await assertRejects(
        () => unwrapDataKey(clients, key!, { ...encryptionContext, z: "e" }),
        Error,
      );
      assertEquals(error.name, "InvalidCiphertextException");
    });
  } finally {
    clients.close();
    await aws.close();
  }
});
