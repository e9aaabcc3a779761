import { assertEquals, assertMatch } from "@std/assert";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  DisableKeyCommand,
  EnableKeyCommand,
  EnableKeyRotationCommand,
  EncryptCommand,
  GetKeyRotationStatusCommand,
  type KMSClient,
  PutKeyPolicyCommand,
  ReplicateKeyCommand,
  RotateKeyOnDemandCommand,
  ScheduleKeyDeletionCommand,
  UpdatePrimaryRegionCommand,
} from "@aws-sdk/client-kms";
import { constraint, refused400, type Setting, TestClock, withAws } from "./support.ts";

const TEXT = Uint8Array.of(1, 2, 3);
const DAY_MS = 86_400_000;

async function multiRegionKey(kms: KMSClient): Promise<string> {
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({ MultiRegion: true }));
  return KeyMetadata?.KeyId ?? "";
}

function clients(setting: Setting) {
  return {
    east: setting.kms("us-east-1"),
    west: setting.kms("us-west-2"),
    europe: setting.kms("eu-west-1"),
  };
}

async function metadata(kms: KMSClient, KeyId: string) {
  return (await kms.send(new DescribeKeyCommand({ KeyId }))).KeyMetadata;
}

Deno.test("multi-region keys", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const { east, west, europe } = clients(setting);
    const keyId = await multiRegionKey(east);
    const arn = (region: string) => setting.keyArn(keyId, region);
    const location = (Region: string) => ({ Arn: arn(Region), Region });
    const replicate = (kms: KMSClient, ReplicaRegion: string, KeyId = keyId) =>
      kms.send(new ReplicateKeyCommand({ KeyId, ReplicaRegion }));

    await t.step("the id says what they are", () => {
      assertMatch(keyId, /^mrk-[0-9a-f]{32}$/);
    });

    await t.step("a primary without replicas", async () => {
      assertEquals((await metadata(east, keyId))?.MultiRegionConfiguration, {
        MultiRegionKeyType: "PRIMARY",
        PrimaryKey: location("us-east-1"),
        ReplicaKeys: [],
      });
      const absent = `Key '${arn("us-west-2")}' does not exist`;
      await refused400(metadata(west, keyId), "NotFoundException", absent);
    });

    await t.step("ReplicateKey makes a related key, in state Creating for a moment", async () => {
      const { ReplicaKeyMetadata, ReplicaPolicy, ReplicaTags } = await east.send(
        new ReplicateKeyCommand({
          KeyId: keyId,
          ReplicaRegion: "us-west-2",
          Description: "replica",
          Tags: [{ TagKey: "k", TagValue: "v" }],
        }),
      );
      assertEquals(ReplicaKeyMetadata?.Arn, arn("us-west-2"));
      assertEquals(ReplicaKeyMetadata?.KeyState, "Creating");
      assertEquals(ReplicaKeyMetadata?.Enabled, false);
      assertEquals(ReplicaTags, [{ TagKey: "k", TagValue: "v" }]);
      assertEquals(JSON.parse(ReplicaPolicy ?? "").Id, "key-default-1");
      const creating = `${arn("us-west-2")} is creating.`;
      const encrypt = new EncryptCommand({ KeyId: keyId, Plaintext: TEXT });
      await refused400(west.send(encrypt), "KMSInvalidStateException", creating);
      const alias = new CreateAliasCommand({ AliasName: "alias/r", TargetKeyId: keyId });
      await refused400(west.send(alias), "KMSInvalidStateException", creating);
      clock.advance(2000);
      const later = clients(setting).west;
      const described = await metadata(later, keyId);
      assertEquals([described?.KeyState, described?.Description], ["Enabled", "replica"]);
      assertEquals(described?.MultiRegionConfiguration, {
        MultiRegionKeyType: "REPLICA",
        PrimaryKey: location("us-east-1"),
        ReplicaKeys: [location("us-west-2")],
      });
    });

    await t.step("a ciphertext of one region decrypts in every region of the key", async () => {
      await replicate(east, "eu-west-1");
      clock.advance(2000);
      const { east: e, west: w, europe: eu } = clients(setting);
      const EncryptionContext = { owner: "42" };
      for (const [from, region] of [[e, "us-east-1"], [w, "us-west-2"]] as const) {
        const { CiphertextBlob, KeyId } = await from.send(
          new EncryptCommand({ KeyId: keyId, Plaintext: TEXT, EncryptionContext }),
        );
        assertEquals(KeyId, arn(region));
        for (const [to, there] of [[e, "us-east-1"], [eu, "eu-west-1"]] as const) {
          const opened = await to.send(
            new DecryptCommand({ CiphertextBlob, EncryptionContext, KeyId: arn(there) }),
          );
          assertEquals([opened.Plaintext, opened.KeyId], [TEXT, arn(there)]);
        }
      }
    });

    await t.step("an ARN of a related key in another region is not found here", async () => {
      const work = west.send(new EncryptCommand({ KeyId: arn("us-east-1"), Plaintext: TEXT }));
      await refused400(work, "NotFoundException", "Invalid arn us-east-1");
    });

    await t.step("the state is each region's own", async () => {
      await west.send(new DisableKeyCommand({ KeyId: keyId }));
      const work = west.send(new EncryptCommand({ KeyId: keyId, Plaintext: TEXT }));
      await refused400(work, "DisabledException", `${arn("us-west-2")} is disabled.`);
      await east.send(new EncryptCommand({ KeyId: keyId, Plaintext: TEXT }));
      await west.send(new EnableKeyCommand({ KeyId: keyId }));
    });

    await t.step("the policy is each region's own", async () => {
      const Policy = JSON.stringify({
        Version: "2012-10-17",
        Statement: [
          { Effect: "Allow", Principal: "*", Action: "kms:*", Resource: "*" },
          { Effect: "Deny", Principal: "*", Action: "kms:Encrypt", Resource: "*" },
        ],
      });
      await europe.send(new PutKeyPolicyCommand({ KeyId: keyId, Policy }));
      await refused400(
        europe.send(new EncryptCommand({ KeyId: keyId, Plaintext: TEXT })),
        "AccessDeniedException",
        `User: arn:aws:iam::${setting.aws.accountId}:user/operator is not authorized to perform: ` +
          `kms:Encrypt on resource: ${arn("eu-west-1")} with an explicit deny in a ` +
          "resource-based policy",
      );
      await east.send(new EncryptCommand({ KeyId: keyId, Plaintext: TEXT }));
    });

    await t.step("rotation is switched at the primary and shared", async () => {
      const replica = `${arn("us-west-2")} is a multi-Region replica key, which is not valid for ` +
        "this operation.";
      const enable = new EnableKeyRotationCommand({ KeyId: keyId });
      await refused400(west.send(enable), "UnsupportedOperationException", replica);
      const rotate = new RotateKeyOnDemandCommand({ KeyId: keyId });
      await refused400(west.send(rotate), "UnsupportedOperationException", replica);
      await east.send(enable);
      const status = await west.send(new GetKeyRotationStatusCommand({ KeyId: keyId }));
      assertEquals(status.KeyRotationEnabled, true);
      const before = (await metadata(west, keyId))?.CurrentKeyMaterialId;
      await east.send(rotate);
      const after = (await metadata(west, keyId))?.CurrentKeyMaterialId;
      assertEquals(after === before, false);
      assertEquals(after, (await metadata(east, keyId))?.CurrentKeyMaterialId);
    });

    await t.step(
      "ReplicateKey is called at the primary, for a region without the key",
      async () => {
        const atReplica = replicate(west, "eu-west-1");
        const message = `${arn("us-west-2")} is not a multi-Region primary key.`;
        await refused400(atReplica, "UnsupportedOperationException", message);
        const again = replicate(east, "us-west-2");
        await refused400(again, "AlreadyExistsException", `${arn("us-west-2")} already exists.`);
        const home = replicate(east, "us-east-1");
        await refused400(home, "AlreadyExistsException", `${arn("us-east-1")} already exists.`);
        const nowhere = replicate(east, "mars-north-1");
        await refused400(nowhere, "ValidationException", "Invalid replica region 'mars-north-1'.");
        const rule = "Member must satisfy regular expression pattern: ^([a-z]+-){2,3}\\d+$";
        const malformed = constraint("replicaRegion", "Value 'here'", rule);
        await refused400(replicate(east, "here"), "ValidationException", malformed);
      },
    );

    await t.step("a single-region key cannot be replicated", async () => {
      const { KeyMetadata } = await east.send(new CreateKeyCommand({}));
      const work = replicate(east, "us-west-2", KeyMetadata?.KeyId);
      const message = `${KeyMetadata?.Arn} is not a multi-Region key.`;
      await refused400(work, "UnsupportedOperationException", message);
    });
  }, { clock, replicationMs: 1000 });
});

