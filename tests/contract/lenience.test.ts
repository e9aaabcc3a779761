/** Where other emulators let pass what AWS refuses, or refuse what AWS lets pass. */

import { assertEquals } from "@std/assert";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  DisableKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  ReplicateKeyCommand,
} from "@aws-sdk/client-kms";
import { refused400, withAws } from "./support.ts";

const TEXT = Uint8Array.of(1, 2, 3);

Deno.test("a disabled key encrypts nothing and gives no data keys", () =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
    const { KeyId = "", Arn } = KeyMetadata ?? {};
    await kms.send(new DisableKeyCommand({ KeyId }));
    const message = `${Arn} is disabled.`;
    const encrypt = kms.send(new EncryptCommand({ KeyId, Plaintext: TEXT }));
    await refused400(encrypt, "DisabledException", message);
    const generate = kms.send(new GenerateDataKeyCommand({ KeyId, KeySpec: "AES_256" }));
    await refused400(generate, "DisabledException", message);
  }));

Deno.test("an alias is not resolved across regions, not even for a multi-region key", () =>
  withAws(async (setting) => {
    const [east, west] = [setting.kms("us-east-1"), setting.kms("us-west-2")];
    const { KeyMetadata } = await east.send(new CreateKeyCommand({ MultiRegion: true }));
    const { KeyId = "" } = KeyMetadata ?? {};
    await east.send(new ReplicateKeyCommand({ KeyId, ReplicaRegion: "us-west-2" }));
    await east.send(new CreateAliasCommand({ AliasName: "alias/shared", TargetKeyId: KeyId }));
    const encrypt = new EncryptCommand({ KeyId: "alias/shared", Plaintext: TEXT });
    await east.send(encrypt);
    const there = `arn:aws:kms:us-west-2:${setting.aws.accountId}:alias/shared`;
    await refused400(west.send(encrypt), "NotFoundException", `Alias ${there} is not found.`);
  }));

Deno.test("a reordered encryption context decrypts", () =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
    const { CiphertextBlob } = await kms.send(
      new EncryptCommand({
        KeyId: KeyMetadata?.KeyId,
        Plaintext: TEXT,
        EncryptionContext: { z: "1", a: "2", "\u00e9": "3" },
      }),
    );
    const EncryptionContext = { "\u00e9": "3", a: "2", z: "1" };
    const opened = await kms.send(new DecryptCommand({ CiphertextBlob, EncryptionContext }));
    assertEquals(opened.Plaintext, TEXT);
  }));

Deno.test("the whole of a multi-region key's id counts, in every region", () =>
  withAws(async (setting) => {
    const [east, west] = [setting.kms("us-east-1"), setting.kms("us-west-2")];
    const { KeyMetadata } = await east.send(new CreateKeyCommand({ MultiRegion: true }));
    const { KeyId = "" } = KeyMetadata ?? {};
    await east.send(new ReplicateKeyCommand({ KeyId, ReplicaRegion: "us-west-2" }));
    const { CiphertextBlob } = await east.send(new EncryptCommand({ KeyId, Plaintext: TEXT }));
    assertEquals((await west.send(new DecryptCommand({ CiphertextBlob }))).Plaintext, TEXT);
    const cut = KeyId.slice(0, -4);
    const work = east.send(new EncryptCommand({ KeyId: cut, Plaintext: TEXT }));
    await refused400(work, "NotFoundException", `Invalid keyId '${cut}'`);
  }));
