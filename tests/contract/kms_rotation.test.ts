import { assertEquals, assertNotEquals } from "@std/assert";
import {
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  DisableKeyCommand,
  DisableKeyRotationCommand,
  EnableKeyCommand,
  EnableKeyRotationCommand,
  EncryptCommand,
  GetKeyRotationStatusCommand,
  type KMSClient,
  ListKeyRotationsCommand,
  ReEncryptCommand,
  RotateKeyOnDemandCommand,
  ScheduleKeyDeletionCommand,
} from "@aws-sdk/client-kms";
import { constraint, refused400, TestClock, withAws } from "./support.ts";

const DAY_MS = 86_400_000;
const TEXT = Uint8Array.of(1, 2, 3);

async function newKey(kms: KMSClient) {
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
  return { id: KeyMetadata?.KeyId ?? "", arn: KeyMetadata?.Arn ?? "" };
}

async function material(kms: KMSClient, KeyId: string): Promise<string | undefined> {
  return (await kms.send(new DescribeKeyCommand({ KeyId }))).KeyMetadata?.CurrentKeyMaterialId;
}

Deno.test("RotateKeyOnDemand", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const kms = setting.kms();
    const key = await newKey(kms);
    const rotate = () => kms.send(new RotateKeyOnDemandCommand({ KeyId: key.id }));
    const seal = () => kms.send(new EncryptCommand({ KeyId: key.id, Plaintext: TEXT }));
    const open = (CiphertextBlob: Uint8Array | undefined) =>
      kms.send(new DecryptCommand({ CiphertextBlob }));

    await t.step("gives new material; what was encrypted under the old one decrypts", async () => {
      const [before, old] = [await material(kms, key.id), await seal()];
      assertEquals((await rotate()).KeyId, key.arn);
      const after = await material(kms, key.id);
      assertNotEquals(after, before);
      const opened = await open(old.CiphertextBlob);
      assertEquals([opened.Plaintext, opened.KeyMaterialId], [TEXT, before]);
      assertEquals((await open((await seal()).CiphertextBlob)).KeyMaterialId, after);
    });

    await t.step("re-encrypts nothing by itself; ReEncrypt moves to the new material", async () => {
      const old = await seal();
      const before = await material(kms, key.id);
      await rotate();
      const moved = await kms.send(
        new ReEncryptCommand({
          CiphertextBlob: old.CiphertextBlob,
          DestinationKeyId: key.id,
        }),
      );
      assertEquals(moved.SourceKeyMaterialId, before);
      assertEquals(moved.DestinationKeyMaterialId, await material(kms, key.id));
    });

    await t.step("ListKeyRotations tells when and how; the first material on request", async () => {
      const list = (IncludeKeyMaterial?: "ALL_KEY_MATERIAL") =>
        kms.send(new ListKeyRotationsCommand({ KeyId: key.id, IncludeKeyMaterial }));
      const rotations = (await list()).Rotations ?? [];
      assertEquals(rotations.map((r) => [r.KeyId, r.RotationType, r.KeyMaterialState]), [
        [key.arn, "ON_DEMAND", "NON_CURRENT"],
        [key.arn, "ON_DEMAND", "CURRENT"],
      ]);
      assertEquals(rotations[1]?.RotationDate, new Date(clock.now()));
      assertEquals(rotations[1]?.KeyMaterialId, await material(kms, key.id));
      assertEquals((await list("ALL_KEY_MATERIAL")).Rotations?.length, 3);
      const page = await kms.send(new ListKeyRotationsCommand({ KeyId: key.id, Limit: 1 }));
      assertEquals([page.Rotations?.length, page.Truncated], [1, true]);
    });

    await t.step("is not done to a disabled key", async () => {
      await kms.send(new DisableKeyCommand({ KeyId: key.id }));
      await refused400(rotate(), "DisabledException", `${key.arn} is disabled.`);
      await kms.send(new EnableKeyCommand({ KeyId: key.id }));
    });

    await t.step("is done 25 times in a key's life", async () => {
      for (let i = 2; i < 25; i++) await rotate();
      const message = `${key.arn} has reached the limit of 25 on-demand rotations.`;
      await refused400(rotate(), "LimitExceededException", message);
      const { Rotations } = await kms.send(new ListKeyRotationsCommand({ KeyId: key.id }));
      assertEquals(Rotations?.length, 25);
    });
  }, { clock });
});

Deno.test("automatic rotation", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const first = setting.kms();
    const key = await newKey(first);
    const status = async (kms = first) => {
      const { $metadata: _, ...rest } = await kms.send(
        new GetKeyRotationStatusCommand({ KeyId: key.id }),
      );
      return rest;
    };
    const enable = (RotationPeriodInDays?: number) =>
      first.send(new EnableKeyRotationCommand({ KeyId: key.id, RotationPeriodInDays }));

    await t.step("is off at first", async () => {
      assertEquals(await status(), { KeyId: key.arn, KeyRotationEnabled: false });
    });

    await t.step("takes a period of 90 to 2560 days", async () => {
      const low = "Member must have value greater than or equal to 90";
      const high = "Member must have value less than or equal to 2560";
      const at = (value: number, rule: string) =>
        constraint("rotationPeriodInDays", `Value '${value}'`, rule);
      await refused400(enable(89), "ValidationException", at(89, low));
      await refused400(enable(2561), "ValidationException", at(2561, high));
    });

    await t.step("is yearly unless told otherwise", async () => {
      await enable();
      assertEquals(await status(), {
        KeyId: key.arn,
        KeyRotationEnabled: true,
        RotationPeriodInDays: 365,
        NextRotationDate: new Date(clock.now() + 365 * DAY_MS),
      });
    });

    await t.step("happens when it is due, and again a period later", async () => {
      await enable(90);
      const before = await material(first, key.id);
      const { CiphertextBlob } = await first.send(
        new EncryptCommand({ KeyId: key.id, Plaintext: TEXT }),
      );
      clock.advance(90 * DAY_MS);
      const second = setting.kms();
      assertNotEquals(await material(second, key.id), before);
      const opened = await second.send(new DecryptCommand({ CiphertextBlob }));
      assertEquals(opened.KeyMaterialId, before);
      const { Rotations } = await second.send(new ListKeyRotationsCommand({ KeyId: key.id }));
      assertEquals(Rotations?.map((rotation) => rotation.RotationType), ["AUTOMATIC"]);
      const next = (await status(second)).NextRotationDate;
      assertEquals(next, new Date(clock.now() + 90 * DAY_MS));
    });

    await t.step(
      "is suspended while the key awaits deletion, and can be switched off",
      async () => {
        const kms = setting.kms();
        await kms.send(new DisableKeyRotationCommand({ KeyId: key.id }));
        assertEquals((await status(kms)).KeyRotationEnabled, false);
        await kms.send(new EnableKeyRotationCommand({ KeyId: key.id }));
        await kms.send(new ScheduleKeyDeletionCommand({ KeyId: key.id }));
        assertEquals((await status(kms)).KeyRotationEnabled, false);
        const work = kms.send(new DisableKeyRotationCommand({ KeyId: key.id }));
        await refused400(work, "KMSInvalidStateException", `${key.arn} is pending deletion.`);
      },
    );
  }, { clock });
});
