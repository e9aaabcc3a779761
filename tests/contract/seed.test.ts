import { assertEquals } from "@std/assert";
import {
  DecryptCommand,
  DeleteAliasCommand,
  DescribeKeyCommand,
  EncryptCommand,
  GetKeyRotationStatusCommand,
  ListAliasesCommand,
  ListKeysCommand,
} from "@aws-sdk/client-kms";
import { DATA_CLASSES, REGIONS, seedKeys } from "../../local/aws/mod.ts";
import { withAws } from "./support.ts";
import { assumeRole } from "./role.ts";

const OPTIONS = { application: "parker-flight", environment: "development" };

Deno.test("seedKeys", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const seeded = await seedKeys(aws, OPTIONS);

    await t.step("one multi-region key per class, its alias in every region", async () => {
      for (const region of REGIONS) {
        const kms = setting.kms(region);
        const { Aliases } = await kms.send(new ListAliasesCommand({}));
        assertEquals(Aliases?.map((alias) => alias.AliasName), [
          "alias/parker-flight-general-development",
          "alias/parker-flight-payment-development",
          "alias/parker-flight-pii-development",
        ]);
        for (const dataClass of DATA_CLASSES) {
          const { alias, arns, keyId } = seeded[dataClass];
          const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId: alias }));
          assertEquals(KeyMetadata?.Arn, arns[region]);
          assertEquals(KeyMetadata?.KeyId, keyId);
          assertEquals(KeyMetadata?.KeyState, "Enabled");
          const { MultiRegionConfiguration } = KeyMetadata ?? {};
          assertEquals(MultiRegionConfiguration?.PrimaryKey?.Region, "us-east-1");
          assertEquals(MultiRegionConfiguration?.ReplicaKeys?.map((key) => key.Region), [
            "us-west-2",
            "eu-west-1",
          ]);
          const rotation = await kms.send(new GetKeyRotationStatusCommand({ KeyId: keyId }));
          assertEquals(rotation.KeyRotationEnabled, true);
        }
      }
    });

    await t.step("the suite's role uses them in every region", async () => {
      const credentials = await assumeRole(setting);
      const { alias } = seeded.payment;
      const { CiphertextBlob } = await setting.kms("us-east-1", credentials).send(
        new EncryptCommand({ KeyId: alias, Plaintext: Uint8Array.of(7) }),
      );
      for (const region of REGIONS) {
        const opened = await setting.kms(region, credentials).send(
          new DecryptCommand({ CiphertextBlob, KeyId: alias }),
        );
        assertEquals(opened.Plaintext, Uint8Array.of(7));
      }
    });

    await t.step("again, it changes nothing", async () => {
      assertEquals(await seedKeys(aws, OPTIONS), seeded);
      const { Keys } = await setting.kms().send(new ListKeysCommand({}));
      assertEquals(Keys?.length, 3);
    });

    await t.step("after an interruption, it finishes with the keys it made", async () => {
      for (const region of REGIONS) {
        const AliasName = seeded.pii.alias;
        await setting.kms(region).send(new DeleteAliasCommand({ AliasName }));
      }
      assertEquals(await seedKeys(aws, OPTIONS), seeded);
    });

    await t.step("another environment has keys of its own", async () => {
      const other = await seedKeys(aws, { ...OPTIONS, environment: "test" });
      assertEquals(other.payment.alias, "alias/parker-flight-payment-test");
      assertEquals(other.payment.keyId === seeded.payment.keyId, false);
    });

    await t.step("seeding is no call, and no fault touches it", () => {
      assertEquals(aws.calls().some((call) => call.operation === "CreateKey"), false);
    });
  }, { replicationMs: 5 }));