Deno.test("UpdatePrimaryRegion swaps primary and replica", () =>
  withAws(async (setting) => {
    const { east, west, europe } = clients(setting);
    const KeyId = await multiRegionKey(east);
    await east.send(new ReplicateKeyCommand({ KeyId, ReplicaRegion: "us-west-2" }));
    await east.send(new UpdatePrimaryRegionCommand({ KeyId, PrimaryRegion: "us-west-2" }));
    assertEquals(
      (await metadata(west, KeyId))?.MultiRegionConfiguration?.MultiRegionKeyType,
      "PRIMARY",
    );
    assertEquals(
      (await metadata(east, KeyId))?.MultiRegionConfiguration?.MultiRegionKeyType,
      "REPLICA",
    );
    await west.send(new ReplicateKeyCommand({ KeyId, ReplicaRegion: "eu-west-1" }));
    assertEquals((await metadata(europe, KeyId))?.KeyState, "Enabled");
    const work = east.send(new UpdatePrimaryRegionCommand({ KeyId, PrimaryRegion: "eu-west-1" }));
    const message = `${setting.keyArn(KeyId)} is not a multi-Region primary key.`;
    await refused400(work, "UnsupportedOperationException", message);
  }));

Deno.test("a primary waits for its replicas before it is deleted", () => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const first = clients(setting);
    const KeyId = await multiRegionKey(first.east);
    await first.east.send(new ReplicateKeyCommand({ KeyId, ReplicaRegion: "us-west-2" }));
    const scheduled = await first.east.send(
      new ScheduleKeyDeletionCommand({ KeyId, PendingWindowInDays: 10 }),
    );
    assertEquals(scheduled.KeyState, "PendingReplicaDeletion");
    assertEquals(scheduled.DeletionDate, undefined);
    const waiting = `${setting.keyArn(KeyId)} is pending replica deletion.`;
    const encrypt = new EncryptCommand({ KeyId, Plaintext: TEXT });
    await refused400(first.east.send(encrypt), "KMSInvalidStateException", waiting);
    await first.west.send(encrypt);

    await first.west.send(new ScheduleKeyDeletionCommand({ KeyId, PendingWindowInDays: 7 }));
    clock.advance(7 * DAY_MS);
    const second = clients(setting);
    const described = await metadata(second.east, KeyId);
    assertEquals(described?.KeyState, "PendingDeletion");
    assertEquals(described?.DeletionDate, new Date(clock.now() + 10 * DAY_MS));
    clock.advance(10 * DAY_MS);
    const gone = `Key '${setting.keyArn(KeyId)}' does not exist`;
    await refused400(metadata(clients(setting).east, KeyId), "NotFoundException", gone);
  }, { clock });
});
